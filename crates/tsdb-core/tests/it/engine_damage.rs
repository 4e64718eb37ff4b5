//! Damaged files of the engine: never a panic, never a value that was not written, and what is
//! lost is named.

use std::path::Path;

use model::Sample;
use testkit::fault_fs::{FaultFs, Loss};
use tsdb_core::db::OpenReport;

use crate::engine::{Contents, append_run, contents, open, tenant, write};

/// An engine's files after some writes, half of them behind a snapshot.
fn written() -> (FaultFs, Contents) {
    let fs = FaultFs::new();
    let (engine, _) = open(&fs).unwrap();
    let t = tenant("default-tenant");
    for round in 0..40_i64 {
        let time_ms = 100_000 + round * 100;
        let samples = [
            ("n=a,job=x", time_ms, 1.5 * round as f64),
            ("n=b,job=y", time_ms + 1, -0.25 * round as f64),
        ];
        write(&engine, &t, &samples).unwrap();
        if round == 20 {
            write(&engine, &t, &[("n=late", time_ms, 7.0)]).unwrap();
            engine.snapshot().unwrap();
        }
    }
    let contents = contents(&engine);
    drop(engine);
    (fs.after_power_loss(Loss::Nothing), contents)
}

fn is_reported(report: &OpenReport) -> bool {
    !report.damaged.is_empty()
        || !report.problems.is_empty()
        || report.samples_orphaned > 0
        || report.series_orphaned > 0
        || report.frames_unknown > 0
}

/// Opens the damaged files and compares: nothing invented, and every loss reported.
fn check(fs: &FaultFs, whole: &Contents, context: &str) -> usize {
    let (engine, report) = open(fs).unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = contents(&engine);
    let mut found_count = 0;
    for (series, samples) in &found {
        for (time_ms, sample) in samples {
            let expected = whole.get(series).and_then(|it| it.get(time_ms));
            assert_eq!(Some(sample), expected, "{context}: {series} at {time_ms}");
            found_count += 1;
        }
    }
    let whole_count: usize = whole.values().map(std::collections::BTreeMap::len).sum();
    let lost = whole_count - found_count;
    assert!(lost == 0 || is_reported(&report), "{context}: {lost} samples vanished unsaid");
    write(&engine, &tenant("default-tenant"), &[("n=new", 200_000, 1.0)]).unwrap();
    lost
}

fn log_files(fs: &FaultFs) -> Vec<std::path::PathBuf> {
    let is_ours = |path: &std::path::PathBuf| {
        let name = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        ["log", "series", "snapshot"].contains(&name)
    };
    fs.files().into_iter().filter(is_ours).collect()
}

#[test]
fn a_flipped_bit_anywhere_costs_at_most_its_frame() {
    let (fs, whole) = written();
    let files = log_files(&fs);
    assert!(files.len() >= 4, "{files:?}");
    for path in files {
        let bytes = fs.read(&path).unwrap();
        for at in 0..bytes.len() {
            let damaged_fs = fs.after_power_loss(Loss::Nothing);
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            damaged_fs.overwrite(&path, &damaged).unwrap();
            let context = format!("{} byte {at}", path.display());
            let lost = check(&damaged_fs, &whole, &context);
            if path.extension().is_some_and(|it| it == "log") {
                // One frame of the log is one write of one partition: a sample or two.
                assert!(lost <= 2, "{context}: {lost} lost");
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere_opens() {
    let (fs, whole) = written();
    for path in log_files(&fs) {
        let bytes = fs.read(&path).unwrap();
        for at in (0..bytes.len()).step_by(3) {
            let damaged_fs = fs.after_power_loss(Loss::Nothing);
            damaged_fs.overwrite(&path, &bytes[..at]).unwrap();
            open_and_compare_values(&damaged_fs, &whole, &format!("{} at {at}", path.display()));
        }
    }
}

/// A file that ends at a frame's end cannot be told from a shorter one; only values are compared.
fn open_and_compare_values(fs: &FaultFs, whole: &Contents, context: &str) {
    let (engine, _) = open(fs).unwrap_or_else(|error| panic!("{context}: {error}"));
    for (series, samples) in &contents(&engine) {
        for (time_ms, sample) in samples {
            let expected = whole.get(series).and_then(|it| it.get(time_ms));
            assert_eq!(Some(sample), expected, "{context}: {series} at {time_ms}");
        }
    }
}

#[test]
fn a_torn_tail_is_named_copied_and_cut_once() {
    let (fs, whole) = written();
    let last = log_files(&fs).into_iter().rfind(|it| it.extension().is_some_and(|it| it == "log"));
    let path = last.unwrap();
    let mut bytes = fs.read(&path).unwrap();
    let size_bytes = bytes.len() as u64;
    bytes.extend_from_slice(&bytes.clone()[..30]);
    fs.overwrite(&path, &bytes).unwrap();
    let (engine, report) = open(&fs).unwrap();
    assert_eq!(report.damaged.len(), 1);
    let span = &report.damaged[0];
    assert_eq!((span.start, span.end, span.is_tail), (size_bytes, size_bytes + 30, true));
    assert_eq!(span.path, path);
    assert_eq!(contents(&engine), whole);
    drop(engine);
    let name = path.file_name().unwrap().to_str().unwrap();
    let copy = Path::new("/data/.aion/quarantine").join(format!("{name}-{size_bytes}"));
    assert_eq!(fs.read(&copy).unwrap(), bytes[..30]);
    let (_, report) = open(&fs).unwrap();
    assert!(report.damaged.is_empty());
}

#[test]
fn a_damaged_snapshot_costs_open_chunks_at_most() {
    let fs = FaultFs::new();
    let (engine, _) = open(&fs).unwrap();
    let t = tenant("default-tenant");
    let run = |from: i64, count: i64| -> Vec<Sample> {
        let value = |at: i64| ((at * at) % 977) as f64;
        let sample = |at| Sample { timestamp_ms: 100_000 + at * 31, value: value(at) };
        (from..from + count).map(sample).collect()
    };
    for labels in ["n=a", "n=b", "n=c"] {
        append_run(&engine, &t, labels, &run(0, 900)).unwrap();
    }
    engine.commit_pending().unwrap();
    engine.snapshot().unwrap();
    append_run(&engine, &t, "n=a", &run(900, 200)).unwrap();
    engine.commit_pending().unwrap();
    let whole = contents(&engine);
    drop(engine);
    let fs = fs.after_power_loss(Loss::Nothing);
    let is_snapshot = |it: &std::path::PathBuf| it.extension().is_some_and(|it| it == "snapshot");
    let path = fs.files().into_iter().find(is_snapshot).unwrap();
    let bytes = fs.read(&path).unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let fs = fs.after_power_loss(Loss::Nothing);
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs.overwrite(&path, &damaged).unwrap();
        let context = format!("byte {at} of {}", bytes.len());
        let lost = check(&fs, &whole, &context);
        // The frame of the whole and those of partitions name nothing that is not elsewhere.
        let is_of_head = at < 24 + 2;
        assert!(lost == 0 || !is_of_head && lost < 3 * 120, "{context}: {lost} lost");
        // New chunks find room beside the old ones, and the next snapshot sees to the rest.
        let (engine, _) = open(&fs).unwrap();
        append_run(&engine, &t, "n=b", &run(2000, 500)).unwrap();
        append_run(&engine, &t, "n=a", &run(2000, 500)).unwrap();
        engine.commit_pending().unwrap();
        engine.snapshot().unwrap();
        assert!(!engine.has_failed(), "{context}");
        let expected = contents(&engine);
        drop(engine);
        let (engine, report) = open(&fs.after_power_loss(Loss::Unsynced)).unwrap();
        assert_eq!(contents(&engine), expected, "{context}: {report:?}");
        assert!(report.problems.is_empty(), "{context}: {:?}", report.problems);
    }
}
