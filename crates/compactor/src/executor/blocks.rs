//! Carries out jobs on real blocks: reads them from the bucket and writes there, at once.

mod compaction;
mod downsampling;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bucket::publish::{Begun, Draft};
use bucket::remote::{self, Reading, WINDOW_BYTES};
use bucket::{delete, layout};
use daemon::Tasks;
use futures_util::future::BoxFuture;
use model::{BlockId, Budget};
use objstore::SharedStore;
use tokio::runtime::Handle;
use tracing::warn;
use tsdb_core::block::Meta;
use tsdb_core::compact::{self, naming};
use tsdb_core::downsample;
use tsdb_core::error::Error;
use tsdb_core::fs::SharedFs;
use tsdb_core::stream::Source;

use crate::config::Deduplication;
use crate::executor::{Built, Executor, Failure, Pending, Progress};
use crate::plan::{Job, Kind};
use crate::resolution::Resolution;

/// Shortest windows in which sources are read, however many there are.
const WINDOW_BYTES_MIN: u64 = 256 * 1024;
/// Windows of a source in memory: two for the index, two for the chunks.
const WINDOWS_PER_SOURCE: u64 = 4;
/// Changes when the bytes of merged blocks change, so that their names do.
const FORMAT: &str = "aion-1";

/// Carries out jobs on the blocks of a bucket.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) store: SharedStore,
    pub(crate) tasks: Tasks,
    pub(crate) budget: Budget,
    pub(crate) fs: SharedFs,
    /// Holds indexes until they are whole.
    pub(crate) scratch: PathBuf,
    pub(crate) deduplication: Deduplication,
    /// Most memory of one job, beside what it reads ahead.
    pub(crate) memory_bytes_max: usize,
}

/// A block whose files are in the bucket.
#[derive(Debug)]
struct Written {
    draft: Draft,
    meta: Meta,
}

impl Pending for Written {
    fn id(&self) -> BlockId {
        self.draft.id()
    }

    fn publish(self: Box<Self>, now_ms: i64) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async move {
            let Written { draft, meta } = *self;
            draft.publish(meta, now_ms).await?;
            Ok(())
        })
    }

    fn discard(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(give_up(self.draft))
    }
}

/// Removes what was written of a block; what cannot be removed goes as a given-up upload.
async fn give_up(draft: Draft) {
    let block = draft.id();
    if let Err(error) = draft.discard().await {
        warn!(%block, %error, "what was written of it stays for the clean-up");
    }
}

impl Executor for Blocks {
    fn outputs(&self, job: &Job) -> Vec<BlockId> {
        match &job.kind {
            Kind::Compact { .. } => {
                let sources: Vec<&Meta> = job.sources.iter().map(|it| &**it).collect();
                let rule = self.deduplication.name();
                let configuration = format!("{FORMAT} merged by {rule} {}", job.group);
                vec![naming::output_id(&sources, &configuration)]
            }
            Kind::Downsample { targets } => {
                let metas = job.sources.iter().flat_map(|source| {
                    targets.iter().filter_map(|it| downsample::meta_of(source, it.ms()).ok())
                });
                metas.map(|it| it.ulid).collect()
            }
        }
    }

    fn build<'a>(
        &'a self,
        job: &'a Job,
        progress: &'a Arc<Progress>,
    ) -> BoxFuture<'a, Result<Built, Failure>> {
        Box::pin(async move {
            match &job.kind {
                Kind::Compact { .. } => self.compact(job, progress).await,
                Kind::Downsample { targets } => self.downsample(job, targets, progress).await,
            }
        })
    }
}

impl Blocks {
    /// Opens the sources of a job, in their order.
    async fn sources(&self, job: &Job) -> Result<Vec<Source>, Failure> {
        let count = u64::try_from(job.sources.len()).unwrap_or(u64::MAX).max(1);
        let memory_bytes = u64::try_from(self.memory_bytes_max).unwrap_or(u64::MAX);
        let window_bytes = memory_bytes / 2 / count.saturating_mul(WINDOWS_PER_SOURCE);
        let mut reading = Reading::new(Handle::current(), self.budget.clone());
        reading.window_bytes = window_bytes.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES);
        let mut sources = Vec::with_capacity(job.sources.len());
        for meta in &job.sources {
            let files = layout::list_block(&*self.store, meta.ulid).await?;
            if !files.iter().any(|it| it.path == tsdb_core::block::META_FILE) {
                return Err(Failure::Changed(format!("source {} is gone", meta.ulid)));
            }
            sources.push(remote::open_source(&self.store, meta, &files, &reading).await?);
        }
        naming::sort_sources(&mut sources, |it| &it.meta);
        Ok(sources)
    }

    /// Begins a block, over what an earlier try has left; none when it is there and whole.
    async fn begin(&self, id: BlockId) -> Result<Option<Draft>, Failure> {
        let begun = match Draft::begin(&self.store, id, Handle::current()).await {
            Err(bucket::Error::Incomplete { missing, .. }) => {
                // All that was in it is in the sources, or the job would not be planned.
                warn!(block = %id, missing = missing.join(", "), "replacing a block with gaps");
                delete::delete(&*self.store, id).await?;
                Draft::begin(&self.store, id, Handle::current()).await?
            }
            begun => begun?,
        };
        match begun {
            Begun::Visible(_) => Ok(None),
            Begun::Draft(draft) => Ok(Some(draft)),
        }
    }

    /// Runs what blocks on a thread that may; the directory for scratch space is there then.
    async fn on_thread<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let (fs, scratch) = (Arc::clone(&self.fs), self.scratch.clone());
        let work = move || {
            fs.make_directory(&scratch).map_err(Error::io("make", &scratch))?;
            work()
        };
        match self.tasks.spawn_blocking(name, work).await {
            Ok(result) => Ok(result?),
            Err(error) if error.is_cancelled() => Err(Failure::Stopped),
            Err(error) => Err(Failure::Hopeless(format!("it panicked: {error}"))),
        }
    }
}

/// What Thanos' section of a result says.
fn fill_thanos(meta: &mut Meta, job: &Job, resolution: Resolution) {
    meta.compaction.sources = job.sources.iter().flat_map(|it| sources_of(it)).copied().collect();
    meta.compaction.sources.sort_unstable();
    meta.compaction.sources.dedup();
    meta.thanos.labels.clone_from(&job.group.labels);
    meta.thanos.downsample.resolution_ms = resolution.ms();
    "compactor".clone_into(&mut meta.thanos.source);
    meta.thanos.extensions = common_extensions(job);
}

/// A block that names no sources is its own.
fn sources_of(meta: &Meta) -> &[BlockId] {
    match &meta.compaction.sources[..] {
        [] => std::slice::from_ref(&meta.ulid),
        sources => sources,
    }
}

/// The keys of the extensions on which all sources agree.
fn common_extensions(job: &Job) -> serde_json::Value {
    use serde_json::Value;
    let mut all = job.sources.iter().map(|it| &it.thanos.extensions);
    let Some(Value::Object(first)) = all.next() else { return Value::Null };
    let mut common = first.clone();
    for other in all {
        common.retain(|key, value| other.get(key) == Some(value));
    }
    if common.is_empty() { Value::Null } else { Value::Object(common) }
}

/// Tells the API how far a job is, and the job when to end.
#[derive(Debug)]
struct Watched(Arc<Progress>);

impl compact::Progress for Watched {
    fn advance(&self, done: compact::Done) -> ControlFlow<()> {
        self.0.set_done(done.read_bytes);
        match self.0.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
