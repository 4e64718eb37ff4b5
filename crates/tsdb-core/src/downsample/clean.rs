//! Takes out what is not aggregated: stale markers, and samples that go back in time.

use model::{Columns, sample::is_stale};

use crate::chunk::DecodeError;
use crate::error::Damage;

/// Samples that were taken out of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Stale markers.
    pub(super) stale: u64,
    /// Values that are no number, but for stale markers.
    pub(super) nan: u64,
    /// Samples before the one before them, or before 1970.
    pub(super) backward: u64,
}

impl Rejected {
    /// Checks that nothing was taken out of an aggregate that lies at `offset` in its chunk:
    /// neither we nor Thanos write windows that go back, or stale ones.
    ///
    /// # Errors
    /// [`Damage`] when something was.
    pub(super) fn none_of_windows(self, offset: u64) -> Result<(), DecodeError> {
        if self == Rejected::default() {
            return Ok(());
        }
        let Rejected { stale, backward, .. } = self;
        let text = format!("{backward} windows go back in time, {stale} are stale markers");
        Err(Damage::new("aggregate chunk", offset, text).into())
    }
}

/// What cleaned float samples are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether any is NaN.
    pub(super) has_nan: bool,
    /// Whether a chunk begins before the one in front of it ends, which none does in a sound block.
    pub(super) has_overlap: bool,
}

impl Found {
    /// What both are like.
    pub(super) fn or(self, other: Found) -> Found {
        Found {
            has_nan: self.has_nan || other.has_nan,
            has_overlap: self.has_overlap || other.has_overlap,
        }
    }
}

/// Cleans the float samples from `start` on, which are those of one chunk.
pub(super) fn floats(columns: &mut Columns, start: usize, rejected: &mut Rejected) -> Found {
    let times = columns.timestamps_ms.get(start..).unwrap_or_default();
    let values = columns.values.get(start..).unwrap_or_default();
    let (mut last_ms, mut in_order, mut has_nan) = (0, true, false);
    for (time_ms, value) in times.iter().zip(values) {
        in_order &= *time_ms >= last_ms;
        has_nan |= value.is_nan();
        last_ms = *time_ms;
    }
    let is_clean = in_order && !has_nan;
    let has_nan = !is_clean && clean_slowly(columns, start, rejected);
    let (before, chunk) = columns.timestamps_ms.split_at(start);
    Found { has_nan, has_overlap: before.last() > chunk.first() && !chunk.is_empty() }
}

/// Answers whether a NaN is left.
fn clean_slowly(columns: &mut Columns, start: usize, rejected: &mut Rejected) -> bool {
    let (mut kept, mut last_ms, mut has_nan) = (start, 0, false);
    for index in start..columns.timestamps_ms.len() {
        let (time_ms, value) = (columns.timestamps_ms[index], columns.values[index]);
        if is_stale(value) {
            rejected.stale += 1;
        } else if time_ms < last_ms {
            rejected.backward += 1;
        } else {
            (columns.timestamps_ms[kept], columns.values[kept]) = (time_ms, value);
            has_nan |= value.is_nan();
            last_ms = time_ms;
            kept += 1;
        }
    }
    columns.timestamps_ms.truncate(kept);
    columns.values.truncate(kept);
    has_nan
}

/// Cleans the histograms from `start` on, which are those of one chunk.
pub(super) fn histograms(columns: &mut Columns, start: usize, rejected: &mut Rejected) {
    let (mut kept, mut last_ms) = (start, 0);
    for index in start..columns.histogram_timestamps_ms.len() {
        let time_ms = columns.histogram_timestamps_ms[index];
        if columns.histograms[index].is_stale() {
            rejected.stale += 1;
        } else if time_ms < last_ms {
            rejected.backward += 1;
        } else {
            columns.histogram_timestamps_ms[kept] = time_ms;
            columns.histograms.swap(kept, index);
            last_ms = time_ms;
            kept += 1;
        }
    }
    columns.histogram_timestamps_ms.truncate(kept);
    columns.histograms.truncate(kept);
}
