//! Consecutive chunks of floats of one series, on their way from one resolution to the next.

use model::Columns;

use crate::block::ChunkData;
use crate::chunk::DecodeError;
use crate::chunk::times::check_span;
use crate::downsample::clean::{self, Found, Rejected};
use crate::downsample::decode::decode;
use crate::downsample::encode::Encoder;
use crate::downsample::floats::{self, Scratch};
use crate::downsample::level::{COUNT, FloatLevel};
use crate::downsample::plan::Step;
use crate::downsample::windows::Timeline;
use crate::downsample::{FIVE_MINUTES_MS, ONE_HOUR_MS};
use crate::error::Damage;

/// A run. Its buffers are reused.
#[derive(Debug, Default)]
pub(super) struct FloatRun {
    raw: Columns,
    found: Found,
    fine: FloatLevel,
    coarse: FloatLevel,
    scratch: Scratch,
}

impl FloatRun {
    pub(super) fn clear(&mut self) {
        self.raw.clear();
        self.found = Found::default();
        self.fine.clear();
    }

    /// Adds a chunk of raw samples; answers how many samples it has.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn take_raw(
        &mut self,
        chunk: &ChunkData,
        rejected: &mut Rejected,
    ) -> Result<u64, DecodeError> {
        let start = self.raw.timestamps_ms.len();
        decode(chunk.encoding, &chunk.data, &mut self.raw)?;
        let count = self.raw.timestamps_ms.len() - start;
        self.found = self.found.or(clean::floats(&mut self.raw, start, rejected));
        let times = self.raw.timestamps_ms.get(start..).unwrap_or_default();
        check_span(chunk, times.first().copied(), times.last().copied())?;
        Ok(count as u64)
    }

    /// Makes windows of 5 minutes of the raw samples and forgets these; answers whether there is a
    /// chunk more than before. `encoder` takes the new chunks.
    ///
    /// # Errors
    /// When a chunk would have too many windows.
    pub(super) fn end_raw(
        &mut self,
        encoder: Option<&mut Encoder>,
        rejected: &mut Rejected,
    ) -> Result<bool, Damage> {
        let samples = Timeline::of(&self.raw);
        let before = self.fine.chunks().len();
        let step = Step::from_raw(FIVE_MINUTES_MS);
        let FloatRun { fine, scratch, .. } = self;
        rejected.nan += floats::from_raw(samples, self.found, step, fine, scratch);
        self.raw.clear();
        self.found = Found::default();
        let made = before..self.fine.chunks().len();
        if let Some(encoder) = encoder {
            floats::encode(&self.fine, made.clone(), encoder)?;
        }
        Ok(!made.is_empty())
    }

    /// Adds a chunk of windows of 5 minutes; answers how many raw samples these stand for.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn take_windows(&mut self, chunk: &ChunkData) -> Result<f64, DecodeError> {
        let index = self.fine.chunks().len();
        self.fine.decode_chunk(&chunk.data, chunk.min_time_ms, chunk.max_time_ms)?;
        let counts = self.fine.timeline(index..index + 1, COUNT).values;
        Ok(counts.iter().sum())
    }

    /// Ends the run: makes windows of an hour of those of 5 minutes, for `encoder`, and forgets
    /// these.
    ///
    /// # Errors
    /// When a chunk would have too many windows.
    pub(super) fn end(&mut self, encoder: Option<&mut Encoder>) -> Result<(), Damage> {
        if let Some(encoder) = encoder {
            let step = Step::from_windows(FIVE_MINUTES_MS, ONE_HOUR_MS);
            self.coarse.clear();
            floats::from_windows(&self.fine, step, &mut self.coarse, &mut self.scratch);
            floats::encode(&self.coarse, 0..self.coarse.chunks().len(), encoder)?;
        }
        self.fine.clear();
        Ok(())
    }
}
