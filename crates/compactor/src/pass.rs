//! Carries out what the rules say: marks blocks, deletes blocks.

mod marks;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bucket::filter::{self, Filters};
use bucket::{Snapshot, View, clock, delete, partial, upload};
use daemon::Clock;
use futures_util::{StreamExt as _, stream};
use model::BlockId;
use objstore::SharedStore;
use tracing::{error, info, warn};

use crate::config::Rules;
use crate::metrics::Metrics;
pub(crate) use crate::pass::marks::write_mark;
use crate::plan;
use crate::quarantine::Quarantine;
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
    /// What is wrong in the bucket.
    pub(crate) quarantine: Quarantine,
    /// Reads that failed and stand in the log already.
    named: HashSet<(BlockId, String)>,
    /// The clock was too far from the store's when it was last compared.
    is_clock_off: bool,
}

impl Pass {
    pub(crate) fn new(
        store: SharedStore,
        view: View,
        rules: Rules,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Pass {
        let (quarantine, named, is_clock_off) = (Quarantine::default(), HashSet::new(), false);
        Pass { store, view, rules, metrics, clock, quarantine, named, is_clock_off }
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
        self.quarantine.load(&*self.store).await?;
        self.quarantine.update(&snapshot, now_ms);
        self.save_quarantine().await;
        Ok(snapshot)
    }

    /// What is to be done with what a sync saw; jobs that run have `busy` blocks.
    pub(crate) fn view(&self, snapshot: &Snapshot, busy: HashSet<BlockId>) -> plan::View {
        let now_ms = self.clock.now_ms();
        let reserved = self.quarantine.reserved(busy);
        selection::view(snapshot, &self.scope(now_ms), &reserved, now_ms)
    }

    /// What the plan goes by.
    pub(crate) fn plan_rules(&self) -> &plan::Rules {
        &self.rules.plan
    }

    /// Writes what is quarantined where others find it; the next sync tries again.
    pub(crate) async fn save_quarantine(&mut self) {
        if let Err(error) = self.quarantine.save(&*self.store).await {
            warn!(error = format!("{error:#}"), "cannot keep what is quarantined");
        }
    }

    /// Deletes what was marked long ago, and uploads that were given up; nothing when the clock is
    /// too far from the store's.
    ///
    /// # Errors
    /// When the clocks cannot be compared; the first failure, after every block had its turn.
    pub(crate) async fn clean(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let now_ms = self.clock.now_ms();
        let due = selection::due(snapshot, self.rules.delete_delay, now_ms);
        let has_work = !due.is_empty() || has_given_up(snapshot, now_ms);
        if !self.may_act(snapshot, has_work).await? {
            return Ok(());
        }
        let deletions: Vec<_> = due.into_iter().map(|it| self.delete(it)).collect();
        let deletions = stream::iter(deletions).buffer_unordered(BLOCKS_MAX);
        let mut outcomes = deletions.collect::<Vec<_>>().await;
        outcomes.extend(self.clean_partial(snapshot, now_ms).await);
        // Only by a clock that was just compared.
        if has_work {
            self.abort_stale_uploads(now_ms).await;
        }
        self.metrics.cleanup_loops.inc();
        first_failure(outcomes, "deleted")
    }

    /// Shows what is to be done, and what is wrong.
    pub(crate) fn show(&self, backlog: plan::Backlog) {
        self.metrics.set_backlog(backlog);
        self.metrics.set_quarantined(self.quarantine.entries().count());
    }

    /// Counts a finished iteration.
    pub(crate) fn count_iteration(&self) {
        self.metrics.iterations.inc();
    }

    /// Counts an iteration that is tried again.
    pub(crate) fn count_retry(&self) {
        self.metrics.retries.inc();
    }

    /// Whether the last comparison of the clocks forbade marks and deletions.
    pub(crate) fn is_clock_off(&self) -> bool {
        self.is_clock_off
    }

    /// Compares the clock with the store's before blocks are marked or deleted by it; a clock that
    /// was off is also looked at when nothing is to be done, so that it is said when it is right.
    ///
    /// # Errors
    /// When that fails: by a clock that nobody vouches for nothing is deleted.
    pub(crate) async fn may_act(
        &mut self,
        snapshot: &Snapshot,
        has_work: bool,
    ) -> anyhow::Result<bool> {
        let now_ms = self.clock.now_ms();
        if !has_work && !self.is_clock_off {
            return Ok(true);
        }
        let reading = clock::compare(&*self.store, snapshot, now_ms).await;
        let reading = reading.context("compare the clock with that of the store")?;
        let ahead = Duration::from_millis(reading.ahead_ms.unsigned_abs()).as_secs_f64();
        let ahead_seconds = ahead.copysign(if reading.ahead_ms < 0 { -1.0 } else { 1.0 });
        self.metrics.clock_ahead.set(ahead_seconds);
        let was_off = std::mem::replace(&mut self.is_clock_off, !reading.agrees());
        if !self.is_clock_off {
            if was_off {
                info!(
                    ahead_seconds,
                    "the clock agrees with the store's, marks and deletions go on"
                );
            }
            return Ok(true);
        }
        self.metrics.clock_refusals.inc();
        if !was_off {
            error!(
                ahead_seconds,
                object = reading.key,
                "the clock is more than an hour from the store's, by the time of this object: no \
                 block is marked or deleted until they agree; set the clock of this machine"
            );
        }
        Ok(false)
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
        let troubles = snapshot.troubles.iter().filter(|it| it.is_transient);
        let troubles: HashSet<(BlockId, String)> =
            troubles.map(|it| (it.id, it.text.clone())).collect();
        for (block, trouble) in troubles.difference(&self.named) {
            warn!(%block, trouble, "cannot read a block, the next sync tries again");
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

    /// Aborts the uploads in parts of jobs that were cut off: no listing shows them.
    async fn abort_stale_uploads(&self, now_ms: i64) {
        match upload::abort_stale_uploads(&*self.store, now_ms).await {
            Ok(0) => {}
            Ok(count) => info!(count, "aborted uploads in parts that were left behind"),
            Err(error) => warn!(%error, "cannot look for uploads in parts that were left behind"),
        }
    }

    fn not_deleted(&self, block: BlockId, error: bucket::Error) -> anyhow::Error {
        self.metrics.cleanup_failures.inc();
        warn!(%block, %error, "cannot delete a block, the next clean-up tries again");
        anyhow::Error::new(error).context(format!("delete block {block}"))
    }
}

fn has_given_up(snapshot: &Snapshot, now_ms: i64) -> bool {
    snapshot.blocks.values().any(|it| partial::is_given_up(it, now_ms))
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
