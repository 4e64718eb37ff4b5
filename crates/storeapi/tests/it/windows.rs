//! Answers that nobody reads hold up no other call over the same connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::StreamExt as _;
use model::{Budget, Labels, Matcher, TimeRange};
use storeapi::memory::MemoryStore;
use storeapi::request::SeriesRequest;
use storeapi::store::{SeriesFrame, StoreSeries};
use storeapi::{ClientConfig, RemoteStore, Store};

use crate::grpc::serve_by;
use crate::stores::{chunk, labels};

/// Series of one answer, each of [`CHUNK_BYTES`].
const SERIES: usize = 64;
const CHUNK_BYTES: usize = 256 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_answers_hold_up_no_other() {
    let content = "x".repeat(CHUNK_BYTES);
    let series = (0..SERIES).map(|index| {
        let labels = labels(&[("__name__", "large"), ("number", &format!("{index:03}"))]);
        StoreSeries { labels, chunks: vec![chunk(0, 1, &content)] }
    });
    let store = MemoryStore::new("large", Labels::empty(), series.collect());
    let builder = tonic::transport::Server::builder();
    let (address, _health) = serve_by(builder, Arc::new(store)).await;
    let remote = RemoteStore::new(ClientConfig::new(&address)).unwrap();
    let matchers = vec![Matcher::equal("__name__", "large")];
    let request = SeriesRequest::new(TimeRange::ALL, matchers);
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(remote.series(request.clone(), Budget::unlimited()).await.unwrap());
    }
    // As much as the connection takes of the answers arrives.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (patience, mut count) = (Duration::from_secs(20), 0);
    let read = async {
        let mut frames = remote.series(request, Budget::unlimited()).await.unwrap();
        while let Some(frame) = frames.next().await {
            let SeriesFrame::Batch(batch) = frame.unwrap() else { panic!("a warning") };
            count += batch.len();
        }
    };
    tokio::time::timeout(patience, read).await.unwrap();
    assert_eq!(count, SERIES);
    remote.refresh(patience).await.unwrap();
    drop(unread);
}
