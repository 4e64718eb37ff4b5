//! Random histories: jobs are done as planned, time passes, and nothing may get lost.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::plan::simulation::{apply, apply_marks};

/// What a history is made of.
#[derive(Clone, Debug)]
struct Block {
    /// In units of 2 hours.
    first: i64,
    length: i64,
    stream: u8,
    flags: u8,
    resolution: u8,
}

fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let block = (0_i64..400, 1_i64..30, 0_u8..2, any::<u8>(), 0_u8..12).prop_map(
        |(first, length, stream, flags, resolution)| {
            // Most blocks are those that a head cuts.
            let length = if flags & 0x80 == 0 { 1 } else { length };
            Block { first, length, stream, flags, resolution }
        },
    );
    proptest::collection::vec(block, 0..60)
}

fn candidates(blocks: &[Block]) -> Vec<Candidate> {
    let made = blocks.iter().enumerate().map(|(number, it)| {
        let unit_ms = 2 * HOUR_MS;
        let number = u64::try_from(number).unwrap();
        let (first, last) = (it.first * unit_ms, (it.first + it.length) * unit_ms);
        let made = changed(block(number, first, last), |meta| {
            meta.thanos.labels.insert("stream".to_owned(), it.stream.to_string());
            meta.thanos.downsample.resolution_ms = match it.resolution {
                0 => 300_000,
                1 => 3_600_000,
                _ => 0,
            };
        });
        Candidate {
            no_compact: it.flags & 0x1f == 1,
            no_downsample: it.flags & 0x1f == 2,
            is_quarantined: it.flags & 0x1f == 3,
            is_whole: it.flags & 0x1f != 4,
            is_open: it.flags & 0x1f != 5,
            is_busy: it.flags & 0x1f == 6,
            ..made
        }
    });
    made.collect()
}

/// The sources of all blocks of a resolution and a stream.
type Present = BTreeSet<(Resolution, String, BlockId)>;

fn present(view: &View) -> Present {
    let of = |it: &Candidate| {
        let stream = it.meta.thanos.labels["stream"].clone();
        let key = (it.resolution, stream);
        it.sources().iter().map(move |id| (key.0, key.1.clone(), *id)).collect::<Vec<_>>()
    };
    view.blocks.iter().flat_map(of).collect()
}

/// For each source, from where to where its samples are said to be.
fn reach(view: &View) -> BTreeMap<(Resolution, BlockId), (i64, i64)> {
    let mut reach = BTreeMap::new();
    for block in &view.blocks {
        for source in block.sources() {
            let (min, max) = (block.meta.min_time_ms, block.meta.max_time_ms);
            let known = reach.entry((block.resolution, *source)).or_insert((min, max));
            *known = (known.0.min(min), known.1.max(max));
        }
    }
    reach
}

fn check_disjoint(view: &View, plan: &Plan) {
    let mut seen: BTreeSet<BlockId> = BTreeSet::new();
    let gone = plan.expired.iter().map(|it| it.id).chain(plan.garbage.iter().map(|it| it.id));
    let gone: BTreeSet<BlockId> = gone.collect();
    for job in &plan.jobs {
        for id in job.ids() {
            assert!(seen.insert(id), "two jobs touch {id}");
            assert!(!gone.contains(&id), "a job touches what goes");
            let block = view.blocks.iter().find(|it| it.id() == id).unwrap();
            assert!(block.is_usable(), "{block:?}");
            let compacts = matches!(job.kind, Kind::Compact { .. });
            assert!(!(compacts && block.no_compact || !compacts && block.no_downsample));
        }
        assert!(job.sources.is_sorted_by_key(|it| it.min_time_ms));
    }
}

/// Works until nothing is planned any more; time stands still.
fn rest(view: &mut View, rules: &Rules) {
    for _ in 0..60 {
        let plan = plan(view, rules);
        check_disjoint(view, &plan);
        if plan.jobs.is_empty() && plan.garbage.is_empty() && plan.expired.is_empty() {
            return;
        }
        let (before, reached) = (present(view), reach(view));
        let expired: BTreeSet<BlockId> = plan.expired.iter().map(|it| it.id).collect();
        let expired: Present = {
            let blocks = view.blocks.iter().filter(|it| expired.contains(&it.id())).cloned();
            present(&View { blocks: blocks.collect(), ..View::default() })
        };
        apply_marks(view, &plan);
        apply(view, &plan.jobs);
        let after = present(view);
        for lost in before.difference(&after) {
            assert!(expired.contains(lost), "{lost:?} is lost");
        }
        for (key, (min, max)) in reach(view) {
            let Some(had) = reached.get(&key) else { continue };
            let is_expired = expired.iter().any(|it| (it.0, it.2) == key);
            assert!(is_expired || min <= had.0 && max >= had.1, "{key:?} reaches less far");
        }
    }
    panic!("it never comes to rest: {:?}", plan(view, rules).jobs);
}

fn rules_of(raw_days: u64, replicas: bool) -> Rules {
    let kept = |days: u64| (days > 0).then(|| Duration::from_hours(24 * days));
    Rules {
        retention: Policy { raw: kept(raw_days), five_minutes: kept(raw_days * 5), one_hour: None },
        replica_labels: Vec::from_iter(replicas.then(|| "cluster".to_owned())),
        ..rules()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_lost_no_two_jobs_meet_and_it_comes_to_rest(
        blocks in blocks(),
        raw_days in 0_u64..12,
        replicas in any::<bool>(),
        now_days in 0_i64..120,
    ) {
        let mut view = view(&candidates(&blocks), now_days * DAY_MS);
        rest(&mut view, &rules_of(raw_days, replicas));
        // What is left of each group does not overlap, but for what no job may touch.
        let mut groups: BTreeMap<GroupKey, Vec<&Candidate>> = BTreeMap::new();
        let free = view.blocks.iter().filter(|it| it.is_usable() && !it.no_compact);
        for block in free {
            let key = GroupKey::of(block, &rules_of(raw_days, replicas));
            groups.entry(key).or_default().push(block);
        }
        let busy = view.blocks.iter().any(|it| it.is_busy);
        let rules = rules_of(raw_days, replicas);
        for (key, group) in &mut groups {
            group.sort_by_key(|it| it.meta.min_time_ms);
            let selection = Selection { blocks: group, rules: &rules, view: &view, key };
            prop_assert!(busy || selection.overlapping().is_empty());
        }
    }

    #[test]
    fn samples_are_there_in_raw_or_in_what_is_due_at_every_moment(
        blocks in blocks(),
        raw_days in 2_u64..12,
    ) {
        let rules = rules_of(raw_days, false);
        let mut view = View::default();
        let mut coming: Vec<Candidate> = candidates(&blocks)
            .into_iter()
            .filter(|it| it.is_usable() && !it.no_downsample && it.resolution == Resolution::Raw)
            .collect();
        coming.sort_by_key(|it| std::cmp::Reverse(it.meta.max_time_ms));
        let mut all: Vec<(BlockId, i64)> = Vec::new();
        for day in 0..140 {
            view.now_ms = day * DAY_MS;
            while coming.last().is_some_and(|it| it.meta.max_time_ms <= view.now_ms) {
                let block = coming.pop().unwrap();
                all.push((block.id(), block.meta.max_time_ms));
                view.blocks.push(block);
            }
            rest(&mut view, &rules);
            let present = present(&view);
            let is_there = |resolution, id: BlockId| {
                present.iter().any(|it| (it.0, it.2) == (resolution, id))
            };
            for (id, max_time_ms) in &all {
                let age_ms = view.now_ms - max_time_ms;
                let is_raw = is_there(Resolution::Raw, *id);
                let is_coarse = is_there(Resolution::FiveMinutes, *id)
                    || is_there(Resolution::OneHour, *id);
                prop_assert!(is_raw || is_coarse, "day {day}: {id} is nowhere");
                // A merged block lives as long as its newest part, and a held one until the
                // largest window that could take it in is past.
                let kept_ms = i64::try_from(raw_days).unwrap() * DAY_MS;
                let longest_ms = kept_ms + 4 * RANGES_MS[4];
                prop_assert!(!is_raw || age_ms <= longest_ms, "day {day}: {id} is kept for ever");
            }
        }
    }
}

#[test]
fn a_large_backlog_is_planned_to_its_end() {
    // Two streams, two months each: what a compactor finds that was off for long.
    let mut blocks = Vec::new();
    for stream in 0..2_u64 {
        for at in 0..(60 * 12) {
            let number = stream * 10_000 + u64::try_from(at).unwrap();
            let (first, last) = (at * 2 * HOUR_MS, (at + 1) * 2 * HOUR_MS);
            blocks.push(changed(block(number, first, last), |meta| {
                meta.thanos.labels.insert("stream".to_owned(), stream.to_string());
            }));
        }
    }
    let view = view(&blocks, 60 * DAY_MS);
    let backlog = backlog(&view, &rules());
    // 179 of 180 windows of 8 hours, 29 of 30 of 2 days, 4 of 2 weeks: the newest wait. Both
    // resolutions of the blocks of 2 weeks, and 5m of the one of 2 days behind them.
    assert_eq!(backlog.compactions, 2 * (179 + 29 + 4), "{backlog:?}");
    assert_eq!(backlog.downsamplings, 2 * (2 * 4 + 1), "{backlog:?}");
    assert!(backlog.compaction_blocks > 2 * 720, "{backlog:?}");
}
