//! The receiver is killed while Prometheus writes: what was acked is there, once.

use std::thread;
use std::time::Duration;

use testkit::prometheus::Prometheus;
use testkit::query_api::{Rows, instant};

use crate::cluster::{ADDED_LABELS, Cluster, ReceiverAt, filesystem_bucket, now_ms};
use crate::queries::difference;

/// Long enough for one block to be cut between the kills.
const BLOCK_S: u32 = 30;
const KILLS: usize = 4;
/// The raw samples of every series, further back than the test lasts.
const EVERYTHING: &str = "{__name__=~\".+\"}[20m]";

#[test]
fn acked_samples_survive_a_kill_once() {
    let dir = tempfile::tempdir().unwrap();
    let objstore = filesystem_bucket(&dir.path().join("bucket"));
    let cluster = Cluster { dir: dir.path().to_owned(), objstore };
    let at = ReceiverAt::new("r1");
    let mut receiver = cluster.receiver(&at, BLOCK_S);
    let mut prometheus = Prometheus::start(dir.path(), &[at.write_url()], 1);
    let mut querier = cluster.querier("query", &[at.grpc]);

    for kill in 0..KILLS {
        // Not in step with scrapes or batches, and not always at the same phase.
        let pause_ms = 12_000 + u64::try_from(kill).unwrap() * 337;
        thread::sleep(Duration::from_millis(pause_ms));
        receiver.kill();
        let acked_ms = prometheus.acked_up_to_ms().unwrap();
        assert!(acked_ms > 0, "nothing was acked before kill {kill}");
        thread::sleep(Duration::from_secs(1));
        receiver = cluster.receiver(&at, BLOCK_S);
        let address = querier.http;
        querier.peer.wait_until("it sees the receiver again", Duration::from_secs(60), || {
            instant(address, "count(up)", acked_ms).is_ok_and(|it| it.samples() > 0)
        });
        // The scrape that was sent last may be acked in part.
        compare_raw(&prometheus, address, acked_ms - 1);
    }

    let end_ms = now_ms();
    prometheus.wait_acked(end_ms, Duration::from_secs(60));
    let compared = compare_raw(&prometheus, querier.http, end_ms);
    assert!(compared > 10_000, "only {compared} samples were compared");
    let lost = prometheus.lost_samples();
    assert!(lost == 0.0, "Prometheus gave up on {lost} samples");
    drop(receiver);
}

/// Compares every sample up to a time; gives their number.
fn compare_raw(prometheus: &Prometheus, ours: std::net::SocketAddr, end_ms: i64) -> usize {
    let expected = instant(prometheus.address(), EVERYTHING, end_ms).unwrap();
    let got = instant(ours, EVERYTHING, end_ms).unwrap().without(ADDED_LABELS);
    for (labels, points) in &got.series {
        let rising = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(rising, "a time is there twice in {labels:?}");
    }
    assert!(got.warnings.is_empty(), "{:?}", got.warnings);
    let differs = difference(&expected, &got, false);
    assert!(differs.is_none(), "up to {end_ms}: {}", differs.unwrap_or_default());
    samples_without_nan(&expected)
}

fn samples_without_nan(rows: &Rows) -> usize {
    rows.series.values().flatten().filter(|(_, value)| value != "NaN").count()
}
