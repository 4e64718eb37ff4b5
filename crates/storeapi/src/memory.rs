//! A store of series that lie in memory: for tests of everything that reads a [`Store`].

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use model::{Budget, Labels, TimeRange};

use crate::error::Error;
use crate::request::{LabelsRequest, LabelsResponse, SeriesRequest, StoreInfo, TsdbInfo};
use crate::resort::{LabelTransform, Resorter};
use crate::store::{AggrChunk, SeriesFrame, SeriesFrames, Store, StoreSeries};

/// Series under their whole labels, external ones among them.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    name: String,
    external: Labels,
    series: Arc<Vec<StoreSeries>>,
}

impl MemoryStore {
    /// A store of `series`, whose labels already carry those of `external`.
    pub fn new(name: &str, external: Labels, mut series: Vec<StoreSeries>) -> MemoryStore {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        MemoryStore { name: name.to_owned(), external, series: Arc::new(series) }
    }

    fn range(&self) -> TimeRange {
        let chunks = || self.series.iter().flat_map(|it| &it.chunks);
        let start_ms = chunks().map(|it| it.min_time_ms).min().unwrap_or(i64::MAX);
        let end_ms = chunks().map(|it| it.max_time_ms).max().unwrap_or(i64::MIN);
        TimeRange::new(start_ms, end_ms)
    }

    fn select(&self, request: &SeriesRequest, budget: &Budget) -> Result<SeriesFrames, Error> {
        request.require_matchers()?;
        let transform = LabelTransform::new(&Labels::empty(), &request.without_replica_labels);
        let mut resorter = Resorter::new(budget)?;
        for series in self.series.iter() {
            let is_wanted = request.matchers.iter().all(|it| it.matches_labels(&series.labels));
            let labels = transform.apply(&series.labels);
            let is_in_shard = request.shard.as_ref().is_none_or(|it| it.keeps(&labels));
            let chunks: Vec<AggrChunk> =
                series.chunks.iter().filter(|it| overlaps(it, request.range)).cloned().collect();
            if is_wanted && is_in_shard && !chunks.is_empty() {
                let chunks = if request.skip_chunks { Vec::new() } else { chunks };
                resorter.push(labels, chunks, 0)?;
            }
        }
        let (entries, reservation) = resorter.finish()?;
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let batch_size = if request.batch_size == 0 { 64 } else { request.batch_size };
        let series: Vec<StoreSeries> = entries
            .into_iter()
            .take(limit)
            .map(|(labels, chunks)| StoreSeries { labels, chunks })
            .collect();
        let batches: Vec<_> =
            series.chunks(batch_size).map(|it| Ok(SeriesFrame::Batch(it.to_vec()))).collect();
        Ok(stream::iter(batches)
            .inspect(move |_| debug_assert!(reservation.bytes() < usize::MAX, "held until here"))
            .boxed())
    }

    /// Replica labels are left out only where they are external.
    fn is_dropped(&self, request: &LabelsRequest, name: &str) -> bool {
        self.external.get(name).is_some()
            && request.without_replica_labels.iter().any(|it| it == name)
    }

    fn labels(
        &self,
        request: &LabelsRequest,
        pick: impl Fn(&Labels, &mut Vec<String>),
    ) -> LabelsResponse {
        let mut values = Vec::new();
        for series in self.series.iter() {
            let is_wanted = request.matchers.iter().all(|it| it.matches_labels(&series.labels))
                && series.chunks.iter().any(|it| overlaps(it, request.range));
            if is_wanted {
                pick(&series.labels, &mut values);
            }
        }
        values.sort_unstable();
        values.dedup();
        if request.limit > 0 {
            values.truncate(request.limit);
        }
        LabelsResponse { values, warnings: Vec::new() }
    }
}

fn overlaps(chunk: &AggrChunk, range: TimeRange) -> bool {
    range.overlaps(TimeRange::new(chunk.min_time_ms, chunk.max_time_ms))
}

impl Store for MemoryStore {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn info(&self) -> StoreInfo {
        let range = self.range();
        StoreInfo {
            component: "store".to_owned(),
            label_sets: vec![self.external.clone()],
            min_time_ms: range.start_ms,
            max_time_ms: range.end_ms,
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdbs: vec![TsdbInfo {
                labels: self.external.clone(),
                min_time_ms: range.start_ms,
                max_time_ms: range.end_ms,
            }],
        }
    }

    fn series(
        &self,
        request: SeriesRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<SeriesFrames, Error>> {
        async move { self.select(&request, &budget) }.boxed()
    }

    fn label_names(
        &self,
        request: LabelsRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        let response = self.labels(&request, |labels, names| {
            let kept = labels.iter().filter(|(name, _)| !self.is_dropped(&request, name));
            names.extend(kept.map(|(name, _)| name.to_owned()));
        });
        async move { Ok(response) }.boxed()
    }

    fn label_values(
        &self,
        name: String,
        request: LabelsRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        let response = self.labels(&request, |labels, values| {
            let is_kept = !self.is_dropped(&request, &name);
            values.extend(labels.get(&name).filter(|_| is_kept).map(str::to_owned));
        });
        async move { Ok(response) }.boxed()
    }
}
