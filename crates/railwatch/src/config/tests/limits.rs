//! No text makes loading panic, and long lists of findings are cut.

use proptest::prelude::*;

use super::super::Diagnostics;
use super::load_files;

#[test]
fn findings_beyond_the_limit_are_counted() {
    let text: String = (0..500).map(|index| format!("[[agents]]\nid = \"a{index}\"\nwrong = 1\n")).collect();
    let found = load_files(&[("railwatch.toml", &text)], false).unwrap_err();
    assert_eq!(found.list.len(), Diagnostics::LEN_MAX);
    assert!(found.render(false).ends_with("… and 300 more\n"), "{}", found.omitted);
}

/// Pieces from which nearly valid configurations are made.
fn piece() -> impl Strategy<Value = String> {
    let pieces = include_str!("full.toml").lines().map(str::to_owned).collect::<Vec<_>>();
    prop_oneof![
        6 => prop::sample::select(pieces),
        1 => "[ -~\\n\\[\\]\"='{}é]{0,40}",
        1 => Just("[sources.\"a.b\"]".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(pieces in prop::collection::vec(piece(), 0..30)) {
        let text = pieces.join("\n");
        let found = match load_files(&[("railwatch.toml", &text)], true) {
            Ok(loaded) => loaded.warnings,
            Err(found) => found,
        };
        let shown = found.render(true);
        prop_assert!(serde_json::to_string(&found).is_ok());
        prop_assert!(found.is_empty() || !shown.is_empty());
    }
}
