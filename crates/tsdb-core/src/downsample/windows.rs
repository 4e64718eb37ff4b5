//! The inner loops: samples into windows.

use model::Columns;

use crate::downsample::level::FloatLevel;
use crate::downsample::plan::{Step, float_of};

/// What infinities make: the bits that Thanos' computations have on amd64, on every machine.
pub(super) const COMPUTED_NAN: f64 = f64::from_bits(0xfff8_0000_0000_0000);

/// Samples of one aggregate or of a raw series, in order of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline<'a> {
    pub(super) times: &'a [i64],
    pub(super) values: &'a [f64],
}

impl<'a> Timeline<'a> {
    /// The floats of columns.
    pub(super) fn of(columns: &'a Columns) -> Timeline<'a> {
        Timeline { times: &columns.timestamps_ms, values: &columns.values }
    }

    /// The first `count` samples and the others.
    pub(super) fn split_at(self, count: usize) -> (Timeline<'a>, Timeline<'a>) {
        let (times, later_times) = self.times.split_at(count);
        let (values, later_values) = self.values.split_at(count);
        let later = Timeline { times: later_times, values: later_values };
        (Timeline { times, values }, later)
    }
}

/// What one aggregate of a window becomes when several windows are put into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    Min,
    Max,
}

/// Calls `take` with the end of each window and its part of the samples, and answers the end of
/// the last one. A window is never said to end after the last sample.
///
/// Times that go back (they cannot in a sound block) count to the window that is open.
#[inline]
pub(super) fn for_each_window<'a, T>(
    times: &[i64],
    values: &'a [T],
    step: Step,
    take: impl FnMut(i64, &'a [T]),
) -> i64 {
    walk_windows(times, values, (step, times.is_sorted()), take)
}

/// As [`for_each_window`], where it is known whether the times are sorted.
#[inline]
fn walk_windows<'a, T>(
    mut times: &[i64],
    mut values: &'a [T],
    (step, is_sorted): (Step, bool),
    mut take: impl FnMut(i64, &'a [T]),
) -> i64 {
    let last_ms = times.last().copied().unwrap_or_default();
    let (mut end_ms, mut guess) = (0, 1);
    while let Some(first_ms) = times.first() {
        end_ms = step.window_end_ms(*first_ms).min(last_ms);
        // Windows hold about as many samples as their neighbours.
        let mut size = if is_sorted { guess.clamp(1, times.len()) } else { 1 };
        while size > 1 && times[size - 1] > end_ms {
            size -= 1;
        }
        while size < times.len() && times[size] <= end_ms {
            size += 1;
        }
        let (window, rest) = values.split_at(size);
        take(end_ms, window);
        (times, values, guess) = (&times[size..], rest, size);
    }
    end_ms
}

/// The running total of a counter that carries on over resets.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    last: f64,
    total: f64,
}

/// Aggregates a batch of raw samples, none of them NaN and at least one, to the end of `level`.
/// `is_sorted` tells whether no time is before the one in front of it.
pub(super) fn aggregate_raw(
    batch: Timeline<'_>,
    step: Step,
    is_sorted: bool,
    level: &mut FloatLevel,
) {
    let Some((first_ms, first)) = batch.times.first().zip(batch.values.first()) else { return };
    let last = batch.values.last().copied().unwrap_or_default();
    let mut counter: Option<Total> = None;
    let [count, sum, min, max, total] = &mut level.parts;
    total.push_float(*first_ms, *first);
    let end_ms = walk_windows(batch.times, batch.values, (step, is_sorted), |end_ms, values| {
        let added = add(values, &mut counter);
        let (least, greatest) = extremes(values);
        count.push_float(end_ms, float_of(values.len()));
        sum.push_float(end_ms, settled(added));
        min.push_float(end_ms, least);
        max.push_float(end_ms, greatest);
        total.push_float(end_ms, settled(counter.unwrap_or_default().total));
    });
    // The last raw value, at a time that is there already: by it a reader of the next chunk sees
    // whether the counter was reset in between.
    total.push_float(end_ms, last);
}

/// The sum of one window, and the total of the counter behind it. Plain additions in order: the
/// bits are Thanos'.
#[inline]
fn add(values: &[f64], counter: &mut Option<Total>) -> f64 {
    let Some((first, rest)) = values.split_first() else { return 0.0 };
    // Not the sum alone: minus zero would stay.
    let mut sum = 0.0 + first;
    let mut state = match *counter {
        Some(Total { last, total }) => Total { last: *first, total: total + rise(last, *first) },
        // The first sample sets the total.
        None => Total { last: *first, total: *first },
    };
    for &value in rest {
        state.total += rise(state.last, value);
        state.last = value;
        sum += value;
    }
    *counter = Some(state);
    sum
}

/// By how much a counter grew.
#[inline(always)]
fn rise(last: f64, value: f64) -> f64 {
    if value < last { value } else { value - last }
}

/// How many samples are compared side by side.
const LANES: usize = 4;

/// The least and the greatest of the values of a window, none of them NaN; of zeros of both signs
/// the first.
#[inline]
fn extremes(values: &[f64]) -> (f64, f64) {
    let (mut min, mut max) = ([f64::MAX; LANES], [f64::MIN; LANES]);
    let (whole, rest) = values.as_chunks::<LANES>();
    for group in whole {
        for (lane, value) in group.iter().enumerate() {
            min[lane] = less(*value, min[lane]);
            max[lane] = greater(*value, max[lane]);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        min[lane] = less(*value, min[lane]);
        max[lane] = greater(*value, max[lane]);
    }
    let (min, max) =
        (min.into_iter().fold(f64::MAX, less), max.into_iter().fold(f64::MIN, greater));
    // Equal values have equal bits, but for zeros.
    let first_zero = || values.iter().copied().find(|it| *it == 0.0).unwrap_or_default();
    (if min == 0.0 { first_zero() } else { min }, if max == 0.0 { first_zero() } else { max })
}

#[inline(always)]
fn less(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[inline(always)]
fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// A computed value with the one NaN that there is.
#[inline(always)]
fn settled(value: f64) -> f64 {
    if value.is_nan() { COMPUTED_NAN } else { value }
}

/// Puts windows of one aggregate into longer ones, to the end of `out`.
pub(super) fn fold_windows(samples: Timeline<'_>, step: Step, fold: Fold, out: &mut Columns) {
    for_each_window(samples.times, samples.values, step, |end_ms, values| {
        let value = settled(match fold {
            Fold::Sum => values.iter().fold(0.0, |sum, it| sum + it),
            Fold::Min => values.iter().fold(f64::MAX, |min, it| less(*it, min)),
            Fold::Max => values.iter().fold(f64::MIN, |max, it| greater(*it, max)),
        });
        out.push_float(end_ms, value);
    });
}

/// Puts the totals of a counter, resets applied, into windows, to the end of `out`; answers the
/// end of the last window.
pub(super) fn total_windows(samples: Timeline<'_>, step: Step, out: &mut Columns) -> i64 {
    let mut counter: Option<Total> = None;
    for_each_window(samples.times, samples.values, step, |end_ms, values| {
        add(values, &mut counter);
        out.push_float(end_ms, settled(counter.unwrap_or_default().total));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_those_of_one_comparison_after_the_other() {
        let pool = [0.0, -0.0, 1.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, 2.5, f64::MAX];
        // All lists of up to five values, and their repetitions.
        for length in 1..=5_u32 {
            for mut number in 0..8_usize.pow(length) {
                let mut values = Vec::new();
                for _ in 0..length {
                    values.push(pool[number % 8]);
                    number /= 8;
                }
                for _ in 0..2 {
                    let min = values.iter().fold(f64::MAX, |min, it| less(*it, min));
                    let max = values.iter().fold(f64::MIN, |max, it| greater(*it, max));
                    let got = extremes(&values);
                    assert_eq!((got.0.to_bits(), got.1.to_bits()), (min.to_bits(), max.to_bits()));
                    values.extend_from_within(..);
                }
            }
        }
    }
}
