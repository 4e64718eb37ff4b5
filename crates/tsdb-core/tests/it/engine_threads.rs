//! Writers, committer, cutter and readers at once: a reader sees all that was acknowledged before
//! it began, at every moment of a cut, and in the end everything is there once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use model::{Budget, Columns, Matcher, TimeRange};
use testkit::fault_fs::FaultFs;
use tsdb_core::chunk::xor;
use tsdb_core::db::{Engine, HeadQuery, TicketState};

use crate::engine::{append, contents, names, open, tenant};

const WRITERS: usize = 3;
const ROUNDS: i64 = 300;
const STEP_MS: i64 = 400;

/// Newest time that each writer has an acknowledgement for.
struct Acknowledged([AtomicI64; WRITERS]);

fn write_all(engine: &Engine, writer: usize, acknowledged: &Acknowledged) {
    let tenant = tenant("default-tenant");
    for round in 0..ROUNDS {
        // Nobody runs so far ahead that the others' samples would be too old.
        while pace_of(acknowledged) + 4 * STEP_MS < round * STEP_MS {
            thread::yield_now();
        }
        let time_ms = round * STEP_MS;
        let steady = format!("n=steady,writer={writer}");
        let passing = format!("n=passing,writer={writer},round={}", round / 20);
        let samples = [(&*steady, time_ms, round as f64), (&*passing, time_ms, -1.0)];
        let (outcome, ticket) = append(engine, &tenant, &samples).unwrap();
        assert_eq!(outcome.accepted, 2, "{:?}", outcome.refused);
        while ticket.state() == TicketState::Pending {
            thread::yield_now();
        }
        assert_eq!(ticket.state(), TicketState::Durable);
        acknowledged.0[writer].store(time_ms, Ordering::SeqCst);
    }
}

fn pace_of(acknowledged: &Acknowledged) -> i64 {
    acknowledged.0.iter().map(|it| it.load(Ordering::SeqCst)).min().unwrap()
}

/// Times of a writer's steady series, from head and blocks.
fn read_steady(engine: &Engine, writer: usize) -> Vec<i64> {
    let tenant = tenant("default-tenant");
    let matchers = [Matcher::equal("n", "steady"), Matcher::equal("writer", &writer.to_string())];
    let budget = Budget::unlimited();
    let query = HeadQuery { matchers: &matchers, range: TimeRange::ALL };
    let mut columns = Columns::default();
    let selection = engine.select(&tenant, query, true, &budget).unwrap();
    for chunk in selection.series.into_iter().flat_map(|it| it.chunks) {
        xor::decode(&chunk.read().unwrap(), &mut columns).unwrap();
    }
    for block in engine.blocks(&tenant) {
        for series in block.reader.select(&matchers, TimeRange::ALL, &budget).unwrap() {
            for chunk in block.reader.chunks(&series.unwrap()).unwrap() {
                xor::decode(&chunk.data, &mut columns).unwrap();
            }
        }
    }
    let mut times = columns.timestamps_ms;
    times.sort_unstable();
    times.dedup();
    times
}

#[test]
fn readers_never_see_a_hole() {
    let (engine, _) = open(&FaultFs::new()).unwrap();
    let engine = Arc::new(engine);
    let acknowledged = Arc::new(Acknowledged([const { AtomicI64::new(-STEP_MS) }; WRITERS]));
    let is_done = Arc::new(AtomicBool::new(false));
    let mut others = Vec::new();
    let (of_committer, done) = (Arc::clone(&engine), Arc::clone(&is_done));
    others.push(thread::spawn(move || {
        while !done.load(Ordering::SeqCst) {
            of_committer.commit_pending().unwrap();
            thread::yield_now();
        }
    }));
    let (of_cutter, done) = (Arc::clone(&engine), Arc::clone(&is_done));
    others.push(thread::spawn(move || {
        let mut names = names();
        while !done.load(Ordering::SeqCst) {
            let report = of_cutter.cut_due(0, &mut names);
            assert!(report.failures.is_empty(), "{:?}", report.failures);
            thread::yield_now();
        }
    }));
    let (of_reader, done, seen) =
        (Arc::clone(&engine), Arc::clone(&is_done), Arc::clone(&acknowledged));
    others.push(thread::spawn(move || {
        let mut read_count = 0;
        while !done.load(Ordering::SeqCst) {
            let writer = read_count % WRITERS;
            let newest_ms = seen.0[writer].load(Ordering::SeqCst);
            let times = read_steady(&of_reader, writer);
            let expected: Vec<i64> = (0..=newest_ms / STEP_MS).map(|it| it * STEP_MS).collect();
            let found = times.get(..expected.len()).unwrap_or(&times);
            if newest_ms >= 0 {
                assert_eq!(found, expected, "read {read_count}");
            }
            read_count += 1;
        }
        assert!(read_count > 10, "only {read_count} reads");
    }));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (engine, acknowledged) = (Arc::clone(&engine), Arc::clone(&acknowledged));
            thread::spawn(move || write_all(&engine, writer, &acknowledged))
        })
        .collect();
    let ended: Vec<_> = writers.into_iter().map(thread::JoinHandle::join).collect();
    is_done.store(true, Ordering::SeqCst);
    for other in others {
        other.join().unwrap();
    }
    assert!(ended.iter().all(Result::is_ok));
    let contents = contents(&engine);
    let samples = contents.values().flat_map(|it| it.values());
    let counts: Vec<usize> = samples.map(|(_, count)| *count).collect();
    assert!(counts.iter().all(|it| *it == 1), "a sample is there more than once");
    assert_eq!(counts.len(), WRITERS * usize::try_from(ROUNDS).unwrap() * 2);
    assert!(engine.blocks(&tenant("default-tenant")).len() > 5);
}
