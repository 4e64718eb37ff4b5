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

/// What a window holds of a series.
struct Inside {
    first_ms: i64,
    last_ms: i64,
    first: f64,
    /// Last minus first, resets added.
    gain: f64,
    intervals: usize,
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
    let (mut first_reset, mut end_reset) = (0, 0);
    windows.slide(ts, pace, |step, window| {
        let last = window.end - 1;
        if window.start == last {
            return;
        }
        let mut gain = values[last] - values[window.start];
        while first_reset < resets.len() && resets[first_reset] <= window.start {
            first_reset += 1;
        }
        end_reset = end_reset.max(first_reset);
        while end_reset < resets.len() && resets[end_reset] <= last {
            end_reset += 1;
        }
        for reset in &resets[first_reset..end_reset] {
            gain += values[reset - 1];
        }
        let inside = Inside {
            first_ms: ts[window.start],
            last_ms: ts[last],
            first: values[window.start],
            gain,
            intervals: last - window.start,
        };
        let end_ms = windows.end_ms(step);
        let start_ms = end_ms.saturating_sub(windows.range_ms);
        let mut factor = inside.extrapolation(kind.is_counter, start_ms, end_ms);
        if kind.per_second {
            factor /= range_seconds;
        }
        row.put(step, inside.gain * factor);
    })
}

impl Inside {
    /// By how much the gain grows when it is carried on to the borders of the window: all the way
    /// when the border is at most 1.1 average intervals away, half an interval otherwise, and for
    /// a counter never to before it was zero.
    fn extrapolation(&self, is_counter: bool, start_ms: i64, end_ms: i64) -> f64 {
        let mut to_start = float(self.first_ms.saturating_sub(start_ms)) / 1000.0;
        let mut to_end = float(end_ms.saturating_sub(self.last_ms)) / 1000.0;
        let sampled = float(self.last_ms.saturating_sub(self.first_ms)) / 1000.0;
        let average = sampled / count(self.intervals);
        let threshold = average * 1.1;
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if is_counter && self.gain > 0.0 && self.first >= 0.0 {
            let to_zero = sampled * (self.first / self.gain);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        (sampled + to_start + to_end) / sampled
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
fn duration_seconds(duration_ms: i64) -> f64 {
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
        let windows =
            Windows { grid: Grid::instant(at), offset_ms: 0, range_ms: 60_000, at_ms: None };
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
