//! When blocks are made coarser, and which wait for that.

use std::time::Duration;

use super::*;
use Resolution::{FiveMinutes, OneHour, Raw};

fn days(number: u64, first: i64, last: i64) -> Candidate {
    block(number, first * DAY_MS, last * DAY_MS)
}

fn with_sources(block: Candidate, sources: &[u64]) -> Candidate {
    changed(block, |it| it.compaction.sources = sources.iter().copied().map(id).collect())
}

/// Numbers and targets of the downsampling jobs.
fn downsampled(blocks: &[Candidate], rules: &Rules, now_ms: i64) -> Vec<(u64, Vec<Resolution>)> {
    let plan = plan(&view(blocks, now_ms), rules);
    let jobs = plan.jobs.iter().filter_map(|it| match &it.kind {
        Kind::Downsample { targets } => Some((it.sources[0].ulid.timestamp_ms(), targets.clone())),
        Kind::Compact { .. } => None,
    });
    jobs.collect()
}

fn kept(raw_days: u64, five_days: u64, hour_days: u64) -> Policy {
    let kept = |days: u64| (days > 0).then(|| Duration::from_hours(24 * days));
    Policy { raw: kept(raw_days), five_minutes: kept(five_days), one_hour: kept(hour_days) }
}

#[test]
fn the_range_decides() {
    let check = |resolution, hours: i64, expected: &[Resolution]| {
        // A live stream, so that nothing else can decide.
        let live = block(2, 200 * DAY_MS, 200 * DAY_MS + 2 * HOUR_MS);
        let old = at(block(1, 98 * DAY_MS, 98 * DAY_MS + hours * HOUR_MS), resolution);
        let jobs = downsampled(&[old, live], &rules(), 201 * DAY_MS);
        let expected = (!expected.is_empty()).then(|| (1, expected.to_vec()));
        assert_eq!(jobs, Vec::from_iter(expected), "{resolution} of {hours} hours");
    };
    check(Raw, 39, &[]);
    check(Raw, 40, &[FiveMinutes]);
    check(Raw, 239, &[FiveMinutes]);
    check(Raw, 240, &[FiveMinutes, OneHour]);
    check(FiveMinutes, 239, &[]);
    check(FiveMinutes, 240, &[OneHour]);
    check(OneHour, 480, &[]);
}

#[test]
fn what_is_there_is_not_made_again_unless_late_data_came() {
    let raw = with_sources(days(9, 0, 14), &[1, 2]);
    let fine = at(with_sources(days(10, 0, 14), &[1, 2]), FiveMinutes);
    let coarse = at(with_sources(days(11, 0, 14), &[1, 2]), OneHour);
    let now_ms = 20 * DAY_MS;
    let check = |blocks: &[&Candidate], expected: &[(u64, Vec<Resolution>)]| {
        let blocks: Vec<Candidate> = blocks.iter().map(|it| (*it).clone()).collect();
        assert_eq!(downsampled(&blocks, &rules(), now_ms), expected);
    };
    check(&[&raw], &[(9, vec![FiveMinutes, OneHour])]);
    check(&[&raw, &fine], &[(10, vec![OneHour])]);
    check(&[&raw, &fine, &coarse], &[]);
    check(&[&raw, &coarse], &[(9, vec![FiveMinutes])]);
    let grown = with_sources(days(12, 0, 14), &[1, 2, 3]);
    check(&[&grown, &fine, &coarse], &[(12, vec![FiveMinutes, OneHour])]);
    // In several pieces is there too.
    let halves = [
        at(with_sources(days(13, 0, 7), &[1]), FiveMinutes),
        at(with_sources(days(14, 7, 14), &[2]), FiveMinutes),
    ];
    check(&[&raw, &halves[0], &halves[1], &coarse], &[]);
    check(&[&raw, &halves[0], &coarse], &[(9, vec![FiveMinutes])]);
}

#[test]
fn marks_quarantine_and_flags_forbid_it() {
    let raw = days(1, 0, 14);
    let now_ms = 15 * DAY_MS;
    let off = Rules { downsampling: false, ..rules() };
    assert_eq!(downsampled(std::slice::from_ref(&raw), &off, now_ms), []);
    let check = |change: fn(&mut Candidate)| {
        let mut block = raw.clone();
        change(&mut block);
        assert_eq!(downsampled(&[block], &rules(), now_ms), []);
    };
    check(|it| it.no_downsample = true);
    check(|it| it.is_quarantined = true);
    check(|it| it.is_whole = false);
    check(|it| it.is_busy = true);
    let key = plan(&view(std::slice::from_ref(&raw), now_ms), &rules()).jobs[0].key();
    let mut view = view(&[raw], now_ms);
    view.quarantined_jobs.insert(key);
    assert_eq!(numbers(&plan(&view, &rules())), [[0; 0]; 0]);
}

#[test]
fn a_block_that_cannot_grow_is_downsampled_when_its_newest_sample_is_old_enough() {
    let hours = |number, first: i64, last: i64| block(number, first * HOUR_MS, last * HOUR_MS);
    // The stream has ended.
    let last = hours(1, 0, 8);
    let alone = std::slice::from_ref(&last);
    assert_eq!(downsampled(alone, &rules(), 48 * HOUR_MS - 1), []);
    assert_eq!(downsampled(alone, &rules(), 48 * HOUR_MS), [(1, vec![FiveMinutes])]);
    // It has not, so the block will be a part of a larger one.
    let live = hours(2, 46, 48);
    assert_eq!(downsampled(&[last.clone(), live.clone()], &rules(), 48 * HOUR_MS), []);
    // A coarser version of the same stream shows that it lives as well.
    let lives = at(live.clone(), FiveMinutes);
    assert_eq!(downsampled(&[last.clone(), lives], &rules(), 48 * HOUR_MS), []);
    // No compaction may touch it, so it stays as it is.
    let marked = Candidate { no_compact: true, ..last.clone() };
    let expected = [(1, vec![FiveMinutes])];
    assert_eq!(downsampled(&[marked, live.clone()], &rules(), 48 * HOUR_MS), expected);
    // Its windows are past, and there was nothing to merge it with.
    let gap = [last.clone(), hours(3, 24 * 14, 24 * 14 + 2), hours(4, 24 * 14 + 2, 24 * 14 + 4)];
    assert_eq!(downsampled(&gap[..2], &rules(), 24 * 14 * HOUR_MS), []);
    assert_eq!(downsampled(&gap, &rules(), 24 * 14 * HOUR_MS), expected);
    // A compaction is planned with it.
    let merged = [last, hours(5, 8, 16), hours(6, 48, 50), hours(7, 50, 52)];
    assert_eq!(downsampled(&merged, &rules(), 60 * HOUR_MS), []);
    let plan = plan(&view(&merged, 60 * HOUR_MS), &rules());
    assert_eq!(numbers(&plan)[0], [1, 5]);
}

#[test]
fn what_would_be_too_old_at_once_is_only_made_as_a_step() {
    let raw = days(1, 0, 14);
    let check = |policy, expected: &[Resolution]| {
        let rules = Rules { retention: policy, ..rules() };
        let expected = (!expected.is_empty()).then(|| (1, expected.to_vec()));
        let jobs = downsampled(std::slice::from_ref(&raw), &rules, 60 * DAY_MS);
        assert_eq!(jobs, Vec::from_iter(expected), "{policy:?}");
    };
    check(kept(0, 0, 0), &[FiveMinutes, OneHour]);
    check(kept(0, 30, 0), &[FiveMinutes, OneHour]);
    check(kept(0, 0, 30), &[FiveMinutes]);
    check(kept(0, 30, 30), &[]);
}

#[test]
fn retention_waits_only_for_what_is_owed() {
    let rules_of = |policy| Rules { retention: policy, ..rules() };
    let check = |blocks: &[Candidate], policy, now_ms, expired: &[u64], held: &[u64]| {
        let plan = plan(&view(blocks, now_ms), &rules_of(policy));
        let numbers =
            |ids: Vec<BlockId>| -> Vec<u64> { ids.iter().map(BlockId::timestamp_ms).collect() };
        assert_eq!(numbers(plan.expired.iter().map(|it| it.id).collect()), expired);
        assert_eq!(numbers(plan.held.iter().map(|it| it.id).collect()), held);
        let owed = plan.jobs.iter().filter(|it| it.is_owed).flat_map(Job::ids);
        assert!(owed.into_iter().all(|it| held.contains(&it.timestamp_ms())));
    };
    let raw = with_sources(days(1, 0, 2), &[1]);
    let fine = at(with_sources(days(2, 0, 2), &[1]), FiveMinutes);
    let live = days(3, 12, 13);
    let now_ms = 13 * DAY_MS;
    let policy = kept(5, 0, 0);
    check(&[raw.clone(), live.clone()], policy, now_ms, &[], &[1]);
    check(&[raw.clone(), fine.clone(), live.clone()], policy, now_ms, &[1], &[]);
    // Too small yet, but it will be a part of something larger.
    let small = days(4, 4, 5);
    check(&[small.clone(), live.clone()], policy, now_ms, &[], &[4]);
    for change in [
        (|it| it.no_downsample = true) as fn(&mut Candidate),
        |it| it.is_quarantined = true,
        |it| it.is_whole = false,
    ] {
        let mut changed = [raw.clone(), small.clone()];
        changed.iter_mut().for_each(change);
        check(&changed, policy, now_ms, &[1, 4], &[]);
    }
    let off = Rules { downsampling: false, ..rules_of(policy) };
    assert_eq!(plan(&view(&[raw.clone(), live.clone()], now_ms), &off).expired.len(), 1);
    // 1h is owed likewise; and what is too old in all resolutions goes.
    check(std::slice::from_ref(&fine), kept(5, 10, 0), 13 * DAY_MS, &[], &[2]);
    let coarse = at(with_sources(days(5, 0, 2), &[1]), OneHour);
    check(&[fine, coarse], kept(5, 10, 0), 13 * DAY_MS, &[2], &[]);
    check(&[raw, live], kept(5, 10, 10), now_ms, &[1], &[]);
}

#[test]
fn what_is_owed_is_downsampled_before_it_is_merged() {
    let blocks: Vec<Candidate> =
        (0..8_i64).map(|it| days(u64::try_from(it).unwrap(), 2 * it, 2 * it + 2)).collect();
    let now_ms = 16 * DAY_MS;
    let merged = plan(&view(&blocks, now_ms), &rules());
    assert_eq!(numbers(&merged)[0], [0, 1, 2, 3, 4, 5, 6]);
    let rules = Rules { retention: kept(10, 0, 0), ..rules() };
    let plan = plan(&view(&blocks, now_ms), &rules);
    let expected = [vec![0], vec![1], vec![3, 4, 5, 6], vec![2], vec![7]];
    assert_eq!(plan.held.len(), 2);
    assert_eq!(numbers(&plan)[..2], expected[..2]);
    assert!(plan.jobs[..2].iter().all(|it| it.is_owed && it.name() == "downsample"));
}

#[test]
fn retention_does_not_wait_for_a_job_that_is_quarantined() {
    let rules = Rules { retention: kept(5, 0, 0), ..rules() };
    let now_ms = 13 * DAY_MS;
    let live = days(9, 12, 13);
    let ids = |ids: Vec<BlockId>| -> Vec<u64> { ids.iter().map(BlockId::timestamp_ms).collect() };
    let check = |view: &View, expired: &[u64], held: &[u64]| {
        let plan = plan(view, &rules);
        assert_eq!(ids(plan.expired.iter().map(|it| it.id).collect()), expired);
        assert_eq!(ids(plan.held.iter().map(|it| it.id).collect()), held);
        numbers(&plan)
    };
    // A downsampling that does not work.
    let mut alone = view(&[days(1, 0, 2), live.clone()], now_ms);
    let key = plan(&alone, &rules).jobs[0].key();
    assert_eq!(key, JobKey::of_downsampling(id(1)));
    check(&alone, &[], &[1]);
    alone.quarantined_jobs.insert(key);
    assert_eq!(check(&alone, &[1], &[]), [[0; 0]; 0]);
    // Overlapping blocks that cannot be merged are downsampled one by one, and kept until then.
    let mut pair = view(&[days(1, 0, 2), days(2, 1, 3), live], now_ms);
    let merge = plan(&pair, &rules);
    assert_eq!(numbers(&merge), [[1, 2]]);
    pair.quarantined_jobs.insert(merge.jobs[0].key());
    assert_eq!(check(&pair, &[], &[1, 2]), [[1], [2]]);
    let off = Rules { retention: Policy::default(), ..rules.clone() };
    assert_eq!(numbers(&plan(&pair, &off)), [[1], [2]]);
    for number in [1, 2] {
        pair.quarantined_jobs.insert(JobKey::of_downsampling(id(number)));
    }
    assert_eq!(check(&pair, &[1, 2], &[]), [[0; 0]; 0]);
}

#[test]
fn a_merge_that_is_quarantined_is_not_done_as_a_part_of_a_larger_one() {
    let hours = |number, first: i64, last: i64| block(number, first * HOUR_MS, last * HOUR_MS);
    let blocks =
        [hours(1, 0, 2), hours(2, 1, 3), hours(3, 4, 6), hours(4, 8, 10), hours(5, 10, 12)];
    let mut view = view(&blocks, 12 * HOUR_MS);
    let merge = plan(&view, &rules());
    assert_eq!(numbers(&merge), [[1, 2]]);
    view.quarantined_jobs.insert(merge.jobs[0].key());
    assert_eq!(numbers(&plan(&view, &rules())), [[0; 0]; 0]);
}

#[test]
fn coarse_blocks_that_overlap_are_merged_only_when_they_are_of_different_replicas() {
    let of_replica = |block: Candidate, replica: &str| {
        changed(block, |it| {
            it.thanos.labels.insert("replica".to_owned(), replica.to_owned());
        })
    };
    let rules = Rules { replica_labels: vec!["replica".to_owned()], ..rules() };
    let check = |blocks: &[(Candidate, &str)], expected: &[Vec<u64>]| {
        for resolution in [FiveMinutes, OneHour] {
            let blocks: Vec<Candidate> = blocks
                .iter()
                .map(|(block, replica)| of_replica(at(block.clone(), resolution), replica))
                .collect();
            assert_eq!(numbers(&plan(&view(&blocks, 3 * DAY_MS), &rules)), expected);
        }
    };
    check(&[(days(1, 0, 2), "a"), (days(2, 1, 2), "b")], &[vec![1, 2]]);
    check(&[(days(1, 0, 2), "a"), (days(2, 1, 2), "a")], &[]);
    check(&[(days(1, 0, 2), "a"), (days(2, 0, 1), "b"), (days(3, 1, 2), "b")], &[vec![1, 2, 3]]);
    check(&[(days(1, 0, 2), "a"), (days(2, 0, 1), "b"), (days(3, 1, 2), "a")], &[]);
    // Raw ones always are.
    let raw = [days(1, 0, 2), days(2, 1, 2)];
    assert_eq!(numbers(&plan(&view(&raw, 3 * DAY_MS), &rules)), [[1, 2]]);
    // They are not merged with others either, and those are.
    let times = [(0, 2), (1, 2), (2, 4), (4, 6), (14, 16), (16, 18)];
    let blocks = (1..).zip(times).map(|(number, (first, last))| days(number, first, last));
    let blocks: Vec<Candidate> = blocks.map(|it| at(it, OneHour)).collect();
    assert_eq!(numbers(&plan(&view(&blocks, 20 * DAY_MS), &rules)), [[3, 4]]);
}
