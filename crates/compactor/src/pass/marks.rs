//! Marks blocks as a plan says.

use anyhow::Context as _;
use bucket::Snapshot;
use bucket::marker::{self, DeletionMark, Mark, NoCompactMark};
use futures_util::{StreamExt as _, stream};
use model::BlockId;
use tracing::{debug, info, warn};

use crate::metrics::Reason;
use crate::pass::{BLOCKS_MAX, Pass, first_failure};
use crate::plan::Plan;

impl Pass {
    /// Marks what has outlived its retention; nothing when the clock is too far from the store's.
    ///
    /// # Errors
    /// When the clocks cannot be compared; the first failure, after every block had its turn.
    pub(crate) async fn retain(&mut self, snapshot: &Snapshot, plan: &Plan) -> anyhow::Result<()> {
        let now_ms = self.clock.now_ms();
        self.metrics.set_due_for_deletion(plan);
        if !self.may_act(snapshot, !plan.expired.is_empty()).await? {
            return Ok(());
        }
        let marks = plan.expired.iter().map(|it| DeletionMark::new(it.id, &it.details, now_ms));
        let marks: Vec<_> = marks.map(|it| self.mark(it, Reason::Retention)).collect();
        let marks = stream::iter(marks).buffer_unordered(BLOCKS_MAX);
        first_failure(marks.collect().await, "marked")
    }

    /// Marks what another block has replaced, and what must not be merged any more; nothing when
    /// the clock is too far from the store's.
    ///
    /// # Errors
    /// As [`Pass::retain`].
    pub(crate) async fn collect(&mut self, snapshot: &Snapshot, plan: &Plan) -> anyhow::Result<()> {
        let begin = self.clock.monotonic();
        let now_ms = self.clock.now_ms();
        let has_work = !plan.garbage.is_empty() || !plan.too_large.is_empty();
        if !self.may_act(snapshot, has_work).await? {
            return Ok(());
        }
        let garbage = plan.garbage.iter().map(|it| {
            debug!(block = %it.id, replaced_by = %it.replaced_by, "a block is outdated");
            DeletionMark::new(it.id, "outdated block", now_ms)
        });
        let garbage: Vec<_> = garbage.map(|it| self.mark(it, Reason::Garbage)).collect();
        let garbage = stream::iter(garbage).buffer_unordered(BLOCKS_MAX);
        let mut outcomes: Vec<anyhow::Result<()>> = garbage.collect().await;
        let collected = outcomes.iter().filter(|it| it.is_ok()).count();
        let passed = self.clock.monotonic().saturating_sub(begin);
        self.metrics.count_garbage(collected, outcomes.len() - collected, passed);
        for found in &plan.too_large {
            let details = format!(
                "the index could exceed {} bytes: {} bytes in all that were to be merged",
                found.max_bytes, found.sum_bytes
            );
            let mark = NoCompactMark::new(found.id, "index-size-exceeding", &details, now_ms);
            outcomes.push(self.mark(mark, Reason::IndexSize).await);
        }
        first_failure(outcomes, "marked")
    }

    /// Marks a block, unless somebody has.
    async fn mark<M: Mark>(&self, mark: M, reason: Reason) -> anyhow::Result<()> {
        let block = mark.id();
        match write_mark(&*self.store, &mark).await {
            Ok(true) => {
                self.metrics.count_marked(reason);
                info!(%block, mark = M::FILE, reason = reason.name(), "marked a block");
                Ok(())
            }
            Ok(false) => {
                debug!(%block, mark = M::FILE, "somebody else marked the block");
                Ok(())
            }
            Err(error) => {
                warn!(%block, %error, "cannot mark a block, the next iteration tries again");
                Err(error)
            }
        }
    }
}

/// Writes a mark; answers whether there was none.
pub(crate) async fn write_mark<M: Mark>(
    store: &dyn objstore::ObjectStore,
    mark: &M,
) -> anyhow::Result<bool> {
    let block: BlockId = mark.id();
    marker::write(store, mark).await.with_context(|| format!("mark block {block}"))
}
