//! Writes aggregate chunks, all of one series behind each other.

use std::ops::Range;

use bytes::Bytes;
use model::FloatHistogram;

use crate::block::ChunkData;
use crate::chunk::Encoding;
use crate::chunk::histogram::{Appended, Appender, ResetHeader};
use crate::chunk::xor;
use crate::codec::put_uvarint;
use crate::downsample::histogram_level::Histograms;
use crate::downsample::histograms::Windows;
use crate::downsample::windows::Timeline;
use crate::error::Damage;

/// Aggregate chunks of one series being written. Reused from series to series.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    appender: xor::Appender,
    arena: Vec<u8>,
    chunks: Vec<Placed>,
    start: usize,
}

#[derive(Clone, Debug)]
struct Placed {
    min_time_ms: i64,
    max_time_ms: i64,
    range: Range<usize>,
}

impl Encoder {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.chunks.clear();
        self.start = 0;
    }

    /// Adds the next aggregate of the open chunk; absent where there are no samples.
    ///
    /// # Errors
    /// When there are more samples than a chunk can hold.
    pub(super) fn floats(&mut self, samples: Timeline<'_>) -> Result<(), Damage> {
        if samples.times.is_empty() {
            self.absent();
            return Ok(());
        }
        self.appender.clear();
        for (time_ms, value) in samples.times.iter().zip(samples.values) {
            if !self.appender.append(*time_ms, *value) {
                let text = format!("{} windows in one chunk", samples.times.len());
                return Err(Damage::new("aggregate", 0, text));
            }
        }
        put_uvarint(&mut self.arena, self.appender.size_bytes() as u64);
        self.arena.push(Encoding::Xor.to_byte());
        self.appender.write_to(&mut self.arena);
        Ok(())
    }

    /// Writes the windows of a batch of histograms: one chunk, or more where a chunk of histograms
    /// must end because the next one does not fit into it.
    ///
    /// # Errors
    /// When there are more windows than a chunk can hold.
    pub(super) fn histograms(&mut self, windows: &Windows) -> Result<(), Damage> {
        let mut count = Timeline::of(&windows.count);
        let mut sum = Histograms::of(&windows.sum);
        let mut counter = Histograms::of(&windows.counter);
        while !(count.times.is_empty() && sum.times.is_empty() && counter.times.is_empty()) {
            let fits = [append(sum), append(counter)].map(|it| it.1);
            // The first window that cannot be in this chunk any more.
            let next_ms =
                sum.times.get(fits[0]).into_iter().chain(counter.times.get(fits[1])).min();
            let before = |times: &[i64], fit: usize| match next_ms {
                Some(next_ms) => times.partition_point(|it| it < next_ms).min(fit),
                None => times.len(),
            };
            let (counts, later_counts) = count.split_at(before(count.times, usize::MAX));
            let (sums, later_sums) = sum.split_at(before(sum.times, fits[0]));
            let (counters, later_counters) = counter.split_at(before(counter.times, fits[1]));
            self.floats(counts)?;
            self.part(append(sums).0);
            self.absent();
            self.absent();
            self.part(append(counters).0);
            let times = [counts.times, sums.times, counters.times].concat();
            let (first_ms, last_ms) = (times.iter().min(), times.iter().max());
            let (Some(first_ms), Some(last_ms)) = (first_ms, last_ms) else {
                return Err(Damage::new("aggregate", 0, "windows out of order"));
            };
            self.end_chunk(*first_ms, *last_ms);
            (count, sum, counter) = (later_counts, later_sums, later_counters);
        }
        Ok(())
    }

    /// Adds an aggregate that is a chunk of float histograms.
    fn part(&mut self, chunk: Option<Appender<FloatHistogram>>) {
        let Some(chunk) = chunk else { return self.absent() };
        put_uvarint(&mut self.arena, chunk.size_bytes() as u64);
        self.arena.push(Encoding::FloatHistogram.to_byte());
        self.arena.extend_from_slice(&chunk.to_bytes());
    }

    /// Number of finished chunks.
    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Data, first and last time of a finished chunk.
    pub(super) fn chunk(&self, index: usize) -> (&[u8], i64, i64) {
        let Some(placed) = self.chunks.get(index) else { return (&[], 0, 0) };
        (&self.arena[placed.range.clone()], placed.min_time_ms, placed.max_time_ms)
    }

    /// Says that the open chunk does not have the next aggregate.
    pub(super) fn absent(&mut self) {
        self.arena.push(0);
    }

    /// Ends the open chunk.
    pub(super) fn end_chunk(&mut self, min_time_ms: i64, max_time_ms: i64) {
        let range = self.start..self.arena.len();
        self.start = range.end;
        self.chunks.push(Placed { min_time_ms, max_time_ms, range });
    }

    /// Appends the chunks to `out`; they share one piece of memory.
    pub(super) fn take(&mut self, out: &mut Vec<ChunkData>) {
        let bytes = Bytes::copy_from_slice(&self.arena);
        out.extend(self.chunks.drain(..).map(|it| ChunkData {
            encoding: Encoding::Aggregate,
            min_time_ms: it.min_time_ms,
            max_time_ms: it.max_time_ms,
            data: bytes.slice(it.range),
        }));
        self.clear();
    }
}

/// A chunk of the first histograms, and how many it took before one could not go into it.
fn append(samples: Histograms<'_>) -> (Option<Appender<FloatHistogram>>, usize) {
    let mut chunk = Appender::new();
    for (index, (time_ms, histogram)) in samples.times.iter().zip(samples.values).enumerate() {
        if let Appended::NewChunk(_) = chunk.append(None, *time_ms, histogram) {
            return (Some(chunk), index);
        }
        if index == 0 && chunk.reset_header() == ResetHeader::Unknown {
            // Every batch is a counter of its own; Thanos' writer says it like this.
            chunk.set_reset_header(ResetHeader::NotReset);
        }
    }
    let count = samples.times.len();
    ((count > 0).then_some(chunk), count)
}
