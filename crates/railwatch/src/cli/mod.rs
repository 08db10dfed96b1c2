//! The command line. Every verb takes `--json`; colors and progress appear on a terminal only.
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage, 3 wrong configuration, 4 railwatch is not running, 5 the store is
//! broken.

mod adopt;
mod bench;
mod client;
mod decode;
mod demo;
mod desk;
mod digest;
mod doctor;
pub(crate) mod explain;
mod freeze;
mod generations;
mod output;
mod query;
mod replay;
mod run;
mod script;
mod support;
mod tail;
mod token;
mod top;
pub(crate) mod tune;

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

pub use self::output::Out;

/// Something went wrong.
pub const EXIT_FAILURE: i32 = 1;
/// The configuration is wrong.
pub const EXIT_CONFIG: i32 = 3;
/// There is no running railwatch to ask.
pub const EXIT_NOT_RUNNING: i32 = 4;
/// The store is broken.
pub const EXIT_STORE: i32 = 5;

/// Watches every payment of autonomous agents, on every rail, and says so when something is wrong.
#[derive(Debug, Parser)]
#[command(name = "railwatch", version, max_term_width = 100)]
struct Cli {
    /// The configuration file.
    #[arg(long, short, global = true, default_value = "railwatch.toml", value_name = "FILE")]
    config: PathBuf,
    /// Print JSON, one document per line, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a living fleet, an incident and its alert; nothing to set up.
    Demo(demo::DemoArgs),
    /// Run the monitor until it is told to stop.
    Run(run::RunArgs),
    /// Check the configuration without running it.
    Check {
        /// Do not ask for secrets.
        #[arg(long)]
        offline: bool,
    },
    /// Write a commented configuration to start from.
    Init {
        /// Where to write it.
        #[arg(default_value = "railwatch.toml")]
        path: PathBuf,
    },
    /// Watch the fleet in the terminal: speed against the usual, budgets, scores, alerts.
    Top(top::TopArgs),
    /// List agents with their signals, the most anomalous first; show one; or adopt an unmapped spender.
    Agents(query::AgentsArgs),
    /// List, show, acknowledge and resolve alerts.
    #[command(subcommand)]
    Alerts(query::AlertsVerb),
    /// Explain an alert: why it fired, what it cost, who was told, what people said.
    Explain {
        /// The alert.
        alert: String,
    },
    /// Ask every gate to freeze an agent, or agree with somebody who asked; gates rehearse until `dry_run = false`.
    Freeze(freeze::FreezeArgs),
    /// End an agent's freeze, or take the request back.
    Unfreeze {
        /// The agent.
        agent: String,
    },
    /// List freezes: asked for, in force, or over today, with what each gate said.
    Freezes,
    /// Keep alerts from people for a while.
    #[command(subcommand)]
    Silence(desk::SilenceVerb),
    /// Label alerts, and see how often each rule is right.
    #[command(subcommand)]
    Review(desk::ReviewVerb),
    /// Suggest a threshold for a rule or detector from the labels of its alerts.
    Tune {
        /// The rule's id, or the kind of signal.
        trigger: String,
    },
    /// Show what a digest says now, or tell it now.
    Digest(digest::DigestArgs),
    /// Try out who is told of what.
    #[command(subcommand)]
    Route(desk::RouteVerb),
    /// Try out whether messages arrive.
    #[command(subcommand)]
    Notify(desk::NotifyVerb),
    /// Show how sources and sinks are.
    Sources,
    /// Follow payments as they are recorded.
    Tail(tail::TailArgs),
    /// Decode recorded bytes as a configured source does, offline, and print what comes out.
    Decode(decode::DecodeArgs),
    /// Run recorded payments through the detectors and print the alerts.
    Replay(replay::ReplayArgs),
    /// List parts of messages that were not understood.
    Rejects {
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// List notices on their way to sinks; try them again or drop them.
    #[command(subcommand)]
    Outbox(query::OutboxVerb),
    /// Make a token for the API and the dashboard; the configuration keeps its hash only.
    Token(token::TokenArgs),
    /// Put the files in force; if they are wrong, say why and change nothing.
    Reload(generations::ReloadArgs),
    /// Put a recorded generation in force again; the files stay as they are.
    Rollback {
        /// Its number; without, the last one that was different.
        generation: Option<u64>,
    },
    /// Show how the files differ from what is in force, or how two generations differ.
    Diff {
        /// A generation; without, the one in force.
        from: Option<u64>,
        /// Another; without, the files.
        to: Option<u64>,
    },
    /// Show what runs in shadow and tells nobody.
    #[command(subcommand)]
    Shadow(ShadowVerb),
    /// Run the tests that Lua scripts carry in themselves.
    Test {
        /// A script, or a folder of them.
        #[arg(default_value = "scripts")]
        path: PathBuf,
        /// Run them again whenever a file changes.
        #[arg(long)]
        watch: bool,
    },
    /// Show how the scripts in force do.
    Scripts,
    /// Try expressions of the script API on an agent's live state; nothing can be changed.
    Repl {
        /// The agent that `a` is; the most anomalous one without.
        agent: Option<String>,
    },
    /// Print the Luau type definitions of the script API, for editors.
    Types,
    /// Check the store.
    Doctor,
    /// Write a document for whoever helps you; names, addresses and secrets are left out.
    Support(support::SupportArgs),
    /// Show the configuration, its schema or its history.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// List the sources, detectors and sinks that are built in.
    Plugins,
    /// Measure this machine: the whole path, beside a baseline.
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Print what the files say together; secrets stay references.
    Show {
        /// With every default filled in.
        #[arg(long)]
        resolved: bool,
    },
    /// List the generations that were in force, and the attempts that failed.
    History {
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

#[derive(Debug, Subcommand)]
enum ShadowVerb {
    /// What rules and scores in shadow would have told.
    Report {
        /// One of them, with every firing.
        rule: Option<String>,
    },
}

/// A failure with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: i32,
    /// What to print on standard error.
    pub message: String,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let code = match error.downcast_ref::<railwatch_store::StoreError>() {
            Some(_) => EXIT_STORE,
            None => EXIT_FAILURE,
        };
        Self { code, message: format!("{error:#}") }
    }
}

impl From<railwatch_store::StoreError> for Failure {
    fn from(error: railwatch_store::StoreError) -> Self {
        Self { code: EXIT_STORE, message: error.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { code: EXIT_FAILURE, message: error.to_string() }
    }
}

/// Runs the command line and returns the exit code.
pub fn main() -> i32 {
    let cli = Cli::parse();
    let mut out = Out::new(cli.json);
    match dispatch(cli, &mut out) {
        Ok(()) => 0,
        // Whoever reads has seen enough: `railwatch tail | head`.
        Err(failure) if out.is_broken() && failure.code == EXIT_FAILURE => 0,
        Err(failure) => {
            out.failure(&failure);
            failure.code
        }
    }
}

fn dispatch(cli: Cli, out: &mut Out) -> Result<(), Failure> {
    let config = cli.config;
    match cli.verb {
        Verb::Demo(args) => demo::demo(&args, out),
        Verb::Run(args) => run::run(&config, &args, out),
        Verb::Check { offline } => run::check(&config, offline, out),
        Verb::Init { path } => run::init(&path, out),
        Verb::Top(args) => top::top(&config, &args),
        Verb::Agents(args) => query::agents(&config, &args, out),
        Verb::Alerts(verb) => query::alerts(&config, verb, out),
        Verb::Explain { alert } => explain::explain(&config, &alert, out),
        Verb::Freeze(args) => freeze::freeze(&config, &args, out),
        Verb::Unfreeze { agent } => freeze::unfreeze(&config, &agent, out),
        Verb::Freezes => freeze::list(&config, out),
        Verb::Silence(verb) => desk::silence(&config, verb, out),
        Verb::Review(verb) => desk::review(&config, verb, out),
        Verb::Tune { trigger } => desk::tune(&config, &trigger, out),
        Verb::Digest(args) => digest::digest(&config, &args, out),
        Verb::Route(verb) => desk::route(&config, verb, out),
        Verb::Notify(verb) => desk::notify(&config, verb, out),
        Verb::Sources => query::sources(&config, out),
        Verb::Tail(args) => tail::tail(&config, &args, out),
        Verb::Decode(args) => decode::decode(&config, &args, out),
        Verb::Replay(args) => replay::replay(&config, &args, out),
        Verb::Rejects { limit } => query::rejects(&config, limit, out),
        Verb::Outbox(verb) => query::outbox(&config, verb, out),
        Verb::Token(args) => token::token(&args, out),
        Verb::Reload(args) => generations::reload(&config, &args, out),
        Verb::Rollback { generation } => generations::rollback(&config, generation, out),
        Verb::Diff { from, to } => generations::diff(&config, from, to, out),
        Verb::Shadow(ShadowVerb::Report { rule }) => generations::shadow(&config, rule.as_deref(), out),
        Verb::Test { path, watch } => script::test(&path, watch, out),
        Verb::Scripts => script::scripts(&config, out),
        Verb::Repl { agent } => script::repl(&config, agent, out),
        Verb::Types => script::print_types(out),
        Verb::Doctor => doctor::doctor(&config, out),
        Verb::Support(args) => support::support(&config, &args, out),
        Verb::Config(ConfigVerb::Schema) => run::schema(out),
        Verb::Config(ConfigVerb::Show { resolved }) => run::show(&config, resolved, out),
        Verb::Config(ConfigVerb::History { limit }) => generations::history(&config, limit, out),
        Verb::Plugins => run::plugins(out),
        Verb::Bench(args) => bench::bench(&args, out),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "railwatch", &mut out.writer());
            Ok(())
        }
    }
}
