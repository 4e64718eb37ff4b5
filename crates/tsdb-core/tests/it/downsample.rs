//! Downsampling against a plain reference, and against chance and damage.

use model::Columns;
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::{Encoding, aggregate, decode, xor};
use tsdb_core::downsample::{Counts, Targets};

/// The float samples of an aggregate: count, sum, min, max and counter have the places 0 to 4.
pub(crate) fn part_samples(chunk: &ChunkData, part: usize) -> Vec<(i64, f64)> {
    let parts = aggregate::split(&chunk.data).unwrap();
    let Some(part) = parts.in_order()[part] else { return Vec::new() };
    let mut columns = Columns::default();
    decode(part.encoding, &chunk.data[part.range.clone()], &mut columns).unwrap();
    columns.timestamps_ms.into_iter().zip(columns.values).collect()
}

/// The counts, which must say that no sample was lost and none invented.
pub(crate) fn checked(targets: Targets, counts: Counts) -> Counts {
    let kept = counts.in_samples - counts.stale - counts.nan - counts.backward;
    if targets.five_minutes {
        assert_eq!(counts.five_minutes_samples, kept);
    }
    if targets.one_hour {
        assert_eq!(counts.one_hour_samples, kept);
    }
    counts
}

/// A chunk of floats.
pub(crate) fn xor_chunk(samples: &[(i64, f64)]) -> ChunkData {
    let mut chunk = xor::Appender::new();
    for (time_ms, value) in samples {
        assert!(chunk.append(*time_ms, *value));
    }
    ChunkData {
        encoding: Encoding::Xor,
        min_time_ms: samples.first().map_or(0, |it| it.0),
        max_time_ms: samples.last().map_or(0, |it| it.0),
        data: chunk.to_bytes().into(),
    }
}
