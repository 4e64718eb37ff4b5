//! Tests of shipping and of what may be removed.

use std::ops::Range;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use objstore::{Environment, ListPage, MemoryStore, ObjectMeta, ObjectStore, PutOutcome};
use tsdb_core::fs::disk::Disk;

use super::*;
use crate::store::tests::{START_MS, engine_with};

/// A bucket that takes every object and then does not have the metas.
#[derive(Debug)]
struct Forgetful(MemoryStore);

impl ObjectStore for Forgetful {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, objstore::store::Result<ListPage>> {
        self.0.list(prefix, delimiter, page)
    }

    fn get<'a>(
        &'a self,
        key: &'a str,
        size_max_bytes: u64,
    ) -> BoxFuture<'a, objstore::store::Result<Bytes>> {
        if key.ends_with("meta.json") {
            let error = objstore::Error::NotFound { key: key.to_owned() };
            return async { Err(error) }.boxed();
        }
        self.0.get(key, size_max_bytes)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, objstore::store::Result<Bytes>> {
        self.0.get_range(key, range)
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, objstore::store::Result<PutOutcome>> {
        self.0.put(key, body)
    }

    fn put_if_absent<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, objstore::store::Result<PutOutcome>> {
        self.0.put_if_absent(key, body)
    }

    fn put_file<'a>(
        &'a self,
        key: &'a str,
        path: &'a Path,
    ) -> BoxFuture<'a, objstore::store::Result<PutOutcome>> {
        self.0.put_file(key, path)
    }

    fn begin_upload<'a>(
        &'a self,
        key: &'a str,
    ) -> BoxFuture<'a, objstore::store::Result<Box<dyn objstore::Upload>>> {
        self.0.begin_upload(key)
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, objstore::store::Result<()>> {
        self.0.delete(key)
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, objstore::store::Result<ObjectMeta>> {
        self.0.head(key)
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, objstore::store::Result<usize>> {
        self.0.abort_stale_uploads(prefix, before_ms)
    }
}

fn memory() -> MemoryStore {
    MemoryStore::new("test", Environment::new(|| START_MS, || Duration::ZERO, || 7))
}

#[tokio::test]
async fn a_block_counts_as_shipped_only_when_it_is_seen_in_the_bucket() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine_with(directory.path(), 1, 10);
    engine.cut_all(START_MS, &mut || 1);
    let tenant = Tenant::new("t").unwrap();
    let block = engine.blocks(&tenant).remove(0);
    let path = engine.tenant_directory(&tenant).join(block.id().to_string());
    let local = LocalBlock { fs: &Disk, directory: &path };
    let labels = model::Labels::from_pairs([("receive", "r0")]).unwrap();
    let stamp = Stamp { labels: &labels, source: "receive", now_ms: START_MS, parallel: 1 };
    let forgetful: SharedStore = Arc::new(Forgetful(memory()));
    let shipped = bucket::upload::upload_verified(&*forgetful, local, stamp).await;
    assert!(matches!(shipped, Err(bucket::Error::Unverified { .. })), "{shipped:?}");
    let store: SharedStore = Arc::new(memory());
    let ship = async || bucket::upload::upload_verified(&*store, local, stamp).await.unwrap();
    assert!(ship().await.is_new);
    assert!(!ship().await.is_new);
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now_ms(&self) -> i64 {
        START_MS
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A process finds that an earlier one shipped a block, and the bucket does not have it.
#[tokio::test]
async fn a_shipped_block_that_is_gone_is_looked_for_in_others_and_else_uploaded_again() {
    for is_compacted in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let engine = Arc::new(engine_with(directory.path(), 1, 10));
        engine.cut_all(START_MS, &mut || 1);
        let tenant = Tenant::new("t").unwrap();
        let block = engine.blocks(&tenant).remove(0);
        let path = engine.tenant_directory(&tenant).join(STATE_FILE);
        update_state(&Disk, &path, &[block.id()].into(), &[block.id()].into()).unwrap();
        let tenancy = Tenancy {
            header: http::HeaderName::from_static("thanos-tenant"),
            default: tenant.clone(),
            label: "tenant_id".to_owned(),
            labels: model::Labels::from_pairs([("receive", "r0")]).unwrap(),
        };
        let store: SharedStore = Arc::new(memory());
        if is_compacted {
            let mut meta = block.reader.meta().clone();
            meta.ulid = BlockId::from_parts(7, 7);
            let labels = tenancy.external(&tenant);
            meta.thanos.labels =
                labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            for file in ["chunks/000001", "index"] {
                store.put(&bucket::layout::key(meta.ulid, file), "x".into()).await.unwrap();
            }
            let key = bucket::layout::meta_key(meta.ulid);
            store.put(&key, meta.encode().into()).await.unwrap();
        }
        let shipper = Arc::new(Shipper {
            engine,
            fs: Arc::new(Disk),
            store: Some(Arc::clone(&store)),
            tenancy: Arc::new(tenancy),
            metrics: Metrics::new(),
            clock: Arc::new(Still),
            parallel: 1,
            retention: None,
            tasks: Tasks::new(),
            verified: Mutex::default(),
        });
        assert!(shipper.round().await);
        let found = bucket::upload::verify(&*store, block.id()).await.unwrap();
        assert_eq!(found.is_some(), !is_compacted);
        assert!(shipper.verified.lock().contains_key(&block.id()));
    }
}

#[test]
fn the_list_of_shipped_blocks_keeps_what_an_earlier_process_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(STATE_FILE);
    let id = |it: u128| BlockId::from_parts(1, it);
    let set = |it: &[u128]| -> BTreeSet<BlockId> { it.iter().map(|it| id(*it)).collect() };
    assert_eq!(state(&Disk, &path).unwrap(), set(&[]));
    update_state(&Disk, &path, &set(&[1, 2, 3]), &set(&[1, 2])).unwrap();
    // The next process has verified nothing yet, and the first block is gone.
    update_state(&Disk, &path, &set(&[2, 3]), &set(&[])).unwrap();
    assert_eq!(state(&Disk, &path).unwrap(), set(&[2]));
    update_state(&Disk, &path, &set(&[2, 3]), &set(&[3])).unwrap();
    assert_eq!(state(&Disk, &path).unwrap(), set(&[2, 3]));
}

#[test]
fn a_block_goes_when_it_is_old_and_was_seen_in_the_bucket_for_an_hour() {
    const HOUR_MS: i64 = 3_600_000;
    let day = Some(Duration::from_hours(24));
    let check = |max_time_ms, verified_ms, now_ms| {
        may_go(Age { max_time_ms, verified_ms }, day, true, now_ms)
    };
    assert!(check(0, Some(0), 24 * HOUR_MS + 1));
    assert!(!check(0, Some(0), 24 * HOUR_MS));
    assert!(!check(0, None, 48 * HOUR_MS));
    assert!(!check(0, Some(48 * HOUR_MS), 49 * HOUR_MS - 1));
    assert!(check(0, Some(48 * HOUR_MS), 49 * HOUR_MS));
    let age = Age { max_time_ms: 0, verified_ms: None };
    assert!(may_go(age, day, false, 48 * HOUR_MS));
    assert!(!may_go(age, None, false, i64::MAX));
}
