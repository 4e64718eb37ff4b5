//! How fast a vertical compaction of two replicas is: chunks in, chunks out.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::SeriesToChunks;
use tsdb_core::compact::{Balance, Merge, RunChunk};
use tsdb_core::dedup::penalty::PenaltyMerge;
use tsdb_core::dedup::phases::PhasesMerge;

const SAMPLES: i64 = 24 * 240;

/// A day of a counter that is scraped each 15 s, every 50th scrape somewhat late where it jitters.
fn replica(source: usize, offset_ms: i64, jitter: bool) -> Vec<RunChunk> {
    let mut encoder = SeriesToChunks::new();
    let (mut value, mut noise) = (0.0, 1_u64);
    for scrape in 0..SAMPLES {
        noise =
            noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value += f64::from(u8::try_from(noise >> 59).unwrap());
        let late = if jitter && scrape % 50 == 7 { 40 } else { 0 };
        encoder.push_float(1_700_000_000_000 + offset_ms + 15_000 * scrape + late, value);
    }
    let mut chunks: Vec<ChunkData> = Vec::new();
    encoder.finish(&mut chunks);
    chunks.into_iter().map(|chunk| RunChunk { source, chunk }).collect()
}

fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dedup");
    group.throughput(Throughput::Elements(2 * SAMPLES.unsigned_abs()));
    for (name, jitter) in [("exact", false), ("jitter", true)] {
        let mut run = [replica(0, 2_310, jitter), replica(1, 6_740, jitter)].concat();
        run.sort_by_key(|it| (it.chunk.min_time_ms, it.chunk.max_time_ms, it.source));
        let merges: [Box<dyn Merge>; 2] =
            [Box::new(PhasesMerge::new()), Box::new(PenaltyMerge::new())];
        for mut merge in merges {
            let mut out = Vec::new();
            group.bench_function(format!("{}/{name}", merge.name()), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    merge.merge(&run, &mut out, &mut Balance::default()).unwrap();
                    out.len()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, measure);
criterion_main!(benches);
