//! The StoreAPI over the head and the local blocks of all tenants.
//!
//! External labels are put on every series, which changes the order; so what was found is
//! collected by outgoing labels first, with where its chunks lie, and the chunks are read batch by
//! batch as the answer is pulled. What is damaged is left out and named in a warning.

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
use tsdb_core::block::{BlockSeries, ChunkData};
use tsdb_core::chunk::{self, Encoding};
use tsdb_core::db::{Engine, HeadChunk, HeadQuery, LocalBlock};

use crate::config::Tenancy;
use crate::damages::Damages;

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
    /// How much older than the newest sample of its tenant a sample may be that is still taken.
    pub(crate) late_ms: i64,
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

/// Names or values on their way into an answer.
struct Texts {
    found: BTreeSet<String>,
    damages: Damages,
}

/// A Series answer whose series are being found.
struct Finding<'a> {
    request: &'a SeriesRequest,
    resorter: Resorter<Found>,
    held: Vec<Reservation>,
    damages: Damages,
}

/// A Series answer in the middle of being read.
struct Answer {
    entries: std::vec::IntoIter<(Labels, Found)>,
    next: Option<(Labels, Found)>,
    /// What the entries hold.
    _held: Vec<Reservation>,
    /// What the batch holds that was sent last: it is charged until the next one is asked for.
    sent: Option<Reservation>,
    damages: Damages,
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

    /// Tenants with data, and the default one. A name that came with nothing but refused samples
    /// is none.
    fn known_tenants(&self) -> Vec<Tenant> {
        let mut tenants = self.engine.tenants();
        tenants.retain(|it| self.engine.time_range(it).is_some());
        if !tenants.contains(&self.tenancy.default) {
            tenants.push(self.tenancy.default.clone());
        }
        tenants
    }

    /// Finds everything that a request asks for. Blocking.
    fn find(&self, request: &SeriesRequest, budget: &Budget) -> Result<Answer, Error> {
        let damages = Damages::new(request.partial_response);
        let mut finding =
            Finding { request, resorter: Resorter::new(budget)?, held: Vec::new(), damages };
        for query in self.tenants(&request.matchers) {
            let transform = LabelTransform::new(&query.external, &request.without_replica_labels);
            let head = HeadQuery { matchers: &query.matchers, range: request.range };
            let with_chunks = !request.skip_chunks;
            // The head before the blocks: a cut in between is then seen twice, not never.
            match self.engine.select(&query.tenant, head, with_chunks, budget) {
                Ok(selection) => {
                    finding.held.push(selection.reservation);
                    for series in selection.series {
                        let labels = transform.apply(&series.labels);
                        finding.push(labels, Found::Head(series.chunks), 0)?;
                    }
                }
                Err(error) => finding.damages.of_head(&error)?,
            }
            for block in self.blocks(&query.tenant, request.range) {
                let selected = match query.matchers.is_empty() {
                    true => block.reader.all(request.range, budget),
                    false => block.reader.select(&query.matchers, request.range, budget),
                };
                match selected {
                    Ok(selection) => finding.of_block(&block, selection, &transform)?,
                    Err(error) => finding.damages.of_block(&block, &error)?,
                }
            }
        }
        let Finding { resorter, mut held, damages, .. } = finding;
        let (entries, reservation) = resorter.finish()?;
        held.push(reservation);
        Ok(Answer {
            entries: entries.into_iter(),
            next: None,
            _held: held,
            sent: None,
            damages,
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
        of_tenant: impl Fn(&TenantQuery, &mut Texts) -> Result<(), Error>,
    ) -> Result<LabelsResponse, Error> {
        let damages = Damages::new(request.partial_response);
        let mut texts = Texts { found: BTreeSet::new(), damages };
        for query in self.tenants(&request.matchers) {
            of_tenant(&query, &mut texts)?;
        }
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let values = texts.found.into_iter().take(limit).collect();
        Ok(LabelsResponse { values, warnings: texts.damages.into_warnings() })
    }

    /// The names of a tenant's own labels, and those of its external ones if it has any series.
    fn names_of(
        &self,
        query: &TenantQuery,
        request: &LabelsRequest,
        budget: &Budget,
        damages: &mut Damages,
    ) -> Result<BTreeSet<String>, Error> {
        let head = HeadQuery { matchers: &query.matchers, range: request.range };
        let mut names = BTreeSet::new();
        match self.engine.label_names(&query.tenant, head, budget) {
            Ok(found) => names = found,
            Err(error) => damages.of_head(&error)?,
        }
        for block in self.blocks(&query.tenant, request.range) {
            match block.reader.label_names(&query.matchers, budget) {
                Ok(found) => names.extend(found),
                Err(error) => damages.of_block(&block, &error)?,
            }
        }
        if names.is_empty() {
            return Ok(names);
        }
        // Only external labels can be replica labels that are taken away here, as in Thanos.
        names.extend(query.external.iter().map(|(name, _)| name.to_owned()));
        let is_dropped = |name: &String| {
            query.external.get(name).is_some() && request.without_replica_labels.contains(name)
        };
        names.retain(|it| !is_dropped(it));
        Ok(names)
    }

    fn values_of(
        &self,
        query: &TenantQuery,
        (name, request): (&str, &LabelsRequest),
        budget: &Budget,
        texts: &mut Texts,
    ) -> Result<(), Error> {
        if let Some(value) = query.external.get(name) {
            if request.without_replica_labels.iter().any(|it| it == name) {
                return Ok(());
            }
            if !self.names_of(query, request, budget, &mut texts.damages)?.is_empty() {
                texts.found.insert(value.to_owned());
            }
            return Ok(());
        }
        let head = HeadQuery { matchers: &query.matchers, range: request.range };
        match self.engine.label_values(&query.tenant, name, head, budget) {
            Ok(values) => texts.found.extend(values),
            Err(error) => texts.damages.of_head(&error)?,
        }
        for block in self.blocks(&query.tenant, request.range) {
            match block.reader.label_values(name, &query.matchers, budget) {
                Ok(values) => texts.found.extend(values),
                Err(error) => texts.damages.of_block(&block, &error)?,
            }
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

impl Finding<'_> {
    /// Takes a series with its outgoing labels if it is in the shard that is asked for.
    fn push(&mut self, labels: Labels, found: Found, bytes: usize) -> Result<(), Error> {
        if self.request.shard.as_ref().is_none_or(|it| it.keeps(&labels)) {
            self.resorter.push(labels, found, bytes)?;
        }
        Ok(())
    }

    /// Takes what was selected of a block.
    fn of_block(
        &mut self,
        block: &Arc<LocalBlock>,
        selection: tsdb_core::block::reader::Selection<'_>,
        transform: &LabelTransform,
    ) -> Result<(), Error> {
        // After a series that cannot be read the selection goes on with the next one.
        for series in selection {
            match series {
                Ok(series) => {
                    let labels = transform.apply(&series.labels);
                    let bytes = series.labels.size_bytes() + 24 * series.chunks.len();
                    self.push(labels, Found::Block(Arc::clone(block), series), bytes)?;
                }
                Err(error) => self.damages.of_block(block, &error)?,
            }
        }
        Ok(())
    }
}

impl Answer {
    /// The next series, whose data may come from head and blocks. Blocking.
    fn next_series(&mut self) -> Result<Option<StoreSeries>, Error> {
        let Some((labels, found)) = self.next.take().or_else(|| self.entries.next()) else {
            return Ok(None);
        };
        let mut chunks = Vec::new();
        self.read(found, &mut chunks)?;
        let mut is_joined = false;
        while let Some((other, found)) = self.entries.next() {
            if other != labels {
                self.next = Some((other, found));
                break;
            }
            self.read(found, &mut chunks)?;
            is_joined = true;
        }
        if is_joined {
            normalize_chunks(&mut chunks);
        }
        Ok(Some(StoreSeries { labels, chunks }))
    }

    /// Reads the chunks that can be read, and takes note of the others.
    fn read(&mut self, found: Found, chunks: &mut Vec<AggrChunk>) -> Result<(), Error> {
        if self.skip_chunks {
            return Ok(());
        }
        match found {
            Found::Head(found) => {
                chunks.reserve(found.len());
                for chunk in found {
                    match read_head_chunk(chunk) {
                        Ok(chunk) => chunks.push(chunk),
                        Err(error) => self.damages.of_head(&error)?,
                    }
                }
            }
            Found::Block(block, series) => match block.reader.chunks(&series) {
                Ok(read) => self.take(&block, read, chunks)?,
                // Each chunk on its own, so that the good ones are answered.
                Err(error) if series.chunks.len() > 1 && is_damage(&error) => {
                    let BlockSeries { labels, chunks: metas, deleted } = series;
                    let mut one = BlockSeries { labels, chunks: Vec::new(), deleted };
                    for meta in metas {
                        one.chunks.clear();
                        one.chunks.push(meta);
                        match block.reader.chunks(&one) {
                            Ok(read) => self.take(&block, read, chunks)?,
                            Err(error) => self.damages.of_block(&block, &error)?,
                        }
                    }
                }
                Err(error) => self.damages.of_block(&block, &error)?,
            },
        }
        Ok(())
    }

    /// Takes the chunks of a block that overlap the range.
    fn take(
        &mut self,
        block: &LocalBlock,
        read: Vec<ChunkData>,
        chunks: &mut Vec<AggrChunk>,
    ) -> Result<(), Error> {
        chunks.reserve(read.len());
        for chunk in read {
            let (min_time_ms, max_time_ms) = (chunk.min_time_ms, chunk.max_time_ms);
            if !self.range.overlaps(TimeRange::new(min_time_ms, max_time_ms)) {
                continue;
            }
            let stored = chunk.encoding;
            let plain = chunk::to_plain(stored, chunk.data);
            let Some((Some(encoding), data)) = plain.map(|it| (encoding_of(it.0), it.1)).ok()
            else {
                let what = format!("a chunk of encoding {stored:?} that cannot be sent");
                let path = block.reader.path().to_owned();
                self.damages.of_block(block, &tsdb_core::Error::Unsupported { path, what })?;
                continue;
            };
            let raw = Some(Chunk { encoding, data });
            chunks.push(AggrChunk { min_time_ms, max_time_ms, raw, ..AggrChunk::default() });
        }
        Ok(())
    }

    /// The next step of the answer; none at the end. Blocking.
    fn next_frame(&mut self) -> Result<Option<SeriesFrame>, Error> {
        if let Some(text) = self.damages.next_warning(false) {
            return Ok(Some(SeriesFrame::Warning(text)));
        }
        // Whoever asks for more is done with the batch before.
        self.sent = None;
        let mut reservation = self.budget.reserve(0)?;
        let mut batch = Vec::new();
        while batch.len() < self.batch_size && reservation.bytes() < BATCH_BYTES && self.left > 0 {
            let Some(series) = self.next_series()? else { break };
            if series.chunks.is_empty() && !self.skip_chunks {
                // All of it is damaged, which a warning says.
                continue;
            }
            reservation.grow(series_bytes(&series))?;
            batch.push(series);
            self.left -= 1;
        }
        if batch.is_empty() {
            return Ok(self.damages.next_warning(true).map(SeriesFrame::Warning));
        }
        self.sent = Some(reservation);
        Ok(Some(SeriesFrame::Batch(batch)))
    }
}

/// Whether other parts of the same file may be good.
fn is_damage(error: &tsdb_core::Error) -> bool {
    !matches!(error, tsdb_core::Error::Budget(_) | tsdb_core::Error::Unavailable { .. })
}

fn read_head_chunk(chunk: HeadChunk) -> Result<AggrChunk, tsdb_core::Error> {
    let (min_time_ms, max_time_ms) = (chunk.start_ms, chunk.end_ms);
    let data = Bytes::from(chunk.read()?);
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
            // Late samples may still come; whoever keeps this answer must ask for them.
            let min_time_ms = range
                .map_or(i64::MAX, |it| it.start_ms.min(it.end_ms.saturating_sub(self.late_ms)));
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
                    let frame = answer.next_frame()?;
                    Ok((frame, answer))
                };
                let (frame, answer) = store.blocking("series", read).await?;
                Ok(frame.map(|it| (it, (store, answer))))
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
            store.texts(&request, |query, texts| {
                let names = store.names_of(query, &request, &budget, &mut texts.damages)?;
                texts.found.extend(names);
                Ok(())
            })
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

#[cfg(test)]
pub(crate) mod tests;
