//! What is damaged is named once and kept away from, and the others go on.

use objstore::Operation;
use objstore::faulty::{Fault, Trigger};

use super::*;

/// Blocks of two hours from an hour on, of one sample each.
async fn window(world: &mut World, first: u64, count: u64) -> Vec<BlockId> {
    let mut ids = Vec::new();
    for at in first..first + count {
        let hour = i64::try_from(at).unwrap() * 2;
        ids.push(world.put_block(at, (hour, hour + 2), &[at]).await);
    }
    ids
}

fn causes(world: &World) -> Vec<(String, &'static str)> {
    world.quarantine().iter().map(|it| (it.subject.to_string(), it.cause.name())).collect()
}

#[tokio::test]
async fn a_damaged_block_is_quarantined_over_restarts_until_it_changes() {
    let mut world = World::new();
    let ids = window(&mut world, 0, 10).await;
    let good = world.memory.get(&layout::key(ids[1], CHUNKS), 100).await.unwrap();
    world.put(ids[1], CHUNKS, "x".repeat(good.len())).await;
    world.at(EPOCH_MS + 20 * HOUR_MS);
    world.settle().await;
    let expected = vec![(format!("block {}", ids[1]), "damaged-for-compaction")];
    assert_eq!(causes(&world), expected);
    let entry = world.quarantine()[0].clone();
    assert_eq!(entry.place, layout::key(ids[1], CHUNKS));
    assert!(entry.command.contains(&format!("--id={}", ids[1])), "{}", entry.command);
    assert!(entry.command.contains("--marker=no-compact-mark.json"), "{}", entry.command);
    // The others of its window and the window behind it were merged.
    assert!(world.has(ids[2], "deletion-mark.json") && world.has(ids[5], "deletion-mark.json"));
    assert!(!world.has(ids[0], "deletion-mark.json") && !world.has(ids[1], "deletion-mark.json"));
    let builds: usize = world.fake.built.lock().values().sum();
    world.restart();
    world.settle().await;
    assert_eq!(causes(&world), expected);
    assert_eq!(world.quarantine()[0], &entry, "since when it is so is remembered");
    assert_eq!(world.fake.built.lock().values().sum::<usize>(), builds, "nothing is tried again");
    // Mended.
    world.put(ids[1], CHUNKS, good).await;
    world.settle().await;
    assert_eq!(causes(&world), []);
    world.check_all_once("mended").await;
}

#[tokio::test]
async fn a_mark_by_hand_ends_the_quarantine_and_so_does_the_end_of_the_block() {
    let mut world = World::new();
    let ids = window(&mut world, 0, 10).await;
    world.put(ids[1], CHUNKS, "[1,").await;
    world.put(ids[5], CHUNKS, "[5,").await;
    world.at(EPOCH_MS + 20 * HOUR_MS);
    world.settle().await;
    assert_eq!(causes(&world).len(), 2);
    let mark =
        format!(r#"{{"id":"{}","version":1,"no_compact_time":1,"reason":"manual"}}"#, ids[1]);
    world.put(ids[1], "no-compact-mark.json", mark).await;
    let mark = marker::encode(&DeletionMark::new(ids[5], "by hand", world.clock.now_ms()));
    world.put(ids[5], "deletion-mark.json", mark).await;
    world.settle().await;
    assert_eq!(causes(&world), []);
}

#[tokio::test]
async fn a_job_that_loses_a_sample_leaves_nothing_behind_and_is_not_done_again() {
    let mut world = World::new();
    let ids = window(&mut world, 0, 6).await;
    world.at(EPOCH_MS + 12 * HOUR_MS);
    *world.fake.loses.lock() = true;
    world.settle().await;
    assert_eq!(world.quarantine().len(), 1);
    let entry = world.quarantine()[0];
    assert_eq!(entry.cause, Cause::Unbalanced);
    assert!(entry.what.contains("4 samples in, 3 out"), "{}", entry.what);
    assert!(ids.iter().all(|it| !world.has(*it, "deletion-mark.json")));
    let blocks = View::new(1).sync(&*world.memory).await.unwrap().blocks;
    assert_eq!(blocks.len(), 6);
    world.check_all_once("as before").await;
    assert_eq!(world.fake.built.lock().values().sum::<usize>(), 1);
    // What the entry asks for ends it, on one of the blocks.
    assert!(entry.command.contains(&format!("--id={}", ids[3])), "{}", entry.command);
    *world.fake.loses.lock() = false;
    let mark =
        format!(r#"{{"id":"{}","version":1,"no_compact_time":1,"reason":"manual"}}"#, ids[3]);
    world.put(ids[3], "no-compact-mark.json", mark).await;
    world.settle().await;
    assert_eq!(causes(&world), []);
    assert!(world.has(ids[2], "deletion-mark.json") && !world.has(ids[3], "deletion-mark.json"));
    world.check_all_once("without the marked one").await;
}

#[tokio::test]
async fn a_downsampling_that_loses_a_sample_is_over_when_its_block_is_marked() {
    let mut world = World::new();
    let id = world.put_block(1, (0, 48), &[1, 2]).await;
    world.at(EPOCH_MS + 100 * HOUR_MS);
    *world.fake.loses.lock() = true;
    world.settle().await;
    assert_eq!(causes(&world), [(format!("job downsample {id}"), "unbalanced")]);
    let mark = format!(r#"{{"id":"{id}","version":1,"no_compact_time":1,"reason":"manual"}}"#);
    world.put(id, "no-compact-mark.json", mark).await;
    world.settle().await;
    assert_eq!(causes(&world).len(), 1, "a mark of another kind says nothing");
    let mark = format!(r#"{{"id":"{id}","version":1,"no_downsample_time":1,"reason":"manual"}}"#);
    world.put(id, "no-downsample-mark.json", mark).await;
    world.settle().await;
    assert_eq!(causes(&world), []);
}

#[tokio::test]
async fn everything_that_is_wrong_is_named_once() {
    let mut world = World::new();
    let good = window(&mut world, 0, 6).await;
    let of = |number: u64| id(100 + number);
    let changed = |number: u64, change: &dyn Fn(&mut Meta)| {
        let mut meta = Meta::of_head(of(number), EPOCH_MS, EPOCH_MS + HOUR_MS);
        meta.thanos.labels.insert("cluster".to_owned(), format!("y{number}"));
        change(&mut meta);
        fake::with_files(meta, 3)
    };
    let plain = |_: &mut Meta| {};
    let metas: Vec<(u64, Vec<u8>)> = vec![
        (1, b"{\"ulid\":".to_vec()),
        (2, changed(3, &plain).encode()),
        (3, changed(3, &|it| it.version = 2).encode()),
        (4, changed(4, &|it| it.thanos.downsample.resolution_ms = 60_000).encode()),
        (5, changed(5, &|it| it.max_time_ms = it.min_time_ms).encode()),
        (6, changed(6, &|it| it.thanos.labels.clear()).encode()),
        (7, changed(7, &plain).encode()),
        (8, changed(8, &plain).encode()),
        (9, changed(9, &plain).encode()),
    ];
    for (number, meta) in metas {
        if number != 7 {
            world.put(of(number), CHUNKS, "[1]").await;
        }
        world.put(of(number), "index", if number == 8 { "inde" } else { "index" }).await;
        world.put(of(number), "meta.json", meta).await;
    }
    world.put(of(9), "no-compact-mark.json", "{").await;
    world.put(of(10), CHUNKS, "[1]").await;
    world.put(of(11), CHUNKS, "[1]").await;
    let mark = marker::encode(&DeletionMark::new(of(11), "", EPOCH_MS));
    world.put(of(11), "deletion-mark.json", mark).await;
    world.put(of(12), "meta.json", changed(12, &|it| it.thanos.version = 9).encode()).await;
    world.at(EPOCH_MS + 12 * HOUR_MS);
    world.settle().await;
    let expected = [
        (1, "corrupt-meta"),
        (2, "corrupt-meta"),
        (3, "corrupt-meta"),
        (4, "foreign"),
        (5, "foreign"),
        (6, "foreign"),
        (7, "incomplete"),
        (8, "incomplete"),
        (9, "unreadable-mark"),
        (10, "partial"),
        (11, "half-deleted"),
        (12, "corrupt-meta"),
    ];
    let expected = expected.map(|(number, cause)| (format!("block {}", of(number)), cause));
    assert_eq!(causes(&world), expected);
    assert!(world.quarantine().iter().all(|it| it.command.starts_with("aion tools bucket ")));
    assert!(world.has(good[0], "deletion-mark.json"), "the others are merged");
}

#[tokio::test]
async fn what_was_remembered_and_cannot_be_read_is_found_out_again() {
    let mut world = World::new();
    let ids = window(&mut world, 0, 6).await;
    world.put(ids[1], CHUNKS, "[1,").await;
    world.at(EPOCH_MS + 12 * HOUR_MS);
    world.settle().await;
    assert_eq!(causes(&world).len(), 1);
    for broken in ["{", "{\"version\":2,\"entries\":[]}"] {
        world.memory.put(crate::quarantine::KEY, broken.into()).await.unwrap();
        world.restart();
        world.settle().await;
        assert_eq!(causes(&world).len(), 1);
        let kept = world.memory.get(crate::quarantine::KEY, 10_000).await.unwrap();
        assert!(String::from_utf8(kept.to_vec()).unwrap().contains(&ids[1].to_string()));
    }
}

#[tokio::test]
async fn what_was_remembered_and_may_not_be_read_stops_nothing() {
    let mut world = World::new();
    let fault = |transient| {
        let operation = Some(Operation::Get);
        Fault { operation, transient, ..Fault::new(Trigger::Nth(1)) }
    };
    world.faulty.add(fault(true));
    let text = format!("{:#}", world.rounds.iterate().await.unwrap_err());
    assert!(text.contains("read what is quarantined"), "{text}");
    world.faulty.heal();
    world.faulty.add(fault(false));
    world.rounds.iterate().await.unwrap();
    assert_eq!(world.faulty.failed(), 2);
    let ids = window(&mut world, 0, 6).await;
    world.at(EPOCH_MS + 12 * HOUR_MS);
    world.settle().await;
    assert!(world.has(ids[0], "deletion-mark.json"));
}
