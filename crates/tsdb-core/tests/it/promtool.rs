//! Blocks of ours as Prometheus' own tool reads them.

use std::path::Path;
use std::process::Command;

use testkit::golden;
use testkit::peer::program;

use crate::golden_blocks::{open, write_again};

/// What the tool says of a database.
pub(crate) fn promtool(arguments: &[&str], database: &Path) -> Vec<String> {
    let promtool = program("promtool");
    let output = Command::new(promtool).arg("tsdb").args(arguments).arg(database).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn prometheus_reads_what_we_write() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let block = open(&shared, "prom-floats");
    let database = tempfile::tempdir().unwrap();
    // The tool wants a log, and is content with an empty one.
    std::fs::create_dir(database.path().join("wal")).unwrap();
    let written = write_again(&block, database.path(), "prom-floats", 3);
    let ours = promtool(&["dump"], database.path());
    assert_eq!(ours.len(), 32_088);

    let theirs = tempfile::tempdir().unwrap();
    std::fs::create_dir(theirs.path().join("wal")).unwrap();
    let copy = theirs.path().join(block.meta().ulid.to_string());
    std::fs::create_dir_all(copy.join("chunks")).unwrap();
    for file in ["meta.json", "index", "chunks/000001"] {
        std::fs::copy(block.path().join(file), copy.join(file)).unwrap();
    }
    assert!(promtool(&["dump"], theirs.path()) == ours, "the dumps differ");

    let listed = promtool(&["list"], database.path());
    let id = written.file_name().unwrap().to_str().unwrap();
    let row = listed.iter().find(|it| it.starts_with(id)).unwrap();
    assert!(row.contains("32088") && row.contains("390") && row.contains("179"), "{row}");
    let analyzed = promtool(&["analyze"], database.path());
    assert!(analyzed.contains(&"Series: 179".to_owned()), "{analyzed:?}");
}
