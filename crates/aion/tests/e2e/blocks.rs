//! What Prometheus' own tool says about the blocks in a bucket.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::peer::program;

/// Lists, analyzes and dumps every block of a bucket in a folder.
pub(crate) fn check_with_promtool(bucket: &Path, dir: &Path) {
    let promtool = program("promtool");
    let tsdb = dir.join("promtool");
    let blocks = copy_blocks(bucket, &tsdb);
    assert!(blocks.len() >= 2, "the bucket has only {blocks:?}");
    let tool = |args: &[&str]| {
        let output = Command::new(&promtool).arg("tsdb").args(args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "promtool tsdb {args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let path = tsdb.to_str().unwrap();

    let listed = tool(&["list", path]);
    for block in &blocks {
        assert!(listed.contains(block.as_str()), "{block} is not listed:\n{listed}");
        let analyzed = tool(&["analyze", path, block]);
        assert!(analyzed.contains(block.as_str()), "{analyzed}");
        assert!(analyzed.contains("Highest cardinality metric names"), "{analyzed}");
    }

    let dumped = tool(&["dump", "--match={__name__=\"up\"}", path]);
    let mut times = BTreeMap::new();
    for line in dumped.lines() {
        let time_ms: i64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(times.insert(time_ms, line.to_owned()).is_none(), "dumped twice: {line}");
    }
    assert!(times.len() > 60, "only {} scrapes were dumped", times.len());
    let times: Vec<i64> = times.into_keys().collect();
    for pair in times.windows(2) {
        // Scrapes are a second apart; a late one may be left out of step, none may be lost.
        let gap_ms = pair[1] - pair[0];
        assert!(gap_ms < 1900, "no scrape between {} and {}", pair[0], pair[1]);
    }
    let all = tool(&["dump", path]);
    assert!(all.lines().count() > times.len() * 100, "the dump holds too little");
}

/// Copies the blocks to where promtool takes them for a database.
fn copy_blocks(bucket: &Path, tsdb: &Path) -> Vec<String> {
    fs::create_dir_all(tsdb.join("wal")).unwrap();
    let mut blocks = Vec::new();
    for dir in entries(bucket) {
        if dir.join("meta.json").is_file() {
            let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
            copy_dir(&dir, &tsdb.join(&name));
            blocks.push(name);
        }
    }
    blocks
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in entries(from) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect()
}
