//! The aggregates of a series of floats, decoded: chunk behind chunk, each aggregate in columns.

use std::ops::Range;

use model::Columns;

use crate::chunk::aggregate::{self, Part};
use crate::chunk::{DecodeError, Encoding};
use crate::downsample::clean::{self, Rejected};
use crate::downsample::decode::decode;
use crate::downsample::windows::Timeline;
use crate::error::Damage;

/// Places of the aggregates, in the order of the chunk.
pub(super) const COUNT: usize = 0;
pub(super) const SUM: usize = 1;
pub(super) const MIN: usize = 2;
pub(super) const MAX: usize = 3;
pub(super) const COUNTER: usize = 4;
/// Number of aggregates of a chunk.
pub(super) const PARTS: usize = 5;

/// Chunks of one resolution. Reused from series to series.
#[derive(Debug, Default)]
pub(super) struct FloatLevel {
    /// The samples of all chunks, by aggregate.
    pub(super) parts: [Columns; PARTS],
    chunks: Vec<ChunkEnd>,
}

/// A chunk of a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkEnd {
    pub(super) min_time_ms: i64,
    pub(super) max_time_ms: i64,
    /// Where its samples end, by aggregate.
    ends: [usize; PARTS],
}

impl FloatLevel {
    pub(super) fn clear(&mut self) {
        self.parts.iter_mut().for_each(Columns::clear);
        self.chunks.clear();
    }

    pub(super) fn chunks(&self) -> &[ChunkEnd] {
        &self.chunks
    }

    /// Number of windows, by the first aggregate.
    pub(super) fn window_count(&self) -> usize {
        self.parts[COUNT].timestamps_ms.len()
    }

    /// Ends a chunk with what was added since the last one, where all aggregates have the same
    /// windows.
    pub(super) fn end_raw_chunk(&mut self) {
        self.end_chunk_of(&[COUNT]);
    }

    /// Ends a chunk with what was added since the last one.
    pub(super) fn end_chunk(&mut self) {
        self.end_chunk_of(&[COUNT, SUM, MIN, MAX, COUNTER]);
    }

    /// The chunk's times are those of its first and last window in these aggregates.
    fn end_chunk_of(&mut self, parts: &[usize]) {
        let start = self.chunks.len();
        let ends = self.ends();
        self.chunks.push(ChunkEnd { min_time_ms: i64::MAX, max_time_ms: i64::MIN, ends });
        let (mut min_time_ms, mut max_time_ms) = (i64::MAX, i64::MIN);
        for part in parts {
            // The first of a counter is the first raw sample, which lies before its window's end.
            let skipped = usize::from(*part == COUNTER);
            for time_ms in self.timeline(start..start + 1, *part).times.iter().skip(skipped) {
                min_time_ms = min_time_ms.min(*time_ms);
                max_time_ms = max_time_ms.max(*time_ms);
            }
        }
        self.chunks[start].min_time_ms = min_time_ms;
        self.chunks[start].max_time_ms = max_time_ms;
    }

    /// The samples of one aggregate of consecutive chunks.
    pub(super) fn timeline(&self, chunks: Range<usize>, part: usize) -> Timeline<'_> {
        let end_of = |index: usize| self.chunks.get(index).map_or(0, |it| it.ends[part]);
        let start = chunks.start.checked_sub(1).map_or(0, end_of);
        let end = chunks.end.checked_sub(1).map_or(0, end_of);
        let columns = &self.parts[part];
        Timeline { times: &columns.timestamps_ms[start..end], values: &columns.values[start..end] }
    }

    /// Adds a chunk of a downsampled block.
    ///
    /// # Errors
    /// When it is damaged, or an aggregate is not of floats; nothing is added then.
    pub(super) fn decode_chunk(
        &mut self,
        data: &[u8],
        min_time_ms: i64,
        max_time_ms: i64,
    ) -> Result<(), DecodeError> {
        let before = self.ends();
        let found = aggregate::split(data)?;
        let places = [found.count, found.sum, found.min, found.max, found.counter];
        for (columns, place) in self.parts.iter_mut().zip(places) {
            if let Err(error) = decode_part(data, place, columns) {
                for (columns, end) in self.parts.iter_mut().zip(before) {
                    columns.timestamps_ms.truncate(end);
                    columns.values.truncate(end);
                }
                return Err(error);
            }
        }
        self.chunks.push(ChunkEnd { min_time_ms, max_time_ms, ends: self.ends() });
        Ok(())
    }

    fn ends(&self) -> [usize; PARTS] {
        [COUNT, SUM, MIN, MAX, COUNTER].map(|part| self.parts[part].timestamps_ms.len())
    }
}

fn decode_part(data: &[u8], place: Option<Part>, columns: &mut Columns) -> Result<(), DecodeError> {
    let Some(place) = place else { return Ok(()) };
    if !matches!(place.encoding, Encoding::Xor | Encoding::Xor2) {
        let text = format!("{:?} among aggregates of floats", place.encoding);
        return Err(Damage::new("aggregate chunk", place.range.start as u64, text).into());
    }
    let start = columns.timestamps_ms.len();
    let offset = place.range.start as u64;
    match decode(place.encoding, &data[place.range], columns) {
        Ok(()) => {}
        Err(DecodeError::Damaged(damage)) => return Err(damage.shifted(offset).into()),
        Err(other) => return Err(other),
    }
    let mut rejected = Rejected::default();
    clean::floats(columns, start, &mut rejected);
    rejected.none_of_windows(offset)
}
