//! Ships blocks to the bucket, and removes local ones that may go.
//!
//! A local block goes when it is older than the retention, was verified in the bucket by this
//! process, and an hour has passed since, so that every gateway has had time to load it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bucket::{LocalBlock, Stamp};
use daemon::{Clock, Context};
use model::{BlockId, Tenant};
use objstore::SharedStore;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::{error, info, warn};
use tsdb_core::db::Engine;
use tsdb_core::fs::{SharedFs, read_whole, write_atomic};

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
    /// When this process saw a block whole in the bucket.
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
    pub(crate) async fn round(&self) -> bool {
        self.metrics.dir_syncs.inc();
        let mut is_whole = true;
        for tenant in self.engine.tenants() {
            if let Some(store) = &self.store {
                is_whole &= self.ship_tenant(store, &tenant).await;
            }
            self.remove_old(&tenant);
        }
        if !is_whole {
            self.metrics.dir_sync_failures.inc();
        }
        is_whole
    }

    async fn ship_tenant(&self, store: &SharedStore, tenant: &Tenant) -> bool {
        let mut is_whole = true;
        let directory = self.engine.tenant_directory(tenant);
        let labels = self.tenancy.external(tenant);
        for block in self.engine.blocks(tenant) {
            let (id, meta) = (block.id(), block.reader.meta());
            if self.verified.lock().contains_key(&id) || meta.compaction.level > 1 {
                continue;
            }
            let now_ms = self.clock.now_ms();
            let path = directory.join(id.to_string());
            let local = LocalBlock { fs: &*self.fs, directory: &path };
            let stamp =
                Stamp { labels: &labels, source: "receive", now_ms, parallel: self.parallel };
            match self.ship(store, id, local, stamp).await {
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
        if let Err(error) = self.write_state(tenant, &directory) {
            // The bucket itself is what is asked; the file is for other programs.
            warn!(%tenant, "{}: {error}", directory.join(STATE_FILE).display());
        }
        is_whole
    }

    async fn ship(
        &self,
        store: &SharedStore,
        id: BlockId,
        local: LocalBlock<'_>,
        stamp: Stamp<'_>,
    ) -> bucket::Result<bool> {
        let uploaded = bucket::upload::upload(&**store, local, stamp).await?;
        if !uploaded.is_new {
            // Someone says it is there already; before it may go from here that is looked at.
            bucket::upload::verify(&**store, id).await?;
        }
        Ok(uploaded.is_new)
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
                    info!(%tenant, block = %block.id(), "removed a local block after its retention");
                }
                Err(error) => error!(%tenant, block = %block.id(), "removal failed: {error}"),
            }
        }
    }

    /// Writes the file in which Thanos' shipper keeps what it uploaded, if that changed.
    fn write_state(&self, tenant: &Tenant, directory: &Path) -> std::io::Result<()> {
        let here: Vec<BlockId> = self.engine.blocks(tenant).iter().map(|it| it.id()).collect();
        let verified = self.verified.lock().clone();
        let uploaded: BTreeSet<String> =
            here.iter().filter(|it| verified.contains_key(it)).map(ToString::to_string).collect();
        let path: PathBuf = directory.join(STATE_FILE);
        let written = read_whole(&*self.fs, &path, STATE_BYTES_MAX).ok();
        let known: Option<State> = written.and_then(|it| serde_json::from_slice(&it).ok());
        let known = known.and_then(|it| it.uploaded).map(BTreeSet::from_iter);
        if known.as_ref() == Some(&uploaded) || (known.is_none() && uploaded.is_empty()) {
            return Ok(());
        }
        let state =
            State { version: STATE_VERSION, uploaded: Some(uploaded.into_iter().collect()) };
        let mut bytes = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        state.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, tabs))?;
        write_atomic(&*self.fs, &path, &bytes)
    }
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
mod tests {
    use super::*;

    #[test]
    fn a_block_goes_when_it_is_old_and_was_seen_in_the_bucket_for_an_hour() {
        const HOUR_MS: i64 = 3_600_000;
        let day = Some(Duration::from_hours(24));
        let check = |max_time_ms, verified_ms, now_ms| {
            may_go(Age { max_time_ms, verified_ms }, day, true, now_ms)
        };
        assert!(check(0, Some(0), 24 * HOUR_MS + 1));
        assert!(!check(0, Some(0), 24 * HOUR_MS));
        assert!(!check(0, None, 48 * HOUR_MS));
        assert!(!check(0, Some(48 * HOUR_MS), 49 * HOUR_MS - 1));
        assert!(check(0, Some(48 * HOUR_MS), 49 * HOUR_MS));
        let age = Age { max_time_ms: 0, verified_ms: None };
        assert!(may_go(age, day, false, 48 * HOUR_MS));
        assert!(!may_go(age, None, false, i64::MAX));
    }
}
