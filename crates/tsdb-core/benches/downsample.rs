//! Downsampling of raw samples to windows of 5 minutes and of an hour in one pass (target P11).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::{Encoding, xor::Appender};
use tsdb_core::downsample::{Downsampled, Downsampler, Targets};

/// A block of 48 hours with a sample every 15 seconds.
const SAMPLES: i64 = 48 * 3600 / 15;
const SAMPLES_PER_CHUNK: i64 = 120;

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

fn chunks(shape: fn(i64) -> (i64, f64)) -> Vec<ChunkData> {
    let starts = (0..SAMPLES / SAMPLES_PER_CHUNK).map(|it| it * SAMPLES_PER_CHUNK);
    starts.map(|start| chunk(shape, start)).collect()
}

fn chunk(shape: fn(i64) -> (i64, f64), start: i64) -> ChunkData {
    let mut appender = Appender::new();
    let mut times = Vec::new();
    for (at, value) in (start..start + SAMPLES_PER_CHUNK).map(shape) {
        times.push(at + 1_756_684_800_000);
        let _fits = appender.append(at + 1_756_684_800_000, value);
    }
    ChunkData {
        encoding: Encoding::Xor,
        min_time_ms: times.first().copied().unwrap_or_default(),
        max_time_ms: times.last().copied().unwrap_or_default(),
        data: appender.to_bytes().into(),
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("downsample");
    group.throughput(Throughput::Elements(SAMPLES.unsigned_abs()));
    for (name, shape) in SHAPES {
        let chunks = chunks(shape);
        for (wanted, one_hour) in [("5m", false), ("5m and 1h", true)] {
            let mut downsampler = Downsampler::new(Targets { five_minutes: true, one_hour });
            let mut out = Downsampled::default();
            group.bench_function(format!("{wanted}/{name}"), |bencher| {
                bencher.iter(|| {
                    out.five_minutes.clear();
                    out.one_hour.clear();
                    let done = downsampler.raw(black_box(&chunks), &mut out);
                    done.map_err(|it| it.to_string())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
