//! A storage in memory.

use std::sync::Arc;

use model::{Budget, Columns, FloatHistogram, Labels, Matcher, TimeRange};
use promql::storage::{SelectHints, SeriesStream, Storage, StorageError};
use promql::{Cancel, Session, SingleThread};

/// Series in label order, each with its samples in time order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    series: Vec<Arc<(Labels, Columns)>>,
}

impl Memory {
    /// A storage of these series; those with equal labels are joined.
    pub(crate) fn new(mut series: Vec<(Labels, Columns)>) -> Memory {
        series.sort_by(|a, b| a.0.cmp(&b.0));
        let mut joined: Vec<(Labels, Columns)> = Vec::new();
        for (labels, columns) in series {
            match joined.last_mut() {
                Some((last, known)) if *last == labels => append(known, columns),
                _ => joined.push((labels, columns)),
            }
        }
        Memory { series: joined.into_iter().map(Arc::new).collect() }
    }
}

/// Adds samples to a series; those that are there already stay.
fn append(known: &mut Columns, more: Columns) {
    let floats = more.values.into_iter().map(Sample::Float);
    let floats = with_starts(more.timestamps_ms, floats, more.start_timestamps_ms);
    let histograms = more.histograms.into_iter().map(|it| Sample::Histogram(Box::new(it)));
    let histograms =
        with_starts(more.histogram_timestamps_ms, histograms, more.histogram_start_timestamps_ms);
    let mut samples: Vec<_> = floats.into_iter().chain(histograms).collect();
    samples.retain(|(at, _, _)| {
        !known.timestamps_ms.contains(at) && !known.histogram_timestamps_ms.contains(at)
    });
    let old = std::mem::take(known);
    let floats = old.values.into_iter().map(Sample::Float);
    samples.extend(with_starts(old.timestamps_ms, floats, old.start_timestamps_ms));
    let histograms = old.histograms.into_iter().map(|it| Sample::Histogram(Box::new(it)));
    samples.extend(with_starts(
        old.histogram_timestamps_ms,
        histograms,
        old.histogram_start_timestamps_ms,
    ));
    samples.sort_by_key(|(at, _, _)| *at);
    let any_starts = samples.iter().any(|(_, start, _)| *start != 0);
    for (at, start, sample) in samples {
        match sample {
            Sample::Float(value) => {
                known.timestamps_ms.push(at);
                known.values.push(value);
                known.start_timestamps_ms.extend(any_starts.then_some(start));
            }
            Sample::Histogram(histogram) => {
                known.histogram_timestamps_ms.push(at);
                known.histograms.push(*histogram);
                known.histogram_start_timestamps_ms.extend(any_starts.then_some(start));
            }
        }
    }
}

enum Sample {
    Float(f64),
    Histogram(Box<FloatHistogram>),
}

fn with_starts(
    times: Vec<i64>,
    samples: impl Iterator<Item = Sample>,
    starts: Vec<i64>,
) -> Vec<(i64, i64, Sample)> {
    let starts = starts.into_iter().chain(std::iter::repeat(0));
    times.into_iter().zip(starts).zip(samples).map(|((at, start), it)| (at, start, it)).collect()
}

impl Storage for Memory {
    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        _: &SelectHints,
        _: &Budget,
    ) -> Result<Box<dyn SeriesStream>, StorageError> {
        let fulfils = |it: &&Arc<(Labels, Columns)>| {
            matchers.iter().all(|matcher| matcher.matches_labels(&it.0))
        };
        let series: Vec<_> = self.series.iter().filter(fulfils).cloned().collect();
        Ok(Box::new(Selected { series: series.into_iter(), range }))
    }
}

struct Selected {
    series: std::vec::IntoIter<Arc<(Labels, Columns)>>,
    range: TimeRange,
}

impl SeriesStream for Selected {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, StorageError> {
        columns.clear();
        let Some(series) = self.series.next() else { return Ok(None) };
        let (labels, all) = &*series;
        let inside = |ts: &[i64]| {
            let from = ts.partition_point(|it| *it < self.range.start_ms);
            from..ts.partition_point(|it| *it <= self.range.end_ms).max(from)
        };
        let floats = inside(&all.timestamps_ms);
        columns.timestamps_ms.extend_from_slice(&all.timestamps_ms[floats.clone()]);
        columns.values.extend_from_slice(&all.values[floats.clone()]);
        let starts = all.start_timestamps_ms.get(floats).unwrap_or_default();
        columns.start_timestamps_ms.extend_from_slice(starts);
        let histograms = inside(&all.histogram_timestamps_ms);
        let of_histograms = &all.histogram_timestamps_ms[histograms.clone()];
        columns.histogram_timestamps_ms.extend_from_slice(of_histograms);
        columns.histograms.extend_from_slice(&all.histograms[histograms.clone()]);
        let starts = all.histogram_start_timestamps_ms.get(histograms).unwrap_or_default();
        columns.histogram_start_timestamps_ms.extend_from_slice(starts);
        Ok(Some(labels.clone()))
    }
}

/// A session on one thread without bounds.
pub(crate) fn session(storage: Memory) -> Session {
    Session {
        storage: Arc::new(storage),
        workers: Arc::new(SingleThread),
        budget: Budget::unlimited(),
        cancel: Cancel::new(),
    }
}
