//! Native histograms of scripts: literals, conversion of classic ones, comparison, and what a
//! storage makes of the hints.

use model::FloatHistogram;
use model::histogram::{CounterResetHint, Span};

use super::near;

/// Reads `schema:1 count:3 sum:5 buckets:[1 2]`, what stands between double braces; true if a
/// counter reset hint is given.
pub(crate) fn literal(text: &str) -> (FloatHistogram, bool) {
    let mut it = FloatHistogram::default();
    let (mut hint_given, mut offset, mut n_offset) = (false, 0, 0);
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').unwrap_or_else(|| panic!("{text:?}"));
        let (value, after) = if let Some(list) = after.strip_prefix('[') {
            let (list, after) = list.split_once(']').unwrap();
            (list, after)
        } else {
            after.split_once(char::is_whitespace).unwrap_or((after, ""))
        };
        let list = || value.split_whitespace().map(number).collect::<Vec<f64>>();
        match key.trim() {
            "schema" => it.schema = value.parse().unwrap(),
            "sum" => it.sum = number(value),
            "count" => it.count = number(value),
            "z_bucket" => it.zero_count = number(value),
            "z_bucket_w" => it.zero_threshold = number(value),
            "custom_values" => it.custom_values = list(),
            "buckets" => it.positive_buckets = list(),
            "n_buckets" => it.negative_buckets = list(),
            "offset" => offset = value.parse().unwrap(),
            "n_offset" => n_offset = value.parse().unwrap(),
            "counter_reset_hint" => {
                hint_given = true;
                it.counter_reset_hint = match value {
                    "unknown" => CounterResetHint::Unknown,
                    "reset" => CounterResetHint::Reset,
                    "not_reset" => CounterResetHint::NotReset,
                    "gauge" => CounterResetHint::Gauge,
                    other => panic!("unknown hint {other:?}"),
                };
            }
            other => panic!("unknown field {other:?} in {text:?}"),
        }
        rest = after.trim_start();
    }
    let spans = |offset, counts: &[f64]| match counts.len() {
        0 => Vec::new(),
        len => vec![Span { offset, length: u32::try_from(len).unwrap() }],
    };
    it.positive_spans = spans(offset, &it.positive_buckets);
    it.negative_spans = spans(n_offset, &it.negative_buckets);
    (it, hint_given)
}

fn number(text: &str) -> f64 {
    super::parse::number(text).unwrap_or_else(|| panic!("not a number: {text:?}"))
}

/// Whether two histograms are equal up to rounding; hints count where the expected one gives one.
pub(crate) fn same(expected: &FloatHistogram, actual: &FloatHistogram, with_hint: bool) -> bool {
    let (mut a, mut b) = (expected.clone(), actual.clone());
    a.compact(0);
    b.compact(0);
    let all_near =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(*a, *b));
    a.schema == b.schema
        && near(a.count, b.count)
        && near(a.sum, b.sum)
        && near(a.zero_count, b.zero_count)
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && all_near(&a.positive_buckets, &b.positive_buckets)
        && all_near(&a.negative_buckets, &b.negative_buckets)
        && (!with_hint || a.counter_reset_hint == b.counter_reset_hint)
}

/// Gives the histograms of one series the hints with which they come out of chunks: the first one
/// of a chunk says nothing unless it is a gauge, the others that no reset lies before them.
///
/// `breaks` tells whether a float lies before the histogram of that index, which ends its chunk.
pub(crate) fn as_stored(histograms: &mut [FloatHistogram], breaks: impl Fn(usize) -> bool) {
    let mut before: Option<FloatHistogram> = None;
    for (at, it) in histograms.iter_mut().enumerate() {
        let given = it.clone();
        let is_gauge = it.counter_reset_hint == CounterResetHint::Gauge;
        let follows = before.as_ref().is_some_and(|before| !breaks(at) && joins(before, it));
        it.counter_reset_hint = match (is_gauge, follows) {
            (true, _) => CounterResetHint::Gauge,
            (false, true) => CounterResetHint::NotReset,
            (false, false) => CounterResetHint::Unknown,
        };
        if it.is_stale() {
            *it = FloatHistogram { sum: it.sum, ..FloatHistogram::default() };
        }
        before = Some(given);
    }
}

/// Whether a histogram goes into the chunk of the one before it.
fn joins(before: &FloatHistogram, it: &FloatHistogram) -> bool {
    let gauge = |it: &FloatHistogram| it.counter_reset_hint == CounterResetHint::Gauge;
    if it.is_stale() {
        return !gauge(it) && !gauge(before);
    }
    if before.is_stale() || gauge(before) != gauge(it) {
        return false;
    }
    let same_layout = it.schema == before.schema
        && it.zero_threshold == before.zero_threshold
        && it.custom_values == before.custom_values;
    if gauge(it) || !same_layout {
        return same_layout;
    }
    let unknown = FloatHistogram {
        counter_reset_hint: match it.counter_reset_hint {
            CounterResetHint::Reset => CounterResetHint::Reset,
            _ => CounterResetHint::Unknown,
        },
        ..it.clone()
    };
    !unknown.detect_reset(before)
}

/// A classic histogram at one time, while its series are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classic {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    pub(crate) fn set_bucket(&mut self, upper: f64, count: f64) {
        let at = self.buckets.partition_point(|(it, _)| *it < upper);
        if self.buckets.get(at).is_none_or(|(it, _)| *it != upper) {
            self.buckets.insert(at, (upper, count));
        }
    }

    pub(crate) fn set_count(&mut self, count: f64) {
        self.count = Some(count);
    }

    pub(crate) fn set_sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// The same with custom buckets.
    pub(crate) fn to_native(&self) -> FloatHistogram {
        let mut buckets = self.buckets.clone();
        let last = buckets.last().map_or(0.0, |(_, count)| *count);
        let count = self.count.unwrap_or(last);
        if buckets.last().is_none_or(|(upper, _)| *upper != f64::INFINITY) {
            buckets.push((f64::INFINITY, count));
        }
        let mut before = 0.0;
        let counts =
            buckets.iter().map(|(_, count)| count - std::mem::replace(&mut before, *count));
        let counts: Vec<f64> = counts.collect();
        let mut it = FloatHistogram {
            schema: -53,
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length: u32::try_from(counts.len()).unwrap() }],
            positive_buckets: counts,
            custom_values: buckets[..buckets.len() - 1].iter().map(|(upper, _)| *upper).collect(),
            ..FloatHistogram::default()
        };
        it.compact(2);
        it
    }
}
