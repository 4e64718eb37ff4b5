//! One sample, and the marker that ends a series.

/// The bits of the NaN that Prometheus writes when a series disappeared.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A float sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value; NaN payloads are meaningful and kept.
    pub value: f64,
}

impl Sample {
    /// Whether time and value are the same to the bit.
    pub fn same_bits(&self, other: &Sample) -> bool {
        self.timestamp_ms == other.timestamp_ms && self.value.to_bits() == other.value.to_bits()
    }
}

/// Whether a value is the staleness marker and not any other NaN.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
