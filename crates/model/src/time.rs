//! Time as Prometheus counts it: milliseconds since the Unix epoch, signed.

/// The name under which the metric name is kept among the labels.
pub const METRIC_NAME: &str = "__name__";

/// A span of time, both ends inclusive, in milliseconds since the Unix epoch.
///
/// Queries and StoreAPI requests use inclusive ends; block metas use an exclusive end and say so
/// in the name of their field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First millisecond that belongs to the range.
    pub start_ms: i64,
    /// Last millisecond that belongs to the range.
    pub end_ms: i64,
}

impl TimeRange {
    /// Everything that an `i64` of milliseconds can name.
    pub const ALL: TimeRange = TimeRange { start_ms: i64::MIN, end_ms: i64::MAX };

    /// A range from both inclusive ends; empty when `start_ms > end_ms`.
    pub fn new(start_ms: i64, end_ms: i64) -> TimeRange {
        TimeRange { start_ms, end_ms }
    }

    /// Whether no timestamp belongs to the range.
    pub fn is_empty(&self) -> bool {
        self.start_ms > self.end_ms
    }

    /// Whether `timestamp_ms` belongs to the range.
    pub fn contains(&self, timestamp_ms: i64) -> bool {
        self.start_ms <= timestamp_ms && timestamp_ms <= self.end_ms
    }

    /// Whether any timestamp belongs to both ranges.
    pub fn overlaps(&self, other: TimeRange) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.start_ms <= other.end_ms
            && other.start_ms <= self.end_ms
    }
}

/// The start of the block of `block_ms` that holds `timestamp_ms`, rounding towards minus infinity.
///
/// `block_ms` must be positive.
pub fn align_down(timestamp_ms: i64, block_ms: i64) -> i64 {
    debug_assert!(block_ms > 0, "a block has a positive length");
    timestamp_ms.saturating_sub(timestamp_ms.rem_euclid(block_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_rounds_towards_the_past() {
        assert_eq!(align_down(7_200_001, 7_200_000), 7_200_000);
        assert_eq!(align_down(-1, 7_200_000), -7_200_000);
        assert_eq!(align_down(0, 7_200_000), 0);
    }

    #[test]
    fn empty_ranges_overlap_nothing() {
        let empty = TimeRange::new(5, 4);
        assert!(!empty.overlaps(TimeRange::ALL));
        assert!(TimeRange::new(1, 3).overlaps(TimeRange::new(3, 9)));
    }
}
