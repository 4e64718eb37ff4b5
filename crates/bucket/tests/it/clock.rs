//! A clock is compared with the store's: by what was written, else by an object written now.

use std::sync::Arc;

use bucket::clock::{self, PROBE_KEY, SKEW_MAX_MS};
use bucket::{Snapshot, View};
use objstore::faulty::{Fault, Trigger};
use objstore::{Faulty, ObjectStore as _, SharedStore};

use crate::{Clock, NOW_MS, id};

#[tokio::test]
async fn an_object_written_now_shows_how_far_a_clock_is_off() {
    let store = Clock::at(NOW_MS).store();
    let empty = Snapshot::default();
    for (off_ms, agrees) in [
        (0, true),
        (SKEW_MAX_MS, true),
        (SKEW_MAX_MS + 1, false),
        (-SKEW_MAX_MS, true),
        (-SKEW_MAX_MS - 1, false),
        (400 * 86_400_000, false),
    ] {
        let reading = clock::compare(&*store, &empty, NOW_MS + off_ms).await.unwrap();
        assert_eq!((reading.ahead_ms, reading.agrees()), (off_ms, agrees));
        assert_eq!(reading.key, PROBE_KEY);
    }
    assert!(!clock::compare(&*store, &empty, i64::MIN).await.unwrap().agrees());
    assert!(!clock::compare(&*store, &empty, i64::MAX).await.unwrap().agrees());
    let keys: Vec<String> = store.contents().into_keys().collect();
    assert_eq!(keys, [PROBE_KEY], "one object, however often");
    let snapshot = View::new(1).sync(&*store).await.unwrap();
    assert!(snapshot.blocks.is_empty() && snapshot.troubles.is_empty(), "it is no block");
}

#[tokio::test]
async fn a_store_that_tells_no_times_agrees_with_no_clock() {
    let store = Clock::at(0).store();
    let reading = clock::compare(&*store, &Snapshot::default(), NOW_MS).await.unwrap();
    assert!(!reading.agrees(), "{reading:?}");
}

#[tokio::test]
async fn a_block_written_later_than_now_needs_no_probe() {
    let clock = Clock::at(NOW_MS);
    let memory = clock.store();
    memory.put(&format!("{}/index", id(1)), "x".into()).await.unwrap();
    clock.set(NOW_MS + 10);
    memory.put(&format!("{}/index", id(2)), "x".into()).await.unwrap();
    memory.put(&format!("{}/chunks/000001", id(3)), "x".into()).await.unwrap();
    let counting = Faulty::new(Arc::clone(&memory) as SharedStore, 1);
    let snapshot = View::new(1).sync(&*memory).await.unwrap();
    let behind_ms = NOW_MS + 10 - SKEW_MAX_MS;
    let reading = clock::compare(&counting, &snapshot, behind_ms - 1).await.unwrap();
    assert!(!reading.agrees() && reading.ahead_ms == -SKEW_MAX_MS - 1, "{reading:?}");
    assert_eq!(reading.key, format!("{}/chunks/000001", id(3)));
    assert_eq!(counting.calls(), 0);
    // Old blocks do not say that a clock is ahead: nobody may have written since.
    clock.set(NOW_MS + 100 * SKEW_MAX_MS);
    let now_ms = NOW_MS + 100 * SKEW_MAX_MS;
    assert!(clock::compare(&counting, &snapshot, now_ms).await.unwrap().agrees());
    assert_eq!(counting.calls(), 2);
}

#[tokio::test]
async fn without_an_answer_nothing_is_said_about_a_clock() {
    for nth in [1, 2] {
        let faulty = Faulty::new(Clock::at(NOW_MS).store() as SharedStore, 1);
        faulty.add(Fault::new(Trigger::Nth(nth)));
        let error = clock::compare(&faulty, &Snapshot::default(), NOW_MS).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains(PROBE_KEY), "{error}");
    }
}
