//! A head that fills its memory: it can be cut and read again, and known series go on.

use std::io::ErrorKind;

use model::{Budget, Tenant};
use testkit::fault_fs::{Fault, FaultFs};
use tsdb_core::Error;
use tsdb_core::db::Engine;

use crate::engine::{
    BLOCK_MS, append, contents, expect_no_failures, names, open_with, tenant, write,
};

const LABELS: &str = "instance=some-instance-with-a-long-name,job=a-job,region=eu,zone=a,n=";

/// Makes series until there is no room for more; answers how many there are.
fn fill(engine: &Engine, t: &Tenant) -> u32 {
    for number in 0..1_000_000 {
        let labels = format!("{LABELS}{number}");
        match write(engine, t, &[(&labels, 1000, f64::from(number))]) {
            Ok(_) => {}
            Err(Error::Budget(_)) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the head never fills")
}

fn full_engine(fs: &FaultFs) -> (Budget, Engine, Tenant, u32) {
    let budget = Budget::process(2_000_000, None);
    let (engine, _) = open_with(fs, BLOCK_MS, budget.child("head", 1_500_000)).unwrap();
    let t = tenant("default-tenant");
    let count = fill(&engine, &t);
    assert!(count > 300, "{count}");
    (budget, engine, t, count)
}

#[test]
fn a_full_head_can_be_cut_and_takes_series_again() {
    let fs = FaultFs::new();
    let (budget, engine, t, count) = full_engine(&fs);
    let other = budget.reserve(budget.limit_bytes() - budget.used_bytes()).unwrap();
    let expected = contents(&engine);
    let report = engine.cut_all(0, &mut names());
    expect_no_failures(&report);
    assert_eq!(report.blocks[0].meta.stats.num_series, u64::from(count));
    assert_eq!(contents(&engine), expected);
    drop(other);
    write(&engine, &t, &[("n=new", 20_000, 1.0)]).unwrap();
}

#[test]
fn a_full_head_is_read_again_after_a_failure() {
    let fs = FaultFs::new();
    let (budget, engine, t, count) = full_engine(&fs);
    let expected = contents(&engine);
    let labels = format!("{LABELS}0");
    fs.inject(fs.mutation_count(), Fault::Error(ErrorKind::Other));
    write(&engine, &t, &[(&labels, 1500, 1.0)]).unwrap_err();
    assert!(engine.has_failed());
    let used_bytes = budget.used_bytes();
    let report = engine.rebuild().unwrap();
    assert_eq!(report.series, usize::try_from(count).unwrap());
    assert_eq!(contents(&engine), expected);
    assert!(budget.peak_bytes() < used_bytes + used_bytes / 4, "two heads side by side");
    write(&engine, &t, &[(&labels, 1500, 1.0)]).unwrap();
    drop(engine);
    // A start with less memory than the head has still reads it: refusing would lose data.
    let (engine, _) = open_with(&fs, BLOCK_MS, Budget::process(1_000_000, None)).unwrap();
    assert_eq!(engine.stats().series, usize::try_from(count).unwrap());
    expect_no_failures(&engine.cut_due(1_000_000, &mut names()));
}

#[test]
fn known_series_go_on_beside_new_ones_that_have_no_room() {
    let fs = FaultFs::new();
    let (budget, engine, t, count) = full_engine(&fs);
    let known = format!("{LABELS}{}", count - 1);
    let used_bytes = budget.used_bytes();
    for round in 0..200 {
        let new = format!("{LABELS}{},padding={}", i64::from(count) + round, "x".repeat(1000));
        let time_ms = 1001 + round;
        let both = [(&*new, time_ms, 1.0), (&*known, time_ms, 2.0)];
        assert!(matches!(append(&engine, &t, &both), Err(Error::Budget(_))));
        engine.commit_pending().unwrap();
        let outcome = write(&engine, &t, &[(&known, time_ms, 2.0)]).unwrap();
        assert_eq!((outcome.accepted, outcome.duplicates), (0, 1), "round {round}");
    }
    assert_eq!(budget.used_bytes(), used_bytes);
    assert_eq!(engine.stats().series, usize::try_from(count).unwrap());
    // What a refusal interned would show in the account when the symbols are counted again.
    engine.rebuild().unwrap();
    assert!(budget.used_bytes() <= used_bytes);
}
