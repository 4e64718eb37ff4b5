//! Histograms without buckets that hold nothing.

use crate::histogram::spans::{Counts, Layout};
use crate::histogram::{FloatHistogram, Span};

impl FloatHistogram {
    /// Takes out empty buckets, but leaves (or puts in) runs of up to `gap_max` of them between
    /// two that are not empty, where they cost less than a span.
    pub fn compact(&mut self, gap_max: u32) {
        compact_side(&mut self.positive_spans, &mut self.positive_buckets, None, gap_max);
        compact_side(&mut self.negative_spans, &mut self.negative_buckets, None, gap_max);
    }
}

/// Compacts one side; `lost` is what rounding took from each bucket, which counts as content.
pub(super) fn compact_side(
    spans: &mut Vec<Span>,
    counts: &mut Vec<f64>,
    lost: Option<&mut Vec<f64>>,
    gap_max: u32,
) {
    let is_tight = |span: &Span| span.length > 0 && i64::from(span.offset) > i64::from(gap_max);
    let first_is_tight = spans.first().is_none_or(|span| span.length > 0);
    if first_is_tight && spans.iter().skip(1).all(is_tight) && counts.iter().all(|it| *it != 0.0) {
        return;
    }
    let mut layout = Layout::default();
    let mut kept = Vec::with_capacity(counts.len());
    let mut kept_lost = Vec::with_capacity(lost.as_ref().map_or(0, |lost| lost.len()));
    for (at, (index, count)) in Counts::new(spans, counts).enumerate() {
        let lost = lost.as_ref().and_then(|lost| lost.get(at)).copied();
        if count == 0.0 && lost.is_none_or(|lost| lost == 0.0) {
            continue;
        }
        if let Some(end) = layout.end()
            && i64::from(index) - i64::from(end) <= i64::from(gap_max)
        {
            for empty in end..index {
                layout.push(empty);
                kept.push(0.0);
                kept_lost.extend(lost.map(|_| 0.0));
            }
        }
        layout.push(index);
        kept.push(count);
        kept_lost.extend(lost);
    }
    *spans = layout.spans;
    *counts = kept;
    if let Some(lost) = lost {
        *lost = kept_lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(gap_max: u32, before: (&[(i32, u32)], &[f64]), after: (&[(i32, u32)], &[f64])) {
        let spans = |it: &[(i32, u32)]| -> Vec<Span> {
            it.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect()
        };
        let mut it = FloatHistogram {
            positive_spans: spans(before.0),
            positive_buckets: before.1.to_vec(),
            ..FloatHistogram::default()
        };
        it.compact(gap_max);
        assert_eq!((it.positive_spans, it.positive_buckets), (spans(after.0), after.1.to_vec()));
    }

    #[test]
    fn empty_buckets_go() {
        check(0, (&[], &[]), (&[], &[]));
        check(
            0,
            (&[(-2, 1), (2, 3)], &[1.0, 2.0, 3.0, 4.0]),
            (&[(-2, 1), (2, 3)], &[1.0, 2.0, 3.0, 4.0]),
        );
        check(
            0,
            (&[(-2, 1), (0, 3)], &[1.0, 2.0, 0.0, 4.0]),
            (&[(-2, 2), (1, 1)], &[1.0, 2.0, 4.0]),
        );
        check(0, (&[(0, 3)], &[0.0, 0.0, 0.0]), (&[], &[]));
        check(0, (&[(0, 3), (5, 0)], &[0.0, 1.0, 0.0]), (&[(1, 1)], &[1.0]));
    }

    #[test]
    fn short_gaps_are_filled_and_long_ones_cut() {
        check(2, (&[(0, 1), (2, 1)], &[1.0, 2.0]), (&[(0, 4)], &[1.0, 0.0, 0.0, 2.0]));
        check(1, (&[(0, 4)], &[1.0, 0.0, 0.0, 2.0]), (&[(0, 1), (2, 1)], &[1.0, 2.0]));
        check(u32::MAX, (&[(3, 1), (1, 2)], &[1.0, 0.0, 2.0]), (&[(3, 4)], &[1.0, 0.0, 0.0, 2.0]));
    }
}
