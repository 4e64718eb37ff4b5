//! Consecutive chunks of histograms of one series, on their way from one resolution to the next.

use model::Columns;

use crate::block::ChunkData;
use crate::chunk::DecodeError;
use crate::chunk::times::check_span;
use crate::downsample::clean::{self, Rejected};
use crate::downsample::decode::decode;
use crate::downsample::encode::Encoder;
use crate::downsample::histogram_level::{HistogramLevel, Histograms};
use crate::downsample::histograms::{self, Windows};
use crate::downsample::plan::Step;
use crate::downsample::{FIVE_MINUTES_MS, ONE_HOUR_MS};
use crate::error::Damage;

/// A run. Its buffers are reused.
#[derive(Debug, Default)]
pub(super) struct HistogramRun {
    raw: Columns,
    fine: HistogramLevel,
    windows: Windows,
}

impl HistogramRun {
    pub(super) fn clear(&mut self) {
        self.raw.clear();
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
        let start = self.raw.histograms.len();
        decode(chunk.encoding, &chunk.data, &mut self.raw)?;
        let count = self.raw.histograms.len() - start;
        clean::histograms(&mut self.raw, start, rejected);
        let times = self.raw.histogram_timestamps_ms.get(start..).unwrap_or_default();
        check_span(chunk, times.first().copied(), times.last().copied())?;
        Ok(count as u64)
    }

    /// Makes windows of 5 minutes of the raw samples, for `encoder`, and forgets these; answers
    /// whether there is a chunk more than before. The windows are kept as they read from the new
    /// chunks: empty buckets and hints of resets change on the way.
    ///
    /// # Errors
    /// When histograms cannot be added.
    pub(super) fn end_raw(
        &mut self,
        encoder: &mut Encoder,
        rejected: &mut Rejected,
    ) -> Result<bool, DecodeError> {
        let samples = Histograms::of(&self.raw);
        let before = encoder.chunk_count();
        let step = Step::from_raw(FIVE_MINUTES_MS);
        rejected.nan += histograms::from_raw(samples, step, &mut self.windows, encoder)?;
        self.raw.clear();
        for index in before..encoder.chunk_count() {
            let (data, min_time_ms, max_time_ms) = encoder.chunk(index);
            self.fine.decode_chunk(data, min_time_ms, max_time_ms)?;
        }
        Ok(encoder.chunk_count() > before)
    }

    /// Adds a chunk of windows of 5 minutes; answers how many raw samples these stand for.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn take_windows(&mut self, chunk: &ChunkData) -> Result<f64, DecodeError> {
        let index = self.fine.chunks().len();
        self.fine.decode_chunk(&chunk.data, chunk.min_time_ms, chunk.max_time_ms)?;
        Ok(self.fine.counts(index..index + 1).values.iter().sum())
    }

    /// Ends the run: makes windows of an hour of those of 5 minutes, for `encoder`, and forgets
    /// these.
    ///
    /// # Errors
    /// When histograms cannot be added.
    pub(super) fn end(&mut self, encoder: Option<&mut Encoder>) -> Result<(), Damage> {
        if let Some(encoder) = encoder {
            let step = Step::from_windows(FIVE_MINUTES_MS, ONE_HOUR_MS);
            histograms::from_windows(&self.fine, step, &mut self.windows, encoder)?;
        }
        self.fine.clear();
        Ok(())
    }
}
