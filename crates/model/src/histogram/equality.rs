//! Whether two histograms say the same.

use crate::histogram::FloatHistogram;
use crate::histogram::spans::{Counts, same_bits};

impl FloatHistogram {
    /// Whether both have the same schema, bounds and numbers, bit by bit, so that a NaN equals
    /// itself. Hints do not count, nor how the same buckets are cut into spans.
    pub fn equals(&self, other: &FloatHistogram) -> bool {
        let totals = |it: &FloatHistogram| [it.count, it.sum, it.zero_count].map(f64::to_bits);
        self.schema == other.schema
            && totals(self) == totals(other)
            && self.zero_threshold == other.zero_threshold
            && self.custom_values == other.custom_values
            && same_bits(
                Counts::new(&self.positive_spans, &self.positive_buckets),
                Counts::new(&other.positive_spans, &other.positive_buckets),
            )
            && same_bits(
                Counts::new(&self.negative_spans, &self.negative_buckets),
                Counts::new(&other.negative_spans, &other.negative_buckets),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::{CounterResetHint, Span};

    #[test]
    fn layout_and_hints_do_not_count() {
        let a = FloatHistogram {
            sum: f64::NAN,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        let spans = [(1, 1), (0, 0), (0, 1)].map(|(offset, length)| Span { offset, length });
        let mut b = FloatHistogram {
            positive_spans: spans.to_vec(),
            counter_reset_hint: CounterResetHint::Gauge,
            ..a.clone()
        };
        assert!(a.equals(&b));
        b.positive_buckets[0] = -1.0;
        assert!(!a.equals(&b));
    }
}
