//! One sample of a series, of whatever kind, as it was stored.

use model::{FloatHistogram, Histogram, is_stale};

/// The value of a sample. Histograms are boxed: most samples are floats.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A float; NaN payloads are meaningful and kept.
    Float(f64),
    /// A native histogram with integer counts.
    Histogram(Box<Histogram>),
    /// A native histogram with float counts.
    FloatHistogram(Box<FloatHistogram>),
}

/// A sample with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value.
    pub value: Value,
}

impl Timed {
    /// A float sample.
    pub fn float(timestamp_ms: i64, value: f64) -> Timed {
        Timed { timestamp_ms, value: Value::Float(value) }
    }

    /// Whether it is the marker of a series that disappeared.
    pub fn is_stale(&self) -> bool {
        match &self.value {
            Value::Float(value) => is_stale(*value),
            Value::Histogram(histogram) => histogram.is_stale(),
            Value::FloatHistogram(histogram) => histogram.is_stale(),
        }
    }
}
