//! The gateway from its start to its end, while the bucket changes and fails.

use std::path::Path;
use std::time::Duration;

use model::{Budget, Matcher, TimeRange};
use storeapi::request::SeriesRequest;
use storeapi::{Error, conformance};
use testkit::golden;

use crate::gateway::Gateway;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_block_is_served_soon_after_its_meta_is_there() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let bucket = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(bucket.path(), &[]).await;
    let store = gateway.running.service().store();
    let request = SeriesRequest::new(TimeRange::ALL, vec![Matcher::equal("__name__", "up")]);
    let read = conformance::collect(&*store, request.clone()).await.unwrap();
    assert_eq!((read.series.len(), read.warnings.len()), (0, 0));
    let id = "01M83S5J9FRHH96S925FKTVTW9";
    copy(&shared.join("golden/storeapi/bucket").join(id), &bucket.path().join(id));
    let mut tries = 0;
    loop {
        let read = conformance::collect(&*store, request.clone()).await.unwrap();
        if read.series.len() == 2 {
            break;
        }
        tries += 1;
        assert!(tries < 300, "the block is not served: {:?}", read.warnings);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_cannot_be_reached_leaves_the_store_up_and_not_ready() {
    let objstore = "type: S3\nconfig:\n  bucket: none\n  endpoint: 127.0.0.1:1\n  \
                    insecure: true\n  access_key: a\n  secret_key: b\n  max_retries: 1\n";
    let gateway = Gateway::begin_with(objstore, &[]).await;
    let readiness = gateway.context.readiness.clone();
    let mut tries = 0;
    while !readiness.obstacles().join("").contains("the bucket:") {
        tries += 1;
        assert!(tries < 300, "{:?}", readiness.obstacles());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!readiness.is_part_ready());
    let store = gateway.running.service().store();
    let request = SeriesRequest::new(TimeRange::ALL, vec![Matcher::equal("__name__", "up")]);
    let answer = store.series(request, Budget::unlimited()).await;
    assert!(matches!(answer, Err(Error::Unavailable(_))), "nobody takes it for an empty bucket");
    gateway.stop().await;
}
