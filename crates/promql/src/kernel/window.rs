//! What functions make of windows that hold histograms.
//!
//! Floats alone never come here: their columns are evaluated as a whole. A window is small beside
//! them, and its histograms are large, so nothing slides.

use std::ops::Range;
use std::sync::Arc;

use model::{Columns, FloatHistogram};

use crate::annotations::Notes;
use crate::ast::Span;
use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::account::{HistogramAccount, work_of};
use crate::eval::histogram_fold::HistogramMean;
use crate::kernel::instant::seconds;
use crate::kernel::over_time::count;
use crate::kernel::{RangeFunction, Windows, histogram_rate};
use crate::row::Row;

/// The samples of one window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<'a> {
    /// The time that it ends at, which belongs to it, and the one before it.
    pub(crate) end_ms: i64,
    pub(crate) start_ms: i64,
    pub(crate) ts: &'a [i64],
    pub(crate) values: &'a [f64],
    pub(crate) histogram_ts: &'a [i64],
    pub(crate) histograms: &'a [FloatHistogram],
    /// Start timestamps of the histograms, where they count.
    pub(crate) starts: &'a [i64],
}

/// What a function makes of a window.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// What the floats alone give.
    AsFloats,
    Nothing,
    Float(f64),
    Histogram(FloatHistogram),
}

/// What is to be said about the windows of a series.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remarks {
    pub(crate) mixed_samples: bool,
    pub(crate) not_counter: bool,
    pub(crate) not_gauge: bool,
    pub(crate) mixed_buckets: bool,
    pub(crate) ignored: bool,
    pub(crate) bounds_in_addition: bool,
    pub(crate) bounds_in_subtraction: bool,
    pub(crate) bounds_in_aggregation: bool,
    pub(crate) hints_collide: bool,
    pub(crate) start_overlaps: usize,
}

impl Remarks {
    /// Leaves them in the notes of the query.
    pub(crate) fn leave(&self, notes: &Notes, metric: &str, span: Span) {
        let with_metric = |any: bool, leave: fn(&Notes, &str, Span)| {
            if any {
                leave(notes, metric, span);
            }
        };
        with_metric(self.mixed_samples, Notes::mixed_samples);
        with_metric(self.not_counter, Notes::histogram_not_counter);
        with_metric(self.not_gauge, Notes::histogram_not_gauge);
        with_metric(self.mixed_buckets, Notes::mixed_buckets);
        with_metric(self.ignored, Notes::ignored_in_range);
        let bounds = [
            (self.bounds_in_addition, "addition"),
            (self.bounds_in_subtraction, "subtraction"),
            (self.bounds_in_aggregation, "aggregation"),
        ];
        for (_, operation) in bounds.into_iter().filter(|(any, _)| *any) {
            notes.bounds_reconciled(operation, span);
        }
        if self.hints_collide {
            notes.reset_collision("aggregation", span);
        }
        if self.start_overlaps > 0 {
            notes.start_overlap(metric, self.start_overlaps, span);
        }
    }
}

/// Evaluates `function` over every window that holds histograms, and puts the results into `row`,
/// which holds those of the floats.
pub(crate) fn evaluate(
    function: RangeFunction,
    windows: &Windows,
    (columns, use_starts): (&Columns, bool),
    (row, account): (&mut Row, &mut HistogramAccount),
    pace: &mut Pace,
) -> Result<Remarks, Error> {
    let mut remarks = Remarks::default();
    let starts: &[i64] = if use_starts { &columns.histogram_start_timestamps_ms } else { &[] };
    let mut inner = pace.clone();
    let mut failed = Ok(());
    windows.recompute(&columns.histogram_timestamps_ms, pace, |step, within| {
        if failed.is_err() {
            return;
        }
        if looks_at_buckets(function) {
            let work = columns.histograms[within.clone()].iter().map(work_of).sum();
            failed = inner.spend(work);
        }
        let end_ms = windows.end_ms(step);
        let start_ms = windows.start_ms(step);
        let floats = between(&columns.timestamps_ms, start_ms, end_ms);
        let window = Window {
            end_ms,
            start_ms,
            ts: &columns.timestamps_ms[floats.clone()],
            values: &columns.values[floats],
            histogram_ts: &columns.histogram_timestamps_ms[within.clone()],
            histograms: &columns.histograms[within.clone()],
            starts: starts.get(within).unwrap_or_default(),
        };
        match outcome(function, &window, windows.range_ms, &mut remarks) {
            Outcome::AsFloats => {}
            Outcome::Nothing => row.present.unset(step),
            Outcome::Float(value) => row.put(step, value),
            Outcome::Histogram(histogram) => {
                if failed.is_ok() {
                    failed = account.add(&histogram);
                }
                row.put_histogram(step, Arc::new(histogram));
            }
        }
    })?;
    failed?;
    Ok(remarks)
}

/// Whether a function looks at all histograms of a window and not just at their times and ends.
fn looks_at_buckets(function: RangeFunction) -> bool {
    matches!(
        function,
        RangeFunction::Rate
            | RangeFunction::Increase
            | RangeFunction::Delta
            | RangeFunction::Sum
            | RangeFunction::Avg
            | RangeFunction::Changes
            | RangeFunction::Resets
    )
}

/// Positions of the times after `start_ms` up to `end_ms`.
pub(crate) fn between(ts: &[i64], start_ms: i64, end_ms: i64) -> Range<usize> {
    let first = ts.partition_point(|it| *it <= start_ms);
    first..first + ts[first..].partition_point(|it| *it <= end_ms)
}

fn outcome(
    function: RangeFunction,
    window: &Window<'_>,
    range_ms: i64,
    remarks: &mut Remarks,
) -> Outcome {
    match function {
        RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Delta => {
            if !window.ts.is_empty() {
                remarks.mixed_samples = true;
                return Outcome::Nothing;
            }
            histogram_rate::extrapolated(function, window, range_ms, remarks)
                .map_or(Outcome::Nothing, Outcome::Histogram)
        }
        RangeFunction::Irate | RangeFunction::Idelta => {
            histogram_rate::of_last_two(function == RangeFunction::Irate, window, remarks)
        }
        RangeFunction::Sum | RangeFunction::Avg => {
            if !window.ts.is_empty() {
                remarks.mixed_samples = true;
                return Outcome::Nothing;
            }
            folded(window.histograms, function == RangeFunction::Avg, remarks)
        }
        RangeFunction::Count => Outcome::Float(count(window.ts.len() + window.histograms.len())),
        RangeFunction::Present => Outcome::Float(1.0),
        RangeFunction::First => match (window.ts.first(), window.histogram_ts.first()) {
            (Some(float), Some(histogram)) if float < histogram => Outcome::AsFloats,
            _ => Outcome::Histogram(window.histograms[0].clone()),
        },
        RangeFunction::Last => match (window.ts.last(), window.histogram_ts.last()) {
            (Some(float), Some(histogram)) if float > histogram => Outcome::AsFloats,
            _ => Outcome::Histogram(window.histograms[window.histograms.len() - 1].clone()),
        },
        RangeFunction::TsOfFirst => {
            let float = window.ts.first().copied().unwrap_or(i64::MAX);
            Outcome::Float(seconds(float.min(window.histogram_ts[0])))
        }
        RangeFunction::TsOfLast => {
            let float = window.ts.last().copied().unwrap_or(i64::MIN);
            let histogram = window.histogram_ts[window.histogram_ts.len() - 1];
            Outcome::Float(seconds(float.max(histogram)))
        }
        RangeFunction::Changes => Outcome::Float(count(count_pairs(window, differ))),
        RangeFunction::Resets => {
            Outcome::Float(count(count_pairs(window, |a, b| fell(a, b, window))))
        }
        RangeFunction::Deriv
        | RangeFunction::DoubleExponentialSmoothing
        | RangeFunction::Mad
        | RangeFunction::Max
        | RangeFunction::Min
        | RangeFunction::PredictLinear
        | RangeFunction::Quantile
        | RangeFunction::Stddev
        | RangeFunction::Stdvar
        | RangeFunction::TsOfMax
        | RangeFunction::TsOfMin => {
            remarks.ignored |= !window.ts.is_empty();
            Outcome::AsFloats
        }
    }
}

/// The sum or the mean of histograms.
fn folded(histograms: &[FloatHistogram], is_mean: bool, remarks: &mut Remarks) -> Outcome {
    let mut mean = HistogramMean::new(histograms[0].clone(), is_mean);
    let mut bounds_reconciled = false;
    for histogram in &histograms[1..] {
        match mean.add(histogram) {
            Ok(reconciled) => bounds_reconciled |= reconciled,
            Err(_) => {
                remarks.mixed_buckets = true;
                return Outcome::Nothing;
            }
        }
    }
    remarks.bounds_in_aggregation |= bounds_reconciled;
    remarks.hints_collide |= mean.hints_collide();
    Outcome::Histogram(mean.finish())
}

/// A sample of a window: its time, its place among those of its kind, and what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AnySample<'a> {
    Float(f64),
    Histogram(usize, &'a FloatHistogram),
}

/// Counts the neighbours among floats and histograms in order of time for which `holds` answers
/// true.
pub(crate) fn count_pairs<'a>(
    window: &Window<'a>,
    holds: impl Fn(AnySample<'a>, AnySample<'a>) -> bool,
) -> usize {
    let mut floats = window.ts.iter().zip(window.values).peekable();
    let mut histograms = window.histogram_ts.iter().zip(window.histograms).enumerate().peekable();
    let mut before = None;
    let mut pairs = 0;
    loop {
        let take_float = match (floats.peek(), histograms.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((float, _)), Some((_, (histogram, _)))) => float < histogram,
        };
        let sample = if take_float {
            floats.next().map(|(_, value)| AnySample::Float(*value))
        } else {
            histograms.next().map(|(at, (_, it))| AnySample::Histogram(at, it))
        };
        let Some(sample) = sample else { return pairs };
        if before.is_some_and(|before| holds(before, sample)) {
            pairs += 1;
        }
        before = Some(sample);
    }
}

/// Whether a sample is not what the one before it was.
pub(crate) fn differ(before: AnySample<'_>, now: AnySample<'_>) -> bool {
    match (before, now) {
        (AnySample::Float(a), AnySample::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (AnySample::Histogram(_, a), AnySample::Histogram(_, b)) => !b.equals(a),
        _ => true,
    }
}

/// Whether a counter began anew.
pub(crate) fn fell(before: AnySample<'_>, now: AnySample<'_>, window: &Window<'_>) -> bool {
    match (before, now) {
        (AnySample::Float(a), AnySample::Float(b)) => b < a,
        (AnySample::Histogram(at, a), AnySample::Histogram(next, b)) => {
            histogram_rate::started_anew(window, at, next) || b.detect_reset(a)
        }
        _ => true,
    }
}
