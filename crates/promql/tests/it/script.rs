//! Prometheus' own test scripts for PromQL, run from where they lie.
//!
//! Scripts that need native histograms, experimental functions or delayed name removal do not pass
//! whole; [`EXPECTED`] holds how many commands of each file pass, and only ever grows.

mod parse;
mod run;

use testkit::golden::shared_or_skip;

/// File, passing commands at least.
const EXPECTED: &[(&str, usize)] = &[
    ("aggregators.test", 124),        // of 160
    ("at_modifier.test", 77),         // of 78
    ("collision.test", 2),            // of 2
    ("duration_expression.test", 59), // of 59
    ("extended_vectors.test", 30),    // of 169
    ("fill-modifier.test", 1),        // of 46
    ("functions.test", 254),          // of 431
    ("histograms.test", 79),          // of 185
    ("info.test", 0),                 // of 53
    ("limit.test", 0),                // of 37
    ("literals.test", 25),            // of 25
    ("name_label_dropping.test", 22), // of 30
    ("native_histograms.test", 1),    // of 522
    ("operators.test", 142),          // of 214
    ("range_queries.test", 15),       // of 18
    ("selectors.test", 31),           // of 31
    ("staleness.test", 17),           // of 17
    ("start_timestamps.test", 2),     // of 26
    ("subquery.test", 32),            // of 34
    ("trig_functions.test", 19),      // of 19
    ("type_and_unit.test", 54),       // of 58
];

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
