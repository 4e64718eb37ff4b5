//! Looks at the bucket again and again, loads what is new and lets go of what is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bucket::State;
use bucket::filter::{self, Filters};
use daemon::Context;
use futures_util::stream::{self, StreamExt as _};
use model::{BlockId, Budget, TimeBound};
use tracing::{error, info, warn};
use tsdb_core::block::Meta;

use crate::block::{Block, name_of};
use crate::blocks::{Blocks, Broken, Snapshot};
use crate::error::Error;
use crate::index_header::IndexHeaders;
use crate::metrics::Metrics;
use crate::remote::Remote;

/// Wait after the first failure; doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait after a failure.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Which blocks are served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Blocks that end before are not.
    pub(crate) min_time: TimeBound,
    /// Blocks that begin after are not.
    pub(crate) max_time: TimeBound,
    /// Blocks younger than this are not.
    pub(crate) consistency_delay: Duration,
    /// Blocks that were marked for deletion longer ago than this are not.
    pub(crate) ignore_deletion_marks_delay: Duration,
}

/// Keeps the blocks as the bucket has them.
#[derive(Debug)]
pub(crate) struct Sync {
    /// The bucket as it was last seen.
    pub(crate) view: bucket::View,
    /// Which blocks are served.
    pub(crate) rules: Rules,
    /// Ranged reads.
    pub(crate) remote: Arc<Remote>,
    /// Index headers.
    pub(crate) headers: IndexHeaders,
    /// Where the blocks are kept.
    pub(crate) blocks: Arc<Blocks>,
    /// The account of what blocks keep in memory.
    pub(crate) budget: Budget,
    /// Counts.
    pub(crate) metrics: Metrics,
    /// Blocks that are loaded at once.
    pub(crate) load_concurrency: usize,
    /// Troubles that were told already.
    pub(crate) told: BTreeSet<String>,
}

impl Sync {
    /// Looks every `interval` until the process stops. The first success makes the store ready.
    pub(crate) async fn run(mut self, interval: Duration, context: Context) -> anyhow::Result<()> {
        let mut retry = RETRY_FIRST;
        loop {
            let looked = tokio::select! {
                looked = self.once(context.clock.now_ms()) => looked,
                () = context.tasks.stopping() => return Ok(()),
            };
            self.metrics.count_sync(looked.is_ok());
            let wait = match looked {
                Ok(()) => {
                    context.readiness.set_ready();
                    retry = RETRY_FIRST;
                    interval
                }
                Err(error) => {
                    warn!(retry_seconds = retry.as_secs(), "cannot look at the bucket: {error}");
                    if !self.blocks.now().is_complete {
                        context.readiness.set_not_ready(format!("the bucket: {error}"));
                    }
                    let wait = retry;
                    retry = (2 * retry).min(RETRY_MAX);
                    wait.min(interval.max(RETRY_FIRST))
                }
            };
            if !context.tasks.sleep(wait).await {
                return Ok(());
            }
        }
    }

    /// Looks once. Blocks that cannot be loaded are named and hold nothing up.
    ///
    /// # Errors
    /// When the bucket cannot be listed; the blocks stay as they were.
    pub(crate) async fn once(&mut self, now_ms: i64) -> bucket::Result<()> {
        let store = Arc::clone(self.remote.store());
        let seen = self.view.sync(&*store).await?;
        self.tell_troubles(&seen);
        let filtered = filter::apply(&seen, &self.filters(now_ms), now_ms);
        self.metrics.set_states(&filtered.states);
        let before = self.blocks.now();
        let mut next = Snapshot { is_complete: true, ..Snapshot::default() };
        let mut wanted = Vec::new();
        for (id, meta) in filtered.kept {
            match before.loaded.get(&id) {
                Some(block) => drop(next.loaded.insert(id, Arc::clone(block))),
                None => wanted.push(meta),
            }
        }
        self.keep_unread(&seen, &before, &mut next, now_ms);
        self.load(wanted, &before, &mut next).await;
        self.load_replaced(&seen, &before, &mut next).await;
        self.let_go(&before, &next);
        self.metrics.set_cached_bytes(self.remote.cached_bytes());
        self.metrics.set_loaded(next.loaded.len(), now_ms);
        self.blocks.replace(next);
        self.headers.keep_only(seen.blocks.keys().copied().collect()).await;
        Ok(())
    }

    fn filters(&self, now_ms: i64) -> Filters {
        let ms = |it: Duration| i64::try_from(it.as_millis()).unwrap_or(i64::MAX);
        Filters {
            min_time_ms: self.rules.min_time.at(now_ms),
            max_time_ms: self.rules.max_time.at(now_ms),
            consistency_delay_ms: ms(self.rules.consistency_delay),
            ignore_deletion_marks_delay_ms: ms(self.rules.ignore_deletion_marks_delay),
        }
    }

    fn tell_troubles(&mut self, seen: &bucket::Snapshot) {
        let texts: BTreeSet<String> = seen.troubles.iter().map(|it| it.text.clone()).collect();
        for trouble in seen.troubles.iter().filter(|it| !self.told.contains(&it.text)) {
            warn!(block = %trouble.id, "{}", trouble.text);
            self.metrics.count_damage(&trouble.id.to_string());
        }
        self.told = texts;
    }

    /// Blocks whose meta cannot be read stay when they are loaded, for a block never changes; all
    /// others that are not whole are missing.
    fn keep_unread(
        &self,
        seen: &bucket::Snapshot,
        before: &Snapshot,
        next: &mut Snapshot,
        now_ms: i64,
    ) {
        let filters = self.filters(now_ms);
        for (id, block) in seen.blocks.iter().filter(|it| !is_left_out(it.1, &filters, now_ms)) {
            let (meta, reason) = match &block.state {
                State::Loaded(_) | State::NoMeta => continue,
                State::Incomplete { meta, missing } => {
                    let reason = format!("the bucket lacks {}", missing.join(", "));
                    (Some(Arc::clone(meta)), reason)
                }
                State::Corrupt(reason) | State::Failed(reason) => {
                    if let Some(loaded) = before.loaded.get(id) {
                        next.loaded.insert(*id, Arc::clone(loaded));
                        continue;
                    }
                    let known = before.broken.get(id).and_then(|it| it.meta.clone());
                    (known, format!("its meta.json cannot be read: {reason}"))
                }
            };
            next.broken.insert(*id, Broken { meta, reason });
        }
    }

    /// While a block cannot be loaded, those that it replaces answer: nobody is to miss samples
    /// that are there. Of them, too, only those are loaded that no other of them replaces.
    async fn load_replaced(&self, seen: &bucket::Snapshot, before: &Snapshot, next: &mut Snapshot) {
        // Each round adds blocks to the loaded or to the broken ones, so there is a last one.
        loop {
            let mut wanted = replaced(seen, next);
            wanted.retain(|meta| match before.loaded.get(&meta.ulid) {
                None => true,
                Some(block) => {
                    next.loaded.insert(meta.ulid, Arc::clone(block));
                    false
                }
            });
            if wanted.is_empty() {
                return;
            }
            self.load(wanted, before, next).await;
        }
    }

    async fn load(&self, wanted: Vec<Arc<Meta>>, before: &Snapshot, next: &mut Snapshot) {
        let mut loads = stream::iter(wanted)
            .map(|meta| async move {
                let loaded = self.load_one(&meta).await;
                (meta, loaded)
            })
            .buffer_unordered(self.load_concurrency);
        while let Some((meta, loaded)) = loads.next().await {
            self.metrics.count_load(loaded.is_ok());
            let id = meta.ulid;
            match loaded {
                Ok(block) => {
                    info!(block = %id, "loaded {}", name_of(&meta));
                    next.loaded.insert(id, Arc::new(block));
                    self.show_early(before, next);
                }
                Err(error) => {
                    let reason = error.to_string();
                    let is_known = before.broken.get(&id).is_some_and(|it| it.reason == reason);
                    if !is_known {
                        let name = name_of(&meta);
                        error!(
                            block = %id, is_transient = error.is_transient(),
                            "cannot load {name}: {reason}; the other blocks answer without it"
                        );
                    }
                    if error.is_damage() {
                        self.metrics.count_damage(&id.to_string());
                    }
                    next.broken.insert(id, Broken { meta: Some(meta), reason });
                }
            }
        }
    }

    /// Shows what was loaded so far beside what there was, so that a block that takes long to
    /// load keeps no other waiting.
    fn show_early(&self, before: &Snapshot, next: &Snapshot) {
        if before.is_complete {
            let mut both = before.clone();
            both.loaded.extend(next.loaded.iter().map(|(id, block)| (*id, Arc::clone(block))));
            self.blocks.replace(both);
        }
    }

    async fn load_one(&self, meta: &Arc<Meta>) -> Result<Block, Error> {
        let header = self.headers.open(&self.remote, meta.ulid, &self.budget).await?;
        Block::new(Arc::clone(meta), header).map_err(|error| Error::Damaged {
            key: bucket::layout::meta_key(meta.ulid),
            damage: tsdb_core::Damage::new("external labels", 0, error.to_string()),
        })
    }

    fn let_go(&self, before: &Snapshot, next: &Snapshot) {
        for (id, block) in &before.loaded {
            if !next.loaded.contains_key(id) {
                info!(block = %id, "let go of {}", block.name());
                self.metrics.count_drop();
            }
        }
    }
}

/// Whether a block that is not whole would be left out too if it were. Of a meta that cannot be
/// read nothing is known but when the block was written last.
fn is_left_out(block: &bucket::Block, filters: &Filters, now_ms: i64) -> bool {
    let delay_ms = filters.ignore_deletion_marks_delay_ms;
    if block.deletion.mark().is_some_and(|it| filter::is_mark_older(it, now_ms, delay_ms)) {
        return true;
    }
    match &block.state {
        State::Loaded(meta) | State::Incomplete { meta, .. } => {
            !filter::in_time(meta, filters.min_time_ms, filters.max_time_ms)
                || filter::is_too_fresh(meta, now_ms, filters.consistency_delay_ms)
        }
        State::NoMeta | State::Corrupt(_) | State::Failed(_) => {
            now_ms.saturating_sub(block.modified_ms()) < filters.consistency_delay_ms
        }
    }
}

/// Whole blocks that broken ones replace and that are neither loaded nor broken.
fn replaced(seen: &bucket::Snapshot, next: &Snapshot) -> Vec<Arc<Meta>> {
    let broken: Vec<&Meta> = next.broken.values().filter_map(|it| it.meta.as_deref()).collect();
    if broken.is_empty() {
        return Vec::new();
    }
    let is_open = |id: &BlockId| !next.loaded.contains_key(id) && !next.broken.contains_key(id);
    let is_replaced = |meta: &Meta| {
        broken.iter().any(|it| {
            it.thanos.downsample.resolution_ms == meta.thanos.downsample.resolution_ms
                && it.thanos.labels == meta.thanos.labels
                && sources(meta).iter().all(|source| sources(it).contains(source))
        })
    };
    let whole = seen.blocks.values().filter_map(|it| it.state.meta());
    let mut found: Vec<Arc<Meta>> =
        whole.filter(|it| is_open(&it.ulid) && is_replaced(it)).cloned().collect();
    let loaded = next.loaded.values().map(|it| it.meta());
    let duplicates = filter::duplicates(loaded.chain(found.iter().map(|it| &**it)));
    found.retain(|it| !duplicates.contains(&it.ulid));
    found
}

/// The blocks whose samples a block has; one that names none is its own.
fn sources(meta: &Meta) -> &[BlockId] {
    match &meta.compaction.sources[..] {
        [] => std::slice::from_ref(&meta.ulid),
        sources => sources,
    }
}
