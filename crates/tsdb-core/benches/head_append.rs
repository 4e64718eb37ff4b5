//! Remote-write requests into the head: known series, new series, and the whole with its log.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

#[path = "load/scrapes.rs"]
mod scrapes;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::Tenant;

use crate::scrapes::{SERIES, engine, raw_labels, scrape};

fn head_append(criterion: &mut Criterion) {
    let labels: Vec<Vec<u8>> = (0..SERIES).map(raw_labels).collect();
    let tenant = Tenant::default();
    let mut group = criterion.benchmark_group("head_append");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.sample_size(10);
    let directory = tempfile::tempdir().unwrap();
    let engine_of_known = engine(directory.path().to_owned());
    let mut timestamp_ms = 1_700_000_000_000;
    scrape(&engine_of_known, &tenant, &labels, timestamp_ms);
    group.bench_function("known_series", |bencher| {
        bencher.iter_batched(
            || engine_of_known.commit_pending().unwrap(),
            |_| {
                timestamp_ms += 15_000;
                black_box(scrape(&engine_of_known, &tenant, &labels, timestamp_ms))
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("known_series_with_sync", |bencher| {
        bencher.iter(|| {
            timestamp_ms += 15_000;
            let accepted = scrape(&engine_of_known, &tenant, &labels, timestamp_ms);
            black_box(engine_of_known.commit_pending().unwrap());
            accepted
        });
    });
    group.bench_function("new_series", |bencher| {
        bencher.iter_batched_ref(
            || {
                let directory = tempfile::tempdir().unwrap();
                let engine = engine(directory.path().to_owned());
                (directory, engine)
            },
            |(_, engine)| black_box(scrape(engine, &tenant, &labels, 1_700_000_000_000)),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("new_series_with_sync", |bencher| {
        bencher.iter_batched_ref(
            || {
                let directory = tempfile::tempdir().unwrap();
                let engine = engine(directory.path().to_owned());
                (directory, engine)
            },
            |(_, engine)| {
                let accepted = scrape(engine, &tenant, &labels, 1_700_000_000_000);
                black_box(engine.commit_pending().unwrap());
                accepted
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, head_append);
criterion_main!(benches);
