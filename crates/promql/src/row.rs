//! Rows: one series with a value, or none, at every step of a grid.

use std::borrow::Cow;
use std::sync::Arc;

use model::{FloatHistogram, Labels};

/// Equally spaced times at which an expression is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The first time in ms since the Unix epoch.
    pub start_ms: i64,
    /// Distance between two times in ms; positive.
    pub step_ms: i64,
    /// Number of times.
    pub steps: usize,
}

impl Grid {
    /// A grid of one time.
    pub fn instant(at_ms: i64) -> Grid {
        Grid { start_ms: at_ms, step_ms: 1, steps: 1 }
    }

    /// The times from `start_ms` to at most `end_ms`; empty when `end_ms` comes first.
    pub fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Grid {
        let step_ms = step_ms.max(1);
        if end_ms < start_ms {
            return Grid { start_ms, step_ms, steps: 0 };
        }
        let steps = end_ms.abs_diff(start_ms) / step_ms.unsigned_abs();
        Grid { start_ms, step_ms, steps: usize::try_from(steps).map_or(usize::MAX, |it| it + 1) }
    }

    /// The time of a step in ms.
    #[inline]
    pub fn time_ms(&self, step: usize) -> i64 {
        let distance = i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(self.step_ms);
        self.start_ms.saturating_add(distance)
    }

    /// The last time in ms; the first one when there is none.
    pub fn end_ms(&self) -> i64 {
        self.time_ms(self.steps.saturating_sub(1))
    }
}

/// Which steps of a row hold a value: a dense bitmap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    words: Vec<u64>,
    steps: usize,
}

const WORD: usize = 64;

impl Presence {
    /// A bitmap of `steps` steps without a value.
    pub fn none(steps: usize) -> Presence {
        Presence { words: vec![0; steps.div_ceil(WORD)], steps }
    }

    /// A bitmap of `steps` steps that all hold a value.
    pub fn all(steps: usize) -> Presence {
        let mut it = Presence::none(steps);
        it.fill();
        it
    }

    /// Number of steps, with or without a value.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Number of steps that hold a value.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| usize::try_from(word.count_ones()).unwrap_or(0)).sum()
    }

    /// Whether no step holds a value.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether every step holds a value.
    pub fn is_full(&self) -> bool {
        self.count() == self.steps
    }

    /// Whether a step holds a value.
    #[inline]
    pub fn get(&self, step: usize) -> bool {
        self.words.get(step / WORD).is_some_and(|word| word >> (step % WORD) & 1 == 1)
    }

    /// The steps that hold a value, in order.
    pub fn iter(&self) -> Steps<'_> {
        Steps { words: self.words.iter(), rest: 0, next: 0 }
    }

    #[inline]
    pub(crate) fn set(&mut self, step: usize) {
        self.words[step / WORD] |= 1 << (step % WORD);
    }

    pub(crate) fn set_run(&mut self, first: usize, steps: usize) {
        let mut at = first;
        let end = first + steps;
        while at < end {
            let bits = (end - at).min(WORD - at % WORD);
            let mask = if bits == WORD { u64::MAX } else { (1 << bits) - 1 };
            self.words[at / WORD] |= mask << (at % WORD);
            at += bits;
        }
    }

    #[inline]
    pub(crate) fn unset(&mut self, step: usize) {
        self.words[step / WORD] &= !(1 << (step % WORD));
    }

    pub(crate) fn fill(&mut self) {
        self.words.fill(u64::MAX);
        let rest = self.steps % WORD;
        if rest != 0
            && let Some(last) = self.words.last_mut()
        {
            *last = (1 << rest) - 1;
        }
    }

    pub(crate) fn clear(&mut self, steps: usize) {
        self.words.clear();
        self.words.resize(steps.div_ceil(WORD), 0);
        self.steps = steps;
    }

    pub(crate) fn union(&mut self, other: &Presence) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    pub(crate) fn intersect(&mut self, other: &Presence) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    pub(crate) fn subtract(&mut self, other: &Presence) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// The first step that holds a value here and in `other`.
    pub(crate) fn first_common(&self, other: &Presence) -> Option<usize> {
        let mut words = self.words.iter().zip(&other.words).enumerate();
        let (index, both) =
            words.find_map(|(index, (a, b))| (a & b != 0).then_some((index, a & b)))?;
        Some(index * WORD + usize::try_from(both.trailing_zeros()).unwrap_or(0))
    }

    fn capacity_bytes(&self) -> usize {
        8 * self.words.capacity()
    }
}

/// The steps of a [`Presence`] that hold a value, in order.
#[derive(Clone, Debug)]
pub struct Steps<'a> {
    words: std::slice::Iter<'a, u64>,
    /// What is left of the word that was taken last.
    rest: u64,
    /// The first step of the word after it.
    next: usize,
}

impl Iterator for Steps<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.rest == 0 {
            self.rest = *self.words.next()?;
            self.next += WORD;
        }
        let bit = usize::try_from(self.rest.trailing_zeros()).unwrap_or(0);
        self.rest &= self.rest - 1;
        Some(self.next - WORD + bit)
    }
}

/// One series over a grid.
///
/// Most rows hold floats alone; the histograms of those that do not stand beside them, so that
/// loops over floats know nothing of them.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The labels of the series.
    pub labels: Labels,
    /// One value per step; without meaning where `present` has none.
    pub values: Vec<f64>,
    /// The steps that hold a float.
    pub present: Presence,
    /// The histograms in order of their steps, none of which holds a float.
    pub histograms: Vec<(usize, Arc<FloatHistogram>)>,
    /// The metric name is to be taken away at the end of the query.
    pub drop_name: bool,
}

impl Row {
    /// The steps that hold a float with their values, in order of time.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.present.iter().map(|step| (step, self.values[step]))
    }

    /// Bytes that the row holds, what an account is charged for it.
    pub fn size_bytes(&self) -> usize {
        size_of::<Row>()
            + self.labels.size_bytes()
            + 8 * self.values.capacity()
            + self.present.capacity_bytes()
            + self.histogram_bytes()
    }

    /// Whether no step holds anything.
    pub(crate) fn is_blank(&self) -> bool {
        self.present.is_empty() && self.histograms.is_empty()
    }

    /// The steps that hold a float or a histogram.
    pub(crate) fn filled(&self) -> Cow<'_, Presence> {
        if self.histograms.is_empty() {
            return Cow::Borrowed(&self.present);
        }
        let mut filled = self.present.clone();
        self.histograms.iter().for_each(|(step, _)| filled.set(*step));
        Cow::Owned(filled)
    }

    /// Keeps what lies at the steps that `keep` has.
    pub(crate) fn intersect(&mut self, keep: &Presence) {
        self.present.intersect(keep);
        self.histograms.retain(|(step, _)| keep.get(*step));
    }

    /// Drops what lies at the steps that `drop` has.
    pub(crate) fn subtract(&mut self, drop: &Presence) {
        self.present.subtract(drop);
        self.histograms.retain(|(step, _)| !drop.get(*step));
    }

    /// Takes in what another row holds at steps that this one does not.
    pub(crate) fn take_in(&mut self, other: &Row) {
        for (step, value) in other.iter() {
            self.values[step] = value;
        }
        self.present.union(&other.present);
        if !other.histograms.is_empty() {
            self.histograms.extend_from_slice(&other.histograms);
            self.histograms.sort_by_key(|(step, _)| *step);
        }
    }

    /// Bytes of the histograms; one that stands at neighbouring steps counts once.
    pub(crate) fn histogram_bytes(&self) -> usize {
        let entry = size_of::<(usize, Arc<FloatHistogram>)>();
        let mut held = entry * self.histograms.capacity();
        let mut before: Option<&Arc<FloatHistogram>> = None;
        for (_, histogram) in &self.histograms {
            if before.is_none_or(|before| !Arc::ptr_eq(before, histogram)) {
                held += size_of::<FloatHistogram>() + histogram.heap_bytes();
            }
            before = Some(histogram);
        }
        held
    }

    /// Makes a row of `steps` steps without a value, keeping the memory.
    pub(crate) fn reset(&mut self, labels: Labels, steps: usize) {
        self.labels = labels;
        self.values.clear();
        self.values.resize(steps, 0.0);
        self.present.clear(steps);
        self.histograms.clear();
        self.drop_name = false;
    }

    /// Puts values into steps that follow each other.
    pub(crate) fn put_run(&mut self, first: usize, values: &[f64]) {
        self.values[first..first + values.len()].copy_from_slice(values);
        self.present.set_run(first, values.len());
    }

    #[inline]
    pub(crate) fn put(&mut self, step: usize, value: f64) {
        self.values[step] = value;
        self.present.set(step);
    }

    /// Puts a histogram into a step after those that hold one already.
    pub(crate) fn put_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        debug_assert!(self.histograms.last().is_none_or(|(last, _)| *last < step));
        self.present.unset(step);
        self.histograms.push((step, histogram));
    }

    /// What a step holds.
    pub(crate) fn at(&self, step: usize) -> Option<Sample<'_>> {
        if self.present.get(step) {
            return Some(Sample::Float(self.values[step]));
        }
        let at = self.histograms.binary_search_by_key(&step, |(step, _)| *step).ok()?;
        Some(Sample::Histogram(&self.histograms[at].1))
    }
}

/// What a row holds at a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sample<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_counts_both_ends() {
        assert_eq!(Grid::range(0, 100, 10).steps, 11);
        assert_eq!(Grid::range(0, 99, 10).steps, 10);
        assert_eq!(Grid::range(0, -1, 10).steps, 0);
        assert_eq!(Grid::range(5, 30, 10).end_ms(), 25);
    }

    #[test]
    fn presence_knows_its_steps() {
        let mut it = Presence::none(130);
        assert!(it.is_empty() && !it.is_full());
        it.set(0);
        it.set(64);
        it.set(129);
        assert_eq!(it.iter().collect::<Vec<_>>(), [0, 64, 129]);
        let all = Presence::all(130);
        assert!(all.is_full());
        assert_eq!(all.count(), 130);
        it.unset(0);
        assert_eq!(it.first_common(&all), Some(64));
        for (first, steps) in [(0, 130), (3, 61), (64, 64), (60, 10), (129, 1), (5, 0)] {
            let mut run = Presence::none(130);
            run.set_run(first, steps);
            assert_eq!(run.iter().collect::<Vec<_>>(), (first..first + steps).collect::<Vec<_>>());
        }
    }
}
