//! Histograms with integer counts: widened to float counts.

use crate::histogram::{FloatHistogram, Histogram, Span};
use crate::sample::is_stale;

impl Histogram {
    /// The same histogram with float counts, absolute in each bucket. Counts above 2^53 are
    /// rounded to the nearest float, as Prometheus does. A staleness marker keeps its sum only.
    pub fn to_float(&self) -> FloatHistogram {
        if self.is_stale() {
            return FloatHistogram { sum: self.sum, ..FloatHistogram::default() };
        }
        FloatHistogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: count_to_float(self.zero_count),
            count: count_to_float(self.count),
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: absolute(&self.positive_deltas).collect(),
            negative_buckets: absolute(&self.negative_deltas).collect(),
            custom_values: self.custom_values.clone(),
            counter_reset_hint: self.counter_reset_hint,
        }
    }

    /// Whether it is the marker of a series that disappeared.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }
}

impl FloatHistogram {
    /// Whether it is the marker of a series that disappeared.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Bytes of heap that its lists hold, by capacity.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Span>() * (self.positive_spans.capacity() + self.negative_spans.capacity())
            + 8 * (self.positive_buckets.capacity()
                + self.negative_buckets.capacity()
                + self.custom_values.capacity())
    }
}

/// The counts of buckets that are given by their differences.
pub fn absolute(deltas: &[i64]) -> impl Iterator<Item = f64> + '_ {
    let mut count = 0_i64;
    deltas.iter().map(move |delta| {
        count = count.wrapping_add(*delta);
        bucket_to_float(count)
    })
}

/// A count as the nearest float.
#[expect(clippy::cast_precision_loss, reason = "widening rounds to the nearest, as is documented")]
pub fn count_to_float(count: u64) -> f64 {
    count as f64
}

/// The count of a bucket, which may be negative in a gauge, as the nearest float.
#[expect(clippy::cast_precision_loss, reason = "widening rounds to the nearest, as is documented")]
pub fn bucket_to_float(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::CounterResetHint;
    use crate::sample::STALE_NAN_BITS;

    #[test]
    fn widening_makes_counts_absolute() {
        let histogram = Histogram {
            schema: 3,
            count: u64::MAX,
            zero_count: 2,
            sum: -0.0,
            positive_spans: vec![Span { offset: -1, length: 3 }],
            positive_deltas: vec![4, -3, 7],
            counter_reset_hint: CounterResetHint::Gauge,
            ..Histogram::default()
        };
        let float = histogram.to_float();
        assert_eq!(float.positive_buckets, [4.0, 1.0, 8.0]);
        assert_eq!((float.zero_count, float.count), (2.0, 18_446_744_073_709_551_616.0));
        assert_eq!(float.counter_reset_hint, CounterResetHint::Gauge);
        let stale = Histogram { sum: f64::from_bits(STALE_NAN_BITS), ..histogram }.to_float();
        assert!(stale.is_stale() && stale.positive_spans.is_empty() && stale.count == 0.0);
    }
}
