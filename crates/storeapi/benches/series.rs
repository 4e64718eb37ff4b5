//! Series on their way: written, read, merged. Throughput is in samples (120 a chunk).

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::stream::{self, StreamExt as _};
use model::{Budget, Labels};
use std::hint::black_box;
use storeapi::frame::SeriesResponse;
use storeapi::merge::{MergeOptions, Source, merge};
use storeapi::request::PartialResponse;
use storeapi::store::{AggrChunk, Chunk, ChunkEncoding, SeriesFrame, StoreSeries};

const SERIES: usize = 1024;
const CHUNKS: i64 = 16;
const SAMPLES_PER_CHUNK: u64 = 120;

fn batches() -> Vec<Vec<StoreSeries>> {
    let one = |index: usize| {
        let instance = format!("10.0.{}.{}:9100", index / 256, index % 256);
        let pairs = [
            ("__name__", "http_requests_total"),
            ("cluster", "eu-west-1"),
            ("code", "200"),
            ("handler", "/api/v1/query_range"),
            ("instance", &instance),
            ("job", "api"),
            ("method", "GET"),
            ("namespace", "monitoring"),
        ];
        let chunk = |at: i64| {
            let data = Bytes::from(vec![0x5a; 160]);
            let raw = Some(Chunk { encoding: ChunkEncoding::Xor, data });
            let min_time_ms = 1_700_000_000_000 + at * 1_800_000;
            let max_time_ms = min_time_ms + 1_785_000;
            AggrChunk { min_time_ms, max_time_ms, raw, ..AggrChunk::default() }
        };
        let labels = Labels::from_pairs(pairs).unwrap_or_default();
        StoreSeries { labels, chunks: (0..CHUNKS).map(chunk).collect() }
    };
    let mut all: Vec<StoreSeries> = (0..SERIES).map(one).collect();
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all.chunks(64).map(<[StoreSeries]>::to_vec).collect()
}

fn samples() -> Throughput {
    let chunks = u64::try_from(SERIES).unwrap_or(0) * CHUNKS.cast_unsigned();
    Throughput::Elements(chunks * SAMPLES_PER_CHUNK)
}

fn wire(criterion: &mut Criterion) {
    let responses: Vec<SeriesResponse> =
        batches().into_iter().map(|it| SeriesResponse::Frame(SeriesFrame::Batch(it))).collect();
    let mut group = criterion.benchmark_group("series");
    group.throughput(samples());
    group.bench_function("encode", |bencher| {
        let mut out = BytesMut::new();
        bencher.iter(|| {
            for response in &responses {
                out.clear();
                response.encode(&mut out, |out, length| out.reserve(length));
                black_box(&out);
            }
        });
    });
    let messages: Vec<Bytes> = responses
        .iter()
        .map(|response| {
            let mut out = BytesMut::new();
            response.encode(&mut out, |out, length| out.reserve(length));
            out.freeze()
        })
        .collect();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for message in &messages {
                let _ = black_box(SeriesResponse::decode(message));
            }
        });
    });
    group.finish();
}

fn merging(criterion: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    let batches = batches();
    let mut group = criterion.benchmark_group("series");
    group.throughput(samples());
    for count in [1, 2, 8] {
        group.bench_function(format!("merge {count} equal streams"), |bencher| {
            let sources = || -> Vec<Source> {
                let source = |index: usize| Source {
                    name: index.to_string(),
                    frames: stream::iter(batches.clone())
                        .map(|it| Ok(SeriesFrame::Batch(it)))
                        .boxed(),
                };
                (0..count).map(source).collect()
            };
            let options =
                MergeOptions { partial_response: PartialResponse::Abort, batch_size: 64, limit: 0 };
            bencher.iter_batched(
                sources,
                |sources| {
                    let merged = merge(sources, options, &Budget::unlimited());
                    runtime.block_on(merged.for_each(|frame| {
                        let _ = black_box(frame);
                        std::future::ready(())
                    }));
                },
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, wire, merging);
criterion_main!(benches);
