//! The `*_over_time` family, `changes` and `resets`.

use std::collections::VecDeque;

use crate::cancel::Pace;
use crate::error::Error;
use crate::kahan::{Kahan, Mean};
use crate::kernel::Windows;
use crate::quantile::quantile;
use crate::row::Row;

/// A number of things as a sample value; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "no window and no group holds 2^53 samples")]
pub(crate) fn count(count: usize) -> f64 {
    count as f64
}

/// The compensated sum of a window.
pub(crate) fn sum(values: &[f64]) -> f64 {
    let mut sum = Kahan::default();
    for value in values {
        sum.add(*value);
    }
    // An infinite sum has no compensation that is worth adding.
    if sum.sum.is_infinite() { sum.sum } else { sum.total() }
}

/// The mean of a window.
pub(crate) fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::default();
    for value in values {
        mean.add(*value);
    }
    mean.value()
}

/// The population variance of a window: Welford's method with compensated sums.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let (mut seen, mut mean, mut squares) = (0.0, Kahan::default(), Kahan::default());
    for value in values {
        seen += 1.0;
        let delta = value - mean.total();
        mean.add(delta / seen);
        squares.add(delta * (value - mean.total()));
    }
    squares.total() / seen
}

/// The median of the distances from the median; a NaN makes it one.
pub(crate) fn median_deviation(values: &[f64], sorted: &mut Vec<f64>) -> f64 {
    if values.iter().any(|it| it.is_nan()) {
        return f64::NAN;
    }
    sorted.clear();
    sorted.extend_from_slice(values);
    let median = quantile(0.5, sorted);
    sorted.iter_mut().for_each(|it| *it = (*it - median).abs());
    quantile(0.5, sorted)
}

/// The place of the extreme that comes last; a NaN only where there is nothing else.
pub(crate) fn last_extreme(values: &[f64], reaches: impl Fn(f64, f64) -> bool) -> usize {
    let mut extreme = 0;
    for (at, value) in values.iter().enumerate() {
        if reaches(*value, values[extreme]) || values[extreme].is_nan() {
            extreme = at;
        }
    }
    extreme
}

/// Counts the neighbours in every window for which `differs` answers true.
pub(crate) fn count_pairs(
    windows: &Windows,
    (ts, values): (&[i64], &[f64]),
    row: &mut Row,
    pace: &mut Pace,
    differs: impl Fn(f64, f64) -> bool,
) -> Result<(), Error> {
    // How many pairs end before each sample or at it: a window's count is one subtraction.
    let mut pairs_until = Vec::with_capacity(values.len());
    let mut pairs = 0_usize;
    for (at, value) in values.iter().enumerate() {
        pairs += usize::from(at > 0 && differs(values[at - 1], *value));
        pairs_until.push(pairs);
    }
    windows.slide(ts, pace, |step, window| {
        row.put(step, count(pairs_until[window.end - 1] - pairs_until[window.start]));
    })
}

/// The extreme of every window, by a queue of the samples that may still become it.
///
/// Of equal values the earliest wins, and a NaN only where there is nothing else.
pub(crate) fn extreme(
    windows: &Windows,
    (ts, values): (&[i64], &[f64]),
    row: &mut Row,
    pace: &mut Pace,
    beats: impl Fn(f64, f64) -> bool,
) -> Result<(), Error> {
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut taken = 0;
    windows.slide(ts, pace, |step, window| {
        // What lies between two windows that do not touch is never looked at.
        for at in taken.max(window.start)..window.end {
            if values[at].is_nan() {
                continue;
            }
            while candidates.back().is_some_and(|last| beats(values[at], values[*last])) {
                candidates.pop_back();
            }
            candidates.push_back(at);
        }
        taken = window.end;
        while candidates.front().is_some_and(|first| *first < window.start) {
            candidates.pop_front();
        }
        row.put(step, candidates.front().map_or(f64::NAN, |first| values[*first]));
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cancel::Cancel;
    use crate::row::Grid;

    /// The definition: walks the whole window.
    fn slow_max(values: &[f64]) -> f64 {
        let mut max = values[0];
        for value in values {
            if *value > max || max.is_nan() {
                max = *value;
            }
        }
        max
    }

    proptest! {
        #[test]
        fn the_queue_agrees_with_a_fresh_walk(
            values in prop::collection::vec(
                prop_oneof![Just(f64::NAN), Just(0.0), Just(-0.0), -3.0..3.0_f64], 1..60),
            gaps in prop::collection::vec(1..20_i64, 60),
            range_ms in 1..80_i64,
            step_ms in 1..40_i64,
        ) {
            let ts: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) })
                .take(values.len()).collect();
            let grid = Grid::range(0, ts.last().unwrap() + 50, step_ms);
            let windows = Windows::plain(grid, range_ms);
            let mut row = Row::default();
            row.reset(model::Labels::empty(), grid.steps);
            let mut pace = Pace::new(Cancel::new());
            extreme(&windows, (&ts, &values), &mut row, &mut pace, |a, b| a > b).unwrap();
            for step in 0..grid.steps {
                let (from, to) = (windows.start_ms(step), windows.end_ms(step));
                let inside: Vec<f64> = ts.iter().zip(&values)
                    .filter(|(at, _)| **at > from && **at <= to).map(|(_, value)| *value).collect();
                prop_assert_eq!(row.present.get(step), !inside.is_empty());
                if !inside.is_empty() {
                    let expected = slow_max(&inside);
                    let got = row.values[step];
                    prop_assert!(got.to_bits() == expected.to_bits()
                        || (got.is_nan() && expected.is_nan()), "{} != {}", got, expected);
                }
            }
        }
    }

    #[test]
    fn deviations_follow_the_definition() {
        assert_eq!(variance(&[1.0, 2.0, 3.0, 4.0]), 1.25);
        assert_eq!(variance(&[7.0]), 0.0);
        assert!(variance(&[1.0, f64::NAN]).is_nan());
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
    }
}
