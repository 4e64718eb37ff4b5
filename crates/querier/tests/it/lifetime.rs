//! How a query ends: in time, too late, or because nobody waits for it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use model::Budget;
use storeapi::request::{LabelsRequest, LabelsResponse, SeriesRequest, StoreInfo};
use storeapi::store::{SeriesFrame, SeriesFrames};
use storeapi::{Error, Store};

use crate::world::{World, series};

/// Sends one series and then nothing, for ever; counts its open streams.
#[derive(Debug, Default)]
struct Hanging {
    open: Arc<AtomicUsize>,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Store for Hanging {
    fn name(&self) -> String {
        "hanging".to_owned()
    }

    fn info(&self) -> StoreInfo {
        StoreInfo { min_time_ms: i64::MIN, max_time_ms: i64::MAX, ..StoreInfo::default() }
    }

    fn series(
        &self,
        _request: SeriesRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<SeriesFrames, Error>> {
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&self.open));
        let batch = vec![series(&[("__name__", "up")], &[(1000, 1.0)])];
        let frames = stream::iter([Ok(SeriesFrame::Batch(batch))]).chain(stream::pending());
        let frames = frames.inspect(move |_| {
            let _kept_as_long_as_the_stream = &open;
        });
        async move { Ok(frames.boxed()) }.boxed()
    }

    fn label_names(
        &self,
        _request: LabelsRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        std::future::pending().boxed()
    }

    fn label_values(
        &self,
        _name: String,
        _request: LabelsRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        std::future::pending().boxed()
    }
}

async fn hanging(flags: &[&str]) -> (World, Arc<AtomicUsize>) {
    let store = Hanging::default();
    let open = Arc::clone(&store.open);
    (World::new(flags, vec![Arc::new(store)]).await, open)
}

async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_is_told_so_and_gives_its_place_back() {
    let (world, open) = hanging(&["--query.max-concurrent=1"]).await;
    for _ in 0..3 {
        let answer = world.get("/api/v1/query?query=sum(up)&time=1&timeout=0.2").await;
        assert_eq!(answer.status, 503);
        let json = answer.json();
        assert_eq!(json["errorType"], "timeout");
        assert_eq!(json["error"], "query timed out in query execution");
    }
    until(|| open.load(Ordering::SeqCst) == 0).await;
    let answer = world.get("/api/v1/query?query=up&time=1&timeout=0").await;
    assert_eq!(answer.status, 503);
    // A query that needs no store finds its place free.
    let answer = world.get("/api/v1/query?query=1&time=1&timeout=5").await;
    assert_eq!(answer.status, 200);
    let short = World::new(&["--query.timeout=200ms"], vec![Arc::new(Hanging::default())]).await;
    for target in ["/api/v1/labels", "/api/v1/label/a/values", "/api/v1/series?match[]=up"] {
        assert_eq!(short.get(target).await.status, 503, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_of_a_client_that_has_gone_ends() {
    let (world, open) = hanging(&["--query.max-concurrent=1"]).await;
    let query = world.get("/api/v1/query?query=sum(up)&time=1");
    let gone = tokio::time::timeout(Duration::from_millis(300), query).await;
    assert!(gone.is_err(), "the query ended by itself");
    until(|| open.load(Ordering::SeqCst) == 0).await;
    let answer = world.get("/api/v1/query?query=1&time=1&timeout=5").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_finds_no_place_is_told_so() {
    let (world, open) = hanging(&["--query.max-concurrent=1"]).await;
    let first = world.get("/api/v1/query?query=sum(up)&time=1&timeout=3");
    let second = async {
        until(|| open.load(Ordering::SeqCst) == 1).await;
        world.get("/api/v1/query?query=1&time=1&timeout=0.2").await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (503, 503));
    assert_eq!(second.json()["error"], "query timed out in query queue");
}
