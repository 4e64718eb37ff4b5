//! An executor whose blocks hold nothing but numbers: jobs take no time, and what is in a block
//! can be told without any decoder.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bucket::layout;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use model::BlockId;
use objstore::SharedStore;
use parking_lot::Mutex;
use tsdb_core::block::Meta;
use tsdb_core::block::meta::File;

use crate::executor::{Balance, Built, Executor, Failure, Pending, Progress};
use crate::plan::{Job, Kind};
use crate::resolution::Resolution;

pub(super) const CHUNKS: &str = "chunks/000001";

/// What a block of the fake holds.
pub(super) fn encode(samples: &BTreeSet<u64>) -> Bytes {
    serde_json::to_vec(samples).unwrap().into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<BTreeSet<u64>, String> {
    serde_json::from_slice(bytes).map_err(|it| it.to_string())
}

/// Fills in what a meta says about files.
pub(super) fn with_files(mut meta: Meta, chunks_bytes: u64) -> Meta {
    let file = |path: &str, size_bytes| File { rel_path: path.to_owned(), size_bytes, hash: None };
    meta.thanos.files = vec![file(CHUNKS, chunks_bytes), file("index", 5), file("meta.json", 0)];
    meta
}

#[derive(Debug)]
pub(super) struct Fake {
    pub(super) store: SharedStore,
    /// Jobs so far, by key.
    pub(super) built: Mutex<BTreeMap<String, usize>>,
    /// Loses a sample of each job that has more than one.
    pub(super) loses: Mutex<bool>,
    /// The first block of the next job cannot be made visible.
    pub(super) refuses: Mutex<bool>,
    /// What is to happen between the building of a job and its end.
    pub(super) meanwhile: Mutex<Vec<(String, Bytes)>>,
}

impl Fake {
    pub(super) fn new(store: SharedStore) -> Fake {
        let (built, loses) = (Mutex::default(), Mutex::default());
        let (refuses, meanwhile) = (Mutex::default(), Mutex::default());
        Fake { store, built, loses, refuses, meanwhile }
    }

    fn targets(job: &Job) -> Vec<Resolution> {
        match &job.kind {
            Kind::Compact { .. } => vec![job.group.resolution],
            Kind::Downsample { targets } => targets.clone(),
        }
    }

    async fn read(&self, job: &Job) -> Result<(u64, BTreeSet<u64>), Failure> {
        let (mut count, mut samples) = (0, BTreeSet::new());
        for id in job.ids() {
            let key = layout::key(id, CHUNKS);
            let bytes = self.store.get(&key, 1 << 20).await.map_err(transient)?;
            let read = decode(&bytes).map_err(|what| {
                let place = key.clone();
                Failure::Damaged { block: id, place, what }
            })?;
            count += read.len() as u64;
            samples.extend(read);
        }
        Ok((count, samples))
    }

    async fn write(
        &self,
        (job, target): (&Job, Resolution),
        samples: &BTreeSet<u64>,
    ) -> Result<Box<dyn Pending>, Failure> {
        let id = output(job, target);
        let bytes = encode(samples);
        let meta = with_files(meta(job, target, id), bytes.len() as u64);
        self.store.put(&layout::key(id, CHUNKS), bytes).await.map_err(transient)?;
        let index = Bytes::from_static(b"index");
        self.store.put(&layout::key(id, "index"), index).await.map_err(transient)?;
        let is_refused = std::mem::take(&mut *self.refuses.lock());
        Ok(Box::new(FakeBlock { store: Arc::clone(&self.store), meta, is_refused }))
    }
}

impl Executor for Fake {
    fn outputs(&self, job: &Job) -> Vec<BlockId> {
        Fake::targets(job).into_iter().map(|it| output(job, it)).collect()
    }

    fn build<'a>(
        &'a self,
        job: &'a Job,
        progress: &'a Arc<Progress>,
    ) -> BoxFuture<'a, Result<Built, Failure>> {
        Box::pin(async move {
            *self.built.lock().entry(job.key().to_string()).or_default() += 1;
            let (in_samples, mut samples) = self.read(job).await?;
            progress.set_done(job.bytes / 2);
            let doubled = in_samples - samples.len() as u64;
            if *self.loses.lock() && samples.len() > 1 {
                samples.pop_first();
            }
            let mut blocks = Vec::new();
            if !samples.is_empty() {
                for target in Fake::targets(job) {
                    blocks.push(self.write((job, target), &samples).await?);
                }
            }
            let meanwhile = std::mem::take(&mut *self.meanwhile.lock());
            for (key, body) in meanwhile {
                self.store.put(&key, body).await.map_err(transient)?;
            }
            let balance = Balance {
                in_samples,
                out_samples: samples.len() as u64,
                dropped: BTreeMap::from([("duplicate", doubled)]),
                notes: BTreeMap::new(),
            };
            Ok(Built { blocks, balance })
        })
    }
}

/// A block that waits for its meta.
#[derive(Debug)]
struct FakeBlock {
    store: SharedStore,
    meta: Meta,
    is_refused: bool,
}

impl Pending for FakeBlock {
    fn id(&self) -> BlockId {
        self.meta.ulid
    }

    fn publish(self: Box<Self>, _now_ms: i64) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async move {
            if self.is_refused {
                self.discard().await;
                return Err(Failure::Transient(anyhow::anyhow!("refused")));
            }
            let key = layout::meta_key(self.meta.ulid);
            self.store.put(&key, self.meta.encode().into()).await.map_err(transient)?;
            Ok(())
        })
    }

    fn discard(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            drop(bucket::delete::delete(&*self.store, self.meta.ulid).await);
        })
    }
}

fn transient(error: objstore::Error) -> Failure {
    Failure::Transient(error.into())
}

fn output(job: &Job, target: Resolution) -> BlockId {
    let mut hasher = DefaultHasher::new();
    (job.key(), target).hash(&mut hasher);
    let newest_ms = job.ids().map(|it| it.timestamp_ms()).max().unwrap();
    BlockId::from_parts(newest_ms, u128::from(hasher.finish()))
}

fn meta(job: &Job, target: Resolution, id: BlockId) -> Meta {
    let min_time_ms = job.sources.iter().map(|it| it.min_time_ms).min().unwrap();
    let max_time_ms = job.sources.iter().map(|it| it.max_time_ms).max().unwrap();
    let mut meta = Meta::of_head(id, min_time_ms, max_time_ms);
    let sources: BTreeSet<BlockId> =
        job.sources.iter().flat_map(|it| it.compaction.sources.clone()).collect();
    meta.compaction.sources = sources.into_iter().collect();
    meta.thanos.labels = job.group.labels.clone();
    meta.thanos.downsample.resolution_ms = target.ms();
    "compactor".clone_into(&mut meta.thanos.source);
    meta
}
