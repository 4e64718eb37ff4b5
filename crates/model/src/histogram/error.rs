//! What is wrong with a histogram, or with an operation on two of them.

use crate::histogram::buckets::{CUSTOM_SCHEMA, SCHEMA_MAX, SCHEMA_MIN};

/// What is wrong with a histogram, or with an operation on two of them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// One operand has custom buckets, the other exponential ones.
    #[error(
        "cannot apply this operation on histograms with a mix of exponential and custom bucket \
         schemas"
    )]
    MixedBuckets,
    /// A schema that cannot be reached by joining buckets.
    #[error("cannot reduce the resolution of a histogram from schema {from} to {to}")]
    Resolution {
        /// The schema of the histogram.
        from: i32,
        /// The schema that was asked for.
        to: i32,
    },
    /// An unknown schema.
    #[error(
        "histogram has schema {schema}, which must be from {SCHEMA_MIN} to \
         {SCHEMA_MAX} for exponential buckets, or {CUSTOM_SCHEMA} for custom \
         ones"
    )]
    Schema {
        /// The schema.
        schema: i32,
    },
    /// Spans and buckets of one side do not fit each other.
    #[error("{side} spans of a histogram need {needed} buckets, {given} are given")]
    Buckets {
        /// `positive` or `negative`.
        side: &'static str,
        /// Sum of the lengths of the spans.
        needed: u64,
        /// Number of buckets.
        given: usize,
    },
    /// A span begins before the end of the one before it.
    #[error("{side} span {number} of a histogram has the negative offset {offset}")]
    Offset {
        /// `positive` or `negative`.
        side: &'static str,
        /// Which span, from 1.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// A count below zero.
    #[error("{what} of a histogram is {count}, below zero")]
    Negative {
        /// Which count.
        what: &'static str,
        /// The count.
        count: f64,
    },
    /// Custom bounds that do not ascend, or that are not finite.
    #[error(
        "custom bound {number} of a histogram, {bound}, must be finite and above the one before"
    )]
    Bound {
        /// Which bound, from 1.
        number: usize,
        /// The bound.
        bound: f64,
    },
    /// Spans that go beyond the custom bounds.
    #[error("spans of a histogram reach to bucket {end}, its {bounds} custom bounds do not")]
    BoundsTooFew {
        /// Number of buckets up to the end of the last span.
        end: u64,
        /// Number of bounds.
        bounds: usize,
    },
    /// Something that only the other kind of histogram has.
    #[error("a histogram with schema {schema} must not have {what}")]
    Foreign {
        /// The schema.
        schema: i32,
        /// What it must not have.
        what: &'static str,
    },
}
