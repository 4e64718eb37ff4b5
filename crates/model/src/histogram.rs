//! Native histograms: with float counts, the form that queries compute on, and with integer
//! counts, the form that most are stored in.
//!
//! Field by field what Prometheus' `histogram.FloatHistogram` and `histogram.Histogram` hold.

pub mod buckets;
pub mod integer;
pub mod schema;

mod arithmetic;
mod bound_table;
mod bucket;
mod compact;
mod custom;
mod equality;
mod error;
mod kahan;
mod reset;
mod resolution;
mod sides;
mod spans;
mod text;
mod trim;
mod validate;
mod zero;

pub use self::arithmetic::Joined;
pub use self::bucket::Bucket;
pub use self::error::Error;
pub use self::kahan::HistogramSum;
pub use self::trim::Keep;

/// What is known about a reset of a histogram's counters before this sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CounterResetHint {
    /// Nothing is known: compare with the sample before.
    #[default]
    Unknown,
    /// A reset lies between the sample before and this one.
    Reset,
    /// No reset lies between them.
    NotReset,
    /// The histogram is a gauge: resets mean nothing.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Gap to the span before, in buckets; for the first span the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// A native histogram; counts are absolute, not deltas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    /// Resolution: bucket bounds grow by 2^(2^-schema); -53 means custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// Which positive buckets are filled.
    pub positive_spans: Vec<Span>,
    /// Which negative buckets are filled.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets, in order of their spans.
    pub positive_buckets: Vec<f64>,
    /// Counts of the negative buckets, in order of their spans.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, without +Inf.
    pub custom_values: Vec<f64>,
    /// What is known about a reset before this sample.
    pub counter_reset_hint: CounterResetHint,
}

/// A native histogram with integer counts; each bucket is the difference to the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Resolution: bucket bounds grow by 2^(2^-schema); -53 means custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// All observations.
    pub count: u64,
    /// Sum of all observations.
    pub sum: f64,
    /// Which positive buckets are filled.
    pub positive_spans: Vec<Span>,
    /// Which negative buckets are filled.
    pub negative_spans: Vec<Span>,
    /// Count of the first positive bucket, then for each the change from the one before.
    pub positive_deltas: Vec<i64>,
    /// As `positive_deltas`, of the negative buckets.
    pub negative_deltas: Vec<i64>,
    /// Upper bounds of custom buckets, without +Inf.
    pub custom_values: Vec<f64>,
    /// What is known about a reset before this sample.
    pub counter_reset_hint: CounterResetHint,
}
