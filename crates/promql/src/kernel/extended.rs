//! Windows of `anchored` and `smoothed` selectors: they know what lies beside them.
//!
//! An anchored window begins with the last sample at or before its start; a smoothed one has
//! values at both of its borders, interpolated between the samples around them.

use std::sync::Arc;

use model::histogram::CounterResetHint;
use model::{Columns, FloatHistogram};

use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::account::{HistogramAccount, work_of};
use crate::kernel::instant::float;
use crate::kernel::over_time::count;
use crate::kernel::rate::duration_seconds;
use crate::kernel::window::{Remarks, Window, between, count_pairs, differ, fell};
use crate::kernel::{Beside, RangeFunction, Windows};
use crate::row::Row;

/// A window without what lies beside it, and how it was selected.
#[derive(Clone, Copy)]
struct Bounds {
    start_ms: i64,
    end_ms: i64,
    smoothed: bool,
    is_counter: bool,
}

/// Evaluates a function that knows how to use what lies beside a window.
pub(crate) fn evaluate(
    function: RangeFunction,
    windows: &Windows,
    (columns, use_starts): (&Columns, bool),
    (row, account): (&mut Row, &mut HistogramAccount),
    pace: &mut Pace,
) -> Result<Remarks, Error> {
    let mut remarks = Remarks::default();
    let (before_ms, after_ms) = windows.beside_ms();
    for step in 0..windows.grid.steps {
        let (start_ms, end_ms) = (windows.start_ms(step), windows.end_ms(step));
        let (from_ms, to_ms) =
            (start_ms.saturating_sub(before_ms), end_ms.saturating_add(after_ms));
        let floats = between(&columns.timestamps_ms, from_ms, to_ms);
        let histograms = between(&columns.histogram_timestamps_ms, from_ms, to_ms);
        let work: usize = columns.histograms[histograms.clone()].iter().map(work_of).sum();
        pace.spend(1 + floats.len() + work)?;
        if floats.is_empty() && histograms.is_empty() {
            continue;
        }
        let starts: &[i64] = if use_starts { &columns.histogram_start_timestamps_ms } else { &[] };
        let window = Window {
            start_ms,
            end_ms,
            ts: &columns.timestamps_ms[floats.clone()],
            values: &columns.values[floats],
            histogram_ts: &columns.histogram_timestamps_ms[histograms.clone()],
            histograms: &columns.histograms[histograms.clone()],
            starts: starts.get(histograms).unwrap_or_default(),
        };
        if matches!(function, RangeFunction::Changes | RangeFunction::Resets) {
            if let Some(window) = anchored(&window) {
                let pairs = match function {
                    RangeFunction::Changes => count_pairs(&window, differ),
                    _ => count_pairs(&window, |a, b| fell(a, b, &window)),
                };
                row.put(step, count(pairs));
            }
            continue;
        }
        if !window.ts.is_empty() && !window.histogram_ts.is_empty() {
            remarks.mixed_samples = true;
            continue;
        }
        let bounds = Bounds {
            start_ms,
            end_ms,
            smoothed: windows.beside == Beside::Smoothed,
            is_counter: function != RangeFunction::Delta,
        };
        let divisor = match function {
            RangeFunction::Rate => Some(duration_seconds(windows.range_ms)),
            _ => None,
        };
        if !window.ts.is_empty() {
            if let Some(gain) = float_gain(&window, bounds) {
                row.put(step, divisor.map_or(gain, |divisor| gain / divisor));
            }
        } else if let Some(mut gain) = histogram_gain(&window, bounds, &mut remarks) {
            if let Some(divisor) = divisor {
                gain.div(divisor);
            }
            gain.counter_reset_hint = CounterResetHint::Gauge;
            gain.compact(0);
            account.add(&gain)?;
            row.put_histogram(step, Arc::new(gain));
        }
    }
    Ok(remarks)
}

/// The window from its anchor on: the newest sample at or before the start, of whatever kind, and
/// everything after it. `None` when nothing lies after the start.
fn anchored<'a>(window: &Window<'a>) -> Option<Window<'a>> {
    let float = window.ts.partition_point(|it| *it <= window.start_ms);
    let histogram = window.histogram_ts.partition_point(|it| *it <= window.start_ms);
    if float == window.ts.len() && histogram == window.histogram_ts.len() {
        return None;
    }
    let float_ms = float.checked_sub(1).map(|at| window.ts[at]);
    let histogram_ms = histogram.checked_sub(1).map(|at| window.histogram_ts[at]);
    let (float, histogram) = match (float_ms, histogram_ms) {
        (None, None) => (float, histogram),
        (float_ms, histogram_ms) if float_ms >= histogram_ms => (float - 1, histogram),
        _ => (float, histogram - 1),
    };
    Some(Window {
        ts: &window.ts[float..],
        values: &window.values[float..],
        histogram_ts: &window.histogram_ts[histogram..],
        histograms: &window.histograms[histogram..],
        starts: window.starts.get(histogram..).unwrap_or_default(),
        ..*window
    })
}

/// The first and the last sample that count for a window; `None` when none does.
fn ends(ts: &[i64], bounds: Bounds) -> Option<(usize, usize)> {
    let mut last = ts.len() - 1;
    let first = ts[..last].partition_point(|it| *it <= bounds.start_ms).saturating_sub(1);
    if bounds.smoothed {
        last = ts[..last].partition_point(|it| *it < bounds.end_ms);
    }
    let outside = ts[last] <= bounds.start_ms || (bounds.smoothed && ts[first] > bounds.end_ms);
    (!outside).then_some((first, last))
}

/// The value on the line between two samples; a counter that fell began at zero.
fn interpolate(
    (from_ms, from): (i64, f64),
    (to_ms, to): (i64, f64),
    at_ms: i64,
    counter: bool,
) -> f64 {
    let from = if counter && to < from { 0.0 } else { from };
    from + (to - from) * float(at_ms - from_ms) / float(to_ms - from_ms)
}

/// The values at both borders of a window.
fn borders(window: &Window<'_>, (first, last): (usize, usize), bounds: Bounds) -> (f64, f64) {
    let (ts, values) = (window.ts, window.values);
    let at = |index: usize| (ts[index], values[index]);
    let left = if bounds.smoothed && ts[first] < bounds.start_ms {
        interpolate(at(first), at(first + 1), bounds.start_ms, bounds.is_counter)
    } else {
        values[first]
    };
    let right = if bounds.smoothed && last > 0 && ts[last] > bounds.end_ms {
        interpolate(at(last - 1), at(last), bounds.end_ms, bounds.is_counter)
    } else {
        values[last]
    };
    (left, right)
}

fn float_gain(window: &Window<'_>, bounds: Bounds) -> Option<f64> {
    let (mut first, last) = ends(window.ts, bounds)?;
    let (left, right) = borders(window, (first, last), bounds);
    let mut gain = right - left;
    if !bounds.is_counter {
        return Some(gain);
    }
    // The borders account for resets beside them.
    if window.ts[first] <= bounds.start_ms {
        first += 1;
    }
    let end = if window.ts[last] >= bounds.end_ms { last } else { last + 1 };
    let mut before = left;
    let inside = window.values.get(first..end).unwrap_or_default();
    for value in inside.iter().copied().chain([right]) {
        if value < before {
            gain += before;
        }
        before = value;
    }
    Some(gain)
}

/// The samples of a plain `smoothed` or `anchored` range selector, borders included.
pub(crate) fn bordered(
    (ts, values): (&[i64], &[f64]),
    (start_ms, end_ms): (i64, i64),
    smoothed: bool,
) -> (Vec<i64>, Vec<f64>) {
    let bounds = Bounds { start_ms, end_ms, smoothed, is_counter: false };
    let mut last = ts.len() - 1;
    let mut first = ts[..last].partition_point(|it| *it <= start_ms).saturating_sub(1);
    if smoothed {
        last = ts[..last].partition_point(|it| *it < end_ms);
    }
    if ts[last] <= start_ms {
        return (Vec::new(), Vec::new());
    }
    let window =
        Window { start_ms, end_ms, ts, values, histogram_ts: &[], histograms: &[], starts: &[] };
    let (left, right) = borders(&window, (first, last), bounds);
    if ts[first] <= start_ms {
        first += 1;
    }
    let end = if ts[last] >= end_ms { last } else { last + 1 };
    let inside = first..end.max(first);
    let mut all_ts = vec![start_ms];
    all_ts.extend_from_slice(ts.get(inside.clone()).unwrap_or_default());
    all_ts.push(end_ms);
    let mut all_values = vec![left];
    all_values.extend_from_slice(values.get(inside).unwrap_or_default());
    all_values.push(right);
    (all_ts, all_values)
}

fn histogram_gain(
    window: &Window<'_>,
    bounds: Bounds,
    remarks: &mut Remarks,
) -> Option<FloatHistogram> {
    let (ts, histograms) = (window.histogram_ts, window.histograms);
    let (first, last) = ends(ts, bounds)?;
    let is_gauge = |it: &FloatHistogram| it.counter_reset_hint == CounterResetHint::Gauge;
    let custom = histograms[first].uses_custom_buckets();
    for histogram in &histograms[first..=last] {
        if histogram.uses_custom_buckets() != custom {
            remarks.mixed_buckets = true;
            return None;
        }
        remarks.not_counter |= bounds.is_counter && is_gauge(histogram);
    }
    let at = |index: usize| (ts[index], &histograms[index]);
    let left = if bounds.smoothed && ts[first] < bounds.start_ms {
        let at_ms = bounds.start_ms;
        interpolate_histograms(at(first), at(first + 1), (at_ms, bounds.is_counter), remarks)?
    } else {
        histograms[first].clone()
    };
    let right = if bounds.smoothed && last > 0 && ts[last] > bounds.end_ms {
        let at_ms = bounds.end_ms;
        interpolate_histograms(at(last - 1), at(last), (at_ms, bounds.is_counter), remarks)?
    } else {
        histograms[last].clone()
    };
    let are_gauges = is_gauge(&left) && is_gauge(&right);
    remarks.not_gauge |= !(bounds.is_counter || are_gauges);
    let mut gain = right.clone();
    subtract(&mut gain, &left, remarks)?;
    if bounds.is_counter {
        let between = (first, last);
        if let Some(correction) = correction(window, between, (&left, &right), bounds, remarks)? {
            add(&mut gain, &correction, remarks)?;
        }
    }
    Some(gain)
}

/// What counter resets between the borders of a window took away.
#[expect(clippy::option_option, reason = "no correction is not the same as no result")]
fn correction(
    window: &Window<'_>,
    (first, last): (usize, usize),
    (left, right): (&FloatHistogram, &FloatHistogram),
    bounds: Bounds,
    remarks: &mut Remarks,
) -> Option<Option<FloatHistogram>> {
    let (ts, histograms) = (window.histogram_ts, window.histograms);
    let (mut from, mut before) = (first + 1, left);
    if bounds.smoothed
        && ts[first] < bounds.start_ms
        && histograms[first + 1].detect_reset(&histograms[first])
    {
        // The left border was interpolated across this reset.
        before = &histograms[first + 1];
        from += 1;
    }
    if from > last {
        return Some(None);
    }
    let mut correction: Option<FloatHistogram> = None;
    for histogram in histograms[from..last].iter().chain([right]) {
        if histogram.detect_reset(before) {
            match &mut correction {
                None => correction = Some(before.clone()),
                Some(correction) => add(correction, before, remarks)?,
            }
        }
        before = histogram;
    }
    Some(correction)
}

/// The histogram on the line between two; a counter that began anew began at zero.
pub(crate) fn interpolate_histograms(
    (from_ms, from): (i64, &FloatHistogram),
    (to_ms, to): (i64, &FloatHistogram),
    (at_ms, is_counter): (i64, bool),
    remarks: &mut Remarks,
) -> Option<FloatHistogram> {
    if at_ms == from_ms {
        return Some(from.clone());
    }
    let mut result = to.clone();
    if at_ms == to_ms {
        return Some(result);
    }
    let fraction = float(at_ms - from_ms) / float(to_ms - from_ms);
    if is_counter && to.detect_reset(from) {
        result.mul(fraction);
        return Some(result);
    }
    subtract(&mut result, from, remarks)?;
    result.mul(fraction);
    add(&mut result, from, remarks)?;
    Some(result)
}

fn add(sum: &mut FloatHistogram, other: &FloatHistogram, remarks: &mut Remarks) -> Option<()> {
    match sum.add(other) {
        Ok(joined) => remarks.bounds_in_addition |= joined.bounds_reconciled,
        Err(_) => {
            remarks.mixed_buckets = true;
            return None;
        }
    }
    Some(())
}

fn subtract(
    from: &mut FloatHistogram,
    other: &FloatHistogram,
    remarks: &mut Remarks,
) -> Option<()> {
    match from.sub(other) {
        Ok(joined) => remarks.bounds_in_subtraction |= joined.bounds_reconciled,
        Err(_) => {
            remarks.mixed_buckets = true;
            return None;
        }
    }
    Some(())
}

/// Evaluates an instant vector with `smoothed`: at every step the value on the line between the
/// samples around it, or the newest one where none follows within the lookback delta.
pub(crate) fn smooth(
    windows: &Windows,
    columns: &Columns,
    (row, account): (&mut Row, &mut HistogramAccount),
    pace: &mut Pace,
) -> Result<Remarks, Error> {
    let mut remarks = Remarks::default();
    let (ts, histogram_ts) = (&columns.timestamps_ms, &columns.histogram_timestamps_ms);
    for step in 0..windows.grid.steps {
        let at_ms = windows.end_ms(step);
        let from_ms = at_ms.saturating_sub(windows.range_ms);
        let to_ms = at_ms.saturating_add(windows.range_ms);
        let floats = between(ts, from_ms, to_ms);
        let histograms = between(histogram_ts, from_ms, to_ms);
        pace.spend(1)?;
        if !floats.is_empty() && !histograms.is_empty() {
            remarks.mixed_samples = true;
        } else if !floats.is_empty() {
            let next = floats.start + ts[floats.clone()].partition_point(|it| *it < at_ms);
            let at = |index: usize| (ts[index], columns.values[index]);
            if next < floats.end && ts[next] == at_ms {
                row.put(step, columns.values[next]);
            } else if next > floats.start && next < floats.end {
                row.put(step, interpolate(at(next - 1), at(next), at_ms, false));
            } else if next > floats.start {
                row.put(step, columns.values[next - 1]);
            }
        } else if !histograms.is_empty() {
            let within = &histogram_ts[histograms.clone()];
            let next = histograms.start + within.partition_point(|it| *it < at_ms);
            let end = (histograms.start, histograms.end);
            if let Some(smooth) = smooth_histogram(columns, (next, end), at_ms, &mut remarks) {
                account.add(&smooth)?;
                row.put_histogram(step, Arc::new(smooth));
            }
        }
    }
    Ok(remarks)
}

fn smooth_histogram(
    columns: &Columns,
    (next, (start, end)): (usize, (usize, usize)),
    at_ms: i64,
    remarks: &mut Remarks,
) -> Option<FloatHistogram> {
    let (ts, all) = (&columns.histogram_timestamps_ms, &columns.histograms);
    if next < end && ts[next] == at_ms {
        return Some(all[next].clone());
    }
    if next == start {
        return None;
    }
    let before = &all[next - 1];
    if next == end {
        // What is known of resets holds between samples, not here.
        let counter_reset_hint = CounterResetHint::Unknown;
        return Some(FloatHistogram { counter_reset_hint, ..before.clone() });
    }
    let after = &all[next];
    if before.uses_custom_buckets() != after.uses_custom_buckets() {
        remarks.mixed_buckets = true;
        return None;
    }
    let is_gauge = |it: &FloatHistogram| it.counter_reset_hint == CounterResetHint::Gauge;
    let is_counter = !(is_gauge(before) && is_gauge(after));
    let (before, after) = ((ts[next - 1], before), (ts[next], after));
    interpolate_histograms(before, after, (at_ms, is_counter), remarks)
}
