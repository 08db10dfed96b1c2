//! Checks of who may act and who is frozen.

use std::collections::hash_map::{Entry, HashMap};

use super::{twice, unique_names};
use crate::config::diagnostic::{Diagnostic, Place};
use crate::config::load::Building;
use crate::config::settings::Config;
use crate::config::tree::Node;

/// Two people with one name, or one account with two names: nobody could say who it was.
pub(super) fn people(build: &mut Building<'_>) {
    unique_names(build, "people");
    for key in ["slack", "telegram"] {
        let mut seen: HashMap<String, Place> = HashMap::new();
        for (index, node) in build.root.elements("people").iter().enumerate() {
            let Some(account) = node.child(key) else { continue };
            match seen.entry(account.to_toml().to_string()) {
                Entry::Vacant(entry) => {
                    entry.insert(account.place);
                }
                Entry::Occupied(entry) => {
                    let message = format!("two people have the {key} account {}", entry.key());
                    build.report(twice(
                        format!("people[{index}].{key}"),
                        message,
                        account.place,
                        *entry.get(),
                    ));
                }
            }
        }
    }
}

/// Who freezes must have a gate, and people who must agree must be told apart.
pub(super) fn freezes(build: &mut Building<'_>, config: &Config) {
    let Some(node) = build.root.child("freeze") else { return };
    unique_names(build, "freeze.policies");
    let policies = node.elements("policies");
    if let Some(policy) = policies.first()
        && config.gates().next().is_none()
    {
        let finding = Diagnostic::error("freeze.policies", "there is no gate that could freeze", policy.key);
        build.report(
            finding
                .label("asks nobody")
                .help("add a sink with plugin = \"gate\" or \"stripe_issuing\"".to_owned()),
        );
    }
    for (index, policy) in policies.iter().enumerate() {
        let conditions = policy.child("match").and_then(Node::table);
        if conditions.is_some_and(|conditions| conditions.is_empty()) {
            let path = format!("freeze.policies[{index}].match");
            let finding =
                Diagnostic::error(path, "this policy freezes whoever is in any incident", policy.key);
            build.report(finding.help("give a condition, such as severity = \"critical\"".to_owned()));
        }
    }
    if config.freeze.approvals > 1 && config.http.tokens.len() < 2 {
        let place = node.child("approvals").map_or(node.key, |approvals| approvals.place);
        let finding =
            Diagnostic::error("freeze.approvals", "without tokens anybody can be two people", place);
        build.report(
            finding.label("needs two tokens").help("add [[http.tokens]], one for each person".to_owned()),
        );
    }
    if config.freeze.lasts.0 > config.freeze.longest.0 {
        let place = node.child("lasts").map_or(node.key, |lasts| lasts.place);
        build.report(Diagnostic::error("freeze.lasts", "this is longer than `freeze.longest`", place));
    }
}
