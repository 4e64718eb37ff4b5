//! Ships blocks to the bucket, and removes local ones that may go.
//!
//! A local block goes when it is older than the retention, was verified in the bucket, and an hour
//! has passed since, so that every gateway has had time to load it. What was verified is kept in
//! the file of Thanos' shipper: a block that it names and that is not in the bucket any more is
//! looked for among the sources of other blocks, since a compacted one that is uploaded again would
//! bring its samples back a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bucket::{LocalBlock, Snapshot, Stamp, View};
use daemon::{Clock, Context, Tasks};
use model::{BlockId, Tenant};
use objstore::SharedStore;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::{error, info, warn};
use tsdb_core::block::{META_FILE, Meta};
use tsdb_core::db::Engine;
use tsdb_core::fs::{Fs, SharedFs, read_whole, write_atomic};

use crate::config::Tenancy;
use crate::metrics::Metrics;

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time that a block stays after it was verified in the bucket.
const GRACE_MS: i64 = 3_600_000;
/// Time between two searches for multipart uploads that were left behind.
const STALE_INTERVAL_MS: i64 = 6 * 3_600_000;
const STATE_FILE: &str = "thanos.shipper.json";
const STATE_BYTES_MAX: u64 = 64 << 20;
const STATE_VERSION: u32 = 1;

/// What Thanos' shipper leaves beside the blocks.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    #[serde(default)]
    uploaded: Option<Vec<String>>,
}

/// Ships and removes blocks.
#[derive(Debug)]
pub(crate) struct Shipper {
    pub(crate) engine: Arc<Engine>,
    pub(crate) fs: SharedFs,
    /// None keeps the blocks here.
    pub(crate) store: Option<SharedStore>,
    pub(crate) tenancy: Arc<Tenancy>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) parallel: usize,
    pub(crate) retention: Option<Duration>,
    /// Where blocking work is done.
    pub(crate) tasks: Tasks,
    /// When this process saw a block whole in the bucket, or as a part of another one.
    pub(crate) verified: Mutex<BTreeMap<BlockId, i64>>,
}

impl Shipper {
    /// Ships every 30 seconds and when there are new blocks, until everything stops.
    pub(crate) async fn run(
        self: Arc<Shipper>,
        context: Context,
        cut: Arc<Notify>,
    ) -> anyhow::Result<()> {
        let mut stale_at_ms = i64::MIN;
        loop {
            self.round().await;
            let now_ms = self.clock.now_ms();
            if now_ms >= stale_at_ms {
                self.abort_stale(now_ms).await;
                stale_at_ms = now_ms.saturating_add(STALE_INTERVAL_MS);
            }
            tokio::select! {
                () = cut.notified() => {}
                is_time = context.tasks.sleep(INTERVAL) => if !is_time { return Ok(()) },
            }
            if context.tasks.is_stopping() {
                return Ok(());
            }
        }
    }

    /// Ships what is not in the bucket, oldest first, then removes what may go. A block that
    /// fails stops no other one.
    pub(crate) async fn round(self: &Arc<Shipper>) -> bool {
        self.metrics.dir_syncs.inc();
        let mut is_whole = true;
        let mut in_bucket = None;
        for tenant in self.engine.tenants() {
            if let Some(store) = &self.store {
                is_whole &= self.ship_tenant(store, &tenant, &mut in_bucket).await;
            }
            let shipper = Arc::clone(self);
            let removal = move || shipper.remove_old(&tenant);
            let removed = self.tasks.spawn_blocking("remove local blocks", removal).await;
            is_whole &= removed.is_ok();
        }
        if !is_whole {
            self.metrics.dir_sync_failures.inc();
        }
        is_whole
    }

    /// Ships the blocks of a tenant. `in_bucket` is the bucket as it is, once somebody had to look.
    async fn ship_tenant(
        self: &Arc<Shipper>,
        store: &SharedStore,
        tenant: &Tenant,
        in_bucket: &mut Option<Snapshot>,
    ) -> bool {
        let mut is_whole = true;
        let directory = self.engine.tenant_directory(tenant);
        let labels = self.tenancy.external(tenant);
        let mut blocks = self.engine.blocks(tenant);
        blocks.retain(|it| {
            let is_verified = self.verified.lock().contains_key(&it.id());
            !is_verified && it.reader.meta().compaction.level <= 1
        });
        let shipped = match blocks.is_empty() {
            true => Some(BTreeSet::new()),
            false => self.read_state(tenant, &directory).await,
        };
        let Some(shipped) = shipped else { return false };
        for block in blocks {
            let id = block.id();
            let now_ms = self.clock.now_ms();
            let path = directory.join(id.to_string());
            let local = LocalBlock { fs: &*self.fs, directory: &path };
            let stamp =
                Stamp { labels: &labels, source: "receive", now_ms, parallel: self.parallel };
            let done = match shipped.contains(&id) {
                true => self.verify_shipped(store, local, stamp, in_bucket).await,
                false => {
                    let uploaded = bucket::upload::upload_verified(&**store, local, stamp).await;
                    uploaded.map(|it| it.is_new)
                }
            };
            match done {
                Ok(is_new) => {
                    self.verified.lock().insert(id, self.clock.now_ms());
                    if is_new {
                        self.metrics.uploads.inc();
                        info!(%tenant, block = %id, "uploaded a block");
                    }
                }
                Err(error) => {
                    is_whole = false;
                    self.metrics.upload_failures.inc();
                    error!(%tenant, block = %id, "upload failed, it is tried again: {error}");
                }
            }
        }
        self.write_state(tenant, &directory).await;
        is_whole
    }

    /// Looks at a block that was shipped by an earlier process. It may be gone from the bucket
    /// because a compaction put it into another block; otherwise it is uploaded again.
    async fn verify_shipped(
        &self,
        store: &SharedStore,
        local: LocalBlock<'_>,
        stamp: Stamp<'_>,
        bucket: &mut Option<Snapshot>,
    ) -> bucket::Result<bool> {
        let id = Meta::read(local.fs, &local.directory.join(META_FILE))?.ulid;
        match bucket::upload::verify(&**store, id).await {
            Err(error) if error.is_transient() => return Err(error),
            Ok(None) => {
                let snapshot = match bucket.take() {
                    Some(snapshot) => snapshot,
                    None => View::new(self.parallel).sync(&**store).await?,
                };
                let snapshot = bucket.insert(snapshot);
                if let Some(holder) = snapshot.holder_of(id) {
                    info!(block = %id, %holder, "shipped earlier, and part of another block now");
                    return Ok(false);
                }
                if let Some(trouble) = snapshot.troubles.iter().find(|it| it.is_transient) {
                    return Err(bucket::Error::Unsure { id, trouble: trouble.text.clone() });
                }
                warn!(block = %id, "shipped earlier and gone from the bucket: uploaded again");
            }
            Ok(Some(_)) | Err(_) => {}
        }
        // Whatever else is wrong with it in the bucket, an upload mends it or says so.
        Ok(bucket::upload::upload_verified(&**store, local, stamp).await?.is_new)
    }

    async fn abort_stale(&self, now_ms: i64) {
        let Some(store) = &self.store else { return };
        match bucket::upload::abort_stale_uploads(&**store, now_ms).await {
            Ok(0) => {}
            Ok(count) => info!(count, "aborted multipart uploads that were left behind"),
            Err(error) => warn!("multipart uploads that were left behind: {error}"),
        }
    }

    /// Removes the blocks of a tenant that may go.
    fn remove_old(&self, tenant: &Tenant) {
        let now_ms = self.clock.now_ms();
        for block in self.engine.blocks(tenant) {
            let verified_ms = self.verified.lock().get(&block.id()).copied();
            let age = Age { max_time_ms: block.reader.meta().max_time_ms, verified_ms };
            if !may_go(age, self.retention, self.store.is_some(), now_ms) {
                continue;
            }
            match self.engine.remove_block(tenant, block.id()) {
                Ok(()) => {
                    self.verified.lock().remove(&block.id());
                    self.metrics.blocks_removed.inc();
                    let block = block.id();
                    info!(%tenant, %block, "removed a local block after its retention");
                }
                Err(error) => error!(%tenant, block = %block.id(), "removal failed: {error}"),
            }
        }
    }

    /// The blocks that were shipped by this or an earlier process; none when the file that says
    /// so cannot be read now, so that nothing may be uploaded.
    async fn read_state(&self, tenant: &Tenant, directory: &Path) -> Option<BTreeSet<BlockId>> {
        let (fs, path) = (Arc::clone(&self.fs), directory.join(STATE_FILE));
        let name = path.display().to_string();
        let read = self.tasks.spawn_blocking("read what was shipped", move || state(&*fs, &path));
        let failure = match read.await {
            Ok(Ok(shipped)) => return Some(shipped),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.metrics.upload_failures.inc();
        error!(%tenant, "{name}: {failure}; no block is uploaded until it can be read");
        None
    }

    /// Writes the file in which Thanos' shipper keeps what it uploaded, if that changed.
    async fn write_state(&self, tenant: &Tenant, directory: &Path) {
        let here: BTreeSet<BlockId> = self.engine.blocks(tenant).iter().map(|it| it.id()).collect();
        let verified: BTreeSet<BlockId> = self.verified.lock().keys().copied().collect();
        let (fs, path) = (Arc::clone(&self.fs), directory.join(STATE_FILE));
        let name = path.display().to_string();
        let update = move || update_state(&*fs, &path, &here, &verified);
        let failure = match self.tasks.spawn_blocking("write what was shipped", update).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // This process knows; a later one would look for the blocks in the bucket again.
        warn!(%tenant, "{name}: {failure}");
    }
}

/// What the file names; nothing when there is none, or when it is not one.
fn state(fs: &dyn Fs, path: &Path) -> std::io::Result<BTreeSet<BlockId>> {
    let bytes = match read_whole(fs, path, STATE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice::<State>(&bytes) {
        Ok(state) if state.version == STATE_VERSION => {
            let uploaded = state.uploaded.unwrap_or_default();
            Ok(uploaded.iter().filter_map(|it| it.parse().ok()).collect())
        }
        Ok(state) => {
            warn!(path = %path.display(), version = state.version, "of a version that is unknown");
            Ok(BTreeSet::new())
        }
        Err(error) => {
            warn!(path = %path.display(), "the list of shipped blocks is damaged: {error}");
            Ok(BTreeSet::new())
        }
    }
}

/// Adds what was verified to the file, and takes away what is not here any more.
fn update_state(
    fs: &dyn Fs,
    path: &Path,
    here: &BTreeSet<BlockId>,
    verified: &BTreeSet<BlockId>,
) -> std::io::Result<()> {
    let known = state(fs, path)?;
    let uploaded: BTreeSet<BlockId> =
        here.iter().filter(|it| known.contains(it) || verified.contains(it)).copied().collect();
    if known == uploaded {
        return Ok(());
    }
    let uploaded = uploaded.iter().map(ToString::to_string).collect();
    let state = State { version: STATE_VERSION, uploaded: Some(uploaded) };
    let mut bytes = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    state.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, tabs))?;
    write_atomic(fs, path, &bytes)
}

/// What decides about a local block.
#[derive(Clone, Copy, Debug)]
struct Age {
    max_time_ms: i64,
    /// When it was seen whole in the bucket.
    verified_ms: Option<i64>,
}

/// Whether a local block may go. Without a bucket the retention alone decides.
fn may_go(age: Age, retention: Option<Duration>, has_bucket: bool, now_ms: i64) -> bool {
    let Some(retention) = retention else { return false };
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let is_old = age.max_time_ms < now_ms.saturating_sub(retention_ms);
    let is_safe =
        !has_bucket || age.verified_ms.is_some_and(|it| it.saturating_add(GRACE_MS) <= now_ms);
    is_old && is_safe
}

#[cfg(test)]
mod tests;
