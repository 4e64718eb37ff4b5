//! What belongs together, what has been replaced, and what is most urgent.

use super::*;

fn labelled(block: Candidate, labels: &[(&str, &str)]) -> Candidate {
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    changed(block, |it| it.thanos.labels.clone_from(&labels))
}

fn with_sources(block: Candidate, sources: &[u64]) -> Candidate {
    changed(block, |it| it.compaction.sources = sources.iter().copied().map(id).collect())
}

#[test]
fn blocks_of_other_labels_or_resolutions_are_never_merged() {
    let hours = |number, hour| block(number, hour * HOUR_MS, (hour + 2) * HOUR_MS);
    let mut blocks = Vec::new();
    for (at, hour) in [0, 2, 4, 6, 8, 10].into_iter().enumerate() {
        let number = u64::try_from(at).unwrap();
        blocks.push(labelled(hours(10 + number, hour), &[("a", "1")]));
        blocks.push(labelled(hours(20 + number, hour), &[("a", "2")]));
        blocks.push(at_five(labelled(hours(30 + number, hour), &[("a", "1")])));
    }
    let plan = plan(&view(&blocks, DAY_MS), &rules());
    assert_eq!(numbers(&plan), [[10, 11, 12, 13], [20, 21, 22, 23], [30, 31, 32, 33]]);
    assert_eq!(plan.jobs[2].group.to_string(), "300000@{a=\"1\"}");
}

fn at_five(block: Candidate) -> Candidate {
    at(block, Resolution::FiveMinutes)
}

#[test]
fn replicas_are_one_group() {
    let hours = |number, replica| {
        labelled(block(number, 0, 2 * HOUR_MS), &[("a", "1"), ("replica", replica)])
    };
    let only = |number, replica| labelled(block(number, 0, 2 * HOUR_MS), &[("replica", replica)]);
    let blocks = [hours(1, "x"), hours(2, "y"), only(3, "x"), only(4, "y")];
    let alone = plan(&view(&blocks, DAY_MS), &rules());
    assert_eq!(numbers(&alone), [[0; 0]; 0]);
    let rules = Rules { replica_labels: vec!["replica".to_owned()], ..rules() };
    let plan = plan(&view(&blocks, DAY_MS), &rules);
    assert_eq!(numbers(&plan), [[1, 2], [3, 4]]);
    assert_eq!(plan.jobs[0].group.to_string(), "0@{a=\"1\"}");
    assert_eq!(plan.jobs[1].group.to_string(), "0@{replica=\"deduped\"}");
    assert_eq!(plan.jobs[0].kind, Kind::Compact { is_vertical: true, range_ms: 2 * HOUR_MS });
}

#[test]
fn what_is_contained_in_another_block_is_garbage() {
    let merged = with_sources(block(9, 0, 60), &[1, 2, 3]);
    let parts = [block(1, 0, 20), block(2, 20, 40), block(3, 40, 60), block(4, 0, 20)];
    let check = |merged: Candidate, parts: &[Candidate], expected: &[u64]| {
        let blocks: Vec<_> = parts.iter().cloned().chain([merged]).collect();
        let plan = plan(&view(&blocks, DAY_MS), &rules());
        assert!(plan.garbage.iter().all(|it| it.replaced_by == id(9)));
        assert_eq!(
            plan.garbage.iter().map(|it| it.id.timestamp_ms()).collect::<Vec<_>>(),
            expected
        );
        let mut jobs = plan.jobs.iter().flat_map(Job::ids);
        assert!(jobs.all(|it| !expected.contains(&it.timestamp_ms())), "garbage is not merged");
    };
    check(merged.clone(), &parts, &[1, 2, 3]);
    // What cannot be read, or does not reach as far, replaces nothing.
    check(Candidate { is_quarantined: true, ..merged.clone() }, &parts, &[]);
    check(Candidate { is_whole: false, ..merged.clone() }, &parts, &[]);
    check(with_sources(block(9, 0, 50), &[1, 2, 3]), &parts, &[1, 2]);
    check(at_five(merged.clone()), &parts, &[]);
    // What a job reads is let alone until it is done.
    check(merged.clone(), &[Candidate { is_busy: true, ..parts[0].clone() }], &[]);
    let twin = with_sources(block(10, 0, 60), &[3, 2, 1]);
    check(merged, &[twin], &[10]);
}

#[test]
fn small_ranges_come_before_large_ones_and_what_is_owed_before_all() {
    let mut blocks: Vec<Candidate> = (0..4)
        .map(|it| {
            let begin_ms = i64::try_from(it).unwrap() * 8 * HOUR_MS;
            labelled(block(10 + it, begin_ms, begin_ms + 8 * HOUR_MS), &[("a", "1")])
        })
        .collect();
    for (number, hour) in [(14, 48), (15, 56), (16, 64)] {
        let begin_ms = hour * HOUR_MS;
        blocks.push(labelled(block(number, begin_ms, begin_ms + 8 * HOUR_MS), &[("a", "1")]));
    }
    for (number, hour) in [(1, 48), (2, 50), (3, 56), (4, 58)] {
        let begin_ms = hour * HOUR_MS;
        blocks.push(labelled(block(number, begin_ms, begin_ms + 2 * HOUR_MS), &[("b", "1")]));
    }
    let plain = plan(&view(&blocks, 80 * HOUR_MS), &rules());
    assert_eq!(numbers(&plain), [vec![1, 2], vec![10, 11, 12, 13]]);
    let kept = Some(std::time::Duration::from_hours(40));
    let rules = Rules { retention: Policy { raw: kept, ..Policy::default() }, ..rules() };
    let plan = plan(&view(&blocks, 80 * HOUR_MS), &rules);
    assert_eq!(numbers(&plan), [vec![10, 11, 12, 13], vec![1, 2]]);
    assert_eq!((plan.jobs[0].is_owed, plan.jobs[1].is_owed), (true, false));
    assert_eq!(plan.held.len(), 4, "{:?}", plan.held);
    assert_eq!(plan.expired, []);
}

#[test]
fn no_merge_is_planned_that_the_scratch_space_of_a_job_does_not_bear() {
    let mut blocks: Vec<Candidate> = (0..6)
        .map(|it| {
            let begin_ms = i64::try_from(it).unwrap() * 2 * HOUR_MS;
            block(10 + it, begin_ms, begin_ms + 2 * HOUR_MS)
        })
        .collect();
    let bear_bytes = tsdb_core::stream::writer::SCRATCH_BYTES_MAX;
    let rules = Rules { index_bytes_max: INDEX_BYTES_MAX, ..rules() };
    for divisor in 1..40 {
        blocks.iter_mut().for_each(|it| it.index_bytes = bear_bytes / divisor);
        let plan = plan(&view(&blocks, DAY_MS), &rules);
        for job in &plan.jobs {
            let sum_bytes = bear_bytes / divisor * u64::try_from(job.sources.len()).unwrap();
            assert!(sum_bytes + sum_bytes / 4 <= bear_bytes, "{divisor}: {}", job.sources.len());
        }
        assert_eq!(plan.too_large.is_empty(), divisor >= 6, "{divisor}: {:?}", plan.too_large);
    }
}
