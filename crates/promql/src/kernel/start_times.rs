//! Counter resets that start timestamps tell of.

use model::Columns;

use crate::cancel::Pace;
use crate::error::Error;
use crate::kernel::instant::float;
use crate::kernel::over_time::count;
use crate::kernel::rate::duration_seconds;
use crate::kernel::{RangeFunction, Windows};
use crate::row::Row;

/// Whether the counter of sample `now` began after sample `before` was taken; `starts` may be
/// shorter than `ts`, or empty, where nothing is known.
pub(crate) fn starts_anew(starts: &[i64], ts: &[i64], (before, now): (usize, usize)) -> bool {
    let (Some(start), Some(start_before)) = (starts.get(now), starts.get(before)) else {
        return false;
    };
    let (time, time_before) = (ts[now], ts[before]);
    // Nothing is known of a start that is not set, or that is not before its sample.
    if *start == 0 || *start >= time || *start < time_before {
        return false;
    }
    if *start > time_before {
        return true;
    }
    // It began with the sample before: a series of deltas, unless that sample did not know its own
    // start either.
    *start_before <= time_before && *start_before != 0 && *start_before != time_before
}

/// Whether sample `now` claims to have begun before the one before it was taken, and at another
/// time than that.
pub(crate) fn overlaps(starts: &[i64], ts: &[i64], now: usize) -> bool {
    let (Some(start), Some(before)) = (starts.get(now), starts.get(now - 1)) else {
        return false;
    };
    *start != 0 && *start < ts[now - 1] && start != before
}

/// Evaluates a function of counters over the floats of every window, with what their start
/// timestamps tell; answers in how many windows a start overlapped the sample before it.
pub(crate) fn evaluate(
    function: RangeFunction,
    windows: &Windows,
    columns: &Columns,
    row: &mut Row,
    pace: &mut Pace,
) -> Result<usize, Error> {
    let (ts, values) = (&*columns.timestamps_ms, &*columns.values);
    let starts = &*columns.start_timestamps_ms;
    let mut overlapping = 0;
    windows.recompute(ts, pace, |step, within| {
        let (ts, values) = (&ts[within.clone()], &values[within.clone()]);
        let starts = starts.get(within).unwrap_or_default();
        let fell = |at: usize| values[at] < values[at - 1] || starts_anew(starts, ts, (at - 1, at));
        match function {
            RangeFunction::Resets => {
                let resets = (1..values.len()).filter(|at| fell(*at)).count();
                row.put(step, count(resets));
            }
            RangeFunction::Irate => {
                let Some(before) = values.len().checked_sub(2) else { return };
                let mut gain = values[before + 1];
                if !fell(before + 1) {
                    gain -= values[before];
                }
                row.put(step, gain / (float(ts[before + 1] - ts[before]) / 1000.0));
            }
            _ => {
                let overlaps = (1..ts.len()).any(|at| overlaps(starts, ts, at));
                overlapping += usize::from(overlaps);
                let borders = (windows.start_ms(step), windows.end_ms(step));
                if let Some(mut gain) = extrapolated(borders, (ts, values, starts), fell) {
                    if function == RangeFunction::Rate {
                        gain /= duration_seconds(windows.range_ms);
                    }
                    row.put(step, gain);
                }
            }
        }
    })?;
    Ok(overlapping)
}

/// The increase of a counter over a window, carried on to its borders as for samples without start
/// timestamps, except that nothing is carried on before the counter began.
fn extrapolated(
    (start_ms, end_ms): (i64, i64),
    (ts, values, starts): (&[i64], &[f64], &[i64]),
    fell: impl Fn(usize) -> bool,
) -> Option<f64> {
    let last = ts.len() - 1;
    let mut gain = values[last] - values[0];
    for at in (1..=last).filter(|at| fell(*at)) {
        gain += values[at - 1];
    }
    let mut to_start = float(ts[0] - start_ms) / 1000.0;
    let mut to_end = float(end_ms - ts[last]) / 1000.0;
    let mut sampled = float(ts[last] - ts[0]) / 1000.0;
    let average = if last > 0 { sampled / count(last) } else { 0.0 };
    let threshold = average * 1.1;
    let begun = starts.first().filter(|it| **it != 0 && **it > start_ms && **it < ts[0]);
    if let Some(begun) = begun {
        to_start = 0.0;
        sampled = float(ts[last] - begun) / 1000.0;
        gain += values[0];
    } else if last == 0 {
        return None;
    } else {
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if gain > 0.0 && values[0] >= 0.0 {
            to_start = to_start.min(sampled * (values[0] / gain));
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
    Some(gain * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_tell_of_resets() {
        let ts = [100, 200];
        let cases = [
            ([50, 0], false),
            ([50, 50], false),
            ([50, 150], true),
            ([50, 200], false),
            ([50, 100], true),
            ([0, 100], false),
            ([100, 100], false),
            ([150, 100], false),
        ];
        for (starts, expected) in cases {
            assert_eq!(starts_anew(&starts, &ts, (0, 1)), expected, "{starts:?}");
        }
        assert!(!starts_anew(&[], &ts, (0, 1)));
        assert!(overlaps(&[10, 50], &ts, 1));
        assert!(!overlaps(&[50, 50], &ts, 1));
    }
}
