//! All samples of several sequences in order of time, one for each timestamp.

use std::cmp::Ordering;

use model::histogram::{CounterResetHint, Span};
use model::{FloatHistogram, Histogram, is_stale};

use crate::chunk::{Timed, Value};

/// Floats in columns, in order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Floats {
    pub(super) times_ms: Vec<i64>,
    pub(super) values: Vec<f64>,
}

impl Floats {
    pub(super) fn clear(&mut self) {
        self.times_ms.clear();
        self.values.clear();
    }

    /// Leaves only the samples that are kept.
    pub(super) fn retain(&mut self, kept: &[bool]) {
        let mut left = 0;
        for (place, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
            self.times_ms[left] = self.times_ms[place];
            self.values[left] = self.values[place];
            left += 1;
        }
        self.times_ms.truncate(left);
        self.values.truncate(left);
    }

    /// Makes this the union of two sequences.
    pub(super) fn merge(&mut self, one: (&[i64], &[f64]), other: (&[i64], &[f64])) {
        self.clear();
        self.times_ms.reserve(one.0.len() + other.0.len());
        self.values.reserve(one.0.len() + other.0.len());
        let (mut left, mut right) = (0, 0);
        while let (Some(&a), Some(&b)) = (one.0.get(left), other.0.get(right)) {
            let value = match a.cmp(&b) {
                Ordering::Less => one.1[left],
                Ordering::Greater => other.1[right],
                Ordering::Equal => preferred(one.1[left], other.1[right]),
            };
            self.times_ms.push(a.min(b));
            self.values.push(value);
            left += usize::from(a <= b);
            right += usize::from(b <= a);
        }
        for (rest, at) in [(one, left), (other, right)] {
            self.times_ms.extend_from_slice(&rest.0[at..]);
            self.values.extend_from_slice(&rest.1[at..]);
        }
    }
}

/// Which of two values at one time is kept, whatever their order: a number before a NaN, any of
/// them before a staleness marker, and the smaller one of its kind. Of two readings of a counter
/// always the smaller one goes down only where both do.
pub(super) fn preferred(one: f64, other: f64) -> f64 {
    if one.to_bits() == other.to_bits() || order(one, other) == Ordering::Less {
        one
    } else {
        other
    }
}

/// The order of [`preferred`].
pub(super) fn order(one: f64, other: f64) -> Ordering {
    let class = |it: f64| (is_stale(it), it.is_nan());
    class(one).cmp(&class(other)).then(one.total_cmp(&other))
}

/// The order in which two histograms at one time are preferred; equal only where nothing but the
/// hint about resets differs, which depends on where chunks begin.
pub(super) fn float_histogram_order(one: &FloatHistogram, other: &FloatHistogram) -> Ordering {
    let gauge = |it: &FloatHistogram| it.counter_reset_hint == CounterResetHint::Gauge;
    one.count
        .total_cmp(&other.count)
        .then_with(|| one.zero_count.total_cmp(&other.zero_count))
        .then_with(|| one.sum.total_cmp(&other.sum))
        .then_with(|| one.schema.cmp(&other.schema))
        .then_with(|| one.zero_threshold.total_cmp(&other.zero_threshold))
        .then_with(|| spans_order(&one.positive_spans, &other.positive_spans))
        .then_with(|| spans_order(&one.negative_spans, &other.negative_spans))
        .then_with(|| floats_order(&one.positive_buckets, &other.positive_buckets))
        .then_with(|| floats_order(&one.negative_buckets, &other.negative_buckets))
        .then_with(|| floats_order(&one.custom_values, &other.custom_values))
        .then_with(|| gauge(one).cmp(&gauge(other)))
}

fn spans_order(one: &[Span], other: &[Span]) -> Ordering {
    let key = |it: &Span| (it.offset, it.length);
    one.iter().map(key).cmp(other.iter().map(key))
}

fn floats_order(one: &[f64], other: &[f64]) -> Ordering {
    let pairs = one.iter().zip(other).map(|(one, other)| one.total_cmp(other));
    pairs.fold(one.len().cmp(&other.len()), Ordering::then)
}

/// The order of samples: by time, and at one time the one first that is kept: any sample before a
/// staleness marker, then floats, histograms with integer counts, histograms with float counts.
pub(super) fn timed_order(one: &Timed, other: &Timed) -> Ordering {
    let key = |it: &Timed| {
        let kind = match it.value {
            Value::Float(_) => 0,
            Value::Histogram(_) => 1,
            Value::FloatHistogram(_) => 2,
        };
        (it.timestamp_ms, it.is_stale(), kind)
    };
    key(one).cmp(&key(other)).then_with(|| match (&one.value, &other.value) {
        (Value::Float(one), Value::Float(other)) => order(*one, *other),
        (Value::Histogram(one), Value::Histogram(other)) => histogram_order(one, other),
        (Value::FloatHistogram(one), Value::FloatHistogram(other)) => {
            float_histogram_order(one, other)
        }
        _ => Ordering::Equal,
    })
}

fn histogram_order(one: &Histogram, other: &Histogram) -> Ordering {
    let gauge = |it: &Histogram| it.counter_reset_hint == CounterResetHint::Gauge;
    let whole = |it: &Histogram| (it.count, it.zero_count, it.schema);
    whole(one)
        .cmp(&whole(other))
        .then_with(|| one.sum.total_cmp(&other.sum))
        .then_with(|| one.zero_threshold.total_cmp(&other.zero_threshold))
        .then_with(|| spans_order(&one.positive_spans, &other.positive_spans))
        .then_with(|| spans_order(&one.negative_spans, &other.negative_spans))
        .then_with(|| one.positive_deltas.cmp(&other.positive_deltas))
        .then_with(|| one.negative_deltas.cmp(&other.negative_deltas))
        .then_with(|| floats_order(&one.custom_values, &other.custom_values))
        .then_with(|| gauge(one).cmp(&gauge(other)))
}
