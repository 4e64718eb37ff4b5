//! An answer from rows to bytes: 1,000 series of 250 points over HTTP, without a socket.
#![expect(clippy::unwrap_used, reason = "a bench that cannot begin should say so")]

use std::hint::black_box;
use std::sync::Arc;

use axum::body::Body;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::BodyExt as _;
use model::Labels;
use querier::{Config, Querier};
use storeapi::StoreSeries;
use storeapi::memory::MemoryStore;
use storeapi::store::{AggrChunk, Chunk, ChunkEncoding};
use tower::ServiceExt as _;
use tsdb_core::chunk::xor::Appender;

const SERIES: u32 = 1000;
const POINTS: u32 = 250;
const STEP_MS: i64 = 15_000;

fn store() -> MemoryStore {
    let one = |index: u32| {
        let mut appender = Appender::new();
        for point in 0..POINTS {
            let _ = appender.append(i64::from(point) * STEP_MS, f64::from(point * index) * 0.1);
        }
        let instance = format!("10.0.0.{index}:9100");
        let pairs = [("__name__", "node_load1"), ("instance", &instance), ("job", "node")];
        let data = appender.to_bytes().into();
        let chunk = AggrChunk {
            min_time_ms: 0,
            max_time_ms: i64::from(POINTS - 1) * STEP_MS,
            raw: Some(Chunk { encoding: ChunkEncoding::Xor, data }),
            ..AggrChunk::default()
        };
        StoreSeries { labels: Labels::from_pairs(pairs).unwrap(), chunks: vec![chunk] }
    };
    MemoryStore::new("memory", Labels::empty(), (0..SERIES).map(one).collect())
}

fn range_query(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut config: Config = daemon::config_of::<Querier>(&[]).unwrap();
    config.local_stores = vec![Arc::new(store())];
    let context = daemon::Context::of_this_machine("query").unwrap();
    let router = runtime.block_on(querier::router(&config, &context)).unwrap();
    let end = i64::from(POINTS - 1) * STEP_MS / 1000;
    let target = format!("/api/v1/query_range?query=node_load1&start=0&end={end}&step=15");
    let mut group = criterion.benchmark_group("query_range");
    group.throughput(Throughput::Elements(u64::from(SERIES * POINTS)));
    group.bench_function("1000 series, 250 points", |bencher| {
        bencher.iter(|| {
            let request = http::Request::get(&target).body(Body::empty()).unwrap();
            let answer = runtime.block_on(async {
                let response = router.clone().oneshot(request).await.unwrap();
                response.into_body().collect().await.unwrap().to_bytes()
            });
            black_box(answer)
        });
    });
    group.finish();
}

criterion_group!(benches, range_query);
criterion_main!(benches);
