//! Cutting 20,000 series with 24 samples each out of the head into a block.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

#[path = "load/scrapes.rs"]
mod scrapes;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::Tenant;
use tempfile::TempDir;
use tsdb_core::db::Engine;

use crate::scrapes::{SERIES, engine, raw_labels, scrape};

/// Samples of each series.
const SAMPLES: i64 = 24;
const START_MS: i64 = 1_700_000_000_000;

fn filled_engine(labels: &[Vec<u8>]) -> (TempDir, Engine) {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path().to_owned());
    for number in 0..SAMPLES {
        scrape(&engine, &Tenant::default(), labels, START_MS + number * 15_000);
        engine.commit_pending().unwrap();
    }
    (directory, engine)
}

fn cut(criterion: &mut Criterion) {
    // Not in the order of their labels, as series come from many targets.
    let mut labels: Vec<Vec<u8>> = (0..SERIES).map(raw_labels).collect();
    labels.sort_by_key(|it| {
        it.iter().fold(0_u64, |hash, byte| hash * 31 % 65_537 + u64::from(*byte))
    });
    let mut group = criterion.benchmark_group("cut");
    group.throughput(Throughput::Elements(SERIES as u64)).sample_size(10);
    group.bench_function("head_to_block", |bencher| {
        bencher.iter_batched_ref(
            || filled_engine(&labels),
            |(_, engine)| {
                let report = engine.cut_all(START_MS + SAMPLES * 15_000, &mut || 7);
                assert_eq!((report.blocks.len(), report.failures.len()), (1, 0));
                black_box(report.blocks[0].meta.stats.num_series)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, cut);
criterion_main!(benches);
