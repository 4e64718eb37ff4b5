//! Takes out what is not aggregated: stale markers, and samples that go back in time.

use model::{Columns, sample::is_stale};

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

/// What the float samples of a chunk are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether any is NaN that is left.
    pub(super) has_nan: bool,
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
    if in_order && !has_nan {
        return Found::default();
    }
    clean_slowly(columns, start, rejected)
}

fn clean_slowly(columns: &mut Columns, start: usize, rejected: &mut Rejected) -> Found {
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
    Found { has_nan }
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
