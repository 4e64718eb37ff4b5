//! Takes deleted samples out of a chunk.

use model::TimeRange;

use crate::block::ChunkData;
use crate::chunk::rewrite::retain_plain;
use crate::chunk::{self, DecodeError, Encoding};
use crate::error::Damage;

/// What is left of a chunk.
#[derive(Debug)]
pub(crate) struct Left {
    /// None where every sample was deleted.
    pub(crate) chunk: Option<ChunkData>,
    /// How many samples were deleted.
    pub(crate) deleted_samples: u64,
}

/// The chunk without what lies in the deleted intervals; `None` when nothing of it does.
pub(crate) fn without(
    chunk: &ChunkData,
    deleted: &[TimeRange],
) -> Result<Option<Left>, DecodeError> {
    let count = |encoding, data: &[u8]| chunk::counted_samples(encoding, data);
    let before = count(chunk.encoding, &chunk.data)?;
    let (min_time_ms, max_time_ms) = (chunk.min_time_ms, chunk.max_time_ms);
    if deleted.iter().any(|it| it.contains(min_time_ms) && it.contains(max_time_ms)) {
        return Ok(Some(Left { chunk: None, deleted_samples: before }));
    }
    if chunk.encoding == Encoding::Aggregate {
        // Nothing deletes a part of an aggregate, whose windows are what they are.
        return Ok(None);
    }
    let is_left = |at| !deleted.iter().any(|it| it.contains(at));
    let plain = retain_plain(chunk.encoding, &chunk.data, is_left)?;
    plain.check_times(min_time_ms, max_time_ms)?;
    let left = plain.chunk;
    let kept = left.as_ref().map_or(Ok(0), |it| count(it.encoding, &it.data))?;
    let deleted_samples = before.saturating_sub(kept);
    Ok((deleted_samples > 0).then_some(Left { chunk: left, deleted_samples }))
}

/// The damage that kept a chunk from being decoded.
pub(crate) fn damage_of(error: DecodeError) -> Damage {
    match error {
        DecodeError::Damaged(damage) => damage,
        other => Damage::new("chunk", 0, other.to_string()),
    }
}
