//! Whatever call fails, nobody sees a block that lacks a file, and another try brings it.

use std::sync::Arc;

use bucket::{State, View, delete, upload};
use objstore::faulty::{Fault, Moment, Trigger};
use objstore::{Faulty, MemoryStore, ObjectStore, SharedStore};

use crate::{Clock, NOW_MS, block, id, labels, local_block, stamp};

/// What every reader may rely on: a meta that can be read means that all is there.
async fn assert_no_half_block(store: &MemoryStore, when: &str) {
    let snapshot = View::new(4).sync(store).await.unwrap();
    for (id, block) in &snapshot.blocks {
        assert!(matches!(block.state, State::Loaded(_) | State::NoMeta), "{when}: {id} {block:?}");
    }
}

fn fault(nth: u64, moment: Moment) -> Fault {
    Fault { moment, ..Fault::new(Trigger::Nth(nth)) }
}

/// Runs `work` with its nth call failing, for every n, and again until it succeeds.
async fn at_every_call(
    memory: impl Fn() -> Arc<MemoryStore>,
    work: impl AsyncFn(&SharedStore) -> bucket::Result<()>,
    check: impl AsyncFn(&MemoryStore, &str),
) {
    for moment in [Moment::Before, Moment::After] {
        let mut nth = 1;
        loop {
            let memory = memory();
            let inner: SharedStore = Arc::clone(&memory) as SharedStore;
            let faulty = Arc::new(Faulty::new(inner, 1));
            faulty.add(fault(nth, moment));
            let store: SharedStore = Arc::clone(&faulty) as SharedStore;
            let when = format!("call {nth} fails {moment:?}");
            let first = work(&store).await;
            assert_no_half_block(&memory, &when).await;
            if faulty.failed() == 0 {
                assert!(first.is_ok(), "{when}");
                assert!(nth > 5, "the work makes several calls");
                break;
            }
            if first.is_err() {
                work(&store).await.unwrap_or_else(|error| panic!("{when}: {error}"));
            }
            check(&memory, &when).await;
            nth += 1;
        }
    }
}

#[tokio::test]
async fn an_upload_survives_a_failure_of_any_call() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = local_block(&scratch, id(1));
    let labels = labels();
    let work = async |store: &SharedStore| {
        upload::upload(&**store, block(&directory), stamp(&labels)).await.map(drop)
    };
    let check = async |memory: &MemoryStore, when: &str| {
        let found = upload::verify(memory, id(1)).await.unwrap();
        assert!(found.is_some(), "{when}: the block is whole");
    };
    at_every_call(|| Clock::at(NOW_MS).store(), work, check).await;
}

#[tokio::test]
async fn a_deletion_survives_a_failure_of_any_call() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = local_block(&scratch, id(1));
    let labels = labels();
    let memory = Clock::at(NOW_MS).store();
    upload::upload(&*memory, block(&directory), stamp(&labels)).await.unwrap();
    memory.put(&format!("{}/deletion-mark.json", id(1)), "{}".into()).await.unwrap();
    let contents = memory.contents();
    let filled = || {
        let store = Clock::at(NOW_MS).store();
        futures_util::FutureExt::now_or_never(async {
            for (key, body) in &contents {
                store.put(key, body.clone()).await.unwrap();
            }
        })
        .unwrap();
        store
    };
    let work = async |store: &SharedStore| delete::delete(&**store, id(1)).await.map(drop);
    let check = async |memory: &MemoryStore, when: &str| {
        assert!(memory.contents().is_empty(), "{when}: {:?}", memory.contents().keys());
    };
    at_every_call(filled, work, check).await;
}
