//! A storage in memory, and workers that really are several threads.

use std::sync::Arc;

use model::{Budget, Columns, Labels, Matcher, TimeRange};
use promql::storage::{SelectHints, SeriesStream, Storage, StorageError};
use promql::workers::Task;
use promql::{Cancel, Session, SingleThread, Workers};

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

fn append(known: &mut Columns, more: Columns) {
    let mut floats: Vec<(i64, f64)> = pairs(known).chain(pairs(&more)).collect();
    floats.sort_by_key(|(at, _)| *at);
    floats.dedup_by_key(|(at, _)| *at);
    known.timestamps_ms = floats.iter().map(|(at, _)| *at).collect();
    known.values = floats.iter().map(|(_, value)| *value).collect();
    known.histogram_timestamps_ms.extend(more.histogram_timestamps_ms);
    known.histograms.extend(more.histograms);
}

fn pairs(columns: &Columns) -> impl Iterator<Item = (i64, f64)> + '_ {
    columns.timestamps_ms.iter().copied().zip(columns.values.iter().copied())
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
        columns.values.extend_from_slice(&all.values[floats]);
        let histograms = inside(&all.histogram_timestamps_ms);
        let of_histograms = &all.histogram_timestamps_ms[histograms.clone()];
        columns.histogram_timestamps_ms.extend_from_slice(of_histograms);
        columns.histograms.extend_from_slice(&all.histograms[histograms]);
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

/// Starts a thread for every task.
#[derive(Debug)]
pub(crate) struct Threads(pub(crate) usize);

impl Workers for Threads {
    fn width(&self) -> usize {
        self.0
    }

    fn run(&self, tasks: Vec<Task>) {
        std::thread::scope(|scope| {
            for task in tasks {
                scope.spawn(task);
            }
        });
    }
}
