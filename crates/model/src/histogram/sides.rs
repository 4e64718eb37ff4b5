//! Two sides of histograms laid over each other, bucket by bucket.

use crate::histogram::Span;
use crate::histogram::schema::{exponential_bound, is_exponential};
use crate::histogram::spans::{Counts, Layout};

/// Which of the first buckets of a side are left out: those inside the zero bucket.
#[derive(Debug)]
pub(super) struct Skip {
    below: Option<(i32, f64)>,
}

impl Skip {
    pub(super) fn nothing() -> Skip {
        Skip { below: None }
    }

    /// Leaves out leading buckets of an exponential schema that end at or below `threshold`.
    pub(super) fn below(schema: i32, threshold: f64) -> Skip {
        Skip { below: is_exponential(schema).then_some((schema, threshold)) }
    }

    fn covers(&self, index: i32) -> bool {
        self.below.is_some_and(|(schema, threshold)| exponential_bound(index, schema) <= threshold)
    }

    /// The buckets that are not left out.
    fn rest<'a>(
        &self,
        (spans, counts): (&'a [Span], &'a [f64]),
    ) -> impl Iterator<Item = (i32, f64)> + use<'a, '_> {
        Counts::new(spans, counts).skip_while(|(index, _)| self.covers(*index))
    }
}

/// Puts empty buckets into a side wherever `theirs` has one that the side has not; each of
/// `columns` has a number for each bucket of it.
///
/// A new bucket joins the span that ends before it, else the one that begins behind it, so that
/// chunks that hold the result have the spans that Prometheus gives them.
pub(super) fn make_room(
    spans: &mut Vec<Span>,
    columns: &mut [&mut Vec<f64>],
    theirs: (&[Span], &[f64]),
    skip: &Skip,
) {
    if *spans == theirs.0 || holds_all(spans, columns, theirs, skip) {
        return;
    }
    let mut layout = Layout::default();
    let mut from: Vec<Option<usize>> = Vec::with_capacity(columns[0].len() + theirs.1.len());
    let mut begins = starts(spans).peekable();
    let mut ours = Counts::new(spans, columns[0]).map(|(index, _)| index).enumerate().peekable();
    let mut theirs = skip.rest(theirs).map(|(index, _)| index).peekable();
    // Set when the bucket before was new and lies directly before a span of ours.
    let mut reaches = false;
    loop {
        let our_next = ours.peek().map(|(_, index)| *index);
        let their_next = theirs.peek().copied();
        let is_ours = match (our_next, their_next) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(a), Some(b)) => a <= b,
        };
        if is_ours && let Some((at, index)) = ours.next() {
            if their_next == Some(index) {
                theirs.next();
            }
            let begins_span = begins.next_if_eq(&index).is_some();
            if begins_span && !reaches {
                layout.push_apart(index)
            } else {
                layout.push(index)
            }
            from.push(Some(at));
            reaches = false;
        } else if let Some(index) = theirs.next() {
            let follows = layout.end() == Some(index);
            reaches = !follows && our_next == Some(index.wrapping_add(1));
            layout.push(index);
            from.push(None);
        }
    }
    drop((ours, begins));
    *spans = layout.spans;
    for column in columns {
        let moved = from.iter().map(|at| at.and_then(|at| column.get(at).copied()).unwrap_or(0.0));
        **column = moved.collect();
    }
}

/// Indexes at which spans that are not empty begin.
fn starts(spans: &[Span]) -> impl Iterator<Item = i32> + '_ {
    let mut at = 0_i32;
    spans.iter().filter_map(move |span| {
        let start = at.wrapping_add(span.offset);
        at = start.wrapping_add_unsigned(span.length);
        (span.length > 0).then_some(start)
    })
}

fn holds_all(
    spans: &[Span],
    columns: &[&mut Vec<f64>],
    theirs: (&[Span], &[f64]),
    skip: &Skip,
) -> bool {
    let mut ours = Counts::new(spans, columns[0]);
    skip.rest(theirs).all(|(wanted, _)| ours.by_ref().any(|(index, _)| index == wanted))
}

/// Calls `join` with the place of our bucket and their count, for each bucket of theirs that a
/// side, which has room for all of them, is to take in.
pub(super) fn meet(
    spans: &[Span],
    theirs: (&[Span], &[f64]),
    skip: &Skip,
    mut join: impl FnMut(usize, f64),
) {
    let first = Counts::new(theirs.0, theirs.1).next();
    if spans == theirs.0 && first.is_none_or(|(index, _)| !skip.covers(index)) {
        theirs.1.iter().enumerate().for_each(|(at, count)| join(at, *count));
        return;
    }
    // Places of ours, by spans: walking them costs nothing for the buckets between.
    let mut places =
        Places { spans, at: 0, start: spans.first().map_or(0, |it| it.offset), place: 0 };
    for (index, count) in skip.rest(theirs) {
        if let Some(at) = places.of(index) {
            join(at, count);
        }
    }
}

/// Finds the places of ascending indexes.
struct Places<'a> {
    spans: &'a [Span],
    /// The span that is looked at.
    at: usize,
    /// The index of its first bucket and the place of that.
    start: i32,
    place: usize,
}

impl Places<'_> {
    fn of(&mut self, index: i32) -> Option<usize> {
        while let Some(span) = self.spans.get(self.at) {
            let inside = i64::from(index) - i64::from(self.start);
            if inside < i64::from(span.length) {
                return usize::try_from(inside).ok().map(|inside| self.place + inside);
            }
            self.place += usize::try_from(span.length).unwrap_or(usize::MAX);
            self.at += 1;
            let end = self.start.wrapping_add_unsigned(span.length);
            self.start = end.wrapping_add(self.spans.get(self.at).map_or(0, |it| it.offset));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(it: &[(i32, u32)]) -> Vec<Span> {
        it.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect()
    }

    fn check(ours: &[(i32, u32)], theirs: &[(i32, u32)], expected: &[(i32, u32)]) {
        let total = |it: &[(i32, u32)]| it.iter().map(|(_, length)| *length).sum::<u32>();
        let counts = |it| (1..=total(it)).map(f64::from).collect::<Vec<_>>();
        let (mut ours_spans, mut ours_counts) = (spans(ours), counts(ours));
        let (their_spans, their_counts) = (spans(theirs), counts(theirs));
        let theirs = (&their_spans[..], &their_counts[..]);
        make_room(&mut ours_spans, &mut [&mut ours_counts], theirs, &Skip::nothing());
        assert_eq!(ours_spans, spans(expected));
        let sum = |counts: &[f64]| counts.iter().sum::<f64>();
        let before = sum(&ours_counts);
        meet(&ours_spans, theirs, &Skip::nothing(), |at, count| ours_counts[at] += count);
        assert_eq!(sum(&ours_counts), before + sum(&their_counts));
    }

    #[test]
    fn new_buckets_join_the_span_before_them_then_the_one_behind() {
        check(&[], &[(1, 2)], &[(1, 2)]);
        check(&[(3, 1)], &[(0, 2)], &[(0, 2), (1, 1)]);
        check(&[(3, 1)], &[(2, 1)], &[(2, 2)]);
        check(&[(0, 1), (1, 1)], &[(1, 1)], &[(0, 2), (0, 1)]);
        check(&[(0, 1), (5, 2)], &[(5, 1)], &[(0, 1), (4, 3)]);
        check(&[(0, 1), (5, 2)], &[(3, 1)], &[(0, 1), (2, 1), (2, 2)]);
        check(&[(0, 2)], &[(1, 3)], &[(0, 4)]);
        check(&[(0, 3)], &[(1, 1)], &[(0, 3)]);
        check(&[(2, 2)], &[(1, 1)], &[(1, 3)]);
    }
}
