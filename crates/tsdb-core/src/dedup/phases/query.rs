//! Our deduplication on decoded columns, as queries use it.

use std::cmp::Ordering;

use model::{Columns, FloatHistogram, is_stale};

use crate::dedup::phases::choose::{Chooser, Times};
use crate::dedup::phases::union::{Floats, float_histogram_order, order};

/// Deduplicates series after series and keeps its memory.
#[derive(Debug, Default)]
pub struct Deduplicator {
    chooser: Chooser,
    kept: Vec<bool>,
    union: Floats,
    spare: Floats,
}

/// A sample of either kind.
#[derive(Clone, Copy, Debug)]
enum Either<'a> {
    Float(f64),
    Histogram(&'a FloatHistogram),
}

impl Deduplicator {
    /// Without memory.
    pub fn new() -> Deduplicator {
        Deduplicator::default()
    }

    /// Appends to `out` what is chosen of the samples of one series, in whatever order and however
    /// divided its parts come; each part is in order of time. Start timestamps are left out.
    pub fn deduplicate(&mut self, parts: &[&Columns], out: &mut Columns) {
        if parts.iter().all(|it| it.histogram_timestamps_ms.is_empty()) {
            self.floats(parts, out);
        } else {
            self.mixed(parts, out);
        }
    }

    fn floats(&mut self, parts: &[&Columns], out: &mut Columns) {
        self.union.clear();
        for part in parts {
            let union = (self.union.times_ms.as_slice(), self.union.values.as_slice());
            self.spare.merge(union, (&part.timestamps_ms, &part.values));
            std::mem::swap(&mut self.union, &mut self.spare);
        }
        let values = &self.union.values;
        let of =
            Times { times_ms: &self.union.times_ms, is_stale: |it: usize| is_stale(values[it]) };
        self.chooser.choose(&of, &mut self.kept);
        let samples = self.union.times_ms.iter().zip(values).zip(&self.kept);
        for ((&timestamp_ms, &value), _) in samples.filter(|(_, kept)| **kept) {
            out.push_float(timestamp_ms, value);
        }
    }

    fn mixed(&mut self, parts: &[&Columns], out: &mut Columns) {
        let mut all = Vec::new();
        for part in parts {
            let floats = part.timestamps_ms.iter().zip(&part.values);
            all.extend(floats.map(|(time, value)| (*time, Either::Float(*value))));
            let histograms = part.histogram_timestamps_ms.iter().zip(&part.histograms);
            all.extend(histograms.map(|(time, it)| (*time, Either::Histogram(it))));
        }
        all.sort_by(|one, other| one.0.cmp(&other.0).then_with(|| one.1.order(&other.1)));
        all.dedup_by_key(|it| it.0);
        let times_ms: Vec<i64> = all.iter().map(|it| it.0).collect();
        let of = Times { times_ms: &times_ms, is_stale: |it: usize| all[it].1.is_stale() };
        self.chooser.choose(&of, &mut self.kept);
        for ((timestamp_ms, sample), _) in all.iter().zip(&self.kept).filter(|(_, kept)| **kept) {
            match sample {
                Either::Float(value) => out.push_float(*timestamp_ms, *value),
                Either::Histogram(histogram) => {
                    out.histogram_timestamps_ms.push(*timestamp_ms);
                    out.histograms.push((*histogram).clone());
                }
            }
        }
    }
}

impl Either<'_> {
    fn is_stale(&self) -> bool {
        match self {
            Either::Float(value) => is_stale(*value),
            Either::Histogram(histogram) => histogram.is_stale(),
        }
    }

    /// Which of two samples at one time comes first and is kept.
    fn order(&self, other: &Either<'_>) -> Ordering {
        let stale = self.is_stale().cmp(&other.is_stale());
        stale.then_with(|| match (self, other) {
            (Either::Float(one), Either::Float(other)) => order(*one, *other),
            (Either::Float(_), Either::Histogram(_)) => Ordering::Less,
            (Either::Histogram(_), Either::Float(_)) => Ordering::Greater,
            (Either::Histogram(one), Either::Histogram(other)) => float_histogram_order(one, other),
        })
    }
}
