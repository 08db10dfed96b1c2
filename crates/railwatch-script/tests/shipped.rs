//! Every script that ships loads, and its tests pass.

use std::path::Path;

use railwatch_script::{Limits, Scripts, read_dir};

fn shipped() -> railwatch_script::Files {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    read_dir(&dir, &Limits::default()).expect("the script folder can be read")
}

#[test]
fn every_shipped_script_loads_with_its_tests() {
    let scripts = Scripts::load(&shipped(), &Limits::default()).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    assert_eq!(scripts.reports().iter().filter(|report| report.file.starts_with("rules/")).count(), 13);
    assert!(
        scripts.reports().iter().all(|report| report.is_ok() && report.passed.len() >= 2),
        "{:?}",
        scripts.reports()
    );
    assert!(scripts.scorer().is_some());
    for file in ["rails/gate.lua", "rails/litellm.lua", "rails/lnbits.lua"] {
        assert!(scripts.decoder(file).is_some(), "{file}");
    }
}
