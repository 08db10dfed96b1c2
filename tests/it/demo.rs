//! What a newcomer sees first.

use railwatch_tests::railwatch;

#[test]
fn the_demo_finds_its_runaway_and_ends_well() {
    let demo = railwatch(&["demo", "--seconds", "85", "--incident-after", "2"]);
    assert_eq!(demo.code, 0, "{demo:?}");
    let told = demo.stdout.lines().any(|line| line.contains("agent_billing_7") && line.contains("usual"));
    assert!(told, "no explained alert of the runaway in\n{}", demo.stdout);
    assert!(demo.stdout.contains("is compromised"), "{}", demo.stdout);
}
