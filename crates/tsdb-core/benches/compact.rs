//! Compaction of blocks in memory: six side by side, and two replicas on top of each other.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{BlockId, Budget, Labels};
use tsdb_core::Result;
use tsdb_core::block::{self, ChunkData, Meta};
use tsdb_core::chunk::{Encoding, xor};
use tsdb_core::compact::{Ignored, OneToOne, Options, Report, Target, compact, naming};
use tsdb_core::fs::disk::Disk;
use tsdb_core::stream::local::open_source;
use tsdb_core::stream::{Ranged, Scratch, Sink, SinkFile, Source};

const SERIES: usize = 10_000;
const SAMPLES: i64 = 480;
const CHUNK_SAMPLES: i64 = 120;
const STEP_MS: i64 = 15_000;
const RANGE_MS: i64 = 7_200_000;

/// A file in memory.
#[derive(Debug)]
struct Memory(Bytes);

impl Ranged for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(self.0.slice(at(range.start)..at(range.end)))
    }
}

/// Takes everything and keeps nothing.
#[derive(Debug)]
struct Nowhere;

impl Sink for Nowhere {
    fn create(&self, _path: &str) -> Result<Box<dyn SinkFile>> {
        Ok(Box::new(Nowhere))
    }
}

impl SinkFile for Nowhere {
    fn write(&mut self, _bytes: Bytes) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn labels() -> Vec<Labels> {
    let one = |at: usize| {
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

/// The chunks of a series: counters that grow by small steps, and every third a gauge.
fn chunks(series: usize, start_ms: i64, shift_ms: i64) -> Vec<ChunkData> {
    let mut state = series as u64 | 1;
    let mut value = 0.0;
    let mut chunks = Vec::new();
    for chunk in 0..SAMPLES / CHUNK_SAMPLES {
        let from = chunk * CHUNK_SAMPLES;
        let mut appender = xor::Appender::new();
        let time = |it: i64| start_ms + shift_ms + it * STEP_MS + i64::from(it % 7 == 0);
        for it in from..from + CHUNK_SAMPLES {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let step = (state >> 60) as f64;
            value = if series.is_multiple_of(3) { step / 8.0 } else { value + step };
            let _fits = appender.append(time(it), value);
        }
        chunks.push(ChunkData {
            encoding: Encoding::Xor,
            min_time_ms: time(from),
            max_time_ms: time(from + CHUNK_SAMPLES - 1),
            data: Bytes::from(appender.to_bytes()),
        });
    }
    chunks
}

/// A block of all series, in memory.
fn source(home: &Path, labels: &[Labels], number: u128, start_ms: i64, shift_ms: i64) -> Source {
    let id = BlockId::from_parts(1_700_000_000_000, number);
    let meta = Meta::of_head(id, start_ms, start_ms + RANGE_MS);
    let mut symbols: Vec<&str> =
        labels.iter().flatten().flat_map(|(name, value)| [name, value]).collect();
    symbols.sort_unstable();
    symbols.dedup();
    let budget = Budget::unlimited();
    let mut writer = block::Writer::create(&Disk, home, meta, &symbols, &budget).unwrap();
    for (series, labels) in labels.iter().enumerate() {
        writer.add_series(labels, &chunks(series, start_ms, shift_ms)).unwrap();
    }
    writer.finish().unwrap();
    let mut source = open_source(&Disk, &home.join(id.to_string())).unwrap();
    source.index = load(&*source.index);
    source.segments = source.segments.iter().map(|it| load(&**it)).collect();
    source
}

fn load(file: &dyn Ranged) -> Arc<dyn Ranged> {
    Arc::new(Memory(file.read(0..file.size_bytes()).unwrap()))
}

fn run(home: &Path, sources: &[Source]) -> Report {
    let metas: Vec<&Meta> = sources.iter().map(|it| &it.meta).collect();
    let meta = naming::meta_of(&metas, naming::output_id(&metas, "bench")).unwrap();
    let target = Target {
        sink: Arc::new(Nowhere),
        scratch: Scratch { fs: &Disk, directory: home, bytes_max: 1 << 30 },
        budget: &Budget::unlimited(),
        progress: &Ignored,
    };
    compact(sources, meta, &target, &Options::default(), &mut OneToOne::new()).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let home = tempfile::tempdir().unwrap();
    let labels = labels();
    let side_by_side: Vec<Source> = (0..6_u8)
        .map(|it| source(home.path(), &labels, it.into(), i64::from(it) * RANGE_MS, 0))
        .collect();
    let shifted =
        |it: u8| source(home.path(), &labels, 10 + u128::from(it), 0, 4_321 * i64::from(it));
    let replicas: Vec<Source> = (0..2).map(shifted).collect();
    let mut group = criterion.benchmark_group("compact");
    group.sample_size(10);
    for (name, sources) in [("side by side", &side_by_side), ("replicas", &replicas)] {
        let report = run(home.path(), sources);
        group.throughput(Throughput::Elements(report.balance.in_samples));
        group.bench_function(name, |bencher| bencher.iter(|| run(home.path(), sources)));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
