//! Transient failures are tried again within bounds; others are not.

use std::sync::Arc;
use std::time::Duration;

use objstore::faulty::{Fault, Moment, Trigger};
use objstore::{
    Environment, Error, Faulty, MemoryStore, Metrics, ObjectStore, ObjectWriter, Operation, Retry,
    RetryPolicy,
};
use tokio::time::Instant;

/// tokio's clock, which stands still in these tests until everybody sleeps.
fn paused() -> Environment {
    let begin = Instant::now();
    Environment::new(|| 1_000, move || begin.elapsed(), || 7)
}

fn retrying(policy: RetryPolicy) -> (Arc<Faulty>, Retry) {
    let faulty = Arc::new(Faulty::new(Arc::new(MemoryStore::new("b", paused())), 42));
    let inner = Arc::clone(&faulty);
    let retry = Retry::new(inner, policy, paused(), &Metrics::unregistered());
    (faulty, retry)
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_tried_again() {
    let (faulty, store) = retrying(RetryPolicy::with_tries(3));
    faulty.add(Fault::new(Trigger::Nth(1)));
    faulty.add(Fault::new(Trigger::Nth(2)));
    store.put("a", "1".into()).await.unwrap();
    assert_eq!((faulty.calls(), faulty.failed()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn tries_are_counted_and_end() {
    let (faulty, store) = retrying(RetryPolicy::with_tries(4));
    faulty.add(Fault::new(Trigger::From(1)));
    let error = store.get("a", 1).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(faulty.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn tries_end_with_time_too() {
    let total_max = Duration::from_secs(5);
    let (faulty, store) = retrying(RetryPolicy { total_max, ..RetryPolicy::with_tries(1_000) });
    faulty.add(Fault::new(Trigger::From(1)));
    let begin = Instant::now();
    store.list("", true, None).await.unwrap_err();
    assert!(begin.elapsed() <= total_max, "{:?}", begin.elapsed());
    assert!((5..20).contains(&faulty.calls()), "{}", faulty.calls());
}

#[tokio::test(start_paused = true)]
async fn a_lasting_failure_is_not_tried_again() {
    let (faulty, store) = retrying(RetryPolicy::with_tries(9));
    faulty.add(Fault { transient: false, ..Fault::new(Trigger::Nth(1)) });
    assert!(matches!(store.delete("a").await, Err(Error::Other { .. })));
    assert!(store.get("a", 1).await.unwrap_err().is_not_found());
    assert_eq!(faulty.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_conditional_write_whose_answer_got_lost_is_a_success() {
    let lost = Fault {
        operation: Some(Operation::Upload),
        moment: Moment::After,
        ..Fault::new(Trigger::Nth(1))
    };
    let (faulty, store) = retrying(RetryPolicy::with_tries(3));
    faulty.add(lost);
    let outcome = store.put_if_absent("mark", "mine".into()).await.unwrap();
    assert_eq!(outcome.size_bytes, 4);
    assert_eq!(store.get("mark", 9).await.unwrap(), "mine");
    // What somebody else wrote stays somebody else's.
    faulty.add(Fault { moment: Moment::Before, ..lost });
    let error = store.put_if_absent("mark", "other".into()).await.unwrap_err();
    assert!(error.is_already_exists(), "{error}");
    assert_eq!(store.get("mark", 9).await.unwrap(), "mine");
}

/// A store that fails one call in five costs a quarter more calls, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn a_brown_out_is_ridden_out_without_a_storm() {
    let (faulty, store) = retrying(RetryPolicy::with_tries(10));
    faulty.add(Fault::new(Trigger::PerMille(200)));
    for number in 0..1_000 {
        let key = format!("{number}");
        store.put(&key, "x".into()).await.unwrap();
        assert_eq!(store.get(&key, 1).await.unwrap(), "x");
    }
    assert!(faulty.calls() <= 2_600, "{} calls for 2000", faulty.calls());
}

/// Parts are tried again one by one, also those that arrived and whose answer got lost; neither a
/// byte more nor one less becomes visible.
#[tokio::test(start_paused = true)]
async fn a_streaming_upload_survives_failures_of_its_parts() {
    let (faulty, store) = retrying(RetryPolicy::with_tries(12));
    for moment in [Moment::Before, Moment::After] {
        faulty.add(Fault { moment, ..Fault::new(Trigger::PerMille(150)) });
    }
    let store: objstore::SharedStore = Arc::new(store);
    for length in [0, 999, 1_000, 1_001, 250_000] {
        let body: Vec<u8> =
            (0..length).map(|at: u32| at.to_le_bytes()[(at % 3) as usize]).collect();
        let mut writer = ObjectWriter::new(Arc::clone(&store), "object").with_part_bytes(1_000);
        for bytes in body.chunks(777) {
            writer.write(bytes.to_vec().into()).await.unwrap();
        }
        let outcome = writer.finish().await.unwrap();
        assert_eq!(outcome.size_bytes, u64::from(length));
        assert_eq!(outcome.md5_hex, objstore::md5_hex(&body));
        assert!(store.get("object", 1 << 20).await.unwrap() == body, "{length} bytes");
    }
    assert!(faulty.failed() > 50, "{} calls failed", faulty.failed());
}

#[tokio::test(start_paused = true)]
async fn a_streaming_upload_that_lost_a_part_is_no_object() {
    let (faulty, store) = retrying(RetryPolicy::with_tries(2));
    let store: objstore::SharedStore = Arc::new(store);
    let mut writer = ObjectWriter::new(Arc::clone(&store), "object").with_part_bytes(10);
    writer.write(vec![1; 25].into()).await.unwrap();
    faulty.add(Fault { transient: false, ..Fault::new(Trigger::From(1)) });
    let mut failed = false;
    for _ in 0..9 {
        failed |= writer.write(vec![2; 10].into()).await.is_err();
    }
    assert!(failed, "a part that is not stored fails the upload while it goes on");
    faulty.heal();
    assert!(!writer.finish().await.unwrap_err().is_transient());
    assert!(store.get("object", 1_000).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults() {
    let run = async |seed| {
        let store = Faulty::new(Arc::new(MemoryStore::new("b", paused())), seed);
        store.add(Fault::new(Trigger::PerMille(300)));
        let mut failed = Vec::new();
        for number in 0..200 {
            failed.push(store.put(&format!("{number}"), "x".into()).await.is_err());
        }
        failed
    };
    let first = run(1).await;
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
    let count = first.iter().filter(|it| **it).count();
    assert!((30..90).contains(&count), "{count} of 200");
}
