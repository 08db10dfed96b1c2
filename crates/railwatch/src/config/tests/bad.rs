//! Wrong configurations, and exactly what is said about each. `tests/bad/*.toml` holds one per file; a file may hold
//! several, separated by lines `#=== name`, which are written to a folder and loaded together.

use std::path::Path;

use super::load_files;

/// The parts of a case: the main file, then the others.
fn parts(text: &str) -> Vec<(&str, &str)> {
    let mut parts = Vec::new();
    let mut sections = text.split("#=== ");
    parts.push(("railwatch.toml", sections.next().unwrap_or_default()));
    parts.extend(sections.filter_map(|section| section.split_once('\n')));
    parts
}

#[test]
fn every_mistake_is_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/bad");
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for case in cases {
        let name = case.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&case).unwrap();
        let found = match load_files(&parts(&text), name.starts_with("offline")) {
            Err(found) => {
                assert!(found.has_errors(), "{name}: refused without an error");
                found
            }
            Ok(loaded) => {
                assert!(name.starts_with("warn") || name.starts_with("offline"), "{name} loads");
                loaded.warnings
            }
        };
        assert!(!found.is_empty(), "{name}: nothing is said");
        let shown = found.render(false);
        assert!(!shown.contains("hunter2"), "{name} shows a secret:\n{shown}");
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_snapshot_path("bad-snapshots");
        settings.bind(|| insta::assert_snapshot!(name.as_str(), shown));
    }
}

#[test]
fn findings_are_json_for_tools() {
    let found = load_files(&[("railwatch.toml", "[store]\nretian = \"1d\"\n")], false).unwrap_err();
    insta::assert_json_snapshot!("findings", found);
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("railwatch.toml");
    let load = || super::super::load(&path, &super::fake::registries()).unwrap_err().list.remove(0).message;
    assert!(load().contains("No such file"), "{}", load());
    std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
    assert!(load().ends_with("line 2 is not UTF-8 text"), "{}", load());
}
