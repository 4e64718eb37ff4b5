//! The indices of the buckets that spans describe, one by one, and what custom bounds mean.

use crate::histogram::Span;

/// The schema of histograms with custom bucket bounds.
pub const CUSTOM_SCHEMA: i32 = -53;
/// The coarsest exponential schema.
pub const SCHEMA_MIN: i32 = -4;
/// The finest exponential schema that queries compute with.
pub const SCHEMA_MAX: i32 = 8;
/// The finest exponential schema that chunks may hold: those above [`SCHEMA_MAX`] are reserved,
/// and reduced to it when they are read.
pub const SCHEMA_MAX_RESERVED: i32 = 52;

/// Whether a schema means custom bucket bounds.
pub fn is_custom(schema: i32) -> bool {
    schema == CUSTOM_SCHEMA
}

/// Whether a schema may stand in a chunk.
pub fn is_known(schema: i32) -> bool {
    is_custom(schema) || (SCHEMA_MIN..=SCHEMA_MAX_RESERVED).contains(&schema)
}

/// Number of buckets that the spans describe.
pub fn bucket_count(spans: &[Span]) -> u64 {
    spans.iter().map(|it| u64::from(it.length)).sum()
}

/// The indices of the buckets that `spans` describe, in increasing order for spans that are valid;
/// those that are not wrap round and never panic.
#[derive(Clone, Debug)]
pub struct Indices<'a> {
    spans: std::slice::Iter<'a, Span>,
    /// The index of the next bucket.
    next: i64,
    /// Buckets left in the span that was begun.
    left: u32,
}

impl<'a> Indices<'a> {
    /// Begins at the first bucket.
    pub fn new(spans: &'a [Span]) -> Indices<'a> {
        Indices { spans: spans.iter(), next: 0, left: 0 }
    }
}

impl Iterator for Indices<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        while self.left == 0 {
            let span = self.spans.next()?;
            self.next = self.next.wrapping_add(i64::from(span.offset));
            self.left = span.length;
        }
        let index = self.next;
        self.next = self.next.wrapping_add(1);
        self.left -= 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_give_their_indices() {
        let span = |offset, length| Span { offset, length };
        let of = |spans: &[Span]| Indices::new(spans).collect::<Vec<i64>>();
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&[span(-2, 3), span(2, 1)]), [-2, -1, 0, 3]);
        assert_eq!(of(&[span(5, 0), span(1, 0), span(1, 2)]), [7, 8]);
        assert_eq!(bucket_count(&[span(0, u32::MAX), span(0, u32::MAX)]), 8_589_934_590);
    }
}
