//! Writes aggregate chunks, all of one series behind each other.

use std::ops::Range;

use bytes::Bytes;

use crate::block::ChunkData;
use crate::chunk::Encoding;
use crate::chunk::xor::Appender;
use crate::codec::put_uvarint;
use crate::downsample::windows::Timeline;
use crate::error::Damage;

/// Aggregate chunks of one series being written. Reused from series to series.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    appender: Appender,
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
