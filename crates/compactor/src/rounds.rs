//! When the compactor works: passes over the bucket, the jobs between them, pauses after failures.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bucket::Snapshot;
use daemon::Context;
use tracing::{info, warn};

use crate::board::Board;
use crate::executor::Failure;
use crate::jobs::{Ended, Jobs};
use crate::pass::Pass;
use crate::plan::{self, Plan};
use crate::quarantine::Cause;

/// The pause after the first failed iteration; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause, if the interval of iterations is not shorter.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// So often in a row jobs wait for a sync that can read everything; then they go on without what
/// cannot be read.
const UNREAD_SYNCS_MAX: u32 = 3;

/// Works until the process stops.
#[derive(Debug)]
pub(crate) struct Rounds {
    pub(crate) pass: Pass,
    pub(crate) jobs: Jobs,
    pub(crate) board: Board,
    /// The bucket in words.
    pub(crate) bucket: String,
    pub(crate) wait: bool,
    pub(crate) wait_interval: Duration,
    pub(crate) cleanup_interval: Duration,
    pub(crate) context: Context,
    /// Syncs in a row that could not read everything.
    pub(crate) unread_syncs: u32,
    /// Whether there is something to do that only another iteration can.
    pub(crate) is_unfinished: bool,
    /// What the last sync saw, to tell what jobs say about it.
    pub(crate) snapshot: Snapshot,
}

/// What is next.
enum Next {
    /// Another iteration, at once or when something has happened.
    Go,
    /// The process stops.
    Stop,
}

impl Rounds {
    /// Works: until nothing is left to do, or with `wait` until the process stops.
    ///
    /// # Errors
    /// Without `wait`, what went wrong first; what could be done all the same is done then.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let tasks = self.context.tasks.clone();
        let (mut failures, mut first_failure) = (0, Ok(()));
        loop {
            let outcome = tokio::select! {
                biased;
                () = tasks.stopping() => return Ok(()),
                outcome = self.iterate() => outcome,
            };
            if !self.wait && self.is_at_rest() {
                return self.end(first_failure.and(outcome)).await;
            }
            let pause = match outcome {
                Ok(()) => {
                    failures = 0;
                    self.pause()
                }
                Err(error) => {
                    failures += 1;
                    let pause = self.failed(&error, failures);
                    // While blocks cannot be read another iteration does all of it again.
                    if first_failure.is_ok() && !self.is_unread() {
                        first_failure = Err(error);
                    }
                    pause
                }
            };
            if let Next::Stop = self.rest(pause).await {
                return Ok(());
            }
        }
    }

    /// Sync, mark what is over, remove what is due, mark what was replaced, start jobs.
    async fn iterate(&mut self) -> anyhow::Result<()> {
        self.jobs.begin_round();
        self.is_unfinished = false;
        self.snapshot = self.pass.sync().await?;
        self.context.readiness.set_ready();
        self.unread_syncs = match self.snapshot.is_complete() {
            true => 0,
            false => self.unread_syncs.saturating_add(1),
        };
        let view = self.pass.view(&self.snapshot, self.jobs.busy());
        let plan = plan::plan(&view, self.pass.plan_rules());
        // What cannot be removed must not keep what can be marked from being marked.
        let retained = self.pass.retain(&self.snapshot, &plan).await;
        let cleaned = self.pass.clean(&self.snapshot).await;
        let collected = self.pass.collect(&self.snapshot, &plan).await;
        let started = self.start_jobs(&plan).await;
        let backlog = plan::backlog(&view, self.pass.plan_rules());
        self.pass.show(backlog);
        self.board.show_plan(view.now_ms, plan, backlog);
        self.board.show_jobs(&self.jobs, &self.pass.quarantine);
        retained.and(cleaned).and(collected).and(started)?;
        self.pass.count_iteration();
        info!(
            blocks = self.snapshot.blocks.len(),
            running = self.jobs.running().count(),
            compactions = backlog.compactions,
            downsamplings = backlog.downsamplings,
            "iteration done"
        );
        Ok(())
    }

    /// Starts jobs, unless by a clock that is far from the store's, or by a view that lacks what
    /// another sync may see.
    async fn start_jobs(&mut self, plan: &Plan) -> anyhow::Result<()> {
        if !self.pass.may_act(&self.snapshot, !plan.jobs.is_empty()).await? {
            return Ok(());
        }
        if self.is_unread() {
            self.is_unfinished = true;
            bail!("not every block could be read, so no job begins before another sync");
        }
        self.jobs.start(plan);
        self.is_unfinished = !self.jobs.has_tried_enough();
        Ok(())
    }

    fn is_unread(&self) -> bool {
        (1..=UNREAD_SYNCS_MAX).contains(&self.unread_syncs)
    }

    /// Whether nothing is left to do without `--wait`, or nothing that could be done.
    fn is_at_rest(&self) -> bool {
        self.jobs.is_idle() && !self.is_unfinished
    }

    /// Until when nothing is to be done, if no job ends before.
    fn pause(&self) -> Duration {
        let cleanup = Some(self.cleanup_interval).filter(|it| !it.is_zero() && self.wait);
        let pauses = [Some(self.wait_interval), cleanup, self.jobs.next_try()];
        pauses.into_iter().flatten().min().unwrap_or(self.wait_interval)
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

    /// Waits for `pause` or the end of a job.
    async fn rest(&mut self, pause: Duration) -> Next {
        let tasks = self.context.tasks.clone();
        tokio::select! {
            biased;
            () = tasks.stopping() => return Next::Stop,
            ended = self.jobs.next_end() => self.note_end(&ended),
            () = tokio::time::sleep(pause) => {}
        }
        Next::Go
    }

    /// Writes down how a job ended, and keeps away from what is damaged.
    fn note_end(&mut self, ended: &Ended) {
        self.jobs.note_end(ended);
        let now_ms = self.context.clock.now_ms();
        let (job, quarantine) = (&*ended.job, &mut self.pass.quarantine);
        match &ended.result {
            Err(Failure::Damaged { block, place, what }) => {
                quarantine.add_damaged(&self.snapshot, (*block, place, what), job, now_ms);
            }
            Err(failure @ Failure::Unbalanced(_)) => {
                quarantine.add_job(job, Cause::Unbalanced, &failure.to_string(), now_ms);
            }
            Err(Failure::Hopeless(what)) => quarantine.add_job(job, Cause::Failed, what, now_ms),
            Err(Failure::Changed(_) | Failure::Transient(_) | Failure::Stopped) | Ok(_) => {}
        }
    }

    /// The end without `--wait`.
    async fn end(&self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        outcome
            .with_context(|| format!("{}: without --wait nothing is tried again", self.bucket))?;
        if self.pass.is_clock_off() {
            bail!("the clock is not that of the bucket {}, so nothing was done", self.bucket);
        }
        if !self.snapshot.is_complete() {
            bail!("not every block of {} could be read, see the log", self.bucket);
        }
        let given_up = self.jobs.given_up();
        if given_up > 0 {
            bail!("{given_up} jobs failed again and again in {}, see the log", self.bucket);
        }
        info!("nothing is left to do, the process ends: --wait was not given");
        self.context.tasks.finish();
        self.context.tasks.stopping().await;
        Ok(())
    }
}

/// 1 s, 2 s, 4 s … up to a minute.
fn pause(failures: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests;
