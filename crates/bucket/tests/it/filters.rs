//! Filters are functions of values: age, time and sources.

use std::collections::BTreeSet;

use bucket::filter;
use model::BlockId;
use proptest::prelude::*;
use tsdb_core::block::Meta;

use crate::{NOW_MS, id};

fn meta(number: u64, sources: &[u64], resolution_ms: i64, label: &str) -> Meta {
    let mut meta = Meta::of_head(id(number), 0, 7_200_000);
    meta.compaction.sources = sources.iter().map(|it| id(*it)).collect();
    meta.thanos.downsample.resolution_ms = resolution_ms;
    meta.thanos.labels.insert("replica".to_owned(), label.to_owned());
    meta
}

fn duplicates(metas: &[Meta]) -> Vec<BlockId> {
    filter::duplicates(metas).into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn a_block_inside_another_is_a_duplicate() {
    let metas = [
        meta(1, &[1], 0, "a"),
        meta(2, &[2], 0, "a"),
        meta(3, &[3], 0, "a"),
        meta(4, &[1, 2], 0, "a"),
        meta(5, &[1, 2], 0, "a"),
        meta(6, &[1, 2], 300_000, "a"),
        meta(7, &[1], 0, "b"),
        meta(8, &[2, 3, 9], 0, "a"),
    ];
    assert_eq!(duplicates(&metas), [id(1), id(2), id(3), id(5)]);
    assert_eq!(duplicates(&[meta(1, &[], 0, "a"), meta(2, &[], 0, "a")]), [], "no sources");
    assert_eq!(duplicates(&[]), []);
}

#[test]
fn age_is_that_of_the_upload_or_else_of_the_name() {
    let mut meta = meta(1, &[1], 0, "a");
    let named_ms = i64::try_from(meta.ulid.timestamp_ms()).unwrap();
    assert_eq!(filter::uploaded_ms(&meta), named_ms);
    assert!(filter::is_too_fresh(&meta, named_ms + 999, 1_000));
    assert!(!filter::is_too_fresh(&meta, named_ms + 1_000, 1_000));
    meta.thanos.upload_time = "2026-11-24T00:00:00.396371445Z".to_owned();
    assert_eq!(filter::uploaded_ms(&meta), NOW_MS + 396);
    assert!(filter::is_too_fresh(&meta, NOW_MS + 500, 1_000));
    meta.thanos.source = "compactor".to_owned();
    assert!(!filter::is_too_fresh(&meta, NOW_MS + 500, 1_000));
}

#[test]
fn time_is_compared_as_thanos_does() {
    let meta = meta(1, &[1], 0, "a");
    assert!(filter::in_time(&meta, 7_200_000, i64::MAX));
    assert!(!filter::in_time(&meta, 7_200_001, i64::MAX));
    assert!(filter::in_time(&meta, i64::MIN, 0));
    assert!(!filter::in_time(&meta, i64::MIN, -1));
}

proptest! {
    /// Nothing is lost: every source is in a block that stays; and what stays is needed.
    #[test]
    fn every_source_stays_in_some_block(
        blocks in prop::collection::vec(prop::collection::btree_set(0_u64..12, 1..6), 0..20),
    ) {
        let metas: Vec<Meta> = blocks
            .iter()
            .zip(100..)
            .map(|(sources, number)| meta(number, &Vec::from_iter(sources.iter().copied()), 0, "a"))
            .collect();
        let gone = filter::duplicates(&metas);
        let kept: Vec<&Meta> = metas.iter().filter(|it| !gone.contains(&it.ulid)).collect();
        let sources = |it: &Meta| BTreeSet::from_iter(it.compaction.sources.iter().copied());
        for meta in &metas {
            let held = kept.iter().any(|it| sources(it).is_superset(&sources(meta)));
            prop_assert!(held, "{}", meta.ulid);
        }
        for (at, meta) in kept.iter().enumerate() {
            let others = kept.iter().enumerate().filter(|(other, _)| *other != at);
            let is_needed =
                others.into_iter().all(|(_, it)| !sources(it).is_superset(&sources(meta)));
            prop_assert!(is_needed, "{}", meta.ulid);
        }
    }
}
