//! Prometheus' own test scripts for PromQL, run from where they lie.

mod language;

use testkit::golden::shared_or_skip;

/// Commands that pass, of all scripts together: all.
const PASSING: usize = 2214;

#[test]
fn prometheus_scripts_pass() {
    let Some(shared) = shared_or_skip() else { return };
    let (mut passed, mut failures) = (0, Vec::new());
    for (name, text) in language::files(&shared.join("conformance/promql")).unwrap() {
        let outcome = language::run::run(&language::parse::script(&text));
        passed += outcome.passed;
        failures.extend(outcome.failures.iter().map(|it| format!("{name}:{it}")));
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(passed, PASSING);
}
