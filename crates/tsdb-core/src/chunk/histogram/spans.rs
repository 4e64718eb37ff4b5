//! Spans of two histograms compared, joined, and buckets moved from one set of spans to another.

use model::histogram::Span;
use model::histogram::buckets::Indices;

use crate::chunk::histogram::kind::Number;

/// Buckets of one sign, with the spans that they lie in.
#[derive(Clone, Copy, Debug)]
pub(in crate::chunk) struct Side<'a, N> {
    pub(super) spans: &'a [Span],
    pub(super) buckets: &'a [N],
}

/// How the spans of a histogram differ from those of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::chunk) struct Difference {
    /// The histogram has buckets that the chunk lacks.
    pub(super) adds: bool,
    /// The chunk has buckets that the histogram lacks.
    pub(super) lacks: bool,
}

/// Compares the buckets of a chunk's last histogram with those of the next one; `None` when a
/// counter fell, or a bucket that was in use is gone.
pub(super) fn compare<N: Number>(chunk: Side<'_, N>, histogram: Side<'_, N>) -> Option<Difference> {
    if chunk.spans == histogram.spans {
        return is_rising(chunk.buckets, histogram.buckets).then(Difference::default);
    }
    let mut difference = Difference::default();
    for pair in pairs(chunk, histogram) {
        match pair {
            (_, Some(old), Some(new)) => {
                if old > new {
                    return None;
                }
            }
            (_, Some(old), None) => {
                if old != N::ZERO {
                    return None;
                }
                difference.lacks = true;
            }
            (_, None, _) => difference.adds = true,
        }
    }
    Some(difference)
}

fn is_rising<N: Number>(old: &[N], new: &[N]) -> bool {
    let (mut old_count, mut new_count) = (N::ZERO, N::ZERO);
    old.iter().zip(new).all(|(old, new)| {
        old_count = N::count(old_count, *old);
        new_count = N::count(new_count, *new);
        // What is not a number falls below nothing.
        let fell = old_count > new_count;
        !fell
    })
}

/// Compares spans alone, as gauges are.
pub(super) fn compare_spans<N: Number>(chunk: Side<'_, N>, histogram: Side<'_, N>) -> Difference {
    if chunk.spans == histogram.spans {
        return Difference::default();
    }
    let mut difference = Difference::default();
    for (_, old, new) in pairs(chunk, histogram) {
        difference.adds |= old.is_none();
        difference.lacks |= new.is_none();
    }
    difference
}

/// The spans of the buckets of both, the shortest possible.
pub(super) fn union<N: Number>(a: Side<'_, N>, b: Side<'_, N>) -> Vec<Span> {
    spans_of(pairs(a, b).map(|(index, _, _)| index))
}

/// The shortest spans of buckets by their indices.
pub(super) fn spans_of(indices: impl Iterator<Item = i64>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0_i64;
    for index in indices {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => {
                // Buckets lie within 32 bits, or they would not have come from spans.
                let gap = index.wrapping_sub(next);
                let offset =
                    i32::try_from(gap).unwrap_or(if gap < 0 { i32::MIN } else { i32::MAX });
                spans.push(Span { offset, length: 1 });
            }
        }
        next = index.wrapping_add(1);
    }
    spans
}

/// The buckets of `side` in the spans `to`, which hold all of its indices; new ones are empty.
pub(super) fn moved<N: Number>(side: Side<'_, N>, to: &[Span]) -> Vec<N> {
    let mut from = counts(side).peekable();
    let mut before = N::ZERO;
    let mut moved = Vec::with_capacity(side.buckets.len());
    for index in Indices::new(to) {
        let count = match from.peek() {
            Some((at, count)) if *at == index => {
                let count = *count;
                from.next();
                count
            }
            _ => N::ZERO,
        };
        moved.push(N::bucket(before, count));
        before = count;
    }
    moved
}

/// Indices and absolute counts.
fn counts<'a, N: Number>(side: Side<'a, N>) -> impl Iterator<Item = (i64, N)> + use<'a, N> {
    let mut before = N::ZERO;
    Indices::new(side.spans).zip(side.buckets).map(move |(index, bucket)| {
        before = N::count(before, *bucket);
        (index, before)
    })
}

/// The buckets of two sides by their index.
fn pairs<'a, N: Number>(
    a: Side<'a, N>,
    b: Side<'a, N>,
) -> impl Iterator<Item = (i64, Option<N>, Option<N>)> + use<'a, N> {
    Pairs { a: counts(a).peekable(), b: counts(b).peekable() }
}

/// The buckets of two sides by their index: those of both where both have it.
struct Pairs<A: Iterator, B: Iterator> {
    a: std::iter::Peekable<A>,
    b: std::iter::Peekable<B>,
}

impl<N, A, B> Iterator for Pairs<A, B>
where
    N: Number,
    A: Iterator<Item = (i64, N)>,
    B: Iterator<Item = (i64, N)>,
{
    type Item = (i64, Option<N>, Option<N>);

    fn next(&mut self) -> Option<(i64, Option<N>, Option<N>)> {
        let index = match (self.a.peek(), self.b.peek()) {
            (None, None) => return None,
            (Some((a, _)), None) => *a,
            (None, Some((b, _))) => *b,
            (Some((a, _)), Some((b, _))) => *a.min(b),
        };
        let a = self.a.next_if(|it| it.0 == index).map(|it| it.1);
        let b = self.b.next_if(|it| it.0 == index).map(|it| it.1);
        Some((index, a, b))
    }
}
