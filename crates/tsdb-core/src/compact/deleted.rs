//! Takes deleted samples out of a chunk.

use bytes::Bytes;
use model::{Columns, TimeRange};

use crate::block::ChunkData;
use crate::chunk::{self, DecodeError, Encoding, SeriesToChunks, xor};
use crate::error::Damage;

/// What is left of a chunk.
#[derive(Debug)]
pub(super) struct Left {
    /// Nothing where every sample was deleted, else mostly one chunk.
    pub(super) chunks: Vec<ChunkData>,
    /// How many samples were deleted.
    pub(super) deleted_samples: u64,
}

/// The chunk without what lies in the deleted intervals; `None` when nothing of it does.
pub(super) fn without(
    chunk: &ChunkData,
    deleted: &[TimeRange],
) -> Result<Option<Left>, DecodeError> {
    let (min_time_ms, max_time_ms) = (chunk.min_time_ms, chunk.max_time_ms);
    if deleted.iter().any(|it| it.contains(min_time_ms) && it.contains(max_time_ms)) {
        let deleted_samples = chunk::counted_samples(chunk.encoding, &chunk.data)?;
        return Ok(Some(Left { chunks: Vec::new(), deleted_samples }));
    }
    match chunk.encoding {
        Encoding::Xor => floats(&chunk.data, deleted),
        // Nothing deletes a part of an aggregate, whose windows are what they are.
        Encoding::Aggregate => Ok(None),
        _ => values(chunk, deleted),
    }
}

/// The damage that kept a chunk from being decoded.
pub(super) fn damage_of(error: DecodeError) -> Damage {
    match error {
        DecodeError::Damaged(damage) => damage,
        other => Damage::new("chunk", 0, other.to_string()),
    }
}

fn floats(data: &[u8], deleted: &[TimeRange]) -> Result<Option<Left>, DecodeError> {
    let mut columns = Columns::default();
    xor::decode(data, &mut columns)?;
    let mut appender = xor::Appender::new();
    let mut first_ms = None;
    for (&timestamp_ms, &value) in columns.timestamps_ms.iter().zip(&columns.values) {
        if deleted.iter().any(|it| it.contains(timestamp_ms)) {
            continue;
        }
        // No more samples go in than the chunk had, so there is room.
        let _fits = appender.append(timestamp_ms, value);
        first_ms = first_ms.or(Some(timestamp_ms));
    }
    let kept = usize::from(appender.sample_count());
    let deleted_samples = (columns.timestamps_ms.len() - kept) as u64;
    let chunk = first_ms.map(|min_time_ms| ChunkData {
        encoding: Encoding::Xor,
        min_time_ms,
        max_time_ms: appender.last_timestamp_ms(),
        data: Bytes::from(appender.to_bytes()),
    });
    let left = Left { chunks: chunk.into_iter().collect(), deleted_samples };
    Ok((deleted_samples > 0).then_some(left))
}

fn values(chunk: &ChunkData, deleted: &[TimeRange]) -> Result<Option<Left>, DecodeError> {
    let mut samples = Vec::new();
    chunk::decode_values(chunk.encoding, &chunk.data, &mut samples)?;
    let before = samples.len();
    samples.retain(|it| !deleted.iter().any(|range| range.contains(it.timestamp_ms)));
    let deleted_samples = (before - samples.len()) as u64;
    if deleted_samples == 0 {
        return Ok(None);
    }
    let mut encoder = SeriesToChunks::new();
    for sample in &samples {
        encoder.push(sample);
    }
    let mut chunks = Vec::new();
    encoder.finish(&mut chunks);
    Ok(Some(Left { chunks, deleted_samples }))
}
