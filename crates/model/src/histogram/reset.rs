//! Whether a counter histogram began anew between two samples.

use crate::histogram::schema::{coarser_index, exponential_bound, is_exponential};
use crate::histogram::spans::Counts;
use crate::histogram::{Bucket, CounterResetHint, FloatHistogram, Span};

impl FloatHistogram {
    /// Whether a counter reset lies between `previous` and this histogram: by the hint, else when
    /// any bucket, the zero bucket or the count fell, or when the buckets became finer.
    pub fn detect_reset(&self, previous: &FloatHistogram) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if self.custom_values != previous.custom_values {
                return fell_at_common_bounds(self, previous);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (zero_count, threshold, _) = previous.widened_zero(self.zero_threshold, None);
        if threshold != self.zero_threshold || self.zero_count < zero_count {
            return true;
        }
        let positive = (&self.positive_spans[..], &self.positive_buckets[..]);
        let negative = (&self.negative_spans[..], &self.negative_buckets[..]);
        fell(self, positive, (previous, &previous.positive_spans, &previous.positive_buckets))
            || fell(
                self,
                negative,
                (previous, &previous.negative_spans, &previous.negative_buckets),
            )
    }
}

/// Whether any bucket of one side fell; those inside the zero bucket are in its count.
fn fell(
    it: &FloatHistogram,
    (spans, counts): (&[Span], &[f64]),
    (previous, previous_spans, previous_counts): (&FloatHistogram, &[Span], &[f64]),
) -> bool {
    let start = it.zero_threshold;
    let mut now = coarse(spans, counts, (it.schema, it.schema), start).peekable();
    let before = coarse(previous_spans, previous_counts, (previous.schema, it.schema), start);
    for (index, count) in before {
        while now.next_if(|(it, _)| *it < index).is_some() {}
        let is_less = match now.peek() {
            Some((at, now)) if *at == index => *now < count,
            _ => count != 0.0,
        };
        if is_less {
            return true;
        }
    }
    false
}

/// The buckets of a side at a coarser schema, without the first ones that end at or below `start`.
fn coarse<'a>(
    spans: &'a [Span],
    counts: &'a [f64],
    (from, to): (i32, i32),
    start: f64,
) -> impl Iterator<Item = (i32, f64)> + use<'a> {
    let mut fine = Counts::new(spans, counts).peekable();
    let mut started = start == 0.0 || !is_exponential(to);
    std::iter::from_fn(move || {
        loop {
            let (index, mut count) = fine.next()?;
            let index = if from == to { index } else { coarser_index(index, from, to) };
            if from != to {
                while let Some((_, more)) =
                    fine.next_if(|(it, _)| coarser_index(*it, from, to) == index)
                {
                    count += more;
                }
            }
            started = started || exponential_bound(index, to) > start;
            if started {
                return Some((index, count));
            }
        }
    })
}

/// Whether the observations between any two neighbours of the common bounds became fewer.
fn fell_at_common_bounds(it: &FloatHistogram, previous: &FloatHistogram) -> bool {
    let mut bounds = super::custom::intersect(&it.custom_values, &previous.custom_values);
    bounds.push(f64::INFINITY);
    let (mut now, mut before) = (it.positive().peekable(), previous.positive().peekable());
    bounds.iter().any(|bound| until(&mut now, *bound) < until(&mut before, *bound))
}

fn until(buckets: &mut std::iter::Peekable<impl Iterator<Item = Bucket>>, bound: f64) -> f64 {
    let mut sum = 0.0;
    while let Some(bucket) = buckets.next_if(|it| it.upper <= bound) {
        sum += bucket.count;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: i32, offset: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            count: 10.0,
            zero_threshold: 0.01,
            positive_spans: vec![Span { offset, length: u32::try_from(counts.len()).unwrap() }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn falling_buckets_are_resets() {
        let before = of(1, 0, &[1.0, 2.0, 3.0]);
        assert!(!of(1, 0, &[1.0, 2.0, 3.0]).detect_reset(&before));
        assert!(!of(1, -1, &[1.0, 1.0, 2.0, 4.0]).detect_reset(&before));
        assert!(of(1, 0, &[1.0, 1.0, 9.0]).detect_reset(&before));
        assert!(of(1, 1, &[2.0, 3.0]).detect_reset(&before));
        assert!(of(2, 0, &[9.0, 9.0, 9.0]).detect_reset(&before), "a finer schema");
        assert!(!of(0, 0, &[1.0, 5.0]).detect_reset(&before), "a coarser one");
        assert!(of(0, 0, &[1.0, 4.0]).detect_reset(&before));
        assert!(!of(1, 0, &[1.0, 2.0, 3.0]).detect_reset(&of(1, 0, &[1.0, 0.0, 0.0])));
    }

    #[test]
    fn hints_decide() {
        let before = of(0, 0, &[5.0]);
        let mut it = of(0, 0, &[1.0]);
        it.counter_reset_hint = CounterResetHint::NotReset;
        assert!(!it.detect_reset(&before));
        let mut it = before.clone();
        it.counter_reset_hint = CounterResetHint::Reset;
        assert!(it.detect_reset(&before));
    }

    #[test]
    fn custom_buckets_are_compared_between_common_bounds() {
        let of = |bounds: &[f64], counts: &[f64]| FloatHistogram {
            custom_values: bounds.to_vec(),
            zero_threshold: 0.0,
            ..of(-53, 0, counts)
        };
        let before = of(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0, 1.0]);
        assert!(!of(&[2.0, 4.0], &[2.0, 1.0, 1.0]).detect_reset(&before));
        assert!(of(&[2.0, 4.0], &[1.0, 1.0, 5.0]).detect_reset(&before));
    }
}
