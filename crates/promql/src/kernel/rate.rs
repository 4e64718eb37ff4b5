//! `rate`, `increase`, `delta`, `irate` and `idelta`.
//!
//! The result of a window needs its first and its last sample, their number and the resets between
//! them. Resets are listed once per series, so that a window costs the same whatever its length;
//! they are added in order of time, which gives the bits of a fresh evaluation.

use crate::cancel::Pace;
use crate::error::Error;
use crate::kernel::instant::float;
use crate::kernel::over_time::count;
use crate::kernel::{RangeFunction, Windows};
use crate::row::Row;

/// Which of the three extrapolating functions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// A counter: falls are resets, and it never was below zero.
    is_counter: bool,
    /// Per second instead of over the window.
    per_second: bool,
}

impl Kind {
    pub(crate) fn of(function: RangeFunction) -> Kind {
        Kind {
            is_counter: function != RangeFunction::Delta,
            per_second: function == RangeFunction::Rate,
        }
    }
}

/// Windows that are computed side by side; a power of two.
const LANES: usize = 128;

/// What some windows hold of a series, one column per quantity, so that the arithmetic of many
/// windows runs side by side.
struct Inside {
    len: usize,
    steps: [usize; LANES],
    /// Milliseconds from the start of the window to its first sample.
    to_start: [f64; LANES],
    /// Milliseconds from its last sample to its end.
    to_end: [f64; LANES],
    /// Milliseconds between both samples.
    sampled: [f64; LANES],
    /// Number of intervals between them.
    intervals: [f64; LANES],
    /// Value of the first sample.
    first: [f64; LANES],
    /// Last minus first value, resets added.
    gain: [f64; LANES],
}

/// Evaluates `rate`, `increase` or `delta` over every window.
pub(crate) fn extrapolated(
    kind: Kind,
    windows: &Windows,
    ts: &[i64],
    values: &[f64],
    (row, pace): (&mut Row, &mut Pace),
) -> Result<(), Error> {
    let resets = if kind.is_counter { list_resets(values) } else { Vec::new() };
    let range_seconds = duration_seconds(windows.range_ms);
    let mut inside = Inside::new();
    let (mut first_reset, mut end_reset) = (0, 0);
    windows.slide(ts, pace, |step, window| {
        let (first, last) = (window.start, window.end - 1);
        if first == last {
            return;
        }
        let mut gain = values[last] - values[first];
        if !resets.is_empty() {
            while first_reset < resets.len() && resets[first_reset] <= first {
                first_reset += 1;
            }
            end_reset = end_reset.max(first_reset);
            while end_reset < resets.len() && resets[end_reset] <= last {
                end_reset += 1;
            }
            for reset in &resets[first_reset..end_reset] {
                gain += values[reset - 1];
            }
        }
        // The samples lie inside the window: none of these differences is longer than it.
        let end_ms = windows.end_ms(step);
        let start_ms = end_ms.saturating_sub(windows.range_ms);
        let at = inside.len % LANES;
        inside.steps[at] = step;
        inside.to_start[at] = float(ts[first] - start_ms);
        inside.to_end[at] = float(end_ms - ts[last]);
        inside.sampled[at] = float(ts[last] - ts[first]);
        inside.intervals[at] = count(last - first);
        inside.first[at] = values[first];
        inside.gain[at] = gain;
        inside.len = at + 1;
        if inside.len == LANES {
            inside.flush(kind, range_seconds, row);
        }
    })?;
    inside.flush(kind, range_seconds, row);
    Ok(())
}

impl Inside {
    fn new() -> Inside {
        let column = [0.0; LANES];
        Inside {
            len: 0,
            steps: [0; LANES],
            to_start: column,
            to_end: column,
            sampled: column,
            intervals: column,
            first: column,
            gain: column,
        }
    }

    /// Puts the results into the row and begins anew.
    fn flush(&mut self, kind: Kind, range_seconds: f64, row: &mut Row) {
        let len = std::mem::take(&mut self.len);
        // All lanes, used or not: a loop of known length runs on vectors from end to end.
        self.extrapolate(kind, range_seconds);
        let Some(last) = len.checked_sub(1) else { return };
        if self.steps[last] - self.steps[0] == last {
            row.put_run(self.steps[0], &self.gain[..len]);
            return;
        }
        for (step, value) in self.steps[..len].iter().zip(&self.gain) {
            row.put(*step, *value);
        }
    }

    /// Makes results of the gains: each grows as when it is carried on to the borders of its
    /// window, all the way when the border is less than 1.1 average intervals away, half an
    /// interval otherwise, and for a counter never to before it was zero.
    fn extrapolate(&mut self, kind: Kind, range_seconds: f64) {
        for at in 0..LANES {
            let (gain, sampled) = (self.gain[at], self.sampled[at] / 1000.0);
            let (to_start, to_end) = (self.to_start[at] / 1000.0, self.to_end[at] / 1000.0);
            let average = sampled / self.intervals[at];
            let threshold = average * 1.1;
            let half = average / 2.0;
            let to_end = if to_end >= threshold { half } else { to_end };
            let to_start = if to_start >= threshold { half } else { to_start };
            let first = self.first[at];
            let to_zero = sampled * (first / gain);
            let was_zero = kind.is_counter & (gain > 0.0) & (first >= 0.0) & (to_zero < to_start);
            let to_start = if was_zero { to_zero } else { to_start };
            let factor = (sampled + to_start + to_end) / sampled;
            let factor = if kind.per_second { factor / range_seconds } else { factor };
            self.gain[at] = gain * factor;
        }
    }
}

/// Positions of the samples that are smaller than the one before, in order.
fn list_resets(values: &[f64]) -> Vec<usize> {
    // Most counters never fall; finding that out costs no branch per sample.
    let falls: usize = values.windows(2).map(|two| usize::from(two[1] < two[0])).sum();
    let mut resets = Vec::with_capacity(falls);
    if falls > 0 {
        let pairs = values.windows(2).enumerate();
        resets.extend(pairs.filter(|(_, two)| two[1] < two[0]).map(|(before, _)| before + 1));
    }
    resets
}

/// Seconds of a duration, by the same two divisions as Go's `Duration.Seconds`.
pub(crate) fn duration_seconds(duration_ms: i64) -> f64 {
    float(duration_ms / 1000) + float((duration_ms % 1000) * 1_000_000) / 1e9
}

/// Evaluates `irate` (per second, falls are resets) or `idelta` over every window.
pub(crate) fn of_last_two(
    per_second: bool,
    windows: &Windows,
    (ts, values): (&[i64], &[f64]),
    row: &mut Row,
    pace: &mut Pace,
) -> Result<(), Error> {
    windows.slide(ts, pace, |step, window| {
        if window.len() < 2 {
            return;
        }
        let (last, before) = (window.end - 1, window.end - 2);
        let mut gain = values[last];
        if !(per_second && values[last] < values[before]) {
            gain -= values[before];
        }
        if per_second {
            gain /= float(ts[last].saturating_sub(ts[before])) / 1000.0;
        }
        row.put(step, gain);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::row::Grid;

    fn run(function: RangeFunction, ts: &[i64], values: &[f64], at: i64) -> Option<f64> {
        let windows = Windows::plain(Grid::instant(at), 60_000);
        let mut row = Row::default();
        row.reset(model::Labels::empty(), 1);
        let mut pace = Pace::new(Cancel::new());
        let kind = Kind::of(function);
        extrapolated(kind, &windows, ts, values, (&mut row, &mut pace)).unwrap();
        row.present.get(0).then(|| row.values[0])
    }

    #[test]
    fn a_full_window_is_carried_on_to_both_borders() {
        let ts = [5_000, 20_000, 35_000, 50_000];
        let values = [100.0, 110.0, 120.0, 130.0];
        assert_eq!(run(RangeFunction::Increase, &ts, &values, 60_000), Some(40.0));
        assert_eq!(run(RangeFunction::Delta, &ts, &values, 60_000), Some(40.0));
        assert_eq!(run(RangeFunction::Rate, &ts, &values, 60_000), Some(40.0 / 60.0));
    }

    #[test]
    fn resets_are_added_and_zero_is_not_passed() {
        let ts = [15_000, 30_000, 45_000, 60_000];
        let values = [1.0, 16.0, 2.0, 17.0];
        // Gain 16 + 16 over 45 s; the counter was zero 45 * (1 / 32) s before its first sample.
        let expected = 32.0 * ((45.0 + 45.0 * (1.0 / 32.0)) / 45.0);
        assert_eq!(run(RangeFunction::Increase, &ts, &values, 60_000), Some(expected));
    }

    #[test]
    fn one_sample_says_nothing() {
        assert_eq!(run(RangeFunction::Rate, &[30_000], &[1.0], 60_000), None);
    }
}
