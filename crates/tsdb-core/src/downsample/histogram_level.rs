//! The aggregates of a series of histograms, decoded: chunk behind chunk.

use std::ops::Range;

use model::{Columns, FloatHistogram};

use crate::chunk::aggregate::{self, Part};
use crate::chunk::{DecodeError, Encoding};
use crate::downsample::clean::{self, Rejected};
use crate::downsample::decode::decode;
use crate::downsample::windows::Timeline;
use crate::error::Damage;

/// Places of the aggregates that histograms have.
const COUNT: usize = 0;
const SUM: usize = 1;
const COUNTER: usize = 2;

/// Chunks of one resolution. Reused from series to series.
#[derive(Debug, Default)]
pub(super) struct HistogramLevel {
    /// Count, as floats; sum and counter, as histograms.
    parts: [Columns; 3],
    chunks: Vec<ChunkEnd>,
}

/// A chunk of a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkEnd {
    pub(super) min_time_ms: i64,
    pub(super) max_time_ms: i64,
    ends: [usize; 3],
}

/// Histograms of one aggregate, or raw ones, in order of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Histograms<'a> {
    pub(super) times: &'a [i64],
    pub(super) values: &'a [FloatHistogram],
}

impl<'a> Histograms<'a> {
    /// The histograms of columns.
    pub(super) fn of(columns: &'a Columns) -> Histograms<'a> {
        Histograms { times: &columns.histogram_timestamps_ms, values: &columns.histograms }
    }

    /// The first `count` samples and the others.
    pub(super) fn split_at(self, count: usize) -> (Histograms<'a>, Histograms<'a>) {
        let (times, later_times) = self.times.split_at(count);
        let (values, later_values) = self.values.split_at(count);
        let later = Histograms { times: later_times, values: later_values };
        (Histograms { times, values }, later)
    }
}

impl HistogramLevel {
    pub(super) fn clear(&mut self) {
        self.parts.iter_mut().for_each(Columns::clear);
        self.chunks.clear();
    }

    pub(super) fn chunks(&self) -> &[ChunkEnd] {
        &self.chunks
    }

    /// Number of windows, by the count.
    pub(super) fn window_count(&self) -> usize {
        self.parts[COUNT].timestamps_ms.len()
    }

    pub(super) fn counts(&self, chunks: Range<usize>) -> Timeline<'_> {
        let range = self.range(chunks, COUNT);
        let columns = &self.parts[COUNT];
        Timeline { times: &columns.timestamps_ms[range.clone()], values: &columns.values[range] }
    }

    pub(super) fn sums(&self, chunks: Range<usize>) -> Histograms<'_> {
        self.histograms(chunks, SUM)
    }

    pub(super) fn counters(&self, chunks: Range<usize>) -> Histograms<'_> {
        self.histograms(chunks, COUNTER)
    }

    fn histograms(&self, chunks: Range<usize>, part: usize) -> Histograms<'_> {
        let range = self.range(chunks, part);
        let columns = &self.parts[part];
        Histograms {
            times: &columns.histogram_timestamps_ms[range.clone()],
            values: &columns.histograms[range],
        }
    }

    fn range(&self, chunks: Range<usize>, part: usize) -> Range<usize> {
        let end_of = |index: usize| self.chunks.get(index).map_or(0, |it| it.ends[part]);
        let start = chunks.start.checked_sub(1).map_or(0, end_of);
        start..chunks.end.checked_sub(1).map_or(0, end_of)
    }

    /// Adds a chunk of windows.
    ///
    /// # Errors
    /// When it is damaged, or an aggregate is of another kind; nothing is added then.
    pub(super) fn decode_chunk(
        &mut self,
        data: &[u8],
        min_time_ms: i64,
        max_time_ms: i64,
    ) -> Result<(), DecodeError> {
        let before = self.ends();
        let found = aggregate::split(data)?;
        let places = [found.count, found.sum, found.counter];
        for (index, (columns, place)) in self.parts.iter_mut().zip(places).enumerate() {
            if let Err(error) = decode_part(data, place, index != COUNT, columns) {
                for (columns, end) in self.parts.iter_mut().zip(before) {
                    columns.timestamps_ms.truncate(end);
                    columns.values.truncate(end);
                    columns.histogram_timestamps_ms.truncate(end);
                    columns.histograms.truncate(end);
                }
                return Err(error);
            }
        }
        self.chunks.push(ChunkEnd { min_time_ms, max_time_ms, ends: self.ends() });
        Ok(())
    }

    fn ends(&self) -> [usize; 3] {
        let [count, sum, counter] = &self.parts;
        let histograms = |it: &Columns| it.histogram_timestamps_ms.len();
        [count.timestamps_ms.len(), histograms(sum), histograms(counter)]
    }
}

fn decode_part(
    data: &[u8],
    place: Option<Part>,
    is_histogram: bool,
    columns: &mut Columns,
) -> Result<(), DecodeError> {
    let Some(place) = place else { return Ok(()) };
    let offset = place.range.start as u64;
    if is_float(place.encoding) == is_histogram {
        let text = format!("{:?} among aggregates of histograms", place.encoding);
        return Err(Damage::new("aggregate chunk", offset, text).into());
    }
    let start = columns.len();
    match decode(place.encoding, &data[place.range], columns) {
        Ok(()) => {}
        Err(DecodeError::Damaged(damage)) => return Err(damage.shifted(offset).into()),
        Err(other) => return Err(other),
    }
    let mut rejected = Rejected::default();
    if is_histogram {
        clean::histograms(columns, start, &mut rejected);
    } else {
        clean::floats(columns, start, &mut rejected);
    }
    rejected.none_of_windows(offset)
}

/// Whether chunks of an encoding have floats.
pub(super) fn is_float(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Xor | Encoding::Xor2)
}
