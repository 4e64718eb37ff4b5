//! The thread that cuts blocks from the head and takes snapshots.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daemon::{Clock, Context, Random};
use tokio::sync::Notify;
use tracing::{error, info};
use tsdb_core::db::{CutReport, Engine};

use crate::metrics::Metrics;

/// Longest time between two looks at the head.
const ROUND_MAX: Duration = Duration::from_secs(15);
const ROUND_MIN: Duration = Duration::from_millis(200);
/// How often the thread looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(200);

/// Cuts and snapshots.
#[derive(Clone, Debug)]
pub(crate) struct Upkeep {
    pub(crate) engine: Arc<Engine>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// Told when there are new blocks.
    pub(crate) cut: Arc<Notify>,
    pub(crate) block_ms: i64,
}

impl Upkeep {
    /// Starts the thread.
    pub(crate) fn start(self, context: &Context) -> anyhow::Result<()> {
        let tasks = context.tasks.clone();
        let stopping = context.tasks.clone();
        let work = move || {
            while self.wait(|| stopping.is_stopping()) {
                self.round();
            }
            Ok(())
        };
        tasks.thread("head-upkeep", work).context("start the upkeep of the head")
    }

    /// Waits until the next round; false when it is time to stop.
    fn wait(&self, is_stopping: impl Fn() -> bool) -> bool {
        let block = Duration::from_millis(u64::try_from(self.block_ms).unwrap_or_default());
        let round = (block / 60).clamp(ROUND_MIN, ROUND_MAX);
        let until = self.clock.monotonic() + round;
        loop {
            if is_stopping() {
                return false;
            }
            let left = until.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(PATIENCE));
        }
    }

    fn round(&self) {
        if self.engine.has_failed() {
            return;
        }
        let report = self.engine.cut_due(self.clock.now_ms(), &mut || self.block_random());
        self.note(&report);
        match self.engine.snapshot_if_due() {
            Ok(_) => {}
            Err(error) => error!("the head could not be snapshotted: {error}"),
        }
        let series = self.engine.stats().series;
        self.metrics.head_series.set(i64::try_from(series).unwrap_or(i64::MAX));
    }

    /// Cuts the whole head, at the end. Blocking.
    pub(crate) fn cut_all(&self) -> CutReport {
        let report = self.engine.cut_all(self.clock.now_ms(), &mut || self.block_random());
        self.note(&report);
        report
    }

    fn note(&self, report: &CutReport) {
        for block in &report.blocks {
            self.metrics.blocks_cut.inc();
            info!(
                tenant = %block.tenant,
                block = %block.meta.ulid,
                min_time_ms = block.meta.min_time_ms,
                max_time_ms = block.meta.max_time_ms,
                series = block.meta.stats.num_series,
                samples = block.meta.stats.num_samples,
                "cut a block"
            );
            for error in &block.chunks_lost {
                self.metrics.chunks_lost.inc();
                error!(tenant = %block.tenant, "a chunk of the head is lost: {error}");
            }
        }
        for (tenant, error) in &report.lost {
            self.metrics.chunks_lost.inc();
            error!(%tenant, "a chunk of the head is lost: {error}");
        }
        for (tenant, error) in &report.failures {
            self.metrics.cut_failures.inc();
            error!(%tenant, "the head could not be cut, it is tried again: {error}");
        }
        if !report.blocks.is_empty() {
            self.cut.notify_one();
        }
    }

    /// 80 random bits for the name of a block.
    fn block_random(&self) -> u128 {
        (u128::from(self.random.next_u64()) << 16) | u128::from(self.random.next_u64() >> 48)
    }
}
