//! Sums and means of the histograms of a group, step by step.

use std::sync::Arc;

use hashbrown::HashMap;
use model::FloatHistogram;
use model::histogram::{CounterResetHint, Error, HistogramSum};

/// The histograms of one group that were met so far, by step.
#[derive(Debug, Default)]
pub(crate) struct HistogramFold {
    steps: HashMap<usize, Folded>,
}

/// What became of the histograms of a step.
#[derive(Debug)]
pub(crate) enum Outcome {
    Histogram(Arc<FloatHistogram>),
    /// There were floats, too.
    Mixed,
    /// There is none, of which a remark tells already.
    Nothing,
}

#[derive(Debug)]
struct Folded {
    /// Not there when a float came first, which spoils the result anyway.
    mean: Option<HistogramMean>,
    has_float: bool,
    /// Exponential and custom buckets were met: nothing more is folded.
    incompatible: bool,
}

/// What is to be said about a histogram that was folded in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoldRemarks {
    pub(crate) mixed_buckets: bool,
    pub(crate) bounds_reconciled: bool,
    /// How much the fold takes more than before.
    pub(crate) grown_bytes: usize,
}

impl HistogramFold {
    /// Notes a float, before it is known whether histograms follow.
    pub(crate) fn add_float(&mut self, step: usize) {
        if let Some(folded) = self.steps.get_mut(&step)
            && !folded.incompatible
        {
            folded.has_float = true;
        }
    }

    /// Folds a histogram in; `had_float` tells whether the group has a float at this step.
    pub(crate) fn add(
        &mut self,
        step: usize,
        had_float: bool,
        histogram: &FloatHistogram,
        is_mean: bool,
    ) -> FoldRemarks {
        let Some(folded) = self.steps.get_mut(&step) else {
            let mean = (!had_float).then(|| HistogramMean::new(histogram.clone(), is_mean));
            let folded = Folded { mean, has_float: had_float, incompatible: false };
            let grown_bytes =
                STEP_BYTES + folded.mean.as_ref().map_or(0, HistogramMean::heap_bytes);
            self.steps.insert(step, folded);
            return FoldRemarks { grown_bytes, ..FoldRemarks::default() };
        };
        let (false, Some(mean)) = (folded.incompatible, &mut folded.mean) else {
            return FoldRemarks::default();
        };
        let known_bytes = mean.heap_bytes();
        let mut remarks = FoldRemarks::default();
        match mean.add(histogram) {
            Ok(bounds_reconciled) => remarks.bounds_reconciled = bounds_reconciled,
            Err(_) => {
                folded.incompatible = true;
                remarks.mixed_buckets = true;
            }
        }
        remarks.grown_bytes = mean.heap_bytes().saturating_sub(known_bytes);
        remarks
    }

    /// What came of every step that has histograms, in order; true beside those whose hints
    /// disagree.
    pub(crate) fn finish(self) -> Vec<(usize, Outcome, bool)> {
        let mut steps: Vec<_> = self.steps.into_iter().collect();
        steps.sort_unstable_by_key(|(step, _)| *step);
        let finished = steps.into_iter().map(|(step, folded)| {
            if folded.has_float {
                return (step, Outcome::Mixed, false);
            }
            match folded.mean {
                Some(mean) if !folded.incompatible => {
                    let collides = mean.hints_collide();
                    let mut histogram = mean.finish();
                    histogram.compact(0);
                    (step, Outcome::Histogram(Arc::new(histogram)), collides)
                }
                _ => (step, Outcome::Nothing, false),
            }
        });
        finished.collect()
    }
}

/// Bytes of a step in the table of a fold, half of which may be empty, and in the row that comes of
/// it.
const STEP_BYTES: usize = 2 * size_of::<(usize, Folded)>() + size_of::<FloatHistogram>();

/// A running sum of histograms, or their mean: summed until the sum would overflow, and computed
/// incrementally from there.
#[derive(Debug)]
pub(crate) struct HistogramMean {
    sum: HistogramSum,
    is_mean: bool,
    count: f64,
    incremental: bool,
    reset_seen: bool,
    no_reset_seen: bool,
}

impl HistogramMean {
    pub(crate) fn new(first: FloatHistogram, is_mean: bool) -> HistogramMean {
        let hint = first.counter_reset_hint;
        let mut mean = HistogramMean {
            sum: HistogramSum::new(first),
            is_mean,
            count: 1.0,
            incremental: false,
            reset_seen: false,
            no_reset_seen: false,
        };
        mean.see(hint);
        mean
    }

    /// Bytes of the sum and of what rounding took from it, which has as many buckets.
    fn heap_bytes(&self) -> usize {
        2 * self.sum.rough().heap_bytes()
    }

    fn see(&mut self, hint: CounterResetHint) {
        self.reset_seen |= hint == CounterResetHint::Reset;
        self.no_reset_seen |= hint == CounterResetHint::NotReset;
    }

    /// Adds a histogram; true when custom bounds differed.
    pub(crate) fn add(&mut self, histogram: &FloatHistogram) -> Result<bool, Error> {
        self.count += 1.0;
        self.see(histogram.counter_reset_hint);
        if !self.is_mean {
            return Ok(self.sum.add(histogram)?.bounds_reconciled);
        }
        if !self.incremental {
            if !may_overflow(self.sum.rough(), histogram) {
                return Ok(self.sum.add(histogram)?.bounds_reconciled);
            }
            let mut next = self.sum.clone();
            let joined = next.add(histogram)?;
            if !next.rough().has_overflow() {
                self.sum = next;
                return Ok(joined.bounds_reconciled);
            }
            self.incremental = true;
            self.sum.div(self.count - 1.0);
        }
        let mut share = histogram.clone();
        share.div(self.count);
        self.sum.mul((self.count - 1.0) / self.count);
        Ok(self.sum.add(&share)?.bounds_reconciled)
    }

    /// Whether one histogram said that a counter reset lies before it and another that none does.
    pub(crate) fn hints_collide(&self) -> bool {
        self.reset_seen && self.no_reset_seen
    }

    pub(crate) fn finish(mut self) -> FloatHistogram {
        if self.is_mean && !self.incremental {
            self.sum.div(self.count);
        }
        self.sum.finish()
    }
}

/// Whether the sum of two histograms may hold an infinity: a quick look that may be wrong in one
/// direction only, so that not every sum has to be tried on a copy.
fn may_overflow(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let largest = |it: &FloatHistogram| {
        let totals = [it.count, it.sum, it.zero_count];
        let buckets = it.positive_buckets.iter().chain(&it.negative_buckets);
        let all = totals.iter().chain(buckets);
        all.fold(0.0, |most: f64, it| if it.is_finite() { most.max(it.abs()) } else { f64::MAX })
    };
    // All buckets of one may become one bucket of the other's schema.
    let buckets = a.positive_buckets.len().max(b.positive_buckets.len())
        + a.negative_buckets.len().max(b.negative_buckets.len());
    let terms = 2.0 * (crate::kernel::over_time::count(buckets) + 2.0);
    largest(a).max(largest(b)) > f64::MAX / terms
}
