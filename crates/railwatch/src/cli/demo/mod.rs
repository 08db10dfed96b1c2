//! `demo`: a living fleet behind a real WebSocket payment gate, watched by a real railwatch on a throw-away store.
//!
//! The gate first sends two weeks of history, so that the baselines are learned; then the fleet pays live, calmly, until
//! one agent runs away.

mod fleet;
mod gate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use railwatch_engine::{SortBy, SubjectView};
use railwatch_model::{SignalKind, Timestamp, Verdict};
use railwatch_plugin::clock::{Clock, SystemClock};
use railwatch_plugin::secret::SystemSecrets;

use self::fleet::Fleet;
use self::gate::Gate;
use crate::cli::query::AGENT_COLUMNS;
use crate::cli::{Failure, Out, run};
use crate::host::{Host, HostOptions};

/// The demo goes on for this long after the alert was told.
const EPILOGUE: Duration = Duration::from_secs(12);
/// How often the fleet is shown.
const SHOW_EVERY: Duration = Duration::from_secs(4);

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after this many seconds at the latest; 0 runs until interrupted.
    #[arg(long, default_value_t = 90)]
    seconds: u64,
    /// When the agent runs away, in seconds after the start of the live part.
    #[arg(long, default_value_t = 6)]
    incident_after: u64,
    /// Keep everything in this folder rather than in one that is deleted, and listen where `railwatch agents` and the
    /// other verbs ask: edit its railwatch.toml, drop rules into its scripts/rules.
    #[arg(long, value_name = "FOLDER")]
    home: Option<PathBuf>,
    /// What to log: error, warn, info, debug.
    #[arg(long, default_value = "error", value_name = "FILTER")]
    log: String,
}

/// Shows railwatch at work.
pub(crate) fn demo(args: &DemoArgs, out: &mut Out) -> Result<(), Failure> {
    run::start_logging(&args.log, out.is_json())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(play(args, out))
}

async fn play(args: &DemoArgs, out: &mut Out) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let passing = tempfile::tempdir()?;
    let home = args.home.as_deref().unwrap_or(passing.path());
    std::fs::create_dir_all(home.join("scripts/rules"))?;
    let gate = Gate::start(Fleet::new(clock.now())).await?;
    let config_path = home.join("railwatch.toml");
    std::fs::write(&config_path, config(&gate.url, args.home.is_some()))?;
    out.line(format!(
        "A fleet of {} agents pays through a gate at {}. railwatch reads two weeks of its history …",
        fleet::AGENTS.len(),
        gate.url
    ))?;
    let loaded = run::load(&config_path, false)?;
    let options = HostOptions {
        config_path,
        clock: clock.clone(),
        secrets: Arc::new(SystemSecrets::default()),
        watch: true,
    };
    let host = Host::start(loaded, options).await?;
    out.line(format!("Watch it live at http://{}/", host.address()))?;
    let started_at = clock.now();
    let shown = tokio::select! {
        shown = show(args, &host, &gate, &clock, out) => shown,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    gate.stop();
    let farewell = host.stop().await;
    shown?;
    out.line(format!(
        "\n{} payments recorded and judged in {} s. Next: `railwatch init`, then `railwatch run`.",
        farewell.accepted,
        clock.now().since(started_at).as_secs()
    ))
}

async fn show(
    args: &DemoArgs,
    host: &Host,
    gate: &Gate,
    clock: &Arc<dyn Clock>,
    out: &mut Out,
) -> Result<(), Failure> {
    let started_at = clock.now();
    while host.processed() < gate.history_len() {
        if clock.now().since(started_at) > Duration::from_secs(60) {
            return Err(anyhow::anyhow!("the history did not arrive within a minute").into());
        }
        pause(Duration::from_millis(50)).await;
    }
    let (took, expected) = (clock.now().since(started_at), gate.history_len());
    out.line(format!("{expected} payments in {:.1} s. Now live: everybody is calm.\n", took.as_secs_f64()))?;
    let live_at = clock.now();
    gate.go_live();
    let mut told_at: Option<Timestamp> = None;
    let mut running_away = false;
    loop {
        show_fleet(host, out).await?;
        let now = clock.now();
        let live = now.since(live_at);
        if !running_away && live >= Duration::from_secs(args.incident_after) {
            running_away = true;
            gate.run_away();
            out.line(format!(
                "\n{}: {} is compromised and pays {} times as fast. Its 15-minute window fills up ...\n",
                now.to_string().chars().take(19).collect::<String>(),
                fleet::RUNAWAY,
                fleet::RUNAWAY_FACTOR
            ))?;
        }
        let alerts = host.open_alerts().await;
        if let Some(alert) = alerts.iter().find(|alert| alert.subject.to_string() == fleet::RUNAWAY) {
            out.document(alert)?;
            told_at.get_or_insert(now);
        }
        let is_over = args.seconds > 0 && live >= Duration::from_secs(args.seconds);
        if is_over || (args.seconds > 0 && told_at.is_some_and(|at| now.since(at) >= EPILOGUE)) {
            return Ok(());
        }
        pause(SHOW_EVERY).await;
    }
}

async fn show_fleet(host: &Host, out: &mut Out) -> Result<(), Failure> {
    let views: Vec<SubjectView> = host.agents(SortBy::Score, fleet::AGENTS.len()).await;
    out.table(AGENT_COLUMNS, &views.iter().map(row).collect::<Vec<_>>())?;
    out.line("")
}

/// An agent's view as a row of [`AGENT_COLUMNS`].
fn row(view: &SubjectView) -> Vec<String> {
    let velocity = view.signals.iter().find(|signal| signal.kind == SignalKind::Velocity);
    let rate = |rate: f64| format!("{rate:.2}");
    vec![
        view.name.clone(),
        format!("{:.2}", view.score),
        velocity.map_or_else(|| "-".to_owned(), |signal| rate(signal.value)),
        velocity.map_or_else(
            || "-".to_owned(),
            |signal| match signal.verdict {
                Verdict::Learning => "learning".to_owned(),
                Verdict::Usual | Verdict::Raised | Verdict::Firing => rate(signal.usual),
            },
        ),
        view.totals.committed.to_string(),
        view.totals.purchases.to_string(),
        view.last_at.to_string().chars().take(19).collect(),
        view.alerts.len().to_string(),
    ]
}

async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}

/// What a user would write for this fleet.
fn config(url: &str, is_kept: bool) -> String {
    let agents = fleet::AGENTS.iter().map(|agent| {
        format!(
            "[[agents]]\nid = \"{}\"\nteam = \"{}\"\nbudget = \"{}\"\n",
            agent.name, agent.team, agent.budget
        )
    });
    // A demo that nobody asks may run beside anything.
    let listener = if is_kept { "" } else { "[http]\nlisten = \"127.0.0.1:0\"\n\n" };
    format!(
        "{listener}[sources.gate]\nplugin = \"websocket\"\nurl = \"{url}\"\n\n\
         [sinks.terminal]\nplugin = \"terminal\"\n\n[rules]\npaths = [\"scripts/rules\"]\n\n{}",
        agents.collect::<Vec<_>>().join("\n")
    )
}
