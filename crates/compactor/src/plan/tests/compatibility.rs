//! The situations in which Thanos tests its planner (`TestPlanners_Plan_Compatibility` and those
//! about marks and index sizes), with the same outcome.

use super::*;

/// Those of Thanos' tests, where blocks of 20 are what comes from a head.
fn small_rules() -> Rules {
    Rules { ranges_ms: vec![20, 60, 180, 540, 1620], downsampling: false, ..rules() }
}

/// Each block is (number, first time, end); with no-compact marks on some.
fn check_marked(blocks: &[(u64, i64, i64)], marked: &[u64], expected: &[&[u64]]) {
    let blocks = blocks.iter().map(|(number, min, max)| {
        let no_compact = marked.contains(number);
        Candidate { no_compact, ..block(*number, *min, *max) }
    });
    let plan = plan(&view(&blocks.collect::<Vec<_>>(), 2000), &small_rules());
    assert_eq!(numbers(&plan), expected);
}

fn check(blocks: &[(u64, i64, i64)], expected: &[&[u64]]) {
    check_marked(blocks, &[], expected);
}

#[test]
fn a_window_is_merged_when_it_is_full_and_a_newer_block_is_there() {
    check(&[], &[]);
    check(&[(1, 0, 20)], &[]);
    check(&[(1, 0, 20), (2, 20, 40)], &[]);
    check(&[(1, 0, 20), (2, 20, 40), (3, 40, 60)], &[]);
    check(&[(1, 0, 20), (2, 20, 40), (3, 40, 60), (4, 60, 80)], &[&[1, 2, 3]]);
    let second = [(6, 0, 60), (7, 60, 120), (8, 120, 180), (9, 180, 200), (10, 200, 220)];
    check(&second, &[&[6, 7, 8]]);
    let mixed = [(1, 0, 20), (2, 20, 40), (3, 40, 60), (4, 60, 120), (5, 120, 180)];
    check(&mixed, &[&[1, 2, 3]]);
}

#[test]
fn a_window_with_a_gap_is_merged_when_the_stream_has_gone_on() {
    check(&[(1, 0, 20), (2, 20, 40), (4, 60, 80)], &[]);
    check(&[(1, 0, 20), (2, 20, 40), (4, 60, 80), (5, 80, 100)], &[&[1, 2]]);
    check(&[(6, 0, 60), (8, 120, 180), (9, 180, 200), (10, 200, 220)], &[&[6, 8]]);
    let far = [(2, 20, 40), (4, 60, 120), (5, 960, 980), (6, 120, 180), (7, 720, 960)];
    check(&far, &[&[2, 4, 6]]);
    // By times, not by names: the newest block has not the newest name.
    check(&[(5, 0, 360), (6, 540, 560), (7, 360, 420), (8, 420, 540)], &[&[7, 8]]);
}

#[test]
fn overlapping_blocks_are_merged_first_each_run_on_its_own() {
    check(&[(1, 0, 20), (2, 19, 40), (3, 40, 60)], &[&[1, 2]]);
    check(&[(1, 0, 20), (2, 20, 40), (3, 30, 50)], &[&[2, 3]]);
    check(&[(1, 0, 20), (2, 10, 40), (3, 30, 50)], &[&[1, 2, 3]]);
    check(&[(5, 0, 360), (6, 340, 560), (7, 360, 420), (8, 420, 540)], &[&[5, 6, 7, 8]]);
    // Thanos plans the second run only when the first is merged.
    check(&[(1, 0, 10), (2, 9, 20), (3, 30, 40), (4, 39, 50)], &[&[1, 2], &[3, 4]]);
}

#[test]
fn large_blocks_with_many_tombstones_are_rewritten() {
    let with = |max, num_series, num_tombstones| {
        let large = changed(block(1, 0, max), |it| {
            (it.stats.num_series, it.stats.num_tombstones) = (num_series, num_tombstones);
        });
        let fresh = block(2, max, max + 20);
        let alone = plan(&view(std::slice::from_ref(&large), 2000), &small_rules());
        assert_eq!(numbers(&alone), [[0; 0]; 0], "the newest block waits");
        numbers(&plan(&view(&[large, fresh], 2000), &small_rules()))
    };
    assert_eq!(with(540, 10, 3), [[1]]);
    assert_eq!(with(60, 10, 3), [[0; 0]; 0], "small blocks are merged soon anyway");
    assert_eq!(with(540, 0, 0), [[0; 0]; 0]);
    assert_eq!(with(540, 99, 5), [[0; 0]; 0], "5 % are not more than 5 %");
    assert_eq!(with(540, 99, 6), [[1]]);
}

#[test]
fn a_window_whose_compaction_failed_is_not_tried_again() {
    let mut blocks = [block(1, 0, 20), block(2, 20, 40), block(3, 40, 60), block(4, 60, 80)];
    blocks[1] = changed(blocks[1].clone(), |it| it.compaction.failed = true);
    assert_eq!(numbers(&plan(&view(&blocks, 2000), &small_rules())), [[0; 0]; 0]);
}

#[test]
fn a_marked_block_cuts_its_window() {
    let full = [(1, 0, 20), (2, 20, 40), (3, 40, 60), (4, 60, 80)];
    check_marked(&[(1, 0, 20)], &[1], &[]);
    check_marked(&full, &[1], &[&[2, 3]]);
    check_marked(&full, &[2], &[]);
    check_marked(&full, &[4], &[&[1, 2, 3]]);
    check_marked(&full, &[1, 4], &[&[2, 3]]);
    check_marked(&full, &[1, 2, 3, 4], &[]);
    check_marked(&[(1, 0, 20), (2, 20, 40), (4, 60, 80), (5, 80, 100)], &[2], &[]);
    let far = [(2, 20, 40), (4, 60, 120), (5, 960, 980), (6, 120, 180), (7, 720, 960)];
    check_marked(&far, &[6], &[&[2, 4]]);
    check_marked(&far, &[4], &[]);
    check_marked(&[(1, 0, 20), (2, 19, 40), (3, 40, 60)], &[1], &[]);
}

#[test]
fn what_is_quarantined_or_in_use_cuts_its_window_too() {
    let full = [block(1, 0, 20), block(2, 20, 40), block(3, 40, 60), block(4, 60, 80)];
    let with = |at: usize, change: fn(&mut Candidate)| {
        let mut blocks = full.clone();
        change(&mut blocks[at]);
        numbers(&plan(&view(&blocks, 2000), &small_rules()))
    };
    assert_eq!(with(0, |it| it.is_quarantined = true), [[2, 3]]);
    assert_eq!(with(0, |it| it.is_whole = false), [[2, 3]]);
    assert_eq!(with(0, |it| it.is_open = false), [[2, 3]]);
    assert_eq!(with(1, |it| it.is_quarantined = true), [[0; 0]; 0]);
    assert_eq!(with(2, |it| it.is_busy = true), [[0; 0]; 0], "it waits for the job that has it");
}

#[test]
fn a_quarantined_job_is_left_out_and_the_others_go_on() {
    let blocks = [
        block(1, 0, 20),
        block(2, 20, 40),
        block(3, 60, 80),
        block(4, 80, 100),
        block(5, 120, 140),
        block(6, 140, 160),
    ];
    let mut view = view(&blocks, 2000);
    let all = plan(&view, &small_rules());
    assert_eq!(numbers(&all), [[1, 2], [3, 4]]);
    view.quarantined_jobs.insert(all.jobs[0].key());
    assert_eq!(numbers(&plan(&view, &small_rules())), [[3, 4]]);
}

#[test]
fn indexes_that_would_become_too_large_are_not_merged() {
    let rules = Rules { index_bytes_max: 100, ..small_rules() };
    let check = |blocks: &[(u64, i64, i64, u64)], large: &[u64], expected: &[&[u64]]| {
        let blocks = blocks.iter().map(|(number, min, max, index_bytes)| Candidate {
            index_bytes: *index_bytes,
            ..block(*number, *min, *max)
        });
        let plan = plan(&view(&blocks.collect::<Vec<_>>(), 2000), &rules);
        assert_eq!(plan.too_large.iter().map(|it| it.id.timestamp_ms()).collect::<Vec<_>>(), large);
        assert_eq!(numbers(&plan), expected);
    };
    check(&[(1, 0, 20, 100)], &[], &[]);
    let first = [(1, 0, 20, 41), (2, 20, 40, 30), (3, 40, 60, 30), (4, 60, 80, 30)];
    check(&first, &[1], &[&[2, 3]]);
    let second = [(1, 0, 20, 30), (2, 20, 40, 41), (3, 40, 60, 30), (4, 60, 80, 20)];
    check(&second, &[2], &[]);
    let last = [(1, 0, 20, 10), (2, 20, 40, 10), (3, 40, 60, 10), (4, 60, 80, 90)];
    check(&last, &[], &[&[1, 2, 3]]);
    let two = [(1, 0, 20, 90), (2, 20, 40, 30), (3, 40, 50, 30), (4, 50, 60, 91), (5, 60, 80, 90)];
    check(&two, &[4, 1], &[&[2, 3]]);
    check(&[(1, 0, 20, 90), (2, 19, 40, 90), (3, 40, 60, 1)], &[2], &[]);
}
