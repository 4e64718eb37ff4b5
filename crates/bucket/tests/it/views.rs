//! The view tells whole blocks from the others, with few calls, and no neighbour suffers.

use std::sync::Arc;

use bucket::filter::{self, Filters};
use bucket::marker::{self, DeletionMark};
use bucket::{State, View, layout, upload};
use objstore::faulty::{Fault, Trigger};
use objstore::{Faulty, ObjectStore, Operation, SharedStore};
use testkit::golden;

use crate::{Clock, NOW_MS, block, id, labels, local_block, stamp};

async fn filled(blocks: u64) -> (tempfile::TempDir, Arc<objstore::MemoryStore>) {
    let (scratch, store) = (tempfile::tempdir().unwrap(), Clock::at(NOW_MS).store());
    let labels = labels();
    for number in 1..=blocks {
        let directory = local_block(&scratch, id(number));
        upload::upload(&*store, block(&directory), stamp(&labels)).await.unwrap();
    }
    (scratch, store)
}

fn state(snapshot: &bucket::Snapshot, number: u64) -> &State {
    &snapshot.blocks[&id(number)].state
}

#[tokio::test]
async fn every_state_is_told_and_stops_nothing() {
    let (_scratch, store) = filled(6).await;
    let key = |number, path: &str| format!("{}/{path}", id(number));
    store.delete(&key(2, "meta.json")).await.unwrap();
    store.put(&key(3, "meta.json"), "{\"ulid\": \"".into()).await.unwrap();
    store.delete(&key(4, "chunks/000002")).await.unwrap();
    let other = store.get(&key(1, "meta.json"), 1 << 20).await.unwrap();
    store.put(&key(5, "meta.json"), other).await.unwrap();
    marker::write(&*store, &DeletionMark::new(id(6), "old", NOW_MS)).await.unwrap();
    store.put(&key(1, "no-compact-mark.json"), "{".into()).await.unwrap();
    store.put("debug/metas/x.json", "{}".into()).await.unwrap();
    store.put("01K4N9V/meta.json", "{}".into()).await.unwrap();

    let snapshot = View::new(4).sync(&*store).await.unwrap();
    assert_eq!(snapshot.blocks.len(), 6);
    assert!(snapshot.is_complete());
    assert!(matches!(state(&snapshot, 1), State::Loaded(_)));
    assert!(matches!(state(&snapshot, 2), State::NoMeta));
    assert!(matches!(state(&snapshot, 3), State::Corrupt(_)));
    let State::Incomplete { missing, .. } = state(&snapshot, 4) else { panic!("{snapshot:?}") };
    assert_eq!(missing[..], ["chunks/000002"]);
    assert!(matches!(state(&snapshot, 5), State::Corrupt(it) if it.contains("names block")));
    assert_eq!(snapshot.blocks[&id(6)].deletion.mark().unwrap().details, "old");
    assert_eq!(snapshot.blocks[&id(1)].file_bytes("index"), Some(700));
    let troubles: Vec<_> = snapshot.troubles.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(troubles.len(), 4, "{troubles:?}");
    assert!(troubles.iter().any(|it| it.contains(&key(3, "meta.json"))), "{troubles:?}");
    assert!(troubles.iter().any(|it| it.contains(&key(1, "no-compact-mark.json"))));

    let filters = Filters::after_deletion_marks(86_400_000);
    let served = filter::apply(&snapshot, &filters, NOW_MS + 1_000);
    assert_eq!(served.kept.keys().copied().collect::<Vec<_>>(), [id(1), id(6)]);
    let served = filter::apply(&snapshot, &filters, NOW_MS + 86_401_000);
    assert_eq!(served.kept.keys().copied().collect::<Vec<_>>(), [id(1)]);
    assert_eq!(served.states["marked-for-deletion"], 1);
    assert_eq!(served.states["corrupted-meta-json"], 2);
    assert_eq!(served.states["no-meta-json"], 2);
    assert_eq!(served.states.values().sum::<usize>(), 6);
}

#[tokio::test]
async fn a_sync_without_changes_only_lists() {
    let (_scratch, store) = filled(50).await;
    marker::write(&*store, &DeletionMark::new(id(7), "", NOW_MS)).await.unwrap();
    let counting = Faulty::new(Arc::clone(&store) as SharedStore, 1);
    let mut view = View::new(8);
    view.sync(&counting).await.unwrap();
    assert_eq!(counting.calls(), 1 + 50 + 1, "one listing, each meta and the mark");
    let snapshot = view.sync(&counting).await.unwrap();
    assert_eq!(counting.calls(), 52 + 1);
    assert_eq!(snapshot.blocks.len(), 50);
    store.delete(&format!("{}/meta.json", id(3))).await.unwrap();
    let mut meta = snapshot.blocks[&id(4)].state.meta().unwrap().as_ref().clone();
    meta.stats.num_samples = 12_345;
    store.put(&format!("{}/meta.json", id(4)), meta.encode().into()).await.unwrap();
    let snapshot = view.sync(&counting).await.unwrap();
    assert_eq!(counting.calls(), 53 + 2, "only what changed is read again");
    assert!(matches!(state(&snapshot, 3), State::NoMeta));
    assert_eq!(state(&snapshot, 4).meta().unwrap().stats.num_samples, 12_345);
}

#[tokio::test]
async fn a_failed_read_is_named_and_made_up_for() {
    let (_scratch, store) = filled(5).await;
    let faulty = Faulty::new(Arc::clone(&store) as SharedStore, 1);
    faulty.add(Fault { operation: Some(Operation::Get), ..Fault::new(Trigger::Nth(2)) });
    let mut view = View::new(1);
    let snapshot = view.sync(&faulty).await.unwrap();
    assert!(!snapshot.is_complete());
    let failed = snapshot.blocks.values().filter(|it| matches!(it.state, State::Failed(_)));
    assert_eq!(failed.count(), 1);
    assert_eq!(snapshot.blocks.values().filter(|it| it.state.meta().is_some()).count(), 4);
    let snapshot = view.sync(&faulty).await.unwrap();
    assert!(snapshot.is_complete());
    assert_eq!(snapshot.blocks.values().filter(|it| it.state.meta().is_some()).count(), 5);
    faulty.add(Fault { operation: Some(Operation::Iter), ..Fault::new(Trigger::Nth(1)) });
    assert!(view.sync(&faulty).await.unwrap_err().is_transient());
    let snapshot = view.sync(&faulty).await.unwrap();
    assert_eq!(snapshot.blocks.len(), 5, "a failed listing forgets nothing");
}

#[tokio::test]
async fn blocks_of_the_real_programs_are_whole() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let store = Clock::at(NOW_MS).store();
    let names = ["prom-floats", "prom-segments", "thanos-raw-48h", "thanos-5m"];
    for name in names {
        let directory = shared.join("golden/blocks").join(name);
        let meta = std::fs::read(directory.join("meta.json")).unwrap();
        let id = tsdb_core::block::Meta::decode(&meta).unwrap().ulid;
        let chunks = std::fs::read_dir(directory.join("chunks")).unwrap();
        let mut files = vec!["index".to_owned(), "meta.json".to_owned()];
        files.extend(chunks.map(|it| format!("chunks/{}", it.unwrap().file_name().display())));
        for path in files {
            store.put_file(&format!("{id}/{path}"), &directory.join(&path)).await.unwrap();
        }
    }
    let snapshot = View::new(4).sync(&*store).await.unwrap();
    assert_eq!(snapshot.troubles, []);
    let loaded = snapshot.blocks.values().filter(|it| it.state.meta().is_some());
    assert_eq!(loaded.count(), names.len());
}

#[tokio::test]
async fn a_block_that_is_part_of_another_one_is_found_there() {
    let (scratch, store) = (tempfile::tempdir().unwrap(), Clock::at(NOW_MS).store());
    let (directory, labels) = (local_block(&scratch, id(1)), labels());
    let uploaded = upload::upload(&*store, block(&directory), stamp(&labels)).await.unwrap();
    let mut whole = uploaded.meta;
    whole.ulid = id(9);
    whole.thanos.files.clear();
    whole.compaction.sources = vec![id(1), id(2)];
    for path in ["chunks/000001", "index"] {
        store.put(&layout::key(id(9), path), "x".into()).await.unwrap();
    }
    store.put(&layout::meta_key(id(9)), whole.encode().into()).await.unwrap();
    let found = async |number| View::new(4).sync(&*store).await.unwrap().holder_of(id(number));
    assert_eq!(found(1).await, Some(id(9)));
    assert_eq!(found(2).await, Some(id(9)));
    assert_eq!(found(3).await, None);
    assert_eq!(found(9).await, None, "not in itself");
    marker::write(&*store, &DeletionMark::new(id(9), "", NOW_MS)).await.unwrap();
    assert_eq!(found(2).await, Some(id(9)), "whoever deletes it decides about its sources");
}
