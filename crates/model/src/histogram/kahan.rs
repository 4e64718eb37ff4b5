//! Sums of many histograms that lose nothing to rounding: Kahan's summation in Neumaier's form.

use crate::histogram::FloatHistogram;
use crate::histogram::arithmetic::{Joined, check_kinds, join_hints};
use crate::histogram::compact::compact_side;
use crate::histogram::custom::{self, intersect};
use crate::histogram::resolution::{reduced, reduced_kahan};
use crate::histogram::sides::{self, Skip};
use crate::histogram::{Error, Span};

/// Adds `value` to a sum and what rounding took from it to `lost`.
#[inline]
pub(super) fn add_kahan(value: f64, sum: &mut f64, lost: &mut f64) {
    let total = *sum + value;
    if total.is_infinite() {
        *lost = 0.0;
    } else if sum.abs() >= value.abs() {
        *lost += (*sum - total) + value;
    } else {
        *lost += (value - total) + *sum;
    }
    *sum = total;
}

/// A running sum of histograms with what rounding took from each of its numbers.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    pub(super) total: FloatHistogram,
    pub(super) lost: Lost,
}

/// What rounding took; the buckets lie as those of the sum.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost {
    pub(super) zero_count: f64,
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) positive: Vec<f64>,
    pub(super) negative: Vec<f64>,
}

impl HistogramSum {
    /// A sum of one histogram.
    pub fn new(first: FloatHistogram) -> HistogramSum {
        let lost = Lost {
            positive: vec![0.0; first.positive_buckets.len()],
            negative: vec![0.0; first.negative_buckets.len()],
            ..Lost::default()
        };
        HistogramSum { total: first, lost }
    }

    /// The sum so far, without what rounding took.
    pub fn rough(&self) -> &FloatHistogram {
        &self.total
    }

    /// The sum so far, to change what is no count: its hint.
    pub fn hint_mut(&mut self) -> &mut super::CounterResetHint {
        &mut self.total.counter_reset_hint
    }

    /// Adds a histogram, as [`FloatHistogram::add`] does.
    ///
    /// # Errors
    /// [`Error::MixedBuckets`] when only one of both has custom buckets.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Joined, Error> {
        check_kinds(&self.total, other)?;
        let mut joined =
            Joined { hints_collide: join_hints(&mut self.total, other), bounds_reconciled: false };
        let (total, lost) = (&mut self.total, &mut self.lost);
        add_kahan(other.count, &mut total.count, &mut lost.count);
        add_kahan(other.sum, &mut total.sum, &mut lost.sum);
        if total.uses_custom_buckets() {
            joined.bounds_reconciled = self.add_custom(other);
        } else {
            self.add_exponential(other);
        }
        Ok(joined)
    }

    /// Adds custom buckets; true when the bounds were not the same.
    fn add_custom(&mut self, other: &FloatHistogram) -> bool {
        let (total, lost) = (&mut self.total, &mut self.lost);
        if total.custom_values == other.custom_values {
            let skip = Skip::nothing();
            let theirs = (&other.positive_spans[..], &other.positive_buckets[..]);
            add_side(
                &mut total.positive_spans,
                &mut total.positive_buckets,
                &mut lost.positive,
                theirs,
                &skip,
            );
            return false;
        }
        let bounds = intersect(&total.custom_values, &other.custom_values);
        let mut target = custom::Target::new(bounds);
        target.add(total, Some(&lost.positive));
        target.add(other, None);
        lost.positive = target.finish(total);
        true
    }

    fn add_exponential(&mut self, other: &FloatHistogram) {
        let (total, lost) = (&mut self.total, &mut self.lost);
        let (zero_count, zero_lost) = total.reconcile_zero(other, Some(lost));
        add_kahan(zero_count, &mut total.zero_count, &mut lost.zero_count);
        add_kahan(zero_lost, &mut total.zero_count, &mut lost.zero_count);
        if other.schema < total.schema {
            let (from, to) = (total.schema, other.schema);
            let positive =
                (&total.positive_spans[..], &total.positive_buckets[..], &lost.positive[..]);
            (total.positive_spans, total.positive_buckets, lost.positive) =
                reduced_kahan(positive, from, to);
            let negative =
                (&total.negative_spans[..], &total.negative_buckets[..], &lost.negative[..]);
            (total.negative_spans, total.negative_buckets, lost.negative) =
                reduced_kahan(negative, from, to);
            total.schema = to;
        }
        let skip = Skip::below(total.schema, total.zero_threshold);
        let schemas = (other.schema, total.schema);
        add_scaled(
            (&mut total.positive_spans, &mut total.positive_buckets, &mut lost.positive),
            (&other.positive_spans, &other.positive_buckets),
            schemas,
            &skip,
        );
        add_scaled(
            (&mut total.negative_spans, &mut total.negative_buckets, &mut lost.negative),
            (&other.negative_spans, &other.negative_buckets),
            schemas,
            &skip,
        );
    }

    /// Multiplies everything.
    pub fn mul(&mut self, factor: f64) {
        self.total.mul(factor);
        self.lost.each(|it| *it *= factor);
    }

    /// Divides everything.
    pub fn div(&mut self, divisor: f64) {
        self.total.div(divisor);
        self.lost.each(|it| *it /= divisor);
        if divisor == 0.0 {
            self.lost.positive.clear();
            self.lost.negative.clear();
        }
    }

    /// The sum, with what rounding took put back.
    pub fn finish(mut self) -> FloatHistogram {
        let (total, lost) = (&mut self.total, &self.lost);
        total.zero_count += lost.zero_count;
        total.count += lost.count;
        total.sum += lost.sum;
        let positive = total.positive_buckets.iter_mut().zip(&lost.positive);
        let negative = total.negative_buckets.iter_mut().zip(&lost.negative);
        positive.chain(negative).for_each(|(count, lost)| *count += lost);
        self.total
    }
}

impl Lost {
    fn each(&mut self, change: impl Fn(&mut f64)) {
        let totals = [&mut self.zero_count, &mut self.count, &mut self.sum];
        totals.into_iter().chain(&mut self.positive).chain(&mut self.negative).for_each(change);
    }

    pub(super) fn compact(&mut self, total: &mut FloatHistogram) {
        let lost = Some(&mut self.positive);
        compact_side(&mut total.positive_spans, &mut total.positive_buckets, lost, 0);
        let lost = Some(&mut self.negative);
        compact_side(&mut total.negative_spans, &mut total.negative_buckets, lost, 0);
    }
}

/// One side of a sum: spans, counts, and what rounding took from each.
type Side<'a> = (&'a mut Vec<Span>, &'a mut Vec<f64>, &'a mut Vec<f64>);

/// Adds buckets of the schema `from` to a side of the coarser or equal schema `to`.
fn add_scaled(
    (spans, counts, lost): Side<'_>,
    theirs: (&[Span], &[f64]),
    (from, to): (i32, i32),
    skip: &Skip,
) {
    if from == to {
        return add_side(spans, counts, lost, theirs, skip);
    }
    let (their_spans, their_counts) = reduced(theirs, from, to);
    add_side(spans, counts, lost, (&their_spans, &their_counts), skip);
}

fn add_side(
    spans: &mut Vec<Span>,
    counts: &mut Vec<f64>,
    lost: &mut Vec<f64>,
    theirs: (&[Span], &[f64]),
    skip: &Skip,
) {
    sides::make_room(spans, &mut [counts, lost], theirs, skip);
    sides::meet(spans, theirs, skip, |at, count| add_kahan(count, &mut counts[at], &mut lost[at]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(offset: i32, counts: &[f64]) -> FloatHistogram {
        let length = u32::try_from(counts.len()).unwrap();
        FloatHistogram {
            count: counts.iter().sum(),
            sum: 1.0,
            positive_spans: vec![Span { offset, length }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn nothing_is_lost_to_rounding() {
        let mut sum = HistogramSum::new(of(0, &[1e100, 1.0]));
        sum.add(&of(1, &[1.0, 5.0])).unwrap();
        sum.add(&of(0, &[1.0])).unwrap();
        sum.add(&of(0, &[-1e100])).unwrap();
        let total = sum.finish();
        assert_eq!(total.positive_buckets, [1.0, 2.0, 5.0]);
        assert_eq!(total.positive_spans, [Span { offset: 0, length: 3 }]);
        assert_eq!(total.sum, 4.0);
    }

    #[test]
    fn the_plain_sum_of_small_numbers_is_the_same() {
        let mut fine = of(-3, &[1.0, 0.0, 2.0, 7.0, 1.0]);
        fine.schema = 2;
        let mut plain = of(0, &[4.0, 2.0]);
        plain.zero_threshold = 0.01;
        let mut sum = HistogramSum::new(plain.clone());
        sum.add(&fine).unwrap();
        plain.add(&fine).unwrap();
        assert_eq!(sum.finish(), plain);
    }
}
