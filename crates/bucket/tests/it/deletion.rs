//! Blocks go in a safe order, and only those that were given up go by themselves.

use std::sync::Arc;

use bucket::{View, delete, partial};
use objstore::faulty::{Fault, Trigger};
use objstore::{Faulty, ObjectStore, Operation, SharedStore};

use crate::{Clock, NOW_MS, block, id, labels, local_block, stamp};

const DAY_MS: i64 = 86_400_000;

#[tokio::test]
async fn the_meta_goes_first_and_the_mark_last() {
    let memory = Clock::at(NOW_MS).store();
    let key = |path: &str| format!("{}/{path}", id(1));
    let files = ["meta.json", "index", "chunks/000001", "chunks/000002", "deletion-mark.json"];
    for path in files {
        memory.put(&key(path), "x".into()).await.unwrap();
    }
    let faulty = Arc::new(Faulty::new(Arc::clone(&memory) as SharedStore, 1));
    let deletes = |trigger| Fault { operation: Some(Operation::Delete), ..Fault::new(trigger) };
    faulty.add(deletes(Trigger::From(2)));
    delete::delete(&*faulty, id(1)).await.unwrap_err();
    assert!(!memory.contents().contains_key(&key("meta.json")));
    faulty.heal();
    faulty.add(deletes(Trigger::Nth(5)));
    delete::delete(&*faulty, id(1)).await.unwrap_err();
    let left: Vec<String> = memory.contents().into_keys().collect();
    assert_eq!(left, [key("deletion-mark.json")]);
    delete::delete(&*faulty, id(1)).await.unwrap();
    assert_eq!(delete::delete(&*faulty, id(1)).await.unwrap(), 0, "again is no error");
}

#[tokio::test]
async fn only_uploads_that_were_given_up_are_cleaned() {
    let clock = Clock::at(NOW_MS);
    let (scratch, store) = (tempfile::tempdir().unwrap(), clock.store());
    let labels = labels();
    let whole = local_block(&scratch, id(1));
    upload(&*store, &whole, &labels).await;
    let put = async |number, path: &str| {
        store.put(&format!("{}/{path}", id(number)), "x".into()).await.unwrap();
    };
    put(2, "chunks/000001").await;
    put(3, "index").await;
    put(3, "deletion-mark.json").await;
    store
        .put(
            &format!("{}/deletion-mark.json", id(3)),
            bucket::marker::encode(&bucket::marker::DeletionMark::new(id(3), "", NOW_MS)),
        )
        .await
        .unwrap();
    put(4, "chunks/000001").await;
    put(5, "meta.json").await;
    clock.set(NOW_MS + DAY_MS);
    put(4, "chunks/000002").await;

    let later_ms = NOW_MS + 2 * DAY_MS;
    let snapshot = View::new(4).sync(&*store).await.unwrap();
    let cleaned = partial::clean(&*store, &snapshot, later_ms).await;
    assert!(cleaned.deleted.is_empty(), "two days are not over: {cleaned:?}");
    let cleaned = partial::clean(&*store, &snapshot, later_ms + 1).await;
    assert_eq!((cleaned.deleted, cleaned.failed.len()), (vec![id(2)], 0));
    let left: Vec<_> = View::new(4).sync(&*store).await.unwrap().blocks.into_keys().collect();
    assert_eq!(left, [id(1), id(3), id(4), id(5)]);

    clock.set(later_ms + DAY_MS);
    put(4, "index").await;
    let cleaned = partial::clean(&*store, &snapshot, later_ms + 2 * DAY_MS).await;
    assert!(cleaned.deleted.is_empty(), "the upload went on since the listing: {cleaned:?}");
}

#[tokio::test]
async fn nothing_was_given_up_where_the_store_tells_no_times() {
    let store = Clock::at(0).store();
    store.put(&format!("{}/index", id(1)), "x".into()).await.unwrap();
    let snapshot = View::new(4).sync(&*store).await.unwrap();
    let cleaned = partial::clean(&*store, &snapshot, NOW_MS).await;
    assert!(cleaned.deleted.is_empty() && cleaned.failed.is_empty(), "{cleaned:?}");
    assert_eq!(store.contents().len(), 1);
}

async fn upload(store: &dyn ObjectStore, directory: &std::path::Path, labels: &model::Labels) {
    bucket::upload::upload(store, block(directory), stamp(labels)).await.unwrap();
}
