//! What is acknowledged is on the disk, whatever size it has and whoever wrote it.

use std::io::ErrorKind;

use model::Sample;
use testkit::fault_fs::{Fault, FaultFs, Loss};
use tsdb_core::db::TicketState;

use crate::engine::{append, append_run, contents, open, tenant, write};

#[test]
fn a_series_with_more_samples_than_a_frame_holds_is_durable() {
    let fs = FaultFs::new();
    let (engine, _) = open(&fs).unwrap();
    let t = tenant("default-tenant");
    let samples: Vec<Sample> =
        (0..1_700_000_i64).map(|at| Sample { timestamp_ms: at, value: (at % 7) as f64 }).collect();
    let (outcome, ticket) = append_run(&engine, &t, "n=a", &samples).unwrap();
    assert_eq!(outcome.accepted, samples.len());
    engine.commit_pending().unwrap();
    assert_eq!(ticket.state(), TicketState::Durable);
    drop(engine);
    let (_, report) = open(&fs.after_power_loss(Loss::Unsynced)).unwrap();
    assert_eq!(report.samples_replayed, samples.len() as u64);
}

#[test]
fn what_a_killed_process_left_unsynced_is_synced_before_it_is_acknowledged() {
    let sample = [("n=a", 1000, 1.0)];
    let t = tenant("default-tenant");
    let whole = FaultFs::new();
    let (engine, _) = open(&whole).unwrap();
    let before = whole.mutation_count();
    write(&engine, &t, &sample).unwrap();
    let mut equal_count = 0;
    for at in before..whole.mutation_count() {
        let fs = FaultFs::new();
        fs.inject(at, Fault::PowerOff);
        let (engine, _) = open(&fs).unwrap();
        write(&engine, &t, &sample).unwrap_err();
        let fs = fs.after_kill();
        let (engine, _) = open(&fs).unwrap();
        let (outcome, ticket) = append(&engine, &t, &sample).unwrap();
        if outcome.duplicates == 1 && ticket.state() == TicketState::Durable {
            equal_count += 1;
            let (engine, _) = open(&fs.after_power_loss(Loss::Unsynced)).unwrap();
            assert_eq!(contents(&engine).len(), 1, "acknowledged and gone, call {at}");
        }
    }
    assert!(equal_count > 0, "no call leaves a whole frame unsynced");
}

#[test]
fn a_snapshot_whose_chunks_were_not_synced_takes_nothing_from_the_log() {
    let t = tenant("default-tenant");
    let fill = |fs: &FaultFs| {
        let (engine, _) = open(fs).unwrap();
        let samples: Vec<Sample> = (0..4000)
            .map(|at| Sample { timestamp_ms: 50_000 + at * 7, value: at as f64 })
            .collect();
        append_run(&engine, &t, "n=a", &samples).unwrap();
        engine.commit_pending().unwrap();
        engine
    };
    let whole = FaultFs::new();
    let engine = fill(&whole);
    let before = whole.mutation_count();
    let expected = contents(&engine);
    engine.snapshot().unwrap();
    for at in before..whole.mutation_count() {
        let fs = FaultFs::new();
        let engine = fill(&fs);
        fs.inject(at, Fault::Error(ErrorKind::Other));
        engine.snapshot().unwrap_err();
        // The next one comes whether or not the first asked for a rebuild.
        if engine.has_failed() {
            assert!(engine.snapshot().is_err(), "a failed log takes a snapshot, call {at}");
            engine.rebuild().unwrap();
        }
        engine.snapshot().unwrap();
        assert_eq!(contents(&engine), expected, "call {at}");
        drop(engine);
        let (engine, _) = open(&fs.after_power_loss(Loss::Unsynced)).unwrap();
        assert_eq!(contents(&engine), expected, "after a power loss, call {at}");
    }
}
