//! A streaming upload holds few parts, however fast they come and however slowly they go.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use objstore::store::Result;
use objstore::upload::{PARTS_IN_FLIGHT_MAX, Part, Whole};
use objstore::{
    ListPage, MemoryStore, ObjectMeta, ObjectStore, ObjectWriter, PutOutcome, SharedStore, Upload,
};
use tokio::sync::Semaphore;

use crate::environment;

/// A bucket that takes a part only when a test lets it.
#[derive(Debug)]
struct Slow {
    inner: MemoryStore,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    open: Semaphore,
    waiting: AtomicUsize,
    most: AtomicUsize,
}

#[derive(Debug)]
struct SlowUpload {
    inner: Box<dyn Upload>,
    gate: Arc<Gate>,
}

impl Upload for SlowUpload {
    fn put_part(&self, part: Part) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let waiting = self.gate.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            self.gate.most.fetch_max(waiting, Ordering::Relaxed);
            self.gate.open.acquire().await.unwrap().forget();
            self.gate.waiting.fetch_sub(1, Ordering::Relaxed);
            self.inner.put_part(part).await
        })
    }

    fn finish<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<PutOutcome>> {
        self.inner.finish(whole)
    }

    fn abort(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.abort()
    }
}

impl ObjectStore for Slow {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>> {
        self.inner.list(prefix, delimiter, page)
    }

    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.inner.get(key, size_max_bytes)
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        self.inner.get_range(key, range)
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        self.inner.put(key, body)
    }

    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        self.inner.put_if_absent(key, body)
    }

    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>> {
        self.inner.put_file(key, path)
    }

    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            let inner = self.inner.begin_upload(key).await?;
            let upload: Box<dyn Upload> =
                Box::new(SlowUpload { inner, gate: Arc::clone(&self.gate) });
            Ok(upload)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        self.inner.delete(key)
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>> {
        self.inner.head(key)
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>> {
        self.inner.abort_stale_uploads(prefix, before_ms)
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_its_store_and_parts_go_while_it_works() {
    const PART_BYTES: usize = 1_000;
    let gate = Arc::new(Gate {
        open: Semaphore::new(0),
        waiting: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let store: SharedStore =
        Arc::new(Slow { inner: MemoryStore::new("slow", environment()), gate: Arc::clone(&gate) });
    let mut writer = ObjectWriter::new(Arc::clone(&store), "a").with_part_bytes(PART_BYTES);
    let part = |number: usize| Bytes::from(vec![number.to_le_bytes()[0]; PART_BYTES]);
    // One part is in the buffer, the others are on their way.
    for number in 0..=PARTS_IN_FLIGHT_MAX {
        writer.write(part(number)).await.unwrap();
    }
    let wait = Duration::from_secs(1);
    let stuck = tokio::time::timeout(wait, writer.write(part(PARTS_IN_FLIGHT_MAX + 1))).await;
    assert!(stuck.is_err(), "no further part is taken");
    assert_eq!(gate.waiting.load(Ordering::Relaxed), PARTS_IN_FLIGHT_MAX);
    drop(writer);

    let mut writer = ObjectWriter::new(Arc::clone(&store), "a").with_part_bytes(PART_BYTES);
    for number in 0..=PARTS_IN_FLIGHT_MAX {
        writer.write(part(number)).await.unwrap();
    }
    // Nobody polls the writer, and its parts arrive.
    gate.open.add_permits(1_000);
    tokio::time::sleep(wait).await;
    assert_eq!(
        gate.waiting.load(Ordering::Relaxed),
        PARTS_IN_FLIGHT_MAX,
        "those that were given up"
    );
    for number in PARTS_IN_FLIGHT_MAX + 1..100 {
        writer.write(part(number)).await.unwrap();
    }
    let outcome = writer.finish().await.unwrap();
    assert_eq!(outcome.size_bytes, 100 * PART_BYTES as u64);
    assert!(gate.most.load(Ordering::Relaxed) <= 2 * PARTS_IN_FLIGHT_MAX);
    let found = store.get("a", 1 << 20).await.unwrap();
    let expected: Vec<u8> = (0..100).flat_map(part).collect();
    assert!(found == expected, "parts are joined in their order");
}
