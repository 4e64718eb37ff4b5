//! The times of a chunk's samples against those that the index gives, which no checksum ties
//! together.

use crate::block::ChunkData;
use crate::error::Damage;

/// Checks that the times of a chunk's decoded samples ascend and lie within the chunk's.
///
/// # Errors
/// [`Damage`] when they do not.
pub(crate) fn check_times(
    chunk: &ChunkData,
    times_ms: impl IntoIterator<Item = i64>,
) -> Result<(), Damage> {
    let mut last_ms = None;
    for time_ms in times_ms {
        if last_ms.is_some_and(|it| it >= time_ms)
            || last_ms.is_none() && time_ms < chunk.min_time_ms
        {
            return Err(outside(chunk.min_time_ms, chunk.max_time_ms));
        }
        last_ms = Some(time_ms);
    }
    check_span(chunk, last_ms, last_ms)
}

/// Checks that the first and the last time of a chunk lie within the chunk's.
///
/// # Errors
/// [`Damage`] when they do not.
pub(crate) fn check_span(
    chunk: &ChunkData,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
) -> Result<(), Damage> {
    let span = chunk.min_time_ms..=chunk.max_time_ms;
    if [first_ms, last_ms].into_iter().flatten().all(|it| span.contains(&it)) {
        return Ok(());
    }
    Err(outside(chunk.min_time_ms, chunk.max_time_ms))
}

/// The damage of samples at other times than from `min_time_ms` to `max_time_ms`.
pub(crate) fn outside(min_time_ms: i64, max_time_ms: i64) -> Damage {
    let text = format!(
        "samples do not ascend within the times that the index gives, \
         {min_time_ms} to {max_time_ms}"
    );
    Damage::new("chunk", 0, text)
}
