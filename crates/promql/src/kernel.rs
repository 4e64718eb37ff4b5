//! Computations on the columns of one series: a window per step in, a row out.

pub(crate) mod extended;
pub(crate) mod histogram_rate;
pub(crate) mod instant;
pub(crate) mod over_time;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod smoothing;
pub(crate) mod start_times;
pub(crate) mod window;

use std::ops::Range;

use model::{Columns, FloatHistogram, TimeRange, is_stale};

use crate::cancel::Pace;
use crate::error::Error;
use crate::row::{Grid, Row};

/// The windows that a selector looks through: one per step, each open at its left end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// The steps.
    pub(crate) grid: Grid,
    /// How far before its step a window ends, in ms.
    pub(crate) offset_ms: i64,
    /// Length of a window in ms.
    pub(crate) range_ms: i64,
    /// The time of `@` in ms, which replaces that of every step.
    pub(crate) at_ms: Option<i64>,
    /// What beside a window is looked at.
    pub(crate) beside: Beside,
    /// How far beside a window is looked, in ms.
    pub(crate) lookback_ms: i64,
}

/// What beside its window a selector looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing.
    #[default]
    Nothing,
    /// What lies before it: `anchored`.
    Anchored,
    /// What lies before and after it: `smoothed`.
    Smoothed,
}

impl Windows {
    /// Windows that end at their steps and show nothing beside them.
    pub(crate) fn plain(grid: Grid, range_ms: i64) -> Windows {
        let beside = Beside::Nothing;
        Windows { grid, offset_ms: 0, range_ms, at_ms: None, beside, lookback_ms: 0 }
    }

    /// The last millisecond of a step's window.
    #[inline]
    pub(crate) fn end_ms(&self, step: usize) -> i64 {
        self.at_ms.unwrap_or_else(|| self.grid.time_ms(step)).saturating_sub(self.offset_ms)
    }

    /// The millisecond before the first one of a step's window.
    #[inline]
    pub(crate) fn start_ms(&self, step: usize) -> i64 {
        self.end_ms(step).saturating_sub(self.range_ms)
    }

    /// Everything that any of the windows holds.
    pub(crate) fn time_range(&self) -> TimeRange {
        let last = self.grid.steps.saturating_sub(1);
        let (before_ms, after_ms) = self.beside_ms();
        TimeRange::new(
            self.start_ms(0).saturating_sub(before_ms).saturating_add(1),
            self.end_ms(last).saturating_add(after_ms),
        )
    }

    /// How far is looked before and after a window, in ms.
    pub(crate) fn beside_ms(&self) -> (i64, i64) {
        match self.beside {
            Beside::Nothing => (0, 0),
            Beside::Anchored => (self.lookback_ms, 0),
            Beside::Smoothed => (self.lookback_ms, self.lookback_ms),
        }
    }

    /// Calls `each` for every step whose window holds samples, with the samples' positions.
    pub(crate) fn slide(
        &self,
        timestamps_ms: &[i64],
        pace: &mut Pace,
        mut each: impl FnMut(usize, Range<usize>),
    ) -> Result<(), Error> {
        let (mut first, mut end) = (Edge::default(), Edge::default());
        let mut taken = 0;
        for step in 0..self.grid.steps {
            let end_ms = self.end_ms(step);
            let start_ms = end_ms.saturating_sub(self.range_ms);
            end.advance(timestamps_ms, end_ms);
            first.advance(timestamps_ms, start_ms);
            if first.at < end.at {
                each(step, first.at..end.at);
            }
            if step % STEPS_PER_CHECK == 0 {
                pace.spend(STEPS_PER_CHECK + end.at - taken)?;
                taken = end.at;
            }
        }
        Ok(())
    }

    /// Like [`Windows::slide`] for computations that look at every sample of every window.
    pub(crate) fn recompute(
        &self,
        timestamps_ms: &[i64],
        pace: &mut Pace,
        mut each: impl FnMut(usize, Range<usize>),
    ) -> Result<(), Error> {
        // The pace is kept by a copy inside, because a failed check must stop the outer loop.
        let mut failed = Ok(());
        let mut inner = pace.clone();
        self.slide(timestamps_ms, pace, |step, window| {
            if failed.is_ok() {
                failed = inner.spend(window.len());
                each(step, window);
            }
        })?;
        failed
    }
}

/// Steps between two looks at the pace.
const STEPS_PER_CHECK: usize = 64;

/// One end of a window that moves over the samples: the first position whose timestamp is after
/// the end's time.
#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    at: usize,
    /// How far it moved last.
    stride: usize,
}

impl Edge {
    /// Moves on to a time that is not before the last one.
    #[inline]
    fn advance(&mut self, timestamps_ms: &[i64], time_ms: i64) {
        // Regular samples under regular steps: as far as the last time, mostly.
        let guess = self.at + self.stride;
        let after = timestamps_ms.get(guess).is_none_or(|it| *it > time_ms);
        let before = guess == 0 || timestamps_ms.get(guess - 1).is_some_and(|it| *it <= time_ms);
        if after && before {
            self.at = guess;
            return;
        }
        self.search(timestamps_ms, time_ms);
    }

    fn search(&mut self, timestamps_ms: &[i64], time_ms: i64) {
        let from = self.at;
        // A walk beats a search where the way is short.
        let near = from.saturating_add(16).min(timestamps_ms.len());
        let walked = timestamps_ms[from..near].iter().take_while(|it| **it <= time_ms).count();
        self.at += walked;
        if self.at == near {
            self.at += timestamps_ms[near..].partition_point(|it| *it <= time_ms);
        }
        self.stride = self.at - from;
    }
}

/// Takes staleness markers out: a range selector does not see them.
pub(crate) fn drop_stale(columns: &mut Columns) {
    drop_stale_histograms(columns);
    // Without an early end the search runs on vectors, and mostly there is nothing to find.
    if !columns.values.iter().fold(false, |any, it| any | is_stale(*it)) {
        return;
    }
    let mut kept = 0;
    for at in 0..columns.values.len() {
        if is_stale(columns.values[at]) {
            continue;
        }
        columns.values[kept] = columns.values[at];
        columns.timestamps_ms[kept] = columns.timestamps_ms[at];
        if at < columns.start_timestamps_ms.len() {
            columns.start_timestamps_ms[kept] = columns.start_timestamps_ms[at];
        }
        kept += 1;
    }
    columns.values.truncate(kept);
    columns.timestamps_ms.truncate(kept);
    columns.start_timestamps_ms.truncate(kept);
}

fn drop_stale_histograms(columns: &mut Columns) {
    if !columns.histograms.iter().any(FloatHistogram::is_stale) {
        return;
    }
    let stale: Vec<bool> = columns.histograms.iter().map(FloatHistogram::is_stale).collect();
    retain_by(&mut columns.histograms, &stale);
    retain_by(&mut columns.histogram_timestamps_ms, &stale);
    retain_by(&mut columns.histogram_start_timestamps_ms, &stale);
}

/// Drops what is marked; there may be fewer elements than marks.
fn retain_by<T>(elements: &mut Vec<T>, drop: &[bool]) {
    let mut marks = drop.iter();
    elements.retain(|_| !marks.next().copied().unwrap_or(false));
}

/// A function over a range vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeFunction {
    Avg,
    Changes,
    Count,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    First,
    Idelta,
    Increase,
    Irate,
    Last,
    Mad,
    Max,
    Min,
    PredictLinear,
    Present,
    Quantile,
    Rate,
    Resets,
    Stddev,
    Stdvar,
    Sum,
    TsOfFirst,
    TsOfLast,
    TsOfMax,
    TsOfMin,
}

impl RangeFunction {
    /// The function that PromQL calls `name`; `absent_over_time` begins as `present_over_time`.
    pub(crate) fn find(name: &str) -> Option<RangeFunction> {
        Some(match name {
            "avg_over_time" => RangeFunction::Avg,
            "changes" => RangeFunction::Changes,
            "count_over_time" => RangeFunction::Count,
            "delta" => RangeFunction::Delta,
            "deriv" => RangeFunction::Deriv,
            "double_exponential_smoothing" => RangeFunction::DoubleExponentialSmoothing,
            "first_over_time" => RangeFunction::First,
            "idelta" => RangeFunction::Idelta,
            "increase" => RangeFunction::Increase,
            "irate" => RangeFunction::Irate,
            "last_over_time" => RangeFunction::Last,
            "mad_over_time" => RangeFunction::Mad,
            "max_over_time" => RangeFunction::Max,
            "min_over_time" => RangeFunction::Min,
            "predict_linear" => RangeFunction::PredictLinear,
            "absent_over_time" | "present_over_time" => RangeFunction::Present,
            "quantile_over_time" => RangeFunction::Quantile,
            "rate" => RangeFunction::Rate,
            "resets" => RangeFunction::Resets,
            "stddev_over_time" => RangeFunction::Stddev,
            "stdvar_over_time" => RangeFunction::Stdvar,
            "sum_over_time" => RangeFunction::Sum,
            "ts_of_first_over_time" => RangeFunction::TsOfFirst,
            "ts_of_last_over_time" => RangeFunction::TsOfLast,
            "ts_of_max_over_time" => RangeFunction::TsOfMax,
            "ts_of_min_over_time" => RangeFunction::TsOfMin,
            _ => return None,
        })
    }

    /// Whether the result is a sample of the series itself, so that the metric name stays.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, RangeFunction::First | RangeFunction::Last)
    }

    /// Whether it can look beside windows in this way, and the functions that can.
    pub(crate) fn looks_beside(self, beside: Beside) -> (bool, &'static str) {
        let extrapolates =
            matches!(self, RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Delta);
        let counts = matches!(self, RangeFunction::Changes | RangeFunction::Resets);
        match beside {
            Beside::Nothing => (true, ""),
            Beside::Anchored => (extrapolates || counts, "changes, delta, increase, rate, resets"),
            Beside::Smoothed => (extrapolates, "delta, increase, rate"),
        }
    }

    /// Whether start timestamps matter to it.
    pub(crate) fn wants_starts(self) -> bool {
        matches!(
            self,
            RangeFunction::Rate
                | RangeFunction::Increase
                | RangeFunction::Irate
                | RangeFunction::Resets
        )
    }

    /// Whether a metric that is no counter by its name deserves a remark.
    pub(crate) fn wants_counter(self) -> bool {
        matches!(self, RangeFunction::Rate | RangeFunction::Increase)
    }
}

/// Evaluates `function` over the floats of every window of one series; `scalar` gives the scalar
/// argument of a number at a step. `row` must be reset to the steps of the grid.
pub(crate) fn range_function(
    function: RangeFunction,
    windows: &Windows,
    columns: &Columns,
    scalar: &dyn Fn(usize, usize) -> f64,
    (row, pace): (&mut Row, &mut Pace),
) -> Result<(), Error> {
    let (ts, values) = (&*columns.timestamps_ms, &*columns.values);
    match function {
        RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Delta => {
            rate::extrapolated(rate::Kind::of(function), windows, ts, values, (row, pace))
        }
        RangeFunction::Irate | RangeFunction::Idelta => {
            let per_second = function == RangeFunction::Irate;
            rate::of_last_two(per_second, windows, (ts, values), row, pace)
        }
        RangeFunction::Changes => {
            over_time::count_pairs(windows, (ts, values), row, pace, |before, value| {
                value != before && !(value.is_nan() && before.is_nan())
            })
        }
        RangeFunction::Resets => {
            over_time::count_pairs(windows, (ts, values), row, pace, |before, value| value < before)
        }
        RangeFunction::Min => over_time::extreme(windows, (ts, values), row, pace, |a, b| a < b),
        RangeFunction::Max => over_time::extreme(windows, (ts, values), row, pace, |a, b| a > b),
        RangeFunction::Count => windows.slide(ts, pace, |step, window| {
            row.put(step, over_time::count(window.len()));
        }),
        RangeFunction::Present => windows.slide(ts, pace, |step, _| row.put(step, 1.0)),
        RangeFunction::First => {
            windows.slide(ts, pace, |step, window| row.put(step, values[window.start]))
        }
        RangeFunction::Last => {
            windows.slide(ts, pace, |step, window| row.put(step, values[window.end - 1]))
        }
        RangeFunction::TsOfFirst => windows.slide(ts, pace, |step, window| {
            row.put(step, instant::seconds(ts[window.start]));
        }),
        RangeFunction::TsOfLast => windows.slide(ts, pace, |step, window| {
            row.put(step, instant::seconds(ts[window.end - 1]));
        }),
        _ => recomputed(function, windows, (ts, values), scalar, (row, pace)),
    }
}

/// Evaluates the functions that look at every sample of every window.
fn recomputed(
    function: RangeFunction,
    windows: &Windows,
    (ts, values): (&[i64], &[f64]),
    scalar: &dyn Fn(usize, usize) -> f64,
    (row, pace): (&mut Row, &mut Pace),
) -> Result<(), Error> {
    match function {
        RangeFunction::Sum => windows.recompute(ts, pace, |step, window| {
            row.put(step, over_time::sum(&values[window]));
        }),
        RangeFunction::Avg => windows.recompute(ts, pace, |step, window| {
            row.put(step, over_time::mean(&values[window]));
        }),
        RangeFunction::Stdvar => windows.recompute(ts, pace, |step, window| {
            row.put(step, over_time::variance(&values[window]));
        }),
        RangeFunction::Stddev => windows.recompute(ts, pace, |step, window| {
            row.put(step, over_time::variance(&values[window]).sqrt());
        }),
        RangeFunction::Quantile => {
            let mut sorted = Vec::new();
            windows.recompute(ts, pace, |step, window| {
                sorted.clear();
                sorted.extend_from_slice(&values[window]);
                row.put(step, crate::quantile::quantile(scalar(0, step), &mut sorted));
            })
        }
        RangeFunction::Mad => {
            let mut sorted = Vec::new();
            windows.recompute(ts, pace, |step, window| {
                row.put(step, over_time::median_deviation(&values[window], &mut sorted));
            })
        }
        RangeFunction::TsOfMax => windows.recompute(ts, pace, |step, window| {
            let at = window.start + over_time::last_extreme(&values[window], |a, b| a >= b);
            row.put(step, instant::seconds(ts[at]));
        }),
        RangeFunction::TsOfMin => windows.recompute(ts, pace, |step, window| {
            let at = window.start + over_time::last_extreme(&values[window], |a, b| a <= b);
            row.put(step, instant::seconds(ts[at]));
        }),
        RangeFunction::DoubleExponentialSmoothing => {
            smoothing::evaluate(windows, (ts, values), scalar, row, pace)
        }
        RangeFunction::Deriv => windows.recompute(ts, pace, |step, window| {
            if window.len() > 1 {
                let line =
                    regression::fit(&ts[window.clone()], &values[window.clone()], ts[window.start]);
                row.put(step, line.slope);
            }
        }),
        RangeFunction::PredictLinear => windows.recompute(ts, pace, |step, window| {
            if window.len() > 1 {
                let now_ms = windows.grid.time_ms(step);
                let line = regression::fit(&ts[window.clone()], &values[window], now_ms);
                row.put(step, line.slope * scalar(0, step) + line.intercept);
            }
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cancel::Cancel;

    #[test]
    fn windows_are_open_on_the_left() {
        let windows = Windows::plain(Grid::range(10, 30, 10), 10);
        assert_eq!(windows.time_range(), TimeRange::new(1, 30));
        let mut seen = Vec::new();
        let mut pace = Pace::new(Cancel::new());
        windows.slide(&[0, 10, 20, 25], &mut pace, |step, it| seen.push((step, it))).unwrap();
        assert_eq!(seen, [(0, 1..2), (1, 2..3), (2, 3..4)]);
    }

    const ALL: [RangeFunction; 26] = [
        RangeFunction::Avg,
        RangeFunction::Changes,
        RangeFunction::Count,
        RangeFunction::Delta,
        RangeFunction::Deriv,
        RangeFunction::First,
        RangeFunction::Idelta,
        RangeFunction::Increase,
        RangeFunction::Irate,
        RangeFunction::Last,
        RangeFunction::Max,
        RangeFunction::Min,
        RangeFunction::PredictLinear,
        RangeFunction::Present,
        RangeFunction::Quantile,
        RangeFunction::Rate,
        RangeFunction::Resets,
        RangeFunction::Stddev,
        RangeFunction::Stdvar,
        RangeFunction::Sum,
        RangeFunction::DoubleExponentialSmoothing,
        RangeFunction::Mad,
        RangeFunction::TsOfFirst,
        RangeFunction::TsOfLast,
        RangeFunction::TsOfMax,
        RangeFunction::TsOfMin,
    ];

    fn evaluate(function: RangeFunction, windows: &Windows, columns: &Columns) -> Row {
        let mut row = Row::default();
        row.reset(model::Labels::empty(), windows.grid.steps);
        let mut pace = Pace::new(Cancel::new());
        range_function(function, windows, columns, &|_, _| 0.3, (&mut row, &mut pace)).unwrap();
        row
    }

    proptest! {
        /// What slides has the bits of what is evaluated for one step alone.
        #[test]
        fn sliding_is_the_same_as_starting_afresh(
            values in prop::collection::vec(prop_oneof![
                8 => (0..6_u8).prop_map(f64::from),
                4 => -1e9..1e9_f64,
                1 => Just(f64::NAN),
                1 => Just(f64::INFINITY),
                1 => Just(-0.0),
            ], 0..80),
            gaps in prop::collection::vec(1..30_i64, 80),
            range_ms in 1..200_i64,
            step_ms in 1..90_i64,
            offset_ms in -50..50_i64,
        ) {
            let mut columns = Columns::default();
            let mut at = 0;
            for (value, gap) in values.iter().zip(&gaps) {
                at += gap;
                columns.push_float(at, *value);
            }
            let grid = Grid::range(-20, at + 100, step_ms);
            let windows = Windows { offset_ms, ..Windows::plain(grid, range_ms) };
            for function in ALL {
                let row = evaluate(function, &windows, &columns);
                for step in 0..grid.steps {
                    let alone = Windows { grid: Grid::instant(grid.time_ms(step)), ..windows };
                    let fresh = evaluate(function, &alone, &columns);
                    prop_assert_eq!(row.present.get(step), fresh.present.get(0));
                    if fresh.present.get(0) {
                        let (slid, fresh) = (row.values[step], fresh.values[0]);
                        let same = slid.to_bits() == fresh.to_bits()
                            || (slid.is_nan() && fresh.is_nan());
                        prop_assert!(same, "{:?}: {} != {}", function, slid, fresh);
                    }
                }
            }
        }
    }

    #[test]
    fn a_far_jump_finds_its_place() {
        let ts: Vec<i64> = (0..1000).collect();
        let mut edge = Edge::default();
        for (time_ms, at) in [(-5, 0), (2, 3), (5, 6), (5, 6), (700, 701), (701, 702), (5000, 1000)]
        {
            edge.advance(&ts, time_ms);
            assert_eq!(edge.at, at, "{time_ms}");
        }
    }
}
