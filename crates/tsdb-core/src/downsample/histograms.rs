//! Downsampling of a run of histograms: raw samples to windows, windows to longer windows.

use std::ops::Range;

use model::histogram::CounterResetHint;
use model::histogram::buckets::is_custom;
use model::{Columns, FloatHistogram};

use crate::downsample::encode::Encoder;
use crate::downsample::histogram_level::{HistogramLevel, Histograms};
use crate::downsample::plan::{Step, batches, float_of};
use crate::downsample::windows::{Fold, fold_windows, for_each_window};
use crate::error::Damage;

/// The windows of one batch: count as floats, sum and counter as histograms.
#[derive(Debug, Default)]
pub(super) struct Windows {
    pub(super) count: Columns,
    pub(super) sum: Columns,
    pub(super) counter: Columns,
}

impl Windows {
    fn clear(&mut self) {
        self.count.clear();
        self.sum.clear();
        self.counter.clear();
    }
}

/// Aggregates the raw samples of a run and writes the chunks; answers how many were left out
/// because their sum is NaN.
///
/// # Errors
/// When a histogram cannot be reckoned with.
pub(super) fn from_raw(
    samples: Histograms<'_>,
    step: Step,
    windows: &mut Windows,
    encoder: &mut Encoder,
) -> Result<u64, Damage> {
    let mut nans = 0;
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for batch in batches(samples.times, step) {
        times.clear();
        values.clear();
        for index in batch {
            if samples.values[index].sum.is_nan() {
                nans += 1;
                continue;
            }
            times.push(samples.times[index]);
            values.push(&samples.values[index]);
        }
        let mut start = 0;
        for alike in values.chunk_by(|a, b| is_alike(a, b)) {
            let end = start + alike.len();
            windows.clear();
            aggregate(&times[start..end], alike, step, windows)?;
            encoder.histograms(windows)?;
            start = end;
        }
    }
    Ok(nans)
}

/// Whether two histograms can be added without losing buckets: both are exponential, or both have
/// the same custom bounds.
fn is_alike(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    is_custom(a.schema) == is_custom(b.schema) && a.custom_values == b.custom_values
}

/// Puts raw histograms, all alike, into windows.
fn aggregate(
    times: &[i64],
    values: &[&FloatHistogram],
    step: Step,
    windows: &mut Windows,
) -> Result<(), Damage> {
    let is_gauge = values.first().is_some_and(|it| is_gauge(it));
    let mut state = Aggregator::new(values.iter().copied());
    let mut result = Ok(());
    for_each_window(times, values, step, |end_ms, values| {
        let added = values.iter().try_for_each(|it| state.add(it));
        result = std::mem::replace(&mut result, Ok(())).and(added);
        let (Some(mut sum), Some(counter)) = (state.sum.take(), &mut state.counter) else { return };
        if is_gauge {
            counter.counter_reset_hint = CounterResetHint::Gauge;
            sum.counter_reset_hint = CounterResetHint::Gauge;
        }
        windows.count.push_float(end_ms, float_of(values.len()));
        push(&mut windows.sum, end_ms, sum);
        push(&mut windows.counter, end_ms, counter.clone());
    });
    result
}

/// Aggregates the chunks of a level into chunks of longer windows. Chunks are put together whole,
/// and only as long as they are alike.
///
/// # Errors
/// As [`from_raw`].
pub(super) fn from_windows(
    level: &HistogramLevel,
    step: Step,
    windows: &mut Windows,
    encoder: &mut Encoder,
) -> Result<(), Damage> {
    let chunks = level.chunks();
    let Some((first, last)) = chunks.first().zip(chunks.last()) else { return Ok(()) };
    let count = step.chunk_count(first.min_time_ms, last.max_time_ms, level.window_count());
    let group_size = (chunks.len() / count).max(1);
    let mut start = 0;
    while start < chunks.len() {
        let most = (start + group_size).min(chunks.len());
        let alike = (start + 1..most).find(|index| !are_alike(level, index - 1, *index));
        let end = alike.unwrap_or(most);
        windows.clear();
        fold_windows(level.counts(start..end), step, Fold::Sum, &mut windows.count);
        let (sums, counters) = (level.sums(start..end), level.counters(start..end));
        fold(sums, step, &mut windows.sum, |state| state.sum.take())?;
        fold(counters, step, &mut windows.counter, |state| state.counter.clone())?;
        encoder.histograms(windows)?;
        start = end;
    }
    Ok(())
}

/// Whether the histograms of two chunks are alike; those of one chunk always are.
fn are_alike(level: &HistogramLevel, a: usize, b: usize) -> bool {
    let alike = |part: fn(&HistogramLevel, Range<usize>) -> Histograms<'_>| {
        let ends = part(level, a..a + 1).values.last().zip(part(level, b..b + 1).values.first());
        ends.is_none_or(|(a, b)| is_alike(a, b))
    };
    alike(HistogramLevel::sums) && alike(HistogramLevel::counters)
}

/// Puts windows of one aggregate into longer ones, to the end of `out`.
fn fold(
    samples: Histograms<'_>,
    step: Step,
    out: &mut Columns,
    mut take: impl FnMut(&mut Aggregator) -> Option<FloatHistogram>,
) -> Result<(), Damage> {
    let mut state = Aggregator::new(samples.values.iter());
    let mut result = Ok(());
    for_each_window(samples.times, samples.values, step, |end_ms, values| {
        let added = values.iter().try_for_each(|it| state.add(it));
        result = std::mem::replace(&mut result, Ok(())).and(added);
        if let Some(histogram) = take(&mut state) {
            push(out, end_ms, histogram);
        }
        state.sum = None;
    });
    result
}

fn push(columns: &mut Columns, time_ms: i64, histogram: FloatHistogram) {
    columns.histogram_timestamps_ms.push(time_ms);
    columns.histograms.push(histogram);
}

fn is_gauge(histogram: &FloatHistogram) -> bool {
    histogram.counter_reset_hint == CounterResetHint::Gauge
}

/// Sum of the open window and the running total since the batch began, both at the coarsest schema
/// of the batch.
#[derive(Debug)]
struct Aggregator {
    schema: i32,
    sum: Option<FloatHistogram>,
    counter: Option<FloatHistogram>,
    previous: Option<FloatHistogram>,
}

impl Aggregator {
    fn new<'a>(batch: impl Iterator<Item = &'a FloatHistogram>) -> Aggregator {
        let schema = batch.map(|it| it.schema).min().unwrap_or_default();
        Aggregator { schema, sum: None, counter: None, previous: None }
    }

    fn add(&mut self, sample: &FloatHistogram) -> Result<(), Damage> {
        let failed = |error: model::histogram::Error| {
            Damage::new("histogram", 0, format!("it cannot be added to others: {error}"))
        };
        let coarse = sample.copy_to_schema(self.schema).map_err(failed)?;
        match (&mut self.counter, &self.previous) {
            (Some(counter), Some(previous)) => {
                // A finer schema than before is a reset, so the sample is asked as it was.
                if !is_gauge(&coarse) && sample.detect_reset(previous) {
                    counter.add(&coarse).map_err(failed)?;
                } else {
                    let mut difference = coarse.clone();
                    difference.sub(previous).map_err(failed)?;
                    counter.add(&difference).map_err(failed)?;
                }
            }
            _ => self.counter = Some(coarse.clone()),
        }
        match &mut self.sum {
            Some(sum) => drop(sum.add(&coarse).map_err(failed)?),
            None => self.sum = Some(coarse.clone()),
        }
        if let Some(sum) = &mut self.sum {
            // Sums of neighbours know nothing of each other.
            sum.counter_reset_hint = CounterResetHint::Gauge;
        }
        self.previous = Some(coarse);
        Ok(())
    }
}
