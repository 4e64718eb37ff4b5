//! Carries out what the rules say: marks blocks, deletes blocks.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use bucket::filter::{self, Filters};
use bucket::marker::{self, DeletionMark};
use bucket::{Snapshot, View, delete, partial};
use daemon::Clock;
use futures_util::{StreamExt as _, stream};
use model::BlockId;
use objstore::SharedStore;
use tracing::{debug, info, warn};

use crate::config::Rules;
use crate::metrics::Metrics;
use crate::retention::{self, Expired};
use crate::selection::{self, Scope, whole_ms};

/// Blocks that are deleted or marked at the same time.
const BLOCKS_MAX: usize = 16;

/// One pass over the bucket after another.
#[derive(Debug)]
pub(crate) struct Pass {
    store: SharedStore,
    view: View,
    rules: Rules,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    /// What is wrong in the bucket and stands in the log already.
    named: HashSet<(BlockId, String)>,
}

impl Pass {
    pub(crate) fn new(
        store: SharedStore,
        view: View,
        rules: Rules,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Pass {
        Pass { store, view, rules, metrics, clock, named: HashSet::new() }
    }

    /// Reads what is new in the bucket, names what is damaged, and answers what is there.
    ///
    /// # Errors
    /// When the bucket cannot be listed. A damaged block is no error.
    pub(crate) async fn sync(&mut self) -> anyhow::Result<Snapshot> {
        let begin = self.clock.monotonic();
        self.metrics.syncs.inc();
        let snapshot = self.view.sync(&*self.store).await;
        let snapshot = snapshot.context("read the blocks of the bucket").inspect_err(|_| {
            self.metrics.sync_failures.inc();
        })?;
        let passed = self.clock.monotonic().saturating_sub(begin);
        self.metrics.sync_duration.observe(passed.as_secs_f64());
        let now_ms = self.clock.now_ms();
        let filtered = filter::apply(&snapshot, &self.filters(now_ms), now_ms);
        self.metrics.set_states(&filtered.states);
        self.name_troubles(&snapshot);
        Ok(snapshot)
    }

    /// Deletes what was marked long ago, and uploads that were given up.
    ///
    /// # Errors
    /// The first failure, after every block had its turn.
    pub(crate) async fn clean(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let now_ms = self.clock.now_ms();
        let due = selection::due(snapshot, self.rules.delete_delay, now_ms);
        let deletions: Vec<_> = due.into_iter().map(|it| self.delete(it)).collect();
        let deletions = stream::iter(deletions).buffer_unordered(BLOCKS_MAX);
        let mut outcomes = deletions.collect::<Vec<_>>().await;
        outcomes.extend(self.clean_partial(snapshot, now_ms).await);
        self.metrics.cleanup_loops.inc();
        first_failure(outcomes, "deleted")
    }

    /// Marks what has outlived its retention.
    ///
    /// # Errors
    /// The first failure, after every block had its turn.
    pub(crate) async fn retain(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let now_ms = self.clock.now_ms();
        let candidates = selection::candidates(snapshot, &self.scope(now_ms), now_ms);
        let expired = retention::expired(candidates, &self.rules.retention, now_ms);
        self.metrics.todo_deletion_blocks.set(i64::try_from(expired.len()).unwrap_or(i64::MAX));
        let marks: Vec<_> = expired.iter().map(|it| self.mark(it, now_ms)).collect();
        let marks = stream::iter(marks).buffer_unordered(BLOCKS_MAX);
        first_failure(marks.collect().await, "marked")
    }

    /// Counts a finished iteration.
    pub(crate) fn count_iteration(&self) {
        self.metrics.iterations.inc();
    }

    /// Counts an iteration that is tried again.
    pub(crate) fn count_retry(&self) {
        self.metrics.retries.inc();
    }

    fn scope(&self, now_ms: i64) -> Scope {
        Scope {
            consistency_delay: self.rules.consistency_delay,
            min_time_ms: self.rules.min_time.at(now_ms),
            max_time_ms: self.rules.max_time.at(now_ms),
        }
    }

    /// Thanos' filters for its compactor, for the states in the metrics.
    fn filters(&self, now_ms: i64) -> Filters {
        let scope = self.scope(now_ms);
        Filters {
            min_time_ms: scope.min_time_ms,
            max_time_ms: scope.max_time_ms,
            consistency_delay_ms: whole_ms(scope.consistency_delay),
            // Half of the delay, so that no compaction begins with what is about to go.
            ignore_deletion_marks_delay_ms: whole_ms(self.rules.delete_delay / 2),
        }
    }

    fn name_troubles(&mut self, snapshot: &Snapshot) {
        let troubles = snapshot.troubles.iter().map(|it| (it.id, it.text.clone()));
        let troubles: HashSet<(BlockId, String)> = troubles.collect();
        for (block, trouble) in troubles.difference(&self.named) {
            warn!(%block, trouble, "a block is left alone, the others go on");
        }
        self.named = troubles;
    }

    async fn delete(&self, block: BlockId) -> anyhow::Result<()> {
        match delete::delete(&*self.store, block).await {
            Ok(objects) => {
                self.metrics.blocks_cleaned.inc();
                info!(%block, objects, "deleted a block that was marked long ago");
                Ok(())
            }
            Err(error) => Err(self.not_deleted(block, error)),
        }
    }

    async fn clean_partial(&self, snapshot: &Snapshot, now_ms: i64) -> Vec<anyhow::Result<()>> {
        let cleaned = partial::clean(&*self.store, snapshot, now_ms).await;
        let attempts = cleaned.deleted.len() + cleaned.failed.len();
        self.metrics.partial_deletion_attempts.inc_by(attempts as u64);
        let deleted = cleaned.deleted.into_iter().map(|block| {
            warn!(%block, "deleted what was left of an upload that was given up");
            Ok(())
        });
        let failed = cleaned.failed.into_iter();
        deleted.chain(failed.map(|(block, error)| Err(self.not_deleted(block, error)))).collect()
    }

    fn not_deleted(&self, block: BlockId, error: bucket::Error) -> anyhow::Error {
        self.metrics.cleanup_failures.inc();
        warn!(%block, %error, "cannot delete a block, the next clean-up tries again");
        anyhow::Error::new(error).context(format!("delete block {block}"))
    }

    async fn mark(&self, expired: &Expired, now_ms: i64) -> anyhow::Result<()> {
        let (block, details) = (expired.id, &expired.details);
        match marker::write(&*self.store, &DeletionMark::new(block, details, now_ms)).await {
            Ok(true) => {
                self.metrics.count_marked();
                info!(%block, details, "marked a block for deletion");
                Ok(())
            }
            Ok(false) => {
                debug!(%block, "somebody else marked the block");
                Ok(())
            }
            Err(error) => {
                warn!(%block, %error, "cannot mark a block, the next iteration tries again");
                Err(error).with_context(|| format!("mark block {block}"))
            }
        }
    }
}

fn first_failure(outcomes: Vec<anyhow::Result<()>>, done: &str) -> anyhow::Result<()> {
    let all = outcomes.len();
    let mut failures = outcomes.into_iter().filter_map(Result::err);
    match failures.next() {
        None => Ok(()),
        Some(first) => {
            let count = 1 + failures.count();
            Err(first.context(format!("{count} of {all} blocks could not be {done}")))
        }
    }
}

#[cfg(test)]
mod tests;
