//! Crashes and failing disks at every call that changes the disk: what was acknowledged is there,
//! once, and nothing is there that was never sent.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use testkit::fault_fs::{Fault, FaultFs, Loss};
use tsdb_core::Result;
use tsdb_core::db::Engine;

use crate::engine::{Contents, append, contents, names, open, tenant, write};

/// What a run sent, and what of it was acknowledged.
#[derive(Default)]
struct History {
    sent: BTreeMap<(String, i64), u64>,
    acknowledged: BTreeMap<(String, i64), u64>,
}

const ROUNDS: i64 = 16;

/// One round's write: two tenants in turn, a series that comes and goes, one per round.
fn samples_of(round: i64) -> (&'static str, Vec<(String, i64, f64)>) {
    let tenant = if round % 3 == 2 { "other" } else { "default-tenant" };
    let time_ms = 50_000 + round * 1_700;
    let value = round as f64;
    let mut samples = vec![
        ("n=a,job=x".to_owned(), time_ms, value),
        ("n=b,job=x".to_owned(), time_ms + 1, -value),
        (format!("n=once,round={round}"), time_ms + 2, f64::from_bits(model::STALE_NAN_BITS)),
    ];
    if round % 8 < 4 {
        samples.push(("n=flappy".to_owned(), time_ms + 3, value / 3.0));
    }
    (tenant, samples)
}

impl History {
    fn key(tenant: &str, labels: &str, time_ms: i64) -> (String, i64) {
        let pairs = labels.split(',').map(|it| it.split_once('=').unwrap());
        let labels = model::Labels::from_pairs(pairs).unwrap();
        (format!("{tenant} {labels}"), time_ms)
    }

    fn send(&mut self, engine: &Engine, round: i64) -> Result<()> {
        let (name, samples) = samples_of(round);
        for (labels, time_ms, value) in &samples {
            self.sent.insert(Self::key(name, labels, *time_ms), value.to_bits());
        }
        let borrowed: Vec<(&str, i64, f64)> =
            samples.iter().map(|(labels, time_ms, value)| (&**labels, *time_ms, *value)).collect();
        let outcome = write(engine, &tenant(name), &borrowed)?;
        assert!(outcome.refused.is_empty(), "round {round}: {:?}", outcome.refused);
        for (labels, time_ms, value) in &samples {
            self.acknowledged.insert(Self::key(name, labels, *time_ms), value.to_bits());
        }
        Ok(())
    }

    fn check(&self, contents: &Contents, context: &str) {
        let mut acknowledged = self.acknowledged.clone();
        for (series, samples) in contents {
            for (time_ms, (bits, count)) in samples {
                let key = (series.clone(), *time_ms);
                assert_eq!(self.sent.get(&key), Some(bits), "{context}: never sent: {key:?}");
                assert_eq!(*count, 1, "{context}: {key:?} is there {count} times");
                acknowledged.remove(&key);
            }
        }
        assert!(acknowledged.is_empty(), "{context}: lost {acknowledged:?}");
    }
}

/// The life of an engine: writes, cuts, snapshots, and a flush at the end.
fn live(fs: &FaultFs, history: &mut History) -> Result<()> {
    let (engine, _) = open(fs)?;
    let mut names = names();
    for round in 0..ROUNDS {
        history.send(&engine, round)?;
        if round % 5 == 4 {
            fail_on_first(engine.cut_due(0, &mut names))?;
        }
        if round == 9 {
            engine.snapshot()?;
        }
    }
    fail_on_first(engine.cut_all(0, &mut names))
}

fn fail_on_first(report: tsdb_core::db::CutReport) -> Result<()> {
    report.failures.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// Opens what a crash left, looks, goes on working, and looks again.
fn check_after(fs: &FaultFs, mut history: History, context: &str) {
    let (engine, report) = open(fs).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(report.samples_orphaned, 0, "{context}");
    assert_eq!(report.series_orphaned, 0, "{context}");
    assert!(report.problems.is_empty(), "{context}: {:?}", report.problems);
    assert!(report.damaged.iter().all(|it| it.is_tail), "{context}: {:?}", report.damaged);
    history.check(&contents(&engine), context);
    // The sender tries again what was not acknowledged, and goes on.
    for round in 0..ROUNDS + 3 {
        let (name, samples) = samples_of(round);
        let is_known = |(labels, time_ms, _): &(String, i64, f64)| {
            history.acknowledged.contains_key(&History::key(name, labels, *time_ms))
        };
        if round >= ROUNDS || !samples.iter().all(is_known) {
            history.send(&engine, round).unwrap_or_else(|error| panic!("{context}: {error}"));
        }
    }
    let mut next = 1_u128 << 60;
    let report = engine.cut_all(0, &mut || {
        next += 1;
        next
    });
    assert!(report.failures.is_empty(), "{context}: {:?}", report.failures);
    history.check(&contents(&engine), context);
    drop(engine);
    let (engine, _) = open(&fs.after_power_loss(Loss::Unsynced)).unwrap();
    history.check(&contents(&engine), context);
}

#[test]
fn a_power_loss_at_any_call_loses_nothing_acknowledged() {
    let whole = FaultFs::new();
    let mut history = History::default();
    live(&whole, &mut history).unwrap();
    let mutation_count = whole.mutation_count();
    check_after(&whole.after_power_loss(Loss::Unsynced), history, "no fault");
    for at in 0..mutation_count {
        let fs = FaultFs::new();
        fs.inject(at, Fault::PowerOff);
        let mut history = History::default();
        live(&fs, &mut history).unwrap_err();
        // All three at every call would take minutes; each call meets two of them.
        let other = if at % 3 == 0 { Loss::Nothing } else { Loss::Torn(at) };
        let losses = [Loss::Unsynced, other];
        for loss in losses {
            let history =
                History { sent: history.sent.clone(), acknowledged: history.acknowledged.clone() };
            check_after(&fs.after_power_loss(loss), history, &format!("{loss:?} at call {at}"));
        }
    }
}

/// The same life with a disk that fails once: the engine recovers in the same process.
fn live_through(fs: &FaultFs, history: &mut History) {
    let engine = loop {
        match open(fs) {
            Ok((engine, _)) => break engine,
            Err(error) => assert!(fs.mutation_count() < 10_000, "{error}"),
        }
    };
    let mut names = names();
    for round in 0..ROUNDS {
        while history.send(&engine, round).is_err() {
            recover(&engine);
        }
        if round % 5 == 4 && !engine.cut_due(0, &mut names).failures.is_empty() {
            recover(&engine);
        }
        if round == 9 && engine.snapshot().is_err() {
            recover(&engine);
        }
    }
    while !engine.cut_all(0, &mut names).failures.is_empty() {
        recover(&engine);
    }
    history.check(&contents(&engine), "at the end");
}

fn recover(engine: &Engine) {
    if engine.has_failed() && engine.rebuild().is_err() {
        engine.rebuild().unwrap();
    }
}

#[test]
fn a_disk_that_fails_once_costs_a_retry_and_nothing_else() {
    let whole = FaultFs::new();
    live_through(&whole, &mut History::default());
    for at in 0..whole.mutation_count() {
        let kind = if at % 2 == 0 { ErrorKind::Other } else { ErrorKind::StorageFull };
        let fs = FaultFs::new();
        fs.inject(at, Fault::Error(kind));
        let mut history = History::default();
        live_through(&fs, &mut history);
        let context = format!("{kind:?} at call {at}");
        check_after(&fs.after_power_loss(Loss::Unsynced), history, &context);
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let fs = FaultFs::new();
    let (engine, _) = open(&fs).unwrap();
    let mut history = History::default();
    history.send(&engine, 0).unwrap();
    fs.limit_capacity(Some(700));
    let mut round = 1;
    while history.send(&engine, round).is_ok() {
        round += 1;
        assert!(round < ROUNDS, "the disk never fills");
    }
    assert!(engine.has_failed());
    assert!(append(&engine, &tenant("a"), &[("a=1", 1, 1.0)]).unwrap_err().is_transient());
    fs.limit_capacity(None);
    engine.rebuild().unwrap();
    history.check(&contents(&engine), "after the rebuild");
    for round in round..ROUNDS {
        history.send(&engine, round).unwrap();
    }
    history.check(&contents(&engine), "with room again");
}
