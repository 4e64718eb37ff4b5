//! The StoreAPI over the head and the local blocks of all tenants.
//!
//! External labels are put on every series, which changes the order; so what was found is
//! collected by outgoing labels first, with where its chunks lie, and the chunks are read batch by
//! batch as the answer is pulled.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use daemon::Tasks;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use model::{Budget, Labels, Matcher, Reservation, Tenant, TimeRange};
use storeapi::Error;
use storeapi::merge::{normalize_chunks, series_bytes};
use storeapi::request::{LabelsRequest, LabelsResponse, SeriesRequest, StoreInfo, TsdbInfo};
use storeapi::resort::{LabelTransform, Resorter};
use storeapi::store::{
    AggrChunk, Chunk, ChunkEncoding, SeriesFrame, SeriesFrames, Store, StoreSeries,
};
use tsdb_core::block::BlockSeries;
use tsdb_core::chunk::Encoding;
use tsdb_core::db::{Engine, HeadChunk, HeadQuery, LocalBlock};

use crate::config::Tenancy;

/// Series in one message when the caller names no number.
const BATCH_SERIES: usize = 64;
/// Bytes at which a batch is sent even though more series would fit.
const BATCH_BYTES: usize = 1 << 20;

/// The store; clones share it.
#[derive(Clone)]
pub(crate) struct ReceiveStore {
    pub(crate) engine: Arc<Engine>,
    pub(crate) tenancy: Arc<Tenancy>,
    pub(crate) tasks: Tasks,
}

/// Where the chunks of a found series are.
enum Found {
    Head(Vec<HeadChunk>),
    Block(Arc<LocalBlock>, BlockSeries),
}

/// What a request asks of one tenant.
struct TenantQuery {
    tenant: Tenant,
    external: Labels,
    /// The matchers that are not about external labels.
    matchers: Vec<Matcher>,
}

/// A Series answer in the middle of being read.
struct Answer {
    entries: std::vec::IntoIter<(Labels, Found)>,
    next: Option<(Labels, Found)>,
    /// What the entries hold.
    _held: Vec<Reservation>,
    budget: Budget,
    batch_size: usize,
    /// Series that may still be sent.
    left: usize,
    skip_chunks: bool,
    range: TimeRange,
}

impl fmt::Debug for ReceiveStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("receive")
    }
}

impl ReceiveStore {
    /// The tenants whose external labels fulfil the matchers on them.
    fn tenants(&self, matchers: &[Matcher]) -> Vec<TenantQuery> {
        let mut queries = Vec::new();
        for tenant in self.known_tenants() {
            let external = self.tenancy.external(&tenant);
            let (on_external, matchers): (Vec<&Matcher>, Vec<&Matcher>) =
                matchers.iter().partition(|it| external.get(it.name()).is_some());
            if on_external.iter().all(|it| it.matches_labels(&external)) {
                let matchers = matchers.into_iter().cloned().collect();
                queries.push(TenantQuery { tenant, external, matchers });
            }
        }
        queries
    }

    /// Tenants with data, and the default one.
    fn known_tenants(&self) -> Vec<Tenant> {
        let mut tenants = self.engine.tenants();
        if !tenants.contains(&self.tenancy.default) {
            tenants.push(self.tenancy.default.clone());
        }
        tenants
    }

    /// Finds everything that a request asks for. Blocking.
    fn find(&self, request: &SeriesRequest, budget: &Budget) -> Result<Answer, Error> {
        let mut resorter = Resorter::new(budget)?;
        let mut held = Vec::new();
        for query in self.tenants(&request.matchers) {
            let transform = LabelTransform::new(&query.external, &request.without_replica_labels);
            let is_wanted =
                |labels: &Labels| request.shard.as_ref().is_none_or(|it| it.keeps(labels));
            let head = HeadQuery { matchers: &query.matchers, range: request.range };
            let with_chunks = !request.skip_chunks;
            // The head before the blocks: a cut in between is then seen twice, not never.
            let selection = self.engine.select(&query.tenant, head, with_chunks, budget);
            let selection = selection.map_err(|it| aborted(&it))?;
            held.push(selection.reservation);
            for series in selection.series {
                let labels = transform.apply(&series.labels);
                if is_wanted(&labels) {
                    resorter.push(labels, Found::Head(series.chunks), 0)?;
                }
            }
            for block in self.blocks(&query.tenant, request.range) {
                let selected = match query.matchers.is_empty() {
                    true => block.reader.all(request.range, budget),
                    false => block.reader.select(&query.matchers, request.range, budget),
                };
                for series in selected.map_err(|it| of_block(&block, &it))? {
                    let series = series.map_err(|it| of_block(&block, &it))?;
                    let labels = transform.apply(&series.labels);
                    if is_wanted(&labels) {
                        let bytes = series.labels.size_bytes() + 24 * series.chunks.len();
                        resorter.push(labels, Found::Block(Arc::clone(&block), series), bytes)?;
                    }
                }
            }
        }
        let (entries, reservation) = resorter.finish()?;
        held.push(reservation);
        Ok(Answer {
            entries: entries.into_iter(),
            next: None,
            _held: held,
            budget: budget.clone(),
            batch_size: if request.batch_size == 0 { BATCH_SERIES } else { request.batch_size },
            left: if request.limit == 0 { usize::MAX } else { request.limit },
            skip_chunks: request.skip_chunks,
            range: request.range,
        })
    }

    fn blocks(&self, tenant: &Tenant, range: TimeRange) -> Vec<Arc<LocalBlock>> {
        let mut blocks = self.engine.blocks(tenant);
        blocks.retain(|block| {
            let meta = block.reader.meta();
            let last_ms = meta.max_time_ms.saturating_sub(1);
            range.overlaps(TimeRange::new(meta.min_time_ms, last_ms))
        });
        blocks
    }

    /// Label names or values of all tenants. Blocking.
    fn texts(
        &self,
        request: &LabelsRequest,
        of_tenant: impl Fn(&TenantQuery, &mut BTreeSet<String>) -> Result<(), Error>,
    ) -> Result<LabelsResponse, Error> {
        let mut texts = BTreeSet::new();
        for query in self.tenants(&request.matchers) {
            of_tenant(&query, &mut texts)?;
        }
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let values = texts.into_iter().take(limit).collect();
        Ok(LabelsResponse { values, warnings: Vec::new() })
    }

    fn names_of(
        &self,
        query: &TenantQuery,
        request: &LabelsRequest,
        budget: &Budget,
        texts: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        let head = HeadQuery { matchers: &query.matchers, range: request.range };
        let mut names =
            self.engine.label_names(&query.tenant, head, budget).map_err(|it| aborted(&it))?;
        for block in self.blocks(&query.tenant, request.range) {
            let found = block.reader.label_names(&query.matchers, budget);
            names.extend(found.map_err(|it| of_block(&block, &it))?);
        }
        if names.is_empty() {
            return Ok(());
        }
        // Only external labels can be replica labels that are taken away here, as in Thanos.
        names.extend(query.external.iter().map(|(name, _)| name.to_owned()));
        let is_dropped = |name: &String| {
            query.external.get(name).is_some() && request.without_replica_labels.contains(name)
        };
        texts.extend(names.into_iter().filter(|it| !is_dropped(it)));
        Ok(())
    }

    fn values_of(
        &self,
        query: &TenantQuery,
        (name, request): (&str, &LabelsRequest),
        budget: &Budget,
        texts: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        if let Some(value) = query.external.get(name) {
            if request.without_replica_labels.iter().any(|it| it == name) {
                return Ok(());
            }
            let mut names = BTreeSet::new();
            self.names_of(query, request, budget, &mut names)?;
            if !names.is_empty() {
                texts.insert(value.to_owned());
            }
            return Ok(());
        }
        let head = HeadQuery { matchers: &query.matchers, range: request.range };
        let values = self.engine.label_values(&query.tenant, name, head, budget);
        texts.extend(values.map_err(|it| aborted(&it))?);
        for block in self.blocks(&query.tenant, request.range) {
            let found = block.reader.label_values(name, &query.matchers, budget);
            texts.extend(found.map_err(|it| of_block(&block, &it))?);
        }
        Ok(())
    }

    /// Runs blocking work where it holds up nothing.
    async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&ReceiveStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.clone();
        let done = self.tasks.spawn_blocking(name, move || work(&store)).await;
        done.map_err(|error| Error::Internal(format!("{name}: {error}")))?
    }
}

impl Answer {
    /// The next series, whose data may come from head and blocks. Blocking.
    fn next_series(&mut self) -> Result<Option<StoreSeries>, Error> {
        let Some((labels, found)) = self.next.take().or_else(|| self.entries.next()) else {
            return Ok(None);
        };
        let mut chunks = self.read(found)?;
        let mut is_joined = false;
        for (other, found) in self.entries.by_ref() {
            if other != labels {
                self.next = Some((other, found));
                break;
            }
            chunks.extend(read_found(found, self.skip_chunks, self.range)?);
            is_joined = true;
        }
        if is_joined {
            normalize_chunks(&mut chunks);
        }
        Ok(Some(StoreSeries { labels, chunks }))
    }

    fn read(&self, found: Found) -> Result<Vec<AggrChunk>, Error> {
        read_found(found, self.skip_chunks, self.range)
    }

    /// The next batch and what is charged for it; none at the end. Blocking.
    fn next_batch(&mut self) -> Result<Option<(Vec<StoreSeries>, Reservation)>, Error> {
        let mut reservation = self.budget.reserve(0)?;
        let mut batch = Vec::new();
        while batch.len() < self.batch_size && reservation.bytes() < BATCH_BYTES && self.left > 0 {
            let Some(series) = self.next_series()? else { break };
            reservation.grow(series_bytes(&series))?;
            batch.push(series);
            self.left -= 1;
        }
        Ok((!batch.is_empty()).then_some((batch, reservation)))
    }
}

fn read_found(found: Found, skip_chunks: bool, range: TimeRange) -> Result<Vec<AggrChunk>, Error> {
    if skip_chunks {
        return Ok(Vec::new());
    }
    match found {
        Found::Head(chunks) => chunks.into_iter().map(read_head_chunk).collect(),
        Found::Block(block, series) => {
            let chunks = block.reader.chunks(&series).map_err(|it| of_block(&block, &it))?;
            let chunks = chunks
                .into_iter()
                .filter(|it| range.overlaps(TimeRange::new(it.min_time_ms, it.max_time_ms)));
            chunks
                .map(|it| {
                    let encoding = encoding_of(it.encoding).ok_or_else(|| {
                        let id = block.id();
                        Error::Aborted(format!("block {id}: chunks of {:?}", it.encoding))
                    })?;
                    let raw = Some(Chunk { encoding, data: it.data });
                    let (min_time_ms, max_time_ms) = (it.min_time_ms, it.max_time_ms);
                    Ok(AggrChunk { min_time_ms, max_time_ms, raw, ..AggrChunk::default() })
                })
                .collect()
        }
    }
}

fn read_head_chunk(chunk: HeadChunk) -> Result<AggrChunk, Error> {
    let (min_time_ms, max_time_ms) = (chunk.start_ms, chunk.end_ms);
    let data = Bytes::from(chunk.read().map_err(|it| aborted(&it))?);
    let raw = Some(Chunk { encoding: ChunkEncoding::Xor, data });
    Ok(AggrChunk { min_time_ms, max_time_ms, raw, ..AggrChunk::default() })
}

fn encoding_of(encoding: Encoding) -> Option<ChunkEncoding> {
    match encoding {
        Encoding::Xor => Some(ChunkEncoding::Xor),
        Encoding::Histogram => Some(ChunkEncoding::Histogram),
        Encoding::FloatHistogram => Some(ChunkEncoding::FloatHistogram),
        _ => None,
    }
}

/// A failure of the head as that of the call.
fn aborted(error: &tsdb_core::Error) -> Error {
    match error {
        tsdb_core::Error::Budget(error) => error.clone().into(),
        other => Error::Aborted(format!("head: {other}")),
    }
}

/// A failure of a block as that of the call.
fn of_block(block: &LocalBlock, error: &tsdb_core::Error) -> Error {
    match error {
        tsdb_core::Error::Budget(error) => error.clone().into(),
        other => Error::Aborted(format!("local block {}: {other}", block.id())),
    }
}

impl Store for ReceiveStore {
    fn name(&self) -> String {
        format!("receive {}", self.tenancy.labels)
    }

    fn info(&self) -> StoreInfo {
        let mut info = StoreInfo {
            component: "receive".to_owned(),
            min_time_ms: i64::MAX,
            max_time_ms: i64::MAX,
            supports_sharding: true,
            supports_without_replica_labels: true,
            ..StoreInfo::default()
        };
        for tenant in self.known_tenants() {
            let labels = self.tenancy.external(&tenant);
            let range = self.engine.time_range(&tenant);
            let min_time_ms = range.map_or(i64::MAX, |it| it.start_ms);
            info.min_time_ms = info.min_time_ms.min(min_time_ms);
            info.label_sets.push(labels.clone());
            info.tsdbs.push(TsdbInfo { labels, min_time_ms, max_time_ms: i64::MAX });
        }
        info
    }

    fn series(
        &self,
        request: SeriesRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<SeriesFrames, Error>> {
        async move {
            if request.matchers.is_empty() {
                let text = "no matchers specified (excluding selector labels)";
                return Err(Error::InvalidArgument(text.to_owned()));
            }
            let answer =
                self.blocking("series", move |store| store.find(&request, &budget)).await?;
            let store = self.clone();
            let frames = stream::try_unfold((store, answer), |(store, mut answer)| async move {
                let read = move |_: &ReceiveStore| {
                    let batch = answer.next_batch()?;
                    Ok((batch, answer))
                };
                let (batch, answer) = store.blocking("series", read).await?;
                Ok(batch.map(|(batch, _held)| (SeriesFrame::Batch(batch), (store, answer))))
            });
            Ok(frames.boxed())
        }
        .boxed()
    }

    fn label_names(
        &self,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        let work = move |store: &ReceiveStore| {
            store.texts(&request, |query, texts| store.names_of(query, &request, &budget, texts))
        };
        self.blocking("label names", work).boxed()
    }

    fn label_values(
        &self,
        name: String,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        let work = move |store: &ReceiveStore| {
            if name.is_empty() {
                return Err(Error::InvalidArgument("the label's name is empty".to_owned()));
            }
            store.texts(&request, |query, texts| {
                store.values_of(query, (&name, &request), &budget, texts)
            })
        };
        self.blocking("label values", work).boxed()
    }
}
