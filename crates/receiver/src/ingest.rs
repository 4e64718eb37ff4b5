//! From the bytes of a request to a durable write, and the thread that makes writes durable.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use crossbeam::channel::{Receiver, Sender, bounded};
use daemon::{Clock, Context, Tasks};
use model::{Budget, Reservation, Tenant};
use tokio::sync::watch;
use tracing::{error, info, warn};
use tsdb_core::db::{Appended, Engine, OpenReport, Ticket, TicketState, WriteBatch, WriteOutcome};

use crate::decode::{self, ProtobufLabels, WriteRequest};
use crate::metrics::Metrics;
use crate::status::{self, WriteError};

/// How often a committer without work looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(100);
/// How long is waited after a rebuild that failed, or that was followed by a failure, before the
/// next one; twice as long each time, up to the bound.
const REBUILD_PAUSE: Duration = Duration::from_secs(1);
const REBUILD_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A log that worked for so long after a rebuild failed for a new reason.
const REBUILD_HELD: Duration = Duration::from_mins(2);
/// Damaged spans and problems that are logged one by one.
const LOGGED_MAX: usize = 50;

/// Takes writes.
#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    pub(crate) engine: Arc<Engine>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    /// What requests in hand are charged to.
    pub(crate) budget: Budget,
    pub(crate) request_bytes_max: u64,
    pub(crate) future: Duration,
    tasks: Tasks,
    wake: Sender<()>,
    commits: watch::Receiver<u64>,
}

/// What a request came to, for metrics and logs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    pub(crate) series: usize,
    pub(crate) samples: usize,
}

/// The other end: what the committer needs.
#[derive(Debug)]
pub(crate) struct Committer {
    engine: Arc<Engine>,
    metrics: Metrics,
    context: Context,
    woken: Receiver<()>,
    commits: watch::Sender<u64>,
}

/// How long to wait before the next rebuild.
///
/// A disk that is full lets a rebuild succeed and the first write after it fail: without a pause
/// the whole log would be read again and again.
#[derive(Debug, Default)]
struct Pauses {
    /// The pause before the next rebuild, if it comes soon.
    next: Duration,
    /// When the last one succeeded.
    rebuilt_at: Duration,
}

impl Pauses {
    /// The pause before a rebuild that a failure at `now` asks for.
    fn of_failure(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.rebuilt_at) >= REBUILD_HELD {
            self.next = Duration::ZERO;
        }
        self.take()
    }

    /// The pause after a rebuild that failed.
    fn of_failed_rebuild(&mut self) -> Duration {
        self.next = self.next.max(REBUILD_PAUSE);
        self.take()
    }

    fn succeeded(&mut self, now: Duration) {
        self.rebuilt_at = now;
    }

    fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).clamp(REBUILD_PAUSE, REBUILD_PAUSE_MAX);
        pause
    }
}

/// The two ends around an engine.
pub(crate) fn new(
    engine: &Arc<Engine>,
    metrics: &Metrics,
    context: &Context,
    budget: Budget,
    future: Duration,
) -> (Ingest, Committer) {
    let (wake, woken) = bounded(1);
    let (commits, committed) = watch::channel(0);
    let ingest = Ingest {
        engine: Arc::clone(engine),
        metrics: metrics.clone(),
        clock: Arc::clone(&context.clock),
        budget,
        request_bytes_max: crate::http::REQUEST_BYTES_MAX,
        future,
        tasks: context.tasks.clone(),
        wake,
        commits: committed,
    };
    let committer = Committer {
        engine: Arc::clone(engine),
        metrics: metrics.clone(),
        context: context.clone(),
        woken,
        commits,
    };
    (ingest, committer)
}

/// A request that was applied.
enum Applied {
    /// All is known of it.
    Whole(Ticket, Option<WriteError>),
    /// Only the disk knows whether some of its samples are there already.
    Asking(Box<Asking>),
}

/// A request on its way to where a thread may block.
struct Asking {
    tenant: Tenant,
    unpacked: Vec<u8>,
    held: Reservation,
    appended: Appended,
    latest_ms: i64,
}

impl Asking {
    /// Asks the disk. Blocking.
    fn finish(mut self, ingest: &Ingest) -> Result<(Ticket, Option<WriteError>), WriteError> {
        // Walking it again costs less than keeping what borrows from it. What the first walk held
        // is no longer there.
        self.held.resize_unchecked(self.unpacked.len());
        let request = decode::walk(&self.unpacked, &mut self.held)?;
        let batch = batch_of(&self.tenant, &request, self.latest_ms);
        let (outcome, ticket) = ingest.engine.finish_append(&batch, self.appended)?;
        ingest.count(&outcome);
        Ok((ticket, status::refused(&request, &outcome)))
    }
}

fn batch_of<'a>(
    tenant: &'a Tenant,
    request: &'a WriteRequest<'_>,
    latest_ms: i64,
) -> WriteBatch<'a> {
    let (series, samples) = (&request.series, &request.samples);
    WriteBatch { tenant, series, samples, decoder: &ProtobufLabels, latest_ms }
}

impl Ingest {
    /// Takes a request's body; done when all that was taken of it is durable.
    pub(crate) async fn write(
        &self,
        tenant: &Tenant,
        body: &[u8],
        size: &mut Size,
    ) -> Result<(), WriteError> {
        let (ticket, refused) = match self.apply(tenant, body, size)? {
            Applied::Whole(ticket, refused) => (ticket, refused),
            Applied::Asking(asking) => {
                let ingest = self.clone();
                let answer = move || asking.finish(&ingest);
                let answered = self.tasks.spawn_blocking("look for retried samples", answer).await;
                answered.map_err(|it| WriteError::Unavailable(it.to_string()))??
            }
        };
        self.durable(&ticket).await?;
        refused.map_or(Ok(()), Err)
    }

    /// Decodes and applies; no waiting, so that the bytes stay in the caches of one core.
    fn apply(&self, tenant: &Tenant, body: &[u8], size: &mut Size) -> Result<Applied, WriteError> {
        let declared_bytes = decode::declared_bytes(body, self.request_bytes_max)?;
        let mut held = self.budget.reserve(declared_bytes)?;
        let unpacked = decode::decompress(body, declared_bytes)?;
        let request = decode::walk(&unpacked, &mut held)?;
        *size = Size { series: request.series.len(), samples: request.samples.len() };
        let future_ms = i64::try_from(self.future.as_millis()).unwrap_or(i64::MAX);
        let latest_ms = self.clock.now_ms().saturating_add(future_ms);
        let batch = batch_of(tenant, &request, latest_ms);
        let appended = self.engine.append_from_memory(&batch);
        // Also after an error: what was applied before it waits for the committer.
        let _is_awake_already = self.wake.try_send(());
        let appended = appended?;
        if appended.needs_disk() {
            let tenant = tenant.clone();
            let asking = Asking { tenant, unpacked, held, appended, latest_ms };
            return Ok(Applied::Asking(Box::new(asking)));
        }
        let (outcome, ticket) = self.engine.finish_append(&batch, appended)?;
        self.count(&outcome);
        Ok(Applied::Whole(ticket, status::refused(&request, &outcome)))
    }

    fn count(&self, outcome: &WriteOutcome) {
        let count = |it: usize| u64::try_from(it).unwrap_or(u64::MAX);
        self.metrics.samples_appended.inc_by(count(outcome.accepted));
        self.metrics.samples_duplicate.inc_by(count(outcome.duplicates));
        self.metrics.samples_refused.inc_by(count(outcome.refused.len()));
    }

    async fn durable(&self, ticket: &Ticket) -> Result<(), WriteError> {
        let mut commits = self.commits.clone();
        loop {
            // Marked before the look, so that a commit in between wakes the wait.
            commits.borrow_and_update();
            match ticket.state() {
                TicketState::Durable => return Ok(()),
                TicketState::Lost => {
                    let text = "the log could not be written; nothing is acknowledged";
                    return Err(WriteError::Unavailable(text.to_owned()));
                }
                TicketState::Pending => {}
            }
            if commits.changed().await.is_err() {
                let text = "the receiver stops before the write is on the disk";
                return Err(WriteError::Unavailable(text.to_owned()));
            }
        }
    }
}

impl Committer {
    /// Starts the thread. It ends when everything stops and nothing is queued any more.
    pub(crate) fn start(self) -> anyhow::Result<()> {
        let tasks = self.context.tasks.clone();
        tasks.thread("log-committer", move || self.run()).context("start the log's committer")
    }

    fn run(self) -> anyhow::Result<()> {
        let mut pauses = Pauses::default();
        loop {
            let is_stopping = self.context.tasks.is_stopping();
            // Nobody waits for the time-out: it is there to notice the end.
            let _reason = self.woken.recv_timeout(IDLE);
            let start = self.context.clock.monotonic();
            let committed = self.engine.commit_pending();
            match committed {
                Ok(0) => {}
                Ok(bytes) => {
                    let took = self.context.clock.monotonic().saturating_sub(start);
                    self.metrics.commit_seconds.observe(took.as_secs_f64());
                    self.metrics.commit_bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
                }
                Err(failure) => error!("the log failed, writes are refused: {failure}"),
            }
            self.commits.send_modify(|it| *it += 1);
            if self.engine.has_failed() {
                self.rebuild(&mut pauses);
            }
            if is_stopping {
                return Ok(());
            }
        }
    }

    /// Reads the head back until that succeeds or the process stops.
    fn rebuild(&self, pauses: &mut Pauses) {
        self.metrics.log_failures.inc();
        self.context.readiness.set_not_ready("the log failed and is being read again from disk");
        let mut pause = pauses.of_failure(self.context.clock.monotonic());
        loop {
            if !pause.is_zero() {
                info!(seconds = pause.as_secs(), "waiting before the log is read again");
            }
            if !self.wait(pause) {
                return;
            }
            match self.engine.rebuild() {
                Ok(report) => {
                    log_report(&report, &self.metrics);
                    info!(series = report.series, "the log was read again, writes are taken");
                    pauses.succeeded(self.context.clock.monotonic());
                    self.context.readiness.set_ready();
                    return;
                }
                Err(failure) => {
                    error!("the log cannot be read again, it is tried again: {failure}")
                }
            }
            pause = pauses.of_failed_rebuild();
        }
    }

    /// Waits; false when it is time to stop.
    fn wait(&self, pause: Duration) -> bool {
        let until = self.context.clock.monotonic() + pause;
        while self.context.clock.monotonic() < until {
            // Waiting senders are told at once; they come again later.
            self.commits.send_modify(|it| *it += 1);
            if self.context.tasks.is_stopping() {
                return false;
            }
            let _reason = self.woken.recv_timeout(IDLE);
        }
        true
    }
}

/// Logs what was wrong with the files of the engine, and counts it.
pub(crate) fn log_report(report: &OpenReport, metrics: &Metrics) {
    for span in report.damaged.iter().take(LOGGED_MAX) {
        let (path, reason) = (span.path.display(), &span.reason);
        if span.is_tail {
            info!(%path, start = span.start, end = span.end, reason, "cut off a torn tail");
        } else {
            error!(
                %path, start = span.start, end = span.end, reason,
                "damaged bytes were passed over and copied to the quarantine"
            );
        }
    }
    metrics.log_damaged.inc_by(u64::try_from(report.damaged.len()).unwrap_or(u64::MAX));
    for problem in report.problems.iter().take(LOGGED_MAX) {
        error!("{problem}");
    }
    let left = report.problems.len().max(report.damaged.len()).saturating_sub(LOGGED_MAX);
    if left > 0 {
        error!("and {left} more problems with the files of the head");
    }
    if report.samples_orphaned > 0 || report.series_orphaned > 0 {
        error!(
            samples = report.samples_orphaned,
            series = report.series_orphaned,
            "samples are lost: the labels of their series are damaged in log and series file"
        );
    }
    if report.frames_unknown > 0 {
        warn!(
            frames = report.frames_unknown,
            "the log holds records that this version cannot read"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_fails_again_and_again_is_read_less_and_less_often() {
        let mut pauses = Pauses::default();
        let mut now = Duration::from_secs(10);
        let mut seconds = Vec::new();
        for _ in 0..8 {
            seconds.push(pauses.of_failure(now).as_secs());
            now += Duration::from_millis(50);
            pauses.succeeded(now);
        }
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 30, 30]);
        // A log that worked for a while is read at once.
        now += REBUILD_HELD;
        assert_eq!(pauses.of_failure(now), Duration::ZERO);
        // A rebuild that fails is never tried again without a pause.
        let mut pauses = Pauses::default();
        assert_eq!(pauses.of_failure(now), Duration::ZERO);
        assert_eq!(pauses.of_failed_rebuild(), Duration::from_secs(1));
        assert_eq!(pauses.of_failed_rebuild(), Duration::from_secs(2));
    }
}
