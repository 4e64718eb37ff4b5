//! What is due to go, outlived its retention or lacks a downsampled version: values in, values out.

use bucket::cleanup::{Delays, Reason, Retention, due, expired};
use bucket::downsampling::owed;
use bucket::layout::StoredFile;
use bucket::marker::{DeletionMark, Found, NoDownsampleMark};
use bucket::{Block, Snapshot, State};
use model::BlockId;
use tsdb_core::block::Meta;

use crate::{NOW_MS, id};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn block(state: State, modified_ms: i64) -> Block {
    let file = StoredFile { path: "index".to_owned(), size_bytes: 100, modified_ms, etag: None };
    Block {
        state,
        files: vec![file],
        deletion: Found::Absent,
        no_compact: Found::Absent,
        no_downsample: Found::Absent,
    }
}

/// A block of `hours` that ended `age_ms` ago, made of the given sources.
fn loaded(
    number: u64,
    hours: i64,
    age_ms: i64,
    resolution_ms: i64,
    sources: &[u64],
) -> (BlockId, Block) {
    let max_time_ms = NOW_MS - age_ms;
    let mut meta = Meta::of_head(id(number), max_time_ms - hours * HOUR_MS, max_time_ms);
    meta.thanos.downsample.resolution_ms = resolution_ms;
    meta.compaction.sources = sources.iter().map(|it| id(*it)).collect();
    (id(number), block(State::Loaded(meta.into()), NOW_MS - age_ms))
}

fn snapshot(blocks: impl IntoIterator<Item = (BlockId, Block)>) -> Snapshot {
    Snapshot { blocks: blocks.into_iter().collect(), troubles: Vec::new() }
}

fn marked((id, mut block): (BlockId, Block), ago_ms: i64) -> (BlockId, Block) {
    block.deletion = Found::Mark(DeletionMark::new(id, "why", NOW_MS - ago_ms));
    let object = StoredFile {
        path: "deletion-mark.json".to_owned(),
        modified_ms: NOW_MS - ago_ms,
        ..block.files[0].clone()
    };
    block.files.push(object);
    (id, block)
}

#[test]
fn marked_blocks_and_uploads_that_were_given_up_are_due_after_their_delays() {
    let delays = Delays { delete_ms: 48 * HOUR_MS, consistency_ms: HOUR_MS / 2 };
    let partial = |number, age_ms| (id(number), block(State::NoMeta, NOW_MS - age_ms));
    let snapshot = snapshot([
        loaded(1, 2, 0, 0, &[1]),
        marked(loaded(2, 2, 0, 0, &[2]), 48 * HOUR_MS + 1_000),
        marked(loaded(3, 2, 0, 0, &[3]), 47 * HOUR_MS),
        partial(4, 2 * DAY_MS + 1),
        partial(5, 2 * DAY_MS - 1),
        // Its deletion goes on by the mark alone.
        marked(partial(6, 9 * DAY_MS), HOUR_MS),
    ]);
    let ids = |delays| due(&snapshot, delays, NOW_MS).iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!(ids(delays), [id(2), id(4)]);
    assert_eq!(ids(Delays { delete_ms: 0, ..delays }), [id(2), id(3), id(4), id(6)]);
    // A mark that was back-dated has its whole delay, and one of another block says nothing.
    let mut late = marked(loaded(7, 2, 0, 0, &[7]), 99 * HOUR_MS);
    late.1.files[1].modified_ms = NOW_MS - HOUR_MS;
    let mut foreign = marked(loaded(8, 2, 0, 0, &[8]), 99 * HOUR_MS);
    foreign.1.deletion = Found::Mark(DeletionMark::new(id(9), "", NOW_MS - 99 * HOUR_MS));
    assert_eq!(due(&self::snapshot([late, foreign]), delays, NOW_MS), []);
    assert_eq!(ids(Delays { consistency_ms: 3 * DAY_MS, ..delays }), [id(2)]);
    let due = due(&snapshot, delays, NOW_MS);
    assert_eq!((due[0].objects, due[0].size_bytes), (2, 200));
    let at_s = (NOW_MS - 48 * HOUR_MS - 1_000) / 1000;
    assert_eq!(due[0].reason, Reason::Marked { at_s, details: "why".to_owned() });
    assert_eq!(due[1].reason, Reason::GivenUp { modified_ms: NOW_MS - 2 * DAY_MS - 1 });
}

#[test]
fn each_resolution_has_its_own_retention() {
    let snapshot = snapshot([
        loaded(1, 2, 3 * DAY_MS, 0, &[1]),
        loaded(2, 2, DAY_MS, 0, &[2]),
        loaded(3, 2, 3 * DAY_MS, 300_000, &[3]),
        loaded(4, 2, 11 * DAY_MS, 300_000, &[4]),
        loaded(5, 2, 99 * DAY_MS, 3_600_000, &[5]),
        loaded(6, 2, 99 * DAY_MS, 60_000, &[6]),
        marked(loaded(7, 2, 3 * DAY_MS, 0, &[7]), 0),
    ]);
    let retention = Retention {
        raw_ms: Some(2 * DAY_MS),
        five_minutes_ms: Some(10 * DAY_MS),
        one_hour_ms: None,
    };
    let found = expired(&snapshot, &retention, NOW_MS);
    assert_eq!(found.iter().map(|it| it.id).collect::<Vec<_>>(), [id(1), id(4)]);
    assert_eq!(found[0].details, "block exceeding retention of 2d for resolution raw");
    assert_eq!(found[1].details, "block exceeding retention of 10d for resolution 5m");
    assert!(expired(&snapshot, &Retention::default(), NOW_MS).is_empty());
}

#[test]
fn a_version_is_owed_by_range_until_its_sources_are_there() {
    let check = |blocks: Vec<(BlockId, Block)>, expected: &[(u64, bool, bool)]| {
        let owed = owed(&snapshot(blocks));
        let found: Vec<_> =
            owed.iter().map(|it| (it.meta.ulid, it.five_minutes, it.one_hour)).collect();
        let expected: Vec<_> = expected.iter().map(|it| (id(it.0), it.1, it.2)).collect();
        assert_eq!(found, expected);
    };
    let raw = |hours| loaded(10, hours, 0, 0, &[1, 2]);
    check(vec![raw(39)], &[]);
    check(vec![raw(40)], &[(10, true, false)]);
    check(vec![raw(239)], &[(10, true, false)]);
    check(vec![raw(240)], &[(10, true, true)]);
    let five = |hours, sources: &[u64]| loaded(11, hours, 0, 300_000, sources);
    check(vec![raw(48), five(48, &[1, 2])], &[]);
    // Late data went into the raw block since.
    check(vec![raw(48), five(48, &[1])], &[(10, true, false)]);
    check(vec![raw(240), five(240, &[1, 2])], &[(11, false, true)]);
    let hour = loaded(12, 240, 0, 3_600_000, &[1, 2]);
    check(vec![raw(240), five(240, &[1, 2]), hour.clone()], &[]);
    check(vec![raw(240), hour], &[(10, true, false)]);
    // What goes makes nothing, and counts as nothing.
    check(vec![marked(raw(48), 0)], &[]);
    check(vec![raw(48), marked(five(48, &[1, 2]), 0)], &[(10, true, false)]);
    let (name, mut held) = raw(48);
    held.no_downsample = Found::Mark(NoDownsampleMark::new(name, "manual", "", NOW_MS));
    check(vec![(name, held.clone())], &[]);
    held.no_downsample = Found::Unreadable("cut".to_owned());
    check(vec![(name, held)], &[]);
    // Another block has all of it.
    check(vec![raw(48), loaded(13, 48, 0, 0, &[1, 2, 3])], &[(13, true, false)]);
}
