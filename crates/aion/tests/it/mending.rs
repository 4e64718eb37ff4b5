//! The commands that the compactor names for what is damaged are commands, and they mend it.

use std::fs;
use std::path::Path;
use std::process::Command;

use model::{BlockId, Labels};
use serde_json::Value;
use tempfile::TempDir;
use testkit::blocks;
use tsdb_core::block::Meta;

const HOUR_MS: i64 = 3_600_000;
/// The start of a window of two weeks, long ago.
const EPOCH_MS: i64 = 1_470 * 14 * 24 * HOUR_MS;

/// A block of two hours with a sample a minute.
fn put(bucket: &Path, number: u32, stream: &str, hour: i64) -> BlockId {
    let id = BlockId::from_parts(1_700_000_000_000, u128::from(number));
    let (first, last) = (EPOCH_MS + hour * HOUR_MS, EPOCH_MS + (hour + 2) * HOUR_MS);
    let mut meta = Meta::of_head(id, first, last);
    meta.thanos.labels.insert("stream".to_owned(), stream.to_owned());
    let labels = Labels::from_pairs([("__name__", "metric")]).unwrap();
    let samples = (0..120).map(|it| (first + it * 60_000, 1.0)).collect();
    blocks::write(bucket, meta, &[(labels, samples)]).unwrap();
    id
}

fn change(bucket: &Path, id: BlockId, file: &str, change: impl Fn(&mut Vec<u8>)) {
    let path = bucket.join(id.to_string()).join(file);
    let mut bytes = fs::read(&path).unwrap_or_default();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn aion(home: &Path, arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_aion"))
        .args(arguments)
        .current_dir(home)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{arguments:?}: {said}");
    said
}

/// What the compactor knows to be wrong after a run.
fn quarantine(home: &Path) -> Vec<Value> {
    let flags = ["--objstore.config-file=bucket.yaml", "--data-dir=data"];
    let more = ["--http-address=127.0.0.1:0", "--consistency-delay=0s"];
    aion(home, &[&["compact"], &flags[..], &more[..]].concat());
    let kept = fs::read(home.join("bucket/aion/compactor/quarantine.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    kept["entries"].as_array().unwrap().clone()
}

/// The arguments of a command as a shell takes it.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for character in command.chars() {
        match character {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}

#[test]
fn each_command_that_the_compactor_names_ends_the_quarantine() {
    let home = TempDir::new().unwrap();
    let (home, bucket) = (home.path(), home.path().join("bucket"));
    fs::create_dir(&bucket).unwrap();
    fs::write(home.join("bucket.yaml"), "{type: FILESYSTEM, config: {directory: bucket}}").unwrap();
    let mut number = 0;
    let mut window = |stream: &str| {
        let mut ids = Vec::new();
        for at in 0..6 {
            number += 1;
            ids.push(put(&bucket, number, stream, at * 2));
        }
        ids[1]
    };
    let (chunk, meta, files) = (window("chunk"), window("meta"), window("files"));
    let (foreign, mark, index) = (window("foreign"), window("mark"), window("index"));
    change(&bucket, chunk, "chunks/000001", |it| it.iter_mut().skip(30).for_each(|it| *it ^= 7));
    change(&bucket, meta, "meta.json", |it| it.truncate(9));
    fs::remove_file(bucket.join(files.to_string()).join("index")).unwrap();
    change(&bucket, foreign, "meta.json", |it| {
        let mut meta: Value = serde_json::from_slice(it).unwrap();
        meta["thanos"]["downsample"]["resolution"] = 7.into();
        *it = serde_json::to_vec(&meta).unwrap();
    });
    change(&bucket, mark, "no-downsample-mark.json", |it| it.extend(b"{"));
    change(&bucket, index, "index", |it| it.iter_mut().skip(60).for_each(|it| *it ^= 7));

    let mut causes = Vec::new();
    for _ in 0..4 {
        let entries = quarantine(home);
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            causes.push(entry["cause"].as_str().unwrap().to_owned());
            let command = words(entry["command"].as_str().unwrap());
            assert_eq!(command[0], "aion");
            let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
            aion(home, &arguments);
        }
    }
    assert!(quarantine(home).is_empty());
    causes.sort_unstable();
    causes.dedup();
    let expected = [
        "corrupt-meta",
        "damaged-for-compaction",
        "damaged-for-downsampling",
        "foreign",
        "incomplete",
        "unreadable-mark",
    ];
    assert_eq!(causes, expected);
}
