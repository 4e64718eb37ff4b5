//! Cuts that go wrong: nothing is lost that is elsewhere, nothing is left lying about, and one bad
//! chunk does not hold up the rest.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use model::{Budget, Sample};
use testkit::fault_fs::{Fault, FaultFs, Loss};
use tsdb_core::db::Engine;

use crate::engine::{
    BLOCK_MS, append_run, contents, expect_no_failures, names, open, open_with, tenant, write,
};

/// An engine with two closed chunks and more of one series, and another series.
fn filled(fs: &FaultFs, block_ms: i64) -> Engine {
    let (engine, _) = open_with(fs, block_ms, Budget::unlimited()).unwrap();
    let t = tenant("default-tenant");
    let samples: Vec<Sample> =
        (0..400).map(|at| Sample { timestamp_ms: at * 47, value: at as f64 }).collect();
    append_run(&engine, &t, "n=a", &samples).unwrap();
    write(&engine, &t, &[("n=b", 18_000, 2.0)]).unwrap();
    engine
}

fn with_extension(fs: &FaultFs, extension: &str) -> Vec<PathBuf> {
    fs.files().into_iter().filter(|it| it.extension().is_some_and(|it| it == extension)).collect()
}

fn unfinished(fs: &FaultFs) -> Vec<PathBuf> {
    let is_unfinished = |it: &PathBuf| it.to_string_lossy().contains(".tmp-for-creation");
    fs.files().into_iter().filter(is_unfinished).collect()
}

/// Flips a bit in the data of the first record of every head-chunk file.
fn damage_chunks(fs: &FaultFs) {
    for path in with_extension(fs, "chunks") {
        let mut bytes = fs.read(&path).unwrap();
        if bytes.len() > 30 {
            bytes[30] ^= 4;
            fs.overwrite(&path, &bytes).unwrap();
        }
    }
}

#[test]
fn a_block_that_cannot_be_read_back_is_cut_again() {
    let fs = FaultFs::new();
    let engine = filled(&fs, BLOCK_MS);
    let expected = contents(&engine);
    // The power goes right after the block got its name: the cut is pending, the block is there.
    let probe = FaultFs::new();
    let twin = filled(&probe, BLOCK_MS);
    let before = probe.mutation_count();
    twin.cut_due(0, &mut names());
    let is_block = |it: &PathBuf| it.ends_with("meta.json");
    let mut tested = 0;
    for at in before..probe.mutation_count() {
        let fs = FaultFs::new();
        let engine = filled(&fs, BLOCK_MS);
        fs.inject(at, Fault::PowerOff);
        engine.cut_due(0, &mut names());
        drop(engine);
        let fs = fs.after_power_loss(Loss::Nothing);
        let cuts = fs.read(Path::new("/data/.aion/cuts.json")).unwrap_or_default();
        let is_pending = String::from_utf8(cuts).unwrap().contains("pending");
        let block = fs.files().into_iter().find(|it| is_block(it));
        let Some(meta) = block.filter(|it| is_pending && !it.to_string_lossy().contains(".tmp"))
        else {
            continue;
        };
        tested += 1;
        fs.overwrite(&meta.with_file_name("index"), b"nonsense").unwrap();
        let (engine, report) = open(&fs).unwrap();
        assert!(report.problems.iter().any(|it| it.contains("cut again")), "{:?}", report.problems);
        assert_eq!(contents(&engine), expected, "call {at}");
        let report = engine.cut_due(0, &mut || 77);
        expect_no_failures(&report);
        assert_eq!(report.blocks.len(), 1, "call {at}");
        assert_eq!(contents(&engine), expected, "call {at}");
        let aside = "/data/.aion/quarantine/block-of-default-tenant/index";
        assert_eq!(fs.read(Path::new(aside)).unwrap(), b"nonsense");
    }
    assert!(tested > 0, "no call leaves a pending cut with its block");
}

#[test]
fn a_cut_that_fails_leaves_nothing_behind() {
    let probe = FaultFs::new();
    let engine = filled(&probe, BLOCK_MS);
    let before = probe.mutation_count();
    engine.cut_due(0, &mut names());
    for at in before..probe.mutation_count() {
        let fs = FaultFs::new();
        let engine = filled(&fs, BLOCK_MS);
        fs.inject(at, Fault::Error(ErrorKind::StorageFull));
        let mut names = names();
        let report = engine.cut_due(0, &mut names);
        assert_eq!(unfinished(&fs), Vec::<PathBuf>::new(), "call {at}");
        if !report.failures.is_empty() {
            if engine.has_failed() {
                engine.rebuild().unwrap();
            }
            expect_no_failures(&engine.cut_due(0, &mut names));
        }
        assert_eq!(unfinished(&fs), Vec::<PathBuf>::new(), "call {at}");
    }
}

#[test]
fn a_damaged_chunk_that_the_log_still_has_is_made_again() {
    let fs = FaultFs::new();
    let engine = filled(&fs, BLOCK_MS);
    let expected = contents(&engine);
    // A first round finds nothing to cut but writes the chunks that gathered in memory.
    let samples: Vec<Sample> = (0..40_000)
        .map(|at| Sample { timestamp_ms: 18_800 + at / 4 * 4 + at % 4, value: (at * at) as f64 })
        .collect();
    append_run(&engine, &tenant("default-tenant"), "n=fill", &samples).unwrap();
    engine.commit_pending().unwrap();
    drop(expected);
    let expected = contents(&engine);
    damage_and_cut(&fs, &engine);
    assert_eq!(contents(&engine), expected);
}

/// Cuts with chunks that are damaged as soon as they are on the disk.
fn damage_and_cut(fs: &FaultFs, engine: &Engine) {
    let mut names = names();
    // The cut of a window writes its chunks and then reads them: a first one with a failing disk
    // stops in between.
    let mut at = fs.mutation_count();
    while with_extension(fs, "chunks").iter().all(|it| fs.read(it).unwrap().len() < 100) {
        fs.inject(at + 3, Fault::Error(ErrorKind::StorageFull));
        engine.cut_due(0, &mut names);
        at = fs.mutation_count();
    }
    assert!(!engine.has_failed());
    damage_chunks(fs);
    let report = engine.cut_due(0, &mut names);
    assert!(!report.failures.is_empty(), "the damage is not noticed");
    assert!(engine.has_failed());
    engine.rebuild().unwrap();
    let report = engine.cut_due(0, &mut names);
    expect_no_failures(&report);
    assert!(report.blocks.iter().all(|it| it.chunks_lost.is_empty()));
}

#[test]
fn an_unreadable_chunk_is_named_and_does_not_hold_up_the_cut() {
    let fs = FaultFs::new();
    let engine = filled(&fs, BLOCK_MS);
    // The log does not have what lies before a snapshot.
    engine.snapshot().unwrap();
    for path in with_extension(&fs, "chunks") {
        fs.make_unreadable(&path);
    }
    let report = engine.cut_due(0, &mut names());
    expect_no_failures(&report);
    let in_blocks = report.blocks.iter().flat_map(|it| &it.chunks_lost).count();
    assert!(in_blocks + report.lost.len() > 0, "{report:?}");
    let unreadable = with_extension(&fs, "chunks");
    let left: usize = contents_below_cut(&engine);
    assert!(left < 213, "{unreadable:?}");
    // What came later is there, and the next window is cut.
    write(&engine, &tenant("default-tenant"), &[("n=a", 27_000, 1.0)]).unwrap();
    expect_no_failures(&engine.cut_due(0, &mut || 99));
}

fn contents_below_cut(engine: &Engine) -> usize {
    let blocks = engine.blocks(&tenant("default-tenant"));
    let counts = blocks.iter().map(|it| it.reader.meta().stats.num_samples);
    usize::try_from(counts.sum::<u64>()).unwrap()
}

#[test]
fn chunks_of_longer_blocks_are_split_at_the_end_of_shorter_ones() {
    let fs = FaultFs::new();
    let engine = filled(&fs, 20_000);
    let expected = contents(&engine);
    // What is in a snapshot keeps its chunks; the log would make new ones.
    engine.snapshot().unwrap();
    drop(engine);
    let (engine, _) = open_with(&fs, 5_000, Budget::unlimited()).unwrap();
    let report = engine.cut_all(0, &mut names());
    expect_no_failures(&report);
    assert_eq!(report.blocks.len(), 4);
    assert_eq!(engine.stats().series, 0);
    assert_eq!(contents(&engine), expected);
}
