//! The buckets of one side of a histogram as pairs of index and count, and how they are laid out.

use crate::histogram::Span;

/// Buckets of one side, away from zero. Ends where spans or counts end.
#[derive(Clone, Debug)]
pub(super) struct Counts<'a> {
    spans: std::slice::Iter<'a, Span>,
    counts: std::slice::Iter<'a, f64>,
    /// Buckets that are left of the span.
    left: u32,
    /// Index of the next bucket, without the gaps of spans to come.
    next: i32,
}

impl<'a> Counts<'a> {
    pub(super) fn new(spans: &'a [Span], counts: &'a [f64]) -> Counts<'a> {
        Counts { spans: spans.iter(), counts: counts.iter(), left: 0, next: 0 }
    }
}

impl Iterator for Counts<'_> {
    type Item = (i32, f64);

    #[inline]
    fn next(&mut self) -> Option<(i32, f64)> {
        while self.left == 0 {
            let span = self.spans.next()?;
            self.next = self.next.wrapping_add(span.offset);
            self.left = span.length;
        }
        let count = *self.counts.next()?;
        let index = self.next;
        self.left -= 1;
        self.next = self.next.wrapping_add(1);
        Some((index, count))
    }
}

/// Buckets of one side, towards zero.
#[derive(Clone, Debug)]
pub(super) struct CountsBack<'a> {
    spans: std::slice::Iter<'a, Span>,
    counts: std::slice::Iter<'a, f64>,
    left: u32,
    /// Index after that of the next bucket.
    end: i32,
    /// Offset of the span that is being read.
    offset: i32,
}

impl<'a> CountsBack<'a> {
    pub(super) fn new(spans: &'a [Span], counts: &'a [f64]) -> CountsBack<'a> {
        let end = spans.iter().fold(0_i32, |end, span| {
            end.wrapping_add(span.offset).wrapping_add_unsigned(span.length)
        });
        CountsBack { spans: spans.iter(), counts: counts.iter(), left: 0, end, offset: 0 }
    }
}

impl Iterator for CountsBack<'_> {
    type Item = (i32, f64);

    #[inline]
    fn next(&mut self) -> Option<(i32, f64)> {
        while self.left == 0 {
            self.end = self.end.wrapping_sub(self.offset);
            let span = self.spans.next_back()?;
            self.offset = span.offset;
            self.left = span.length;
        }
        let count = *self.counts.next_back()?;
        self.left -= 1;
        self.end = self.end.wrapping_sub(1);
        Some((self.end, count))
    }
}

/// Buckets of one side while they are put together, in order of their indexes.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) spans: Vec<Span>,
    /// Index after that of the last bucket.
    end: i32,
}

impl Layout {
    /// Appends a bucket; it joins the span before it when nothing lies between.
    pub(super) fn push(&mut self, index: i32) {
        match self.spans.last_mut() {
            Some(last) if index == self.end => last.length += 1,
            _ => self.begin(index),
        }
        self.end = index.wrapping_add(1);
    }

    /// Appends a bucket that begins a span, even where nothing lies between.
    pub(super) fn push_apart(&mut self, index: i32) {
        self.begin(index);
        self.end = index.wrapping_add(1);
    }

    fn begin(&mut self, index: i32) {
        self.spans.push(Span { offset: index.wrapping_sub(self.end), length: 1 });
    }

    /// Index after that of the last bucket; `None` before the first.
    pub(super) fn end(&self) -> Option<i32> {
        (!self.spans.is_empty()).then_some(self.end)
    }
}

/// Whether both sides hold the same buckets with counts of the same bits, however their spans are
/// cut.
pub(super) fn same_bits(a: Counts<'_>, b: Counts<'_>) -> bool {
    a.map(|(index, count)| (index, count.to_bits()))
        .eq(b.map(|(index, count)| (index, count.to_bits())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_agree() {
        let spans = [(-2, 2), (3, 0), (1, 3), (0, 1)];
        let spans = spans.map(|(offset, length)| Span { offset, length });
        let counts = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let there: Vec<_> = Counts::new(&spans, &counts).collect();
        assert_eq!(there, [(-2, 1.0), (-1, 2.0), (4, 3.0), (5, 4.0), (6, 5.0), (7, 6.0)]);
        let mut back: Vec<_> = CountsBack::new(&spans, &counts).collect();
        back.reverse();
        assert_eq!(back, there);
        let mut layout = Layout::default();
        there.iter().for_each(|(index, _)| layout.push(*index));
        let expected = [(-2, 2), (4, 4)].map(|(offset, length)| Span { offset, length });
        assert_eq!(layout.spans, expected);
        assert!(same_bits(Counts::new(&layout.spans, &counts), Counts::new(&spans, &counts)));
    }

    #[test]
    fn hostile_spans_end() {
        let spans = [Span { offset: i32::MAX, length: u32::MAX }; 3];
        assert_eq!(Counts::new(&spans, &[1.0, 2.0]).count(), 2);
        assert_eq!(CountsBack::new(&spans, &[1.0, 2.0]).count(), 2);
    }
}
