//! Writing the index of a block of 20,000 series with ten labels each.

use std::collections::BTreeSet;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::{Budget, Labels};
use tsdb_core::fs::disk::Disk;
use tsdb_core::index::{ChunkMeta, Writer};

const SERIES: u64 = 20_000;

fn series() -> Vec<Labels> {
    let one = |at: u64| {
        let pairs = [
            ("__name__", format!("metric_{}", at % 200)),
            ("cluster", "eu-1".to_owned()),
            ("container", format!("container-{}", at % 7)),
            ("endpoint", "http".to_owned()),
            ("instance", format!("10.0.{}.{}:9100", at / 200 % 50, at / 10_000)),
            ("job", format!("job-{}", at % 13)),
            ("namespace", format!("namespace-{}", at % 31)),
            ("node", format!("node-{}", at / 200)),
            ("pod", format!("pod-{at}")),
            ("service", "kubelet".to_owned()),
        ];
        Labels::from_sorted(pairs.iter().map(|(name, value)| (*name, value.as_str())))
    };
    let mut all: Vec<Labels> = (0..SERIES).map(one).collect();
    all.sort();
    all
}

fn write(series: &[Labels], symbols: &[&str], home: &std::path::Path) -> tsdb_core::Result<u64> {
    let budget = Budget::unlimited();
    let mut writer = Writer::create(&Disk, &home.join("index"), symbols, &budget)?;
    for (at, labels) in (0_u64..).zip(series) {
        let chunks = [ChunkMeta { reference: 8 + at * 400, min_time_ms: 0, max_time_ms: 1000 }];
        writer.add_series(labels, &chunks)?;
    }
    writer.finish().map(|it| it.size_bytes)
}

fn bench(criterion: &mut Criterion) {
    let series = series();
    let symbols: BTreeSet<&str> =
        series.iter().flat_map(Labels::iter).flat_map(|it| [it.0, it.1]).collect();
    let symbols: Vec<&str> = symbols.into_iter().collect();
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(SERIES)).sample_size(10);
    group.bench_function("write", |bencher| {
        bencher.iter_batched(
            tempfile::tempdir,
            |home| home.map(|home| write(&series, &symbols, home.path()).map(|it| (it, home))),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
