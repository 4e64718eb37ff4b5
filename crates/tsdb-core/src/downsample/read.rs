//! What a querier reads in downsampled series: one aggregate, counters with their resets applied,
//! averages.

use model::Columns;

use crate::block::ChunkData;
use crate::chunk::aggregate::{self, Part};
use crate::chunk::{self, DecodeError, Encoding};
use crate::downsample::counter::{Seen, Walk};
use crate::error::Damage;

/// An aggregate of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Number of raw samples.
    Count,
    /// Their sum.
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The counter as it is stored: with the first and the last raw value, see [`counter`].
    Counter,
}

/// Appends one aggregate of a chunk to `out`; answers whether the chunk has it. A chunk of raw
/// samples has none.
///
/// # Errors
/// When the chunk is damaged; `out` then holds what came before the damage.
pub fn aggregate(
    chunk: &ChunkData,
    which: Aggregate,
    out: &mut Columns,
) -> Result<bool, DecodeError> {
    if chunk.encoding != Encoding::Aggregate {
        return Ok(false);
    }
    let parts = aggregate::split(&chunk.data)?;
    let part = match which {
        Aggregate::Count => parts.count,
        Aggregate::Sum => parts.sum,
        Aggregate::Min => parts.min,
        Aggregate::Max => parts.max,
        Aggregate::Counter => parts.counter,
    };
    let Some(part) = part else { return Ok(false) };
    decode(chunk, &part, out)?;
    Ok(true)
}

/// Appends the counter of a series to `out`: one total that carries on over the resets within
/// and between the chunks, so that differences of any two of its samples are increases. `scratch`
/// is only memory.
///
/// Chunks come in order of time, and may be raw ones; NaN and stale markers are left out, as are
/// chunks without a counter. Histograms are passed on as they are: their resets are found later.
///
/// # Errors
/// When a chunk is damaged; `out` then holds the chunks before it.
pub fn counter<'a>(
    chunks: impl IntoIterator<Item = &'a ChunkData>,
    scratch: &mut Columns,
    out: &mut Columns,
) -> Result<(), DecodeError> {
    let mut walk = Walk::default();
    for chunk in chunks {
        scratch.clear();
        match chunk.encoding {
            Encoding::Aggregate => drop(aggregate(chunk, Aggregate::Counter, scratch)?),
            other => chunk::decode(other, &chunk.data, scratch)?,
        }
        for (time_ms, value) in scratch.timestamps_ms.iter().zip(&scratch.values) {
            if let Seen::Total(total) = walk.take(*time_ms, *value) {
                out.push_float(*time_ms, total);
            }
        }
        let times = scratch.histogram_timestamps_ms.drain(..);
        for (time_ms, histogram) in times.zip(scratch.histograms.drain(..)) {
            if out.histogram_timestamps_ms.last().is_none_or(|it| *it < time_ms) {
                walk.pass(time_ms);
                out.histogram_timestamps_ms.push(time_ms);
                out.histograms.push(histogram);
            }
        }
    }
    Ok(())
}

/// Appends the averages of the windows of a chunk to `out`: sums by counts. `scratch` is only
/// memory.
///
/// # Errors
/// When the chunk is damaged or not of aggregates, lacks count or sum, or a sum has no count; of
/// histograms also when a count has no sum: Thanos wrote such chunks where a zero bucket grew, and
/// fails there too. `out` then holds the windows before the first that does not match.
///
/// Of floats a count without a sum gives nothing: Thanos loses sums where it merges by the penalty.
pub fn average(
    chunk: &ChunkData,
    scratch: &mut Columns,
    out: &mut Columns,
) -> Result<(), DecodeError> {
    scratch.clear();
    let mut sums = Columns::default();
    for (which, columns) in [(Aggregate::Count, &mut *scratch), (Aggregate::Sum, &mut sums)] {
        if !aggregate(chunk, which, columns)? {
            let text = format!("no {which:?} among the aggregates");
            return Err(Damage::new("aggregate chunk", 0, text).into());
        }
    }
    let loses_sums = sums.histograms.is_empty();
    let mut counts = scratch.timestamps_ms.iter().zip(&scratch.values).peekable();
    let mut count_at = |time_ms: i64| {
        while loses_sums && counts.next_if(|it| *it.0 < time_ms).is_some() {}
        let count = counts.next_if(|it| *it.0 == time_ms).map(|it| *it.1);
        count.ok_or_else(|| unmatched("sum", time_ms))
    };
    for (time_ms, sum) in sums.timestamps_ms.iter().zip(&sums.values) {
        out.push_float(*time_ms, sum / count_at(*time_ms)?);
    }
    for (time_ms, mut sum) in sums.histogram_timestamps_ms.into_iter().zip(sums.histograms) {
        sum.div(count_at(time_ms)?);
        out.histogram_timestamps_ms.push(time_ms);
        out.histograms.push(sum);
    }
    match counts.next().filter(|_| !loses_sums) {
        Some((time_ms, _)) => Err(unmatched("count", *time_ms)),
        None => Ok(()),
    }
}

fn unmatched(which: &str, time_ms: i64) -> DecodeError {
    let text = format!("the {which} at {time_ms} has none of the same window beside it");
    Damage::new("aggregate chunk", 0, text).into()
}

fn decode(chunk: &ChunkData, part: &Part, out: &mut Columns) -> Result<(), DecodeError> {
    let data = chunk.data.get(part.range.clone()).unwrap_or_default();
    match chunk::decode(part.encoding, data, out) {
        Err(DecodeError::Damaged(damage)) => Err(damage.shifted(part.range.start as u64).into()),
        other => other,
    }
}
