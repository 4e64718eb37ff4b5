//! Encoding and decoding of float chunks of 120 samples (target P1 and its like).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::Columns;
use tsdb_core::chunk::xor::{self, Appender};

const SAMPLES: usize = 120;

/// Shapes of series: name, and the sample at an index.
type Shape = (&'static str, fn(i64) -> (i64, f64));

const SHAPES: [Shape; 4] = [
    ("counter, exact 15 s", |at| (at * 15_000, float(at * 37 + at % 5))),
    ("counter, jitter", |at| (at * 15_000 + at * 7919 % 11 - 5, float(at * 37 + at % 5))),
    ("gauge, two decimals", |at| (at * 15_000, float(at * 7919 % 10_007) / 100.0)),
    ("constant", |at| (at * 15_000, 42.0)),
];

fn float(value: i64) -> f64 {
    f64::from(i32::try_from(value).unwrap_or(i32::MAX))
}

fn samples(shape: fn(i64) -> (i64, f64)) -> Vec<(i64, f64)> {
    (0..120).map(shape).map(|(at, value)| (at + 1_756_684_800_000, value)).collect()
}

fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut chunk = Appender::new();
    for (timestamp_ms, value) in samples {
        let _fits = chunk.append(*timestamp_ms, *value);
    }
    chunk.to_bytes()
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("xor");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    for (name, shape) in SHAPES {
        let samples = samples(shape);
        group.bench_function(format!("encode/{name}"), |bencher| {
            bencher.iter(|| encode(black_box(&samples)));
        });
        let bytes = encode(&samples);
        let mut columns = Columns::default();
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter(|| {
                columns.clear();
                xor::decode(black_box(&bytes), &mut columns).map_err(|it| it.to_string())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
