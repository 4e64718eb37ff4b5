//! The StoreAPI over gRPC: the conformance suite over data that lies in head and blocks.

use model::Labels;
use storeapi::Store as _;
use storeapi::conformance::{Held, check};
use testkit::remote_write::TimeSeries;

use crate::world::World;

const START_MS: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_and_blocks_of_two_tenants_pass_the_conformance_suite() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--tsdb.min-block-duration=1m", "--tsdb.max-block-duration=1m"];
    let world = World::start(directory.path(), START_MS, &flags).await;
    let mut held = Vec::new();
    for tenant in ["default-tenant", "team-a"] {
        let mut series = Vec::new();
        for index in 0..12_usize {
            // Names around the external labels, so that adding these changes the order.
            let name = ["a", "k", "receive_a", "s", "tenant_z", "z"][index % 6];
            let value = format!("v{}", index / 6);
            let labels = [("__name__", "up"), (name, &*value), ("job", "x")];
            let times: Vec<i64> = (0..40).map(|it| START_MS + it * 5000).collect();
            let samples: Vec<(i64, f64)> = times.iter().map(|it| (*it, index as f64)).collect();
            series.push((TimeSeries::new(&labels, &[]), samples));
            let external = [("receive", "r0"), ("tenant_id", tenant)];
            let labels = Labels::from_pairs(labels.into_iter().chain(external)).unwrap();
            held.push(Held { labels, timestamps_ms: times });
        }
        // A scrape at a time, as senders do.
        for at in 0..40 {
            let scrape: Vec<TimeSeries> = series
                .iter()
                .map(|(series, samples)| TimeSeries {
                    labels: series.labels.clone(),
                    samples: vec![samples[at]],
                })
                .collect();
            world.clock.set(START_MS + 5000 * i64::try_from(at).unwrap());
            let answer = world.write(tenant, &scrape).await;
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
    }
    let blocks = || std::fs::read_dir(directory.path().join("team-a")).map_or(0, Iterator::count);
    for _ in 0..200 {
        if blocks() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(blocks() >= 2, "blocks were cut while the head went on");
    let store = world.store();
    store.refresh(std::time::Duration::from_secs(10)).await.unwrap();
    let external = Labels::from_pairs([("receive", "r0"), ("tenant_id", "team-a")]).unwrap();
    check(&store, &held, &external).await;
    let info = store.info();
    assert_eq!(info.component, "receive");
    assert_eq!((info.max_time_ms, info.tsdbs.len()), (i64::MAX, 2));
    world.stop().await;
}
