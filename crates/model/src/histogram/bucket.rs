//! The buckets of a histogram with their bounds, from the lowest to the highest or back.

use crate::histogram::FloatHistogram;
use crate::histogram::buckets::CUSTOM_SCHEMA;
use crate::histogram::schema::{log2, upper_bound};
use crate::histogram::spans::{Counts, CountsBack};

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to the bucket.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to the bucket.
    pub upper_inclusive: bool,
    /// Observations in it.
    pub count: f64,
    /// Index at the schema of the histogram; 0 for the zero bucket.
    pub index: i32,
}

impl Bucket {
    fn positive(it: &FloatHistogram, index: i32, count: f64) -> Bucket {
        let upper = upper_bound(index, it.schema, &it.custom_values);
        let lower = upper_bound(index.saturating_sub(1), it.schema, &it.custom_values);
        let (lower_inclusive, upper_inclusive) = match it.schema {
            CUSTOM_SCHEMA => (index == 0, true),
            _ => (lower < 0.0, upper > 0.0),
        };
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count, index }
    }

    fn negative(it: &FloatHistogram, index: i32, count: f64) -> Bucket {
        let lower = -upper_bound(index, it.schema, &[]);
        let upper = -upper_bound(index.saturating_sub(1), it.schema, &[]);
        let (lower_inclusive, upper_inclusive) = (lower < 0.0, upper > 0.0);
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count, index }
    }

    /// Cuts off what the zero bucket covers.
    fn outside_zero(mut self, threshold: f64) -> Bucket {
        if self.upper < 0.0 && self.upper > -threshold {
            self.upper = -threshold;
        } else if self.lower > 0.0 && self.lower < threshold {
            self.lower = threshold;
        }
        self
    }

    /// The share of the bucket below `value`, which lies inside it: linear, or by logarithms as
    /// in exponential buckets.
    pub fn fraction_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let lower = log2(self.lower.abs());
        let upper = log2(self.upper.abs());
        let value_log = log2(value.abs());
        if value > 0.0 {
            (value_log - lower) / (upper - lower)
        } else {
            1.0 - (value_log - upper) / (lower - upper)
        }
    }
}

impl FloatHistogram {
    /// Whether the bounds are the histogram's own instead of powers of two.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// The zero bucket, whatever it holds.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// The positive buckets that are stored, upwards; custom buckets are among them.
    pub fn positive(&self) -> impl Iterator<Item = Bucket> + '_ {
        let counts = Counts::new(&self.positive_spans, &self.positive_buckets);
        counts.map(|(index, count)| Bucket::positive(self, index, count))
    }

    /// The negative buckets that are stored, away from zero.
    pub fn negative(&self) -> impl Iterator<Item = Bucket> + '_ {
        let counts = Counts::new(&self.negative_spans, &self.negative_buckets);
        counts.map(|(index, count)| Bucket::negative(self, index, count))
    }

    /// The positive buckets that are stored, downwards.
    pub fn positive_reversed(&self) -> impl Iterator<Item = Bucket> + '_ {
        let counts = CountsBack::new(&self.positive_spans, &self.positive_buckets);
        counts.map(|(index, count)| Bucket::positive(self, index, count))
    }

    /// The negative buckets that are stored, towards zero.
    pub fn negative_reversed(&self) -> impl Iterator<Item = Bucket> + '_ {
        let counts = CountsBack::new(&self.negative_spans, &self.negative_buckets);
        counts.map(|(index, count)| Bucket::negative(self, index, count))
    }

    /// All buckets upwards, the zero bucket among them if it is not empty; buckets that overlap it
    /// begin where it ends.
    pub fn all(&self) -> impl Iterator<Item = Bucket> + '_ {
        let threshold = self.zero_threshold;
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        let below = self.negative_reversed().map(move |it| it.outside_zero(threshold));
        let above = self.positive().map(move |it| it.outside_zero(threshold));
        below.chain(zero).chain(above)
    }

    /// The buckets of [`FloatHistogram::all`], downwards.
    pub fn all_reversed(&self) -> impl Iterator<Item = Bucket> + '_ {
        let threshold = self.zero_threshold;
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        let above = self.positive_reversed().map(move |it| it.outside_zero(threshold));
        let below = self.negative().map(move |it| it.outside_zero(threshold));
        above.chain(zero).chain(below)
    }
}

#[cfg(test)]
mod tests {
    use crate::histogram::{FloatHistogram, Span};

    fn example() -> FloatHistogram {
        FloatHistogram {
            schema: 0,
            zero_threshold: 0.6,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            positive_buckets: vec![1.0, 3.0, 4.0],
            negative_spans: vec![Span { offset: -1, length: 2 }],
            negative_buckets: vec![5.0, 6.0],
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn all_buckets_come_in_order() {
        let it = example();
        let up: Vec<_> = it.all().map(|it| (it.lower, it.upper, it.count)).collect();
        let expected = [
            (-1.0, -0.6, 6.0),
            (-0.5, -0.6, 5.0),
            (-0.6, 0.6, 2.0),
            (0.6, 1.0, 1.0),
            (1.0, 2.0, 3.0),
            (4.0, 8.0, 4.0),
        ];
        assert_eq!(up, expected);
        let mut down: Vec<_> = it.all_reversed().map(|it| (it.lower, it.upper, it.count)).collect();
        down.reverse();
        assert_eq!(down, expected);
    }
}
