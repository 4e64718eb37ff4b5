//! Sums, differences and multiples of histograms.

use crate::histogram::custom::{self, intersect};
use crate::histogram::resolution::reduced;
use crate::histogram::sides::{self, Skip};
use crate::histogram::{CounterResetHint, Error, FloatHistogram, Span};

/// What had to be decided when two histograms became one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// One said that a counter reset lies before it, the other that none does.
    pub hints_collide: bool,
    /// Their custom bounds differed: only those stayed that both have.
    pub bounds_reconciled: bool,
}

impl FloatHistogram {
    /// Adds another histogram: at the coarser of both schemas, with the wider of both zero
    /// buckets, widened further where it would cut through a bucket that is not empty.
    ///
    /// # Errors
    /// [`Error::MixedBuckets`] when only one of both has custom buckets.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Joined, Error> {
        self.join(other, false)
    }

    /// Subtracts another histogram, under the rules of [`FloatHistogram::add`].
    ///
    /// # Errors
    /// [`Error::MixedBuckets`] when only one of both has custom buckets.
    pub fn sub(&mut self, other: &FloatHistogram) -> Result<Joined, Error> {
        self.join(other, true)
    }

    fn join(&mut self, other: &FloatHistogram, negative: bool) -> Result<Joined, Error> {
        check_kinds(self, other)?;
        let hints_collide = join_hints(self, other);
        let sign = if negative { -1.0 } else { 1.0 };
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        if self.uses_custom_buckets() {
            let bounds_reconciled = self.join_custom(other, negative);
            return Ok(Joined { hints_collide, bounds_reconciled });
        }
        let (zero_count, _) = self.reconcile_zero(other, None);
        self.zero_count += sign * zero_count;
        if other.schema < self.schema {
            self.reduce_to(other.schema);
        }
        let skip = Skip::below(self.schema, self.zero_threshold);
        let finer = (other.schema > self.schema).then_some((other.schema, self.schema));
        let positive = (&other.positive_spans[..], &other.positive_buckets[..]);
        let ours = (&mut self.positive_spans, &mut self.positive_buckets);
        join_side(ours, positive, finer, (&skip, sign));
        let negative = (&other.negative_spans[..], &other.negative_buckets[..]);
        let ours = (&mut self.negative_spans, &mut self.negative_buckets);
        join_side(ours, negative, finer, (&skip, sign));
        Ok(Joined { hints_collide, bounds_reconciled: false })
    }

    /// Adds or subtracts custom buckets; true when the bounds were not the same.
    fn join_custom(&mut self, other: &FloatHistogram, negative: bool) -> bool {
        if self.custom_values == other.custom_values {
            let theirs = (&other.positive_spans[..], &other.positive_buckets[..]);
            let ours = (&mut self.positive_spans, &mut self.positive_buckets);
            let sign = if negative { -1.0 } else { 1.0 };
            join_side(ours, theirs, None, (&Skip::nothing(), sign));
            return false;
        }
        let mut target = custom::Target::new(intersect(&self.custom_values, &other.custom_values));
        target.add(self, None);
        if negative {
            target.subtract(other);
        } else {
            target.add(other, None);
        }
        target.finish(self);
        true
    }

    /// Multiplies all counts and the sum; by a negative number a counter becomes a gauge.
    pub fn mul(&mut self, factor: f64) {
        self.each_number(|it| *it *= factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// Divides all counts and the sum; by zero the buckets go, by a negative number a counter
    /// becomes a gauge.
    pub fn div(&mut self, divisor: f64) {
        self.each_number(|it| *it /= divisor);
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        } else if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    fn each_number(&mut self, change: impl Fn(&mut f64)) {
        let totals = [&mut self.zero_count, &mut self.count, &mut self.sum];
        let buckets = self.positive_buckets.iter_mut().chain(&mut self.negative_buckets);
        totals.into_iter().chain(buckets).for_each(change);
    }

    /// Whether any number of it is infinite.
    pub fn has_overflow(&self) -> bool {
        let numbers = [self.zero_count, self.count, self.sum];
        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
        numbers.iter().chain(buckets).chain(&self.custom_values).any(|it| it.is_infinite())
    }
}

/// Only histograms of one kind have a sum.
pub(super) fn check_kinds(a: &FloatHistogram, b: &FloatHistogram) -> Result<(), Error> {
    if a.uses_custom_buckets() == b.uses_custom_buckets() {
        Ok(())
    } else {
        Err(Error::MixedBuckets)
    }
}

/// Makes the hint of a sum; true when one hint says reset and the other none.
pub(super) fn join_hints(it: &mut FloatHistogram, other: &FloatHistogram) -> bool {
    use CounterResetHint::{Gauge, Unknown};
    let (joined, collide) = match (it.counter_reset_hint, other.counter_reset_hint) {
        (a, b) if a == b => (a, false),
        (Gauge, _) | (_, Gauge) => (Gauge, false),
        (Unknown, _) | (_, Unknown) => (Unknown, false),
        _ => (Unknown, true),
    };
    it.counter_reset_hint = joined;
    collide
}

/// Adds `sign` times the buckets of a side that may have a finer schema.
fn join_side(
    (spans, counts): (&mut Vec<Span>, &mut Vec<f64>),
    theirs: (&[Span], &[f64]),
    finer: Option<(i32, i32)>,
    (skip, sign): (&Skip, f64),
) {
    let coarser = finer.map(|(from, to)| reduced(theirs, from, to));
    let theirs = coarser.as_ref().map_or(theirs, |(spans, counts)| (spans, counts));
    sides::make_room(spans, &mut [counts], theirs, skip);
    sides::meet(spans, theirs, skip, |at, count| {
        if let Some(ours) = counts.get_mut(at) {
            *ours += sign * count;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema: -53,
            count: counts.iter().sum(),
            custom_values: bounds.to_vec(),
            positive_spans: vec![Span { offset: 0, length: u32::try_from(counts.len()).unwrap() }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn custom_bounds_that_only_one_has_go() {
        let mut it = custom(&[1.0, 2.0, 4.0], &[1.0, 2.0, 3.0, 4.0]);
        let other = custom(&[2.0, 3.0], &[10.0, 20.0, 30.0]);
        let joined = it.add(&other).unwrap();
        assert!(joined.bounds_reconciled);
        assert_eq!(
            (&it.custom_values[..], &it.positive_buckets[..]),
            (&[2.0][..], &[13.0, 57.0][..])
        );
        it.sub(&custom(&[2.0], &[13.0, 7.0])).unwrap();
        assert_eq!(it.positive_buckets, [0.0, 50.0]);
    }

    #[test]
    fn the_zero_bucket_grows_until_it_cuts_nothing() {
        let mut narrow = FloatHistogram {
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive_spans: vec![Span { offset: -3, length: 3 }],
            positive_buckets: vec![2.0, 3.0, 4.0],
            ..FloatHistogram::default()
        };
        // Bucket -2 is (0.125, 0.25]; 0.2 lies inside.
        let wide =
            FloatHistogram { zero_threshold: 0.2, zero_count: 10.0, ..FloatHistogram::default() };
        let mut other = wide.clone();
        narrow.add(&wide).unwrap();
        assert_eq!((narrow.zero_threshold, narrow.zero_count), (0.25, 16.0));
        assert_eq!(narrow.positive_buckets, [4.0]);
        other.add(&narrow).unwrap();
        assert_eq!((other.zero_threshold, other.zero_count), (0.25, 26.0));
    }

    #[test]
    fn kinds_do_not_mix_and_hints_join() {
        let mut it = FloatHistogram::default();
        assert_eq!(it.add(&custom(&[1.0], &[1.0])), Err(Error::MixedBuckets));
        it.counter_reset_hint = CounterResetHint::Reset;
        let other = FloatHistogram {
            counter_reset_hint: CounterResetHint::NotReset,
            ..FloatHistogram::default()
        };
        assert!(it.add(&other).unwrap().hints_collide);
        assert_eq!(it.counter_reset_hint, CounterResetHint::Unknown);
        it.mul(-1.0);
        assert_eq!(it.counter_reset_hint, CounterResetHint::Gauge);
        it.div(0.0);
        assert!(it.count.is_nan() && it.positive_buckets.is_empty());
    }
}
