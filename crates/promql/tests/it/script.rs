//! Prometheus' own test scripts for PromQL, run from where they lie.
//!
//! Scripts that need native histograms, experimental functions or delayed name removal do not pass
//! whole; [`EXPECTED`] holds how many commands of each file pass, and only ever grows.

mod parse;
mod run;

use testkit::golden::shared_or_skip;

/// File, passing commands at least.
const EXPECTED: &[(&str, usize)] = &[];

#[test]
fn prometheus_scripts_pass() {
    let Some(shared) = shared_or_skip() else { return };
    let dir = shared.join("conformance/promql");
    let mut files: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut lost = Vec::new();
    let mut table = String::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let script = parse::script(&std::fs::read_to_string(&path).unwrap());
        let outcome = run::run(&script);
        let total = outcome.passed + outcome.failures.len();
        table.push_str(&format!("    ({name:?}, {}), // of {total}\n", outcome.passed));
        let expected = EXPECTED.iter().find(|(file, _)| *file == name).map_or(0, |(_, it)| *it);
        if outcome.passed < expected {
            lost.push(format!("{name}: {} of {expected}", outcome.passed));
        }
        if std::env::var("PROMQL_SHOW").is_ok_and(|it| name.contains(&it)) {
            for failure in &outcome.failures {
                println!("{name}:{failure}");
            }
        }
    }
    println!("{table}");
    assert!(lost.is_empty(), "commands that passed before fail now: {lost:#?}");
}
