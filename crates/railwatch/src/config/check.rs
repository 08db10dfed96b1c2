//! Checks between sections: ids that must be unique, references that must lead somewhere, identities with one owner.

mod people;

use std::collections::hash_map::{Entry, HashMap};
use std::path::Path;

use railwatch_model::{Asset, ConditionKind, SignalKind};
use railwatch_script::Files;
use serde::Deserialize as _;

use super::Registries;
use super::agents::{BudgetSpec, canonical};
use super::diagnostic::{Diagnostic, Place, did_you_mean};
use super::files;
use super::load::{Building, entry_path};
use super::settings::{Config, GATES};
use super::tree::Node;

/// The kinds of signal that railwatch itself knows.
const KINDS: [&str; 10] = [
    "velocity",
    "rail_shift",
    "budget",
    "review",
    "drift",
    "new_payee",
    "new_rail",
    "duplicate",
    "price",
    "dormant",
];

/// Runs every check and returns the scripts that the configuration names.
pub(super) fn check(
    build: &mut Building<'_>,
    config: &Config,
    registries: &Registries<'_>,
    base_dir: &Path,
    given: Option<&Files>,
) -> Files {
    let root = build.root;
    unique_ids(build, "agents");
    unique_ids(build, "teams");
    identities(build);
    for section in ["agents", "teams"] {
        for (index, node) in root.elements(section).iter().enumerate() {
            budget_names(build, &format!("{section}[{index}]"), node);
        }
    }
    if let Some(fleet) = root.child("fleet") {
        budget_names(build, "fleet", fleet);
    }
    team_references(build);
    routes(build, registries);
    people::freezes(build, config);
    people::people(build);
    announcements(build, registries);
    prices(build);
    webhook_paths(build, config);
    exposure(build, config);
    scripts(build, config, base_dir, given)
}

/// Warns about a configuration that is right and watches nothing.
pub(super) fn watches_nothing(config: &Config) -> Option<Diagnostic> {
    let place = Place { file: 0, start: 0, end: 0 };
    let nothing = Diagnostic::warning("sources", "no source is enabled, so nothing is watched", place);
    let help = "add a block like `[sources.feed]`; `railwatch plugins` shows what there is";
    let is_silent = !config.sources.values().any(|source| source.common.enabled);
    is_silent.then(|| nothing.help(help.to_owned()))
}

/// Reads every budget by itself, so that one mistake does not hide another.
pub(super) fn budgets(build: &mut Building<'_>) {
    let root = build.root;
    let subjects = ["agents", "teams"].into_iter().flat_map(|section| {
        root.elements(section)
            .iter()
            .enumerate()
            .map(move |(index, node)| (format!("{section}[{index}]"), node))
    });
    for (path, node) in subjects.chain(root.child("fleet").map(|fleet| ("fleet".to_owned(), fleet))) {
        let single = node.child("budget").map(|budget| (format!("{path}.budget"), budget));
        let list = node.child("budgets").and_then(Node::array).unwrap_or_default().iter().enumerate();
        let list = list.map(|(position, budget)| (format!("{path}.budgets[{position}]"), budget));
        for (path, budget) in single.into_iter().chain(list) {
            if !build.is_broken(&path)
                && let Err(error) = BudgetSpec::deserialize(budget.to_toml())
            {
                let finding = Diagnostic::error(path.clone(), format!("`{path}` is wrong"), budget.place);
                build.report(finding.label(error.message()));
            }
        }
    }
}

fn twice(path: String, message: String, place: Place, first: Place) -> Diagnostic {
    Diagnostic::error(path, message, place).label("again here").related(first, "first here")
}

fn unique_ids(build: &mut Building<'_>, section: &str) {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for (index, node) in build.root.elements(section).iter().enumerate() {
        let Some(id) = node.child("id") else { continue };
        let Some(text) = id.text() else { continue };
        match seen.entry(text) {
            Entry::Vacant(entry) => {
                entry.insert(id.place);
            }
            Entry::Occupied(entry) => {
                let noun = section.trim_end_matches('s');
                let message = format!("two {noun}s have the id {text:?}");
                build.report(twice(format!("{section}[{index}].id"), message, id.place, *entry.get()));
            }
        }
    }
}

/// Two agents that claim one identity: nobody could say whose payment it is.
fn identities(build: &mut Building<'_>) {
    let mut claims: HashMap<(&str, railwatch_model::SmolStr), (usize, Place)> = HashMap::new();
    let mut found = Vec::new();
    for (index, agent) in build.root.elements("agents").iter().enumerate() {
        for (scheme, values) in agent.child("match").and_then(Node::table).into_iter().flatten() {
            for (position, value) in values.array().unwrap_or_default().iter().enumerate() {
                let Some(text) = value.text() else { continue };
                let path = format!("agents[{index}].match.{scheme:?}[{position}]");
                if text.trim().is_empty() {
                    found.push(Diagnostic::error(path, "an identity must not be empty", value.place));
                    continue;
                }
                match claims.entry((scheme, canonical(scheme, text))) {
                    Entry::Vacant(entry) => {
                        entry.insert((index, value.place));
                    }
                    Entry::Occupied(entry) => {
                        let (first, place) = *entry.get();
                        let who = if first == index { "the same agent claims" } else { "two agents claim" };
                        found.push(twice(path, format!("{who} {scheme} {text:?}"), value.place, place));
                    }
                }
            }
        }
    }
    found.into_iter().for_each(|finding| build.report(finding));
}

fn budget_names(build: &mut Building<'_>, path: &str, node: &Node) {
    let single = node.child("budget").into_iter();
    let budgets = single.chain(node.child("budgets").and_then(Node::array).into_iter().flatten());
    let mut seen: HashMap<String, Place> = HashMap::new();
    for budget in budgets {
        let Some(name) = budget_name(budget) else { continue };
        match seen.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(budget.place);
            }
            Entry::Occupied(entry) => {
                let message = format!("two budgets of `{path}` are named {:?}", entry.key());
                let finding = twice(format!("{path}.budgets"), message, budget.place, *entry.get());
                build.report(finding.help("write one as a table with a `name` of its own".to_owned()));
            }
        }
    }
}

/// The name that a budget has or gets.
fn budget_name(node: &Node) -> Option<String> {
    if let Some(name) = node.child("name").and_then(Node::text) {
        return Some(name.to_owned());
    }
    let per = match node.text() {
        Some(text) => text.split_once('/')?.1.trim(),
        None if node.child("from").is_some() => return Some("fixed".to_owned()),
        None => node.child("per")?.text()?,
    };
    Some(match per {
        "hour" | "h" => "hourly".to_owned(),
        "day" | "d" => "daily".to_owned(),
        "week" | "w" => "weekly".to_owned(),
        "month" | "mo" => "monthly".to_owned(),
        _ => return None,
    })
}

/// The declared ids of a section.
fn ids<'a>(root: &'a Node, section: &str) -> Vec<&'a str> {
    root.elements(section).iter().filter_map(|node| node.child("id")?.text()).collect()
}

/// A team that is named must be declared as soon as any team is.
fn team_references(build: &mut Building<'_>) {
    let root = build.root;
    let teams = ids(root, "teams");
    if teams.is_empty() {
        return;
    }
    let agents = root.elements("agents").iter().enumerate();
    let agents = agents.map(|(index, node)| (format!("agents[{index}].team"), node.child("team")));
    let routes = root.elements("routes").iter().enumerate().map(|(index, node)| {
        (format!("routes[{index}].match.team"), node.child("match").and_then(|matches| matches.child("team")))
    });
    let announcements = root.elements("announcements").iter().enumerate();
    let announcements =
        announcements.map(|(index, node)| (format!("announcements[{index}].team"), node.child("team")));
    let digests = root.elements("digests").iter().enumerate();
    let digests = digests.map(|(index, node)| (format!("digests[{index}].team"), node.child("team")));
    for (path, node) in agents.chain(routes).chain(announcements).chain(digests) {
        let Some((node, name)) = node.and_then(|node| Some((node, node.text()?))) else { continue };
        if !teams.contains(&name) && !name.contains('*') {
            let finding = Diagnostic::error(path, format!("there is no team {name:?}"), node.place);
            let help = did_you_mean(name, teams.iter().copied());
            let help = help.unwrap_or_else(|| format!("declare it: [[teams]] with id = {name:?}"));
            build.report(finding.label("no such team").help(help));
        }
    }
}

fn routes(build: &mut Building<'_>, registries: &Registries<'_>) {
    let root = build.root;
    for (section, matchers) in [
        ("routes", &["match"][..]),
        ("escalations", &["match"]),
        ("mutes", &["match"]),
        ("inhibitions", &["match", "by"]),
        ("freeze.policies", &["match"]),
        ("digests", &[]),
    ] {
        for (index, node) in elements(root, section).iter().enumerate() {
            let path = format!("{section}[{index}]");
            sink_references(build, &path, node);
            for key in matchers {
                if let Some(kind) = node.child(key).and_then(|matcher| matcher.child("kind")) {
                    kind_reference(build, &format!("{path}.{key}.kind"), kind, registries);
                }
            }
        }
    }
    unique_names(build, "escalations");
    unique_names(build, "mutes");
    unique_names(build, "digests");
    let mut catch_all: Option<Place> = None;
    for (index, route) in root.elements("routes").iter().enumerate() {
        if let Some(place) = catch_all {
            let message = "this route is never reached";
            let finding = Diagnostic::warning(format!("routes[{index}]"), message, route.key)
                .label("nothing comes this far");
            build.report(
                finding.related(place, "everything ends here: it matches all and does not `continue`"),
            );
        } else if is_catch_all(route) {
            catch_all = Some(route.key);
        }
    }
}

/// The sinks that a route or an escalation names must be there and must tell people.
fn sink_references(build: &mut Building<'_>, path: &str, node: &Node) {
    let sinks = build.root.child("sinks").and_then(Node::table).into_iter().flatten();
    let sinks: Vec<(&str, Option<&str>)> =
        sinks.map(|(name, sink)| (name.as_str(), sink.child("plugin").and_then(Node::text))).collect();
    let named = node.child("sinks").and_then(Node::array).unwrap_or_default();
    for (position, sink) in named.iter().enumerate() {
        let Some(name) = sink.text() else { continue };
        let path = format!("{path}.sinks[{position}]");
        match sinks.iter().find(|(known, _)| *known == name) {
            Some((_, Some("heartbeat"))) => {
                let message = format!("sink {name:?} is a heartbeat, which tells people nothing");
                let finding = Diagnostic::error(path, message, sink.place).label("takes no notices");
                build.report(
                    finding.help("leave it out: it gives signs of life without being named".to_owned()),
                );
            }
            Some((_, Some(plugin))) if GATES.contains(plugin) => {
                let message = format!("sink {name:?} is a gate, which tells people nothing");
                let finding = Diagnostic::error(path, message, sink.place).label("takes no notices");
                build.report(finding.help("leave it out: freezes reach every gate".to_owned()));
            }
            Some(_) => {}
            None => {
                let finding = Diagnostic::error(path, format!("there is no sink {name:?}"), sink.place);
                let names = sinks.iter().map(|(known, _)| *known);
                let known = names.clone().collect::<Vec<_>>().join(", ");
                let help = did_you_mean(name, names)
                    .or((!known.is_empty()).then(|| format!("known sinks: {known}")));
                build.report(finding.label("no such sink").help(help));
            }
        }
    }
}

/// The elements of an array of tables, at most one table down.
fn elements<'a>(root: &'a Node, path: &str) -> &'a [Node] {
    match path.split_once('.') {
        Some((table, key)) => root.child(table).map_or(&[], |node| node.elements(key)),
        None => root.elements(path),
    }
}

fn unique_names(build: &mut Building<'_>, section: &str) {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for (index, node) in elements(build.root, section).iter().enumerate() {
        let Some(name) = node.child("name") else { continue };
        let Some(text) = name.text() else { continue };
        match seen.entry(text) {
            Entry::Vacant(entry) => {
                entry.insert(name.place);
            }
            Entry::Occupied(entry) => {
                let message = format!("two {section} have the name {text:?}");
                build.report(twice(format!("{section}[{index}].name"), message, name.place, *entry.get()));
            }
        }
    }
}

fn is_catch_all(route: &Node) -> bool {
    let conditions = route.child("match").and_then(Node::table);
    let goes_on =
        matches!(route.child("continue").map(|node| &node.value), Some(super::tree::Value::Boolean(true)));
    conditions.is_none_or(|conditions| conditions.is_empty()) && !goes_on
}

fn kind_reference(build: &mut Building<'_>, path: &str, node: &Node, registries: &Registries<'_>) {
    let Some(name) = node.text().filter(|name| !name.contains('*')) else { return };
    let detectors = registries.detectors.iter().map(|plugin| plugin.name);
    let conditions = ConditionKind::ALL.map(ConditionKind::as_str);
    let known: Vec<&str> = KINDS.into_iter().chain(conditions).chain(detectors).collect();
    if !matches!(SignalKind::from_name(name), SignalKind::Custom(_)) || known.contains(&name) {
        return;
    }
    let finding = Diagnostic::error(path, format!("there is no kind of signal {name:?}"), node.place);
    let help = did_you_mean(name, known.iter().copied());
    build.report(finding.label(format!("expected one of {}", KINDS.join(", "))).help(help));
}

fn announcements(build: &mut Building<'_>, registries: &Registries<'_>) {
    let root = build.root;
    let agents = ids(root, "agents");
    for (index, node) in root.elements("announcements").iter().enumerate() {
        let path = format!("announcements[{index}]");
        if let (Some(agent), Some(team)) = (node.child("agent"), node.child("team")) {
            let finding = Diagnostic::error(
                format!("{path}.team"),
                "an announcement is about an agent or a team",
                team.place,
            );
            build.report(finding.label("either this").related(agent.place, "or this"));
        }
        let times = ["from", "until"].map(|key| node.child(key));
        if let [Some(from), Some(until)] = times
            && let [Some(begin), Some(end)] = [from, until].map(time)
            && end <= begin
        {
            let finding = Diagnostic::error(
                format!("{path}.until"),
                "an announcement must end after it begins",
                until.place,
            );
            build.report(finding.label("not later").related(from.place, "than this"));
        }
        for (position, kind) in
            node.child("kinds").and_then(Node::array).unwrap_or_default().iter().enumerate()
        {
            kind_reference(build, &format!("{path}.kinds[{position}]"), kind, registries);
        }
        if let Some(agent) = node.child("agent")
            && let Some(name) = agent.text().filter(|name| !agents.contains(name))
        {
            let finding = Diagnostic::warning(
                format!("{path}.agent"),
                format!("agent {name:?} is not declared"),
                agent.place,
            );
            build.report(
                finding.label("no [[agents]] entry").help(did_you_mean(name, agents.iter().copied())),
            );
        }
    }
}

fn time(node: &Node) -> Option<railwatch_model::Timestamp> {
    railwatch_model::Timestamp::parse(node.text()?).ok()
}

fn prices(build: &mut Building<'_>) {
    for (code, node) in build.root.child("prices").and_then(Node::table).into_iter().flatten() {
        let path = entry_path("prices", code);
        if node.child("decimals").is_none()
            && let Err(error) = Asset::known(code)
        {
            let finding = Diagnostic::error(path, error.to_string(), node.key).label("add `decimals = …`");
            build.report(finding);
        } else if let (Some(stale), Some(max)) = (span(node, "stale_after"), span(node, "max_stale"))
            && let (Some(stale_node), Some(max_node)) = (node.child("stale_after"), node.child("max_stale"))
            && max < stale
        {
            let finding = Diagnostic::error(
                format!("{path}.max_stale"),
                "`max_stale` is below `stale_after`",
                max_node.place,
            );
            build.report(finding.label("expected at least as much").related(stale_node.place, "as this"));
        }
    }
}

fn span(node: &Node, key: &str) -> Option<std::time::Duration> {
    let railwatch_plugin::config::Span(span) = node.child(key)?.text()?.parse().ok()?;
    Some(span)
}

/// Two sources on one path of the host's listener, or one on a path that belongs to railwatch itself.
fn webhook_paths(build: &mut Building<'_>, config: &Config) {
    let mut seen: HashMap<String, Place> = HashMap::new();
    let sources = build.root.child("sources").and_then(Node::table);
    for (name, source) in sources.into_iter().flatten() {
        if config.sources.get(name.as_str()).is_some_and(|source| !source.common.enabled) {
            continue;
        }
        let mounts = ["listen", "path"].into_iter().filter_map(|key| Some((key, source.child(key)?)));
        for (key, node) in mounts {
            let Some(path) = node.text().filter(|path| path.starts_with("/in/")) else { continue };
            match seen.entry(path.trim_end_matches('/').to_owned()) {
                Entry::Vacant(entry) => {
                    entry.insert(node.place);
                }
                Entry::Occupied(entry) => {
                    let at = format!("{}.{key}", entry_path("sources", name));
                    build.report(twice(
                        at,
                        format!("two sources listen on {path:?}"),
                        node.place,
                        *entry.get(),
                    ));
                }
            }
        }
    }
}

/// A listener that others can reach needs tokens, each with a name of its own.
fn exposure(build: &mut Building<'_>, config: &Config) {
    let Some(http) = build.root.child("http") else { return };
    if !config.http.listen.0.ip().is_loopback() && config.http.tokens.is_empty() {
        let place = http.child("listen").map_or(http.place, |listen| listen.place);
        let message = "other machines could read everything and act, because there are no tokens";
        let error = Diagnostic::error("http.listen", message, place).label("reachable from elsewhere");
        let help = "run `railwatch token NAME` and add the block that it prints, or listen on 127.0.0.1";
        build.report(error.help(help.to_owned()));
    }
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for (index, token) in http.elements("tokens").iter().enumerate() {
        let Some(name) = token.child("name") else { continue };
        let Some(text) = name.text() else { continue };
        if let Some(first) = seen.insert(text, name.place) {
            let message = format!("two tokens have the name {text:?}");
            build.report(twice(format!("http.tokens[{index}].name"), message, name.place, first));
        }
    }
}

/// Every script that is named, or an error where there is none.
fn scripts(build: &mut Building<'_>, config: &Config, base_dir: &Path, given: Option<&Files>) -> Files {
    let mut all = Files::new();
    for (at, path) in config.scripts() {
        if let Some(given) = given {
            all.extend(files::below(given, path));
            continue;
        }
        match files::scripts(base_dir, path) {
            Ok(found) => all.extend(found),
            Err(reason) => {
                let (node, _) = build.root.locate(&at);
                let message = format!("{} cannot be read", path.display());
                build.report(Diagnostic::error(at, message, node.place).label(reason));
            }
        }
    }
    all
}
