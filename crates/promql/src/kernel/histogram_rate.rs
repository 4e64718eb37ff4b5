//! `rate`, `increase`, `delta`, `irate` and `idelta` of histograms.

use model::FloatHistogram;
use model::histogram::CounterResetHint;

use crate::kernel::RangeFunction;
use crate::kernel::instant::float;
use crate::kernel::over_time::count;
use crate::kernel::rate::duration_seconds;
use crate::kernel::start_times::{overlaps, starts_anew};
use crate::kernel::window::{Outcome, Remarks, Window};

/// Evaluates `rate`, `increase` or `delta` over a window without floats.
pub(crate) fn extrapolated(
    function: RangeFunction,
    window: &Window<'_>,
    range_ms: i64,
    remarks: &mut Remarks,
) -> Option<FloatHistogram> {
    let is_counter = function != RangeFunction::Delta;
    let histograms = window.histograms;
    let last = histograms.len() - 1;
    let mut gain = match last {
        0 => None,
        _ => Some(gained(window, is_counter, remarks)?),
    };
    let (first_ms, last_ms) = (window.histogram_ts[0], window.histogram_ts[last]);
    let mut to_start = float(first_ms - window.start_ms) / 1000.0;
    let mut to_end = float(window.end_ms - last_ms) / 1000.0;
    let mut sampled = float(last_ms - first_ms) / 1000.0;
    let average = if last > 0 { sampled / count(last) } else { 0.0 };
    let threshold = average * 1.1;
    let start =
        window.starts.first().copied().filter(|start| {
            is_counter && *start != 0 && *start > window.start_ms && *start < first_ms
        });
    if let Some(start) = start {
        // The counter began at zero inside the window: nothing is carried on before that.
        to_start = 0.0;
        sampled = float(last_ms - start) / 1000.0;
        match &mut gain {
            None => gain = Some(histograms[0].clone()),
            Some(gain) => add(gain, &histograms[0], remarks)?,
        }
    } else if last == 0 {
        return None;
    } else {
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        let (gained, first) = (gain.as_ref()?.count, histograms[0].count);
        if is_counter && gained > 0.0 && first >= 0.0 {
            to_start = to_start.min(sampled * (first / gained));
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
    if function == RangeFunction::Rate {
        factor /= duration_seconds(range_ms);
    }
    let mut gain = gain?;
    gain.mul(factor);
    Some(gain)
}

/// Last minus first histogram, with what resets took away added.
fn gained(window: &Window<'_>, is_counter: bool, remarks: &mut Remarks) -> Option<FloatHistogram> {
    let histograms = window.histograms;
    let end = histograms.len() - 1;
    let (first, last) = (&histograms[0], &histograms[end]);
    let is_gauge = |it: &FloatHistogram| it.counter_reset_hint == CounterResetHint::Gauge;
    remarks.not_counter |= is_counter && (is_gauge(first) || is_gauge(last));
    let empty;
    let mut before = first;
    if is_counter && (started_anew(window, 0, 1) || histograms[1].detect_reset(first)) {
        // Nothing of the first one counts, its buckets need not even be comparable.
        empty = FloatHistogram {
            schema: histograms[1].schema,
            custom_values: histograms[1].custom_values.clone(),
            ..FloatHistogram::default()
        };
        before = &empty;
    }
    let custom = before.uses_custom_buckets();
    let between = if is_counter { &histograms[1..end] } else { &[] };
    remarks.not_counter |= between.iter().any(is_gauge);
    if last.uses_custom_buckets() != custom
        || between.iter().any(|it| it.uses_custom_buckets() != custom)
    {
        remarks.mixed_buckets = true;
        return None;
    }
    let schemas = between.iter().map(|it| it.schema);
    let schema = schemas.fold(last.schema.min(before.schema), i32::min);
    let mut gain = last.copy_to_schema(schema).ok()?;
    remarks.bounds_in_subtraction |= gain.sub(before).ok()?.bounds_reconciled;
    if is_counter {
        let mut overlap_told = false;
        for (at, now) in histograms.iter().enumerate().skip(1) {
            if !overlap_told && overlaps(window.starts, window.histogram_ts, at) {
                overlap_told = true;
                remarks.start_overlaps += 1;
            }
            if started_anew(window, at - 1, at) || now.detect_reset(before) {
                add(&mut gain, before, remarks)?;
            }
            before = now;
        }
    } else {
        remarks.not_gauge |= !is_gauge(first) || !is_gauge(last);
    }
    gain.counter_reset_hint = CounterResetHint::Gauge;
    gain.compact(0);
    Some(gain)
}

/// Whether the start timestamps say that the counter began anew between two histograms.
pub(crate) fn started_anew(window: &Window<'_>, before: usize, now: usize) -> bool {
    starts_anew(window.starts, window.histogram_ts, (before, now))
}

fn add(sum: &mut FloatHistogram, other: &FloatHistogram, remarks: &mut Remarks) -> Option<()> {
    match sum.add(other) {
        Ok(joined) => {
            remarks.bounds_in_addition |= joined.bounds_reconciled;
            Some(())
        }
        Err(_) => {
            remarks.mixed_buckets = true;
            None
        }
    }
}

/// Evaluates `irate` (per second, falls are resets) or `idelta` over a window with histograms.
pub(crate) fn of_last_two(per_second: bool, window: &Window<'_>, remarks: &mut Remarks) -> Outcome {
    let (floats, histograms) = (window.ts.len(), window.histograms.len());
    if floats + histograms < 2 {
        return Outcome::Nothing;
    }
    // Where the kinds of the two newest samples differ nothing can be said.
    let newest_float = window.ts.last().copied().unwrap_or(i64::MIN);
    let second_float = floats.checked_sub(2).map_or(i64::MIN, |at| window.ts[at]);
    let newest = window.histogram_ts[histograms - 1];
    let second = histograms.checked_sub(2).map_or(i64::MIN, |at| window.histogram_ts[at]);
    if second_float > newest {
        return Outcome::AsFloats;
    }
    if histograms < 2 || newest_float >= second {
        remarks.mixed_samples = true;
        return Outcome::Nothing;
    }
    let (before, last) = (&window.histograms[histograms - 2], &window.histograms[histograms - 1]);
    let is_gauge = |it: &FloatHistogram| it.counter_reset_hint == CounterResetHint::Gauge;
    let (any_gauge, all_gauges) =
        (is_gauge(before) || is_gauge(last), is_gauge(before) && is_gauge(last));
    remarks.not_counter |= per_second && any_gauge;
    remarks.not_gauge |= !per_second && !all_gauges;
    let mut gain = last.clone();
    let is_reset = per_second
        && (started_anew(window, histograms - 2, histograms - 1) || last.detect_reset(before));
    if !is_reset {
        match gain.sub(before) {
            Ok(joined) => remarks.bounds_in_subtraction |= joined.bounds_reconciled,
            Err(_) => {
                remarks.mixed_buckets = true;
                return Outcome::Nothing;
            }
        }
    }
    gain.counter_reset_hint = CounterResetHint::Gauge;
    gain.compact(0);
    if per_second {
        gain.div(float(newest.saturating_sub(second)) / 1000.0);
    }
    Outcome::Histogram(gain)
}
