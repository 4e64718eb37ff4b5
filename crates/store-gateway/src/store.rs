//! The bucket as a [`Store`].

use std::collections::BTreeSet;
use std::sync::Arc;

use daemon::Tasks;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use model::{Budget, Matcher, TimeRange};
use storeapi::merge::{MergeOptions, Source};
use storeapi::request::{LabelsRequest, LabelsResponse, PartialResponse, SeriesRequest, StoreInfo};
use storeapi::store::{SeriesFrame, SeriesFrames};
use storeapi::{Error, Store, merge};
use tokio::sync::Semaphore;

use crate::blocks::{Asked, Blocks, Snapshot};
use crate::chunks::{self, Sending};
use crate::limits::{Limits, Touched};
use crate::metrics::Metrics;
use crate::remote::Remote;
use crate::select::{self, Access, Wanted};
use crate::texts::{self, Texts};

/// Blocks of one request that are selected from at once.
const BLOCKS_AT_ONCE: usize = 8;

/// Serves the blocks of a bucket.
#[derive(Debug)]
pub(crate) struct BucketStore {
    /// What to call it.
    pub(crate) name: String,
    /// The blocks.
    pub(crate) blocks: Arc<Blocks>,
    /// Ranged reads.
    pub(crate) remote: Arc<Remote>,
    /// Blocking work.
    pub(crate) tasks: Tasks,
    /// Counts.
    pub(crate) metrics: Metrics,
    /// Bounds of a request.
    pub(crate) limits: Limits,
    /// Parts of Series calls that read at once.
    pub(crate) gate: Arc<Semaphore>,
}

impl BucketStore {
    fn access(&self, budget: Budget) -> Access {
        Access {
            remote: Arc::clone(&self.remote),
            tasks: self.tasks.clone(),
            metrics: self.metrics.clone(),
            budget,
            gate: Arc::clone(&self.gate),
            touched: Arc::new(Touched::new(self.limits, self.metrics.clone())),
        }
    }

    async fn select(&self, request: SeriesRequest, budget: Budget) -> Result<SeriesFrames, Error> {
        let snapshot = self.blocks.now();
        let missing =
            missing(&snapshot, request.range, &request.matchers, &request.partial_response)?;
        let asked =
            snapshot.for_series(request.range, request.resolution_max_ms, &request.matchers);
        let access = self.access(budget);
        let wanted = Arc::new(Wanted {
            range: request.range,
            skip_chunks: request.skip_chunks,
            shard: request.shard.clone(),
            without_replica_labels: request.without_replica_labels.clone(),
            limit: request.limit,
        });
        let sending = Sending {
            aggregates: Arc::from(request.aggregates.clone()),
            partial_response: request.partial_response,
        };
        let stopping = |_| Error::Unavailable("the store is stopping".to_owned());
        // Given back before anything is sent: a caller who lets its stream wait, for another
        // stream perhaps, must keep no one from reading. Batches of chunks take turns themselves.
        let turn = self.gate.acquire().await.map_err(stopping)?;
        let (sources, mut warnings) = self.sources(asked, &wanted, &sending, &access).await?;
        drop(turn);
        warnings.extend(missing);
        let options = MergeOptions::from(&request);
        let warnings = warnings.into_iter().map(|it| Ok(SeriesFrame::Warning(it)));
        let merged = merge(sources, options, &access.budget);
        Ok(stream::iter(warnings).chain(merged).boxed())
    }

    /// Selects from every block, then opens its stream.
    async fn sources(
        &self,
        asked: Vec<Asked>,
        wanted: &Arc<Wanted>,
        sending: &Sending,
        access: &Access,
    ) -> Result<(Vec<Source>, Vec<String>), Error> {
        let mut selecting = stream::iter(asked)
            .map(|it| async move {
                let selected = select::series_of(&it.block, &it.matchers, wanted, access).await;
                (it.block, selected)
            })
            .buffered(BLOCKS_AT_ONCE);
        let (mut sources, mut warnings) = (Vec::new(), Vec::new());
        while let Some((block, selected)) = selecting.next().await {
            let name = block.name();
            match selected {
                Ok(selected) if sending.partial_response == PartialResponse::Abort => {
                    if let Some(text) = selected.warnings.first() {
                        return Err(Error::Aborted(text.clone()));
                    }
                    let frames =
                        chunks::stream_of(block, selected, sending.clone(), access.clone());
                    sources.push(Source { name, frames });
                }
                Ok(selected) => {
                    let frames =
                        chunks::stream_of(block, selected, sending.clone(), access.clone());
                    sources.push(Source { name, frames });
                }
                Err(error) => {
                    if error.is_damage() {
                        self.metrics.count_damage(&block.id().to_string());
                    }
                    warnings.push(warning(error.of_block(&name), sending.partial_response)?);
                }
            }
        }
        Ok((sources, warnings))
    }

    /// Names or values of all blocks that are concerned.
    async fn gather<'a, F>(
        &'a self,
        request: &'a LabelsRequest,
        access: &'a Access,
        of_block: impl Fn(Asked) -> F,
    ) -> Result<LabelsResponse, Error>
    where
        F: Future<Output = crate::error::Result<(Vec<String>, Vec<String>)>> + 'a,
    {
        let snapshot = self.blocks.now();
        let (range, partial) = (request.range, request.partial_response);
        let mut warnings = missing(&snapshot, range, &request.matchers, &partial)?;
        let mut found = BTreeSet::new();
        let mut held = access.budget.reserve(0)?;
        let mut answers = stream::iter(snapshot.for_labels(range, &request.matchers))
            .map(|asked| {
                let name = asked.block.name();
                let answer = of_block(asked);
                async move { (name, answer.await) }
            })
            .buffered(BLOCKS_AT_ONCE);
        while let Some((name, answer)) = answers.next().await {
            match answer {
                Ok((texts, more)) => {
                    for text in texts {
                        if !found.contains(&text) {
                            held.grow(text.len() + 64)?;
                            found.insert(text);
                        }
                    }
                    for text in more {
                        warnings.push(warning(Error::Aborted(text), partial)?);
                    }
                }
                Err(error) => warnings.push(warning(error.of_block(&name), partial)?),
            }
        }
        let mut values: Vec<String> = found.into_iter().collect();
        if request.limit > 0 {
            values.truncate(request.limit);
        }
        Ok(LabelsResponse { values, warnings })
    }

    async fn names(&self, request: LabelsRequest, budget: Budget) -> Result<LabelsResponse, Error> {
        let access = self.access(budget);
        let wanted = Arc::new(labels_wanted(&request));
        let is_dropped = |name: &str| request.without_replica_labels.iter().any(|it| it == name);
        let of_block = |asked: Asked| {
            let (access, wanted, is_dropped) = (&access, Arc::clone(&wanted), &is_dropped);
            async move {
                let external = asked.block.external().clone();
                // Replica labels are left out only where they are external.
                let keep = |name: &str| external.get(name).is_none() || !is_dropped(name);
                if asked.matchers.is_empty() {
                    let mut names = asked.block.lookup().label_names();
                    names.extend(external.iter().map(|it| it.0.to_owned()));
                    names.retain(|it| keep(it));
                    return Ok((names, Vec::new()));
                }
                let dropped = external.iter().map(|it| it.0).filter(|it| is_dropped(it));
                let names = texts::Wanted::Names { dropped: dropped.map(str::to_owned).collect() };
                let texts = Texts::new(names, &access.budget)?;
                let Asked { block, matchers } = &asked;
                let (texts, warnings) =
                    select::gather(block, matchers, &wanted, access, texts).await?;
                Ok((texts.into_sorted(), warnings))
            }
        };
        self.gather(&request, &access, of_block).await
    }

    async fn values(
        &self,
        name: String,
        request: LabelsRequest,
        budget: Budget,
    ) -> Result<LabelsResponse, Error> {
        if name.is_empty() {
            return Ok(LabelsResponse::default());
        }
        let access = self.access(budget);
        let wanted = Arc::new(labels_wanted(&request));
        let dropped = request.without_replica_labels.contains(&name);
        let of_block = |asked: Asked| {
            let (access, wanted, name) = (&access, Arc::clone(&wanted), name.clone());
            async move {
                if dropped && asked.block.external().get(&name).is_some() {
                    return Ok((Vec::new(), Vec::new()));
                }
                values_of_block(asked, name, &wanted, access).await
            }
        };
        self.gather(&request, &access, of_block).await
    }
}

async fn values_of_block(
    asked: Asked,
    name: String,
    wanted: &Arc<Wanted>,
    access: &Access,
) -> crate::error::Result<(Vec<String>, Vec<String>)> {
    let Asked { block, matchers } = asked;
    let external = block.external().get(&name).map(str::to_owned);
    if matchers.is_empty() {
        if let Some(value) = external {
            return Ok((vec![value], Vec::new()));
        }
        let work = move || block.lookup().label_values(&name);
        let values = access.tasks.spawn_blocking("label values", work).await;
        return Ok((values.map_err(|_| crate::error::Error::Stopping)??, Vec::new()));
    }
    let mut all = matchers.as_ref().clone();
    if external.is_none() {
        // Only series with the label count, which spares the reading of the others.
        all.extend(Matcher::new(model::MatchOp::NotEqual, &name, ""));
    }
    let texts = Texts::new(texts::Wanted::Values { name }, &access.budget)?;
    let (texts, warnings) = select::gather(&block, &Arc::new(all), wanted, access, texts).await?;
    Ok((texts.into_sorted(), warnings))
}

fn labels_wanted(request: &LabelsRequest) -> Wanted {
    Wanted {
        range: request.range,
        skip_chunks: true,
        shard: None,
        without_replica_labels: Vec::new(),
        limit: 0,
    }
}

/// What blocks that could not be loaded leave out of an answer.
fn missing(
    snapshot: &Snapshot,
    range: TimeRange,
    matchers: &[Matcher],
    partial_response: &PartialResponse,
) -> Result<Vec<String>, Error> {
    if !snapshot.is_complete {
        return Err(Error::Unavailable("the bucket was not read yet, ask again".to_owned()));
    }
    let missing = snapshot.missing(range, matchers);
    match missing.first() {
        Some(text) if *partial_response == PartialResponse::Abort => {
            Err(Error::Aborted(text.clone()))
        }
        _ => Ok(missing),
    }
}

/// A failure as a warning, where the caller takes that and it is not his own limit.
fn warning(error: Error, partial_response: PartialResponse) -> Result<String, Error> {
    match error {
        Error::BudgetExceeded(_) | Error::ResourceExhausted(_) => Err(error),
        error if partial_response == PartialResponse::Abort => Err(error),
        error => {
            tracing::warn!("{error}");
            Ok(error.to_string())
        }
    }
}

impl Store for BucketStore {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn info(&self) -> StoreInfo {
        self.blocks.now().info()
    }

    fn series(
        &self,
        request: SeriesRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<SeriesFrames, Error>> {
        self.select(request, budget).boxed()
    }

    fn label_names(
        &self,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        self.names(request, budget).boxed()
    }

    fn label_values(
        &self,
        name: String,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        self.values(name, request, budget).boxed()
    }
}
