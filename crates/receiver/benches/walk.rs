//! A write request from its bytes: snappy, the walk, and both.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::Budget;
use receiver::decode::{declared_bytes, decompress, walk};
use testkit::remote_write::{compress, push_series};
use testkit::workload::Workload;

/// Series of a request, as Prometheus sends them by default.
const SERIES: usize = 2_000;
const BYTES_MAX: u64 = 32 << 20;

fn write_request_walk(criterion: &mut Criterion) {
    let workload = Workload::new(7, SERIES);
    let mut request = Vec::new();
    for series in 0..SERIES {
        let sample = workload.sample(series, 3, 1_700_000_000_000);
        push_series(&mut request, &workload.encoded_labels(series), &[sample]);
    }
    let body = compress(&request);
    let mut group = criterion.benchmark_group("write_request_walk");
    group.throughput(Throughput::Elements(SERIES as u64));
    let budget = Budget::unlimited();
    group.bench_function("walk", |bencher| {
        bencher.iter(|| {
            let mut held = budget.reserve(0).unwrap();
            black_box(walk(black_box(&request), &mut held).unwrap().samples.len())
        });
    });
    group.bench_function("decompress_and_walk", |bencher| {
        bencher.iter(|| {
            let declared = declared_bytes(black_box(&body), BYTES_MAX).unwrap();
            let mut held = budget.reserve(declared).unwrap();
            let unpacked = decompress(&body, declared).unwrap();
            black_box(walk(&unpacked, &mut held).unwrap().samples.len())
        });
    });
    group.finish();
}

criterion_group!(benches, write_request_walk);
criterion_main!(benches);
