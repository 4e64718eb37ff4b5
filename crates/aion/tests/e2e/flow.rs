//! Samples travel from Prometheus through receiver, bucket and store gateway to the querier.

use std::path::Path;
use std::time::Duration;

use testkit::prometheus::Prometheus;
use testkit::query_api::{instant, metrics};
use testkit::weed::Weed;

use crate::blocks;
use crate::cluster::{Cluster, ReceiverAt, Serving, filesystem_bucket, now_ms};
use crate::queries::{Window, compare_all};

/// How long blocks are. A block is cut half of that after its end.
const BLOCK_S: u32 = 60;
/// Until the first block is cut, shipped and found: one and a half blocks, 30 s to the next upload,
/// and what a busy machine takes.
const FIRST_BLOCK_MAX: Duration = Duration::from_secs(240);
/// How many scrapes there are at least, a second apart, when queries are compared.
const SCRAPES_MIN: usize = 110;
/// What the longest window looks back from the first evaluation.
const LEAD_MS: i64 = 45_000;

#[test]
fn samples_come_back_through_a_bucket_in_the_filesystem() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = dir.path().join("bucket");
    travel(dir.path(), filesystem_bucket(&bucket));
    blocks::check_with_promtool(&bucket, dir.path());
}

#[test]
fn samples_come_back_through_a_bucket_in_s3() {
    let weed = Weed::start("aion");
    let dir = tempfile::tempdir().unwrap();
    travel(dir.path(), weed.objstore_yaml());
}

/// Sends a real Prometheus' samples through a cluster with two replicas of the receiver and
/// compares the answers: first with the receivers still there, then from the bucket alone, then
/// after the replicas' blocks were compacted into one and deleted.
fn travel(dir: &Path, objstore: String) {
    let cluster = Cluster { dir: dir.to_owned(), objstore };
    let replicas = ["r1", "r2"].map(ReceiverAt::new);
    let receivers = replicas.each_ref().map(|it| cluster.receiver(it, BLOCK_S));
    let mut prometheus = Prometheus::start(dir, &replicas.each_ref().map(ReceiverAt::write_url), 1);
    let mut store = cluster.store();
    let whole = cluster.querier("query", &[replicas[0].grpc, replicas[1].grpc, store.grpc]);
    let mut bucket_only = cluster.querier("query-bucket", &[store.grpc]);

    let address = bucket_only.http;
    bucket_only.peer.wait_until("a block comes through the bucket", FIRST_BLOCK_MAX, || {
        instant(address, "count_over_time(up[10m])", now_ms()).is_ok_and(|it| it.samples() > 0)
    });
    let window = window(&mut prometheus);
    let compared = compare_all(prometheus.address(), whole.http, window);
    assert!(compared > 1_000, "only {compared} samples were compared");

    for receiver in receivers {
        receiver.terminate(Duration::from_secs(60));
    }
    wait_for_last(&mut bucket_only, &prometheus, window);
    assert_eq!(compare_all(prometheus.address(), bucket_only.http, window), compared);

    compact(&cluster, &mut store);
    assert_eq!(compare_all(prometheus.address(), bucket_only.http, window), compared);
    drop(whole);
}

/// Makes one block of every pair of replicas and waits until the gateway has only those.
fn compact(cluster: &Cluster, store: &mut Serving) {
    let http = store.http;
    let loaded = || metrics(http, "thanos_bucket_store_blocks_loaded").into_iter().sum::<f64>();
    let before = loaded();
    assert!(before >= 4.0 && before % 2.0 == 0.0, "{before} blocks of two replicas");
    cluster.compact();
    // The second one deletes what the first one marked.
    cluster.compact();
    store.peer.wait_until("the compacted blocks are alone", Duration::from_secs(60), || {
        loaded() <= before / 2.0
    });
}

/// Between the first scrape and the last that the receiver has acked.
fn window(prometheus: &mut Prometheus) -> Window {
    let address = prometheus.address();
    prometheus.peer().wait_until("there are enough scrapes", FIRST_BLOCK_MAX, || {
        let count = instant(address, "count_over_time(up[1h])", now_ms());
        let count = count.ok().and_then(|it| it.series.into_values().flatten().next());
        count.is_some_and(|(_, count)| count.parse::<usize>().is_ok_and(|it| it >= SCRAPES_MIN))
    });
    let scrapes = instant(prometheus.address(), "up[1h]", now_ms()).unwrap();
    let points = scrapes.series.values().next().unwrap();
    let (first_ms, last_ms) = (points.first().unwrap().0, points.last().unwrap().0);
    // With a later scrape acked, all of the last one is.
    prometheus.wait_acked(last_ms + 999, Duration::from_secs(30));
    Window::between(first_ms, last_ms, LEAD_MS)
}

/// Waits until the bucket holds every scrape of the window, and the querier knows how far the
/// store reaches: it learns that a few seconds later, and asks no store about other times.
fn wait_for_last(bucket_only: &mut Serving, prometheus: &Prometheus, window: Window) {
    let count = |address, range: &str| {
        let query = format!("count_over_time(up[{range}])");
        let rows = instant(address, &query, window.end_ms + 1000);
        rows.ok().and_then(|it| it.series.into_values().next())
    };
    let ours = bucket_only.http;
    for range in ["1h", "2s"] {
        let wanted = count(prometheus.address(), range);
        assert!(wanted.is_some());
        let what = format!("the bucket holds the last {range}");
        bucket_only
            .peer
            .wait_until(&what, Duration::from_secs(90), || count(ours, range) == wanted);
    }
}
