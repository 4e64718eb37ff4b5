//! Encoding and decoding of chunks of native histograms, and of merged series.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::histogram::{FloatHistogram, Histogram, Span};
use model::{Columns, Histogram as Integer};
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::{Encoding, SeriesToChunks, Timed, Value, decode};

const SAMPLES: usize = 120;

/// A latency histogram at sample `at`: 40 buckets in three spans, of which ten grow.
fn histogram(at: i64) -> Histogram {
    let span = |offset, length| Span { offset, length };
    let mut before = 0;
    let deltas = (0..40).map(|bucket| {
        let count = 3 + at * (bucket % 4) / 3 + (at * bucket) % 5;
        count - std::mem::replace(&mut before, count)
    });
    Histogram {
        schema: 3,
        zero_threshold: 0.001,
        zero_count: at.cast_unsigned(),
        count: (1000 + 60 * at).cast_unsigned(),
        sum: f64::from(i32::try_from(at).unwrap_or_default()) * 1.25,
        positive_spans: vec![span(-4, 10), span(2, 20), span(3, 10)],
        positive_deltas: deltas.collect(),
        ..Integer::default()
    }
}

fn samples(value: impl Fn(Histogram) -> Value) -> Vec<Timed> {
    let times = (0..).zip(std::iter::repeat_n((), SAMPLES));
    let sample = |(at, ())| Timed {
        timestamp_ms: 1_756_684_800_000 + 15_000 * at,
        value: value(histogram(at)),
    };
    times.map(sample).collect()
}

fn encode(encoder: &mut SeriesToChunks, samples: &[Timed]) -> Vec<ChunkData> {
    let mut chunks = Vec::new();
    for sample in samples {
        encoder.push(sample);
    }
    encoder.finish(&mut chunks);
    chunks
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("histograms");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    let integers = samples(|it| Value::Histogram(Box::new(it)));
    let floats =
        samples(|it: Histogram| Value::FloatHistogram(Box::<FloatHistogram>::new(it.to_float())));
    let mut encoder = SeriesToChunks::new();
    for (name, encoding, samples) in
        [("integer", Encoding::Histogram, &integers), ("float", Encoding::FloatHistogram, &floats)]
    {
        group.bench_function(format!("encode/{name}"), |bencher| {
            bencher.iter(|| encode(&mut encoder, black_box(samples)));
        });
        let chunks = encode(&mut encoder, samples);
        let mut columns = Columns::default();
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter(|| {
                columns.clear();
                let decoded = chunks
                    .iter()
                    .try_for_each(|it| decode(encoding, black_box(&it.data), &mut columns));
                decoded.map_err(|it| it.to_string())
            });
        });
    }
    group.bench_function("merge/floats", |bencher| {
        bencher.iter(|| {
            let mut chunks = Vec::new();
            for at in 0..SAMPLES {
                let count = f64::from(u32::try_from(at * 37).unwrap_or_default());
                encoder.push_float(15_000 * i64::try_from(at).unwrap_or_default(), count);
            }
            encoder.finish(&mut chunks);
            chunks
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
