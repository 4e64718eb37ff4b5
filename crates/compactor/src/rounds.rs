//! When the compactor works: iterations, clean-ups between them, and pauses after failures.

use std::time::Duration;

use anyhow::{Context as _, bail};
use daemon::Context;
use tracing::{info, warn};

use crate::pass::Pass;

/// The pause after the first failed iteration; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause, if the interval of iterations is not shorter.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Works until the process stops.
#[derive(Debug)]
pub(crate) struct Rounds {
    pub(crate) pass: Pass,
    /// The bucket in words.
    pub(crate) bucket: String,
    pub(crate) wait: bool,
    pub(crate) wait_interval: Duration,
    pub(crate) cleanup_interval: Duration,
    pub(crate) context: Context,
}

impl Rounds {
    /// Works: once, or with `wait` until the process stops.
    ///
    /// # Errors
    /// Without `wait`, what went wrong in the one iteration.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let tasks = self.context.tasks.clone();
        let mut failures = 0;
        loop {
            let outcome = tokio::select! {
                biased;
                () = tasks.stopping() => return Ok(()),
                outcome = self.iterate() => outcome,
            };
            if !self.wait {
                return self.end(outcome).await;
            }
            let pause = match outcome {
                Ok(()) => {
                    failures = 0;
                    self.wait_interval
                }
                Err(error) => {
                    failures += 1;
                    self.failed(&error, failures)
                }
            };
            if !self.rest(pause).await {
                return Ok(());
            }
        }
    }

    /// Sync, remove what is due, mark what is over.
    async fn iterate(&mut self) -> anyhow::Result<()> {
        let snapshot = self.pass.sync().await?;
        self.context.readiness.set_ready();
        // What cannot be removed must not keep what can be marked from being marked.
        let cleaned = self.pass.clean(&snapshot).await;
        let retained = self.pass.retain(&snapshot).await;
        cleaned.and(retained)?;
        self.pass.count_iteration();
        info!(blocks = snapshot.blocks.len(), "iteration done");
        Ok(())
    }

    /// Names a failure, and says how long to wait before the next try.
    fn failed(&self, error: &anyhow::Error, failures: u32) -> Duration {
        let readiness = &self.context.readiness;
        if !readiness.is_part_ready() {
            readiness.set_not_ready(format!("the bucket cannot be read: {error:#}"));
        }
        self.pass.count_retry();
        let pause = pause(failures).min(self.wait_interval);
        warn!(
            bucket = self.bucket,
            error = format!("{error:#}"),
            next_try_seconds = pause.as_secs_f64(),
            "an iteration failed"
        );
        pause
    }

    /// Waits for `pause`, cleaning up meanwhile; false when it is time to stop.
    async fn rest(&mut self, pause: Duration) -> bool {
        let tasks = self.context.tasks.clone();
        let mut left = pause;
        while !self.cleanup_interval.is_zero() && self.cleanup_interval < left {
            left -= self.cleanup_interval;
            if !tasks.sleep(self.cleanup_interval).await {
                return false;
            }
            let cleaned = tokio::select! {
                biased;
                () = tasks.stopping() => return false,
                cleaned = self.clean() => cleaned,
            };
            if let Err(error) = cleaned {
                warn!(bucket = self.bucket, error = format!("{error:#}"), "a clean-up failed");
            }
        }
        tasks.sleep(left).await
    }

    async fn clean(&mut self) -> anyhow::Result<()> {
        let snapshot = self.pass.sync().await?;
        self.pass.clean(&snapshot).await
    }

    /// The end of the one iteration without `--wait`.
    async fn end(&self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        outcome
            .with_context(|| format!("{}: without --wait nothing is tried again", self.bucket))?;
        if self.pass.is_clock_off() {
            bail!("the clock is not that of the bucket {}, so nothing was done", self.bucket);
        }
        info!("the one iteration is done, the process ends: --wait was not given");
        self.context.tasks.finish();
        self.context.tasks.stopping().await;
        Ok(())
    }
}

/// 1 s, 2 s, 4 s … up to a minute.
fn pause(failures: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX)
}
