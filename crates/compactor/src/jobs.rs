//! Starts jobs as a plan orders them, some at once, and learns how they end.

mod steps;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use daemon::{Clock, Tasks};
use futures_util::FutureExt as _;
use model::BlockId;
use objstore::SharedStore;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::executor::{Executor, Failure, Progress};
use crate::jobs::steps::Steps;
pub(crate) use crate::jobs::steps::{Done, Outcome};
use crate::metrics::Metrics;
use crate::plan::{Job, JobKey, Kind, Plan};

/// The pause before a job that failed is tried again; it doubles with each further failure.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_mins(30);
/// Jobs of the past that are shown.
const HISTORY_MAX: usize = 256;
/// Failures after which a job that is not tried again later counts as failed.
pub(crate) const TRIES_MAX: u32 = 3;

/// How many jobs run at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) compactions: usize,
    pub(crate) downsamplings: usize,
}

/// A job that runs.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) job: Arc<Job>,
    pub(crate) progress: Arc<Progress>,
    /// In ms since the Unix epoch.
    pub(crate) started_ms: i64,
}

/// A job that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) job: Arc<Job>,
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: i64,
    /// What was made, or the failure's name and text.
    pub(crate) result: Result<Outcome, (&'static str, String)>,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) job: Arc<Job>,
    pub(crate) result: Result<Outcome, Failure>,
}

/// A job that failed and is to be tried again.
#[derive(Clone, Copy, Debug)]
struct Setback {
    failures: u32,
    /// By the monotonic clock.
    not_before: Duration,
}

/// What jobs need.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) store: SharedStore,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
}

/// All jobs: those that run, those that failed, those of the past.
#[derive(Debug)]
pub(crate) struct Jobs {
    means: Arc<Means>,
    limits: Limits,
    running: BTreeMap<JobKey, Running>,
    setbacks: HashMap<JobKey, Setback>,
    /// When the last round began, by the monotonic clock.
    round_begin: Duration,
    history: VecDeque<Past>,
    ended: mpsc::Receiver<Ended>,
    sender: mpsc::Sender<Ended>,
}

impl Jobs {
    pub(crate) fn new(means: Means, limits: Limits) -> Jobs {
        let (sender, ended) = mpsc::channel(limits.compactions + limits.downsamplings + 1);
        Jobs {
            means: Arc::new(means),
            limits,
            running: BTreeMap::new(),
            setbacks: HashMap::new(),
            round_begin: Duration::ZERO,
            history: VecDeque::new(),
            ended,
            sender,
        }
    }

    /// The blocks that running jobs read.
    pub(crate) fn busy(&self) -> HashSet<BlockId> {
        self.running.values().flat_map(|it| it.job.ids()).collect()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Running> {
        self.running.values()
    }

    pub(crate) fn history(&self) -> impl Iterator<Item = &Past> {
        self.history.iter().rev()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Says that a round begins: [`Jobs::next_try`] goes by what it could not start.
    pub(crate) fn begin_round(&mut self) {
        self.round_begin = self.means.clock.monotonic();
    }

    /// Starts as many jobs of a plan as may run at once, and forgets failures of jobs that are no
    /// longer planned.
    pub(crate) fn start(&mut self, plan: &Plan) {
        let planned: HashSet<JobKey> = plan.jobs.iter().map(Job::key).collect();
        self.setbacks.retain(|it, _| planned.contains(it) || self.running.contains_key(it));
        let now = self.means.clock.monotonic();
        for job in &plan.jobs {
            let key = job.key();
            let must_wait = self.setbacks.get(&key).is_some_and(|it| it.not_before > now);
            if must_wait || self.running.contains_key(&key) || !self.has_room(job) {
                continue;
            }
            self.start_one(key, Arc::new(job.clone()));
        }
    }

    /// How long until a job that failed may be tried again; none when there is no such job. What
    /// might have begun in the last round and did not waits for something else than time.
    pub(crate) fn next_try(&self) -> Option<Duration> {
        let now = self.means.clock.monotonic();
        let waits = |(key, it): &(&JobKey, &Setback)| {
            it.not_before > self.round_begin && !self.running.contains_key(*key)
        };
        let pauses = self.setbacks.iter().filter(waits);
        pauses.map(|(_, it)| it.not_before.saturating_sub(now)).min()
    }

    /// How many planned jobs have failed as often as may be without `--wait`.
    pub(crate) fn given_up(&self) -> usize {
        self.setbacks.values().filter(|it| it.failures >= TRIES_MAX).count()
    }

    /// Whether each job that failed has been tried as often as may be without `--wait`.
    pub(crate) fn has_tried_enough(&self) -> bool {
        self.setbacks.values().all(|it| it.failures >= TRIES_MAX)
    }

    /// Waits until a job ends; for ever when none runs.
    pub(crate) async fn next_end(&mut self) -> Ended {
        match self.ended.recv().await {
            Some(ended) => ended,
            // This struct has a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Writes down how a job ended.
    pub(crate) fn note_end(&mut self, ended: &Ended) {
        let key = ended.job.key();
        let started_ms = self.running.remove(&key).map_or(0, |it| it.started_ms);
        let result = match &ended.result {
            Ok(outcome) => Ok(outcome.clone()),
            Err(failure) => Err((failure.name(), failure.to_string())),
        };
        match &ended.result {
            Ok(_) | Err(Failure::Stopped) => drop(self.setbacks.remove(&key)),
            Err(_) => {
                let failures = self.setbacks.get(&key).map_or(0, |it| it.failures) + 1;
                let not_before = self.means.clock.monotonic() + pause(failures);
                self.setbacks.insert(key, Setback { failures, not_before });
            }
        }
        let ended_ms = self.means.clock.now_ms();
        let job = Arc::clone(&ended.job);
        self.history.push_back(Past { job, started_ms, ended_ms, result });
        while self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }

    fn has_room(&self, job: &Job) -> bool {
        let is_same = |it: &&Running| it.job.name() == job.name();
        let running = self.running.values().filter(is_same).count();
        running
            < match job.kind {
                Kind::Compact { .. } => self.limits.compactions,
                Kind::Downsample { .. } => self.limits.downsamplings,
            }
    }

    fn start_one(&mut self, key: JobKey, job: Arc<Job>) {
        let progress = Arc::new(Progress::default());
        let started_ms = self.means.clock.now_ms();
        info!(
            job = job.name(),
            group = %job.group,
            blocks = job.sources.len(),
            bytes = job.bytes,
            reason = job.reason,
            is_owed = job.is_owed,
            "a job begins"
        );
        let running =
            Running { job: Arc::clone(&job), progress: Arc::clone(&progress), started_ms };
        self.running.insert(key, running);
        let (means, sender) = (Arc::clone(&self.means), self.sender.clone());
        let name = job.name();
        let begin = means.clock.monotonic();
        means.metrics.count_start(&job);
        let task = async move {
            let steps = Steps { means: &means, job: &job, progress: &progress };
            let result = tokio::select! {
                biased;
                () = means.tasks.stopping() => {
                    progress.cancel();
                    Err(Failure::Stopped)
                }
                result = AssertUnwindSafe(steps.run()).catch_unwind() => result.unwrap_or_else(|_| {
                    Err(Failure::Hopeless("it panicked, see the log".to_owned()))
                }),
            };
            let passed = means.clock.monotonic().saturating_sub(begin);
            means.metrics.count_job(&job, &result, passed);
            tell(&job, &result);
            // Nobody listens any more when the process stops.
            drop(sender.send(Ended { job, result }).await);
            Ok(())
        };
        drop(self.means.tasks.spawn(name, task));
    }
}

fn tell(job: &Job, result: &Result<Outcome, Failure>) {
    let (name, group) = (job.name(), job.group.to_string());
    match result {
        Ok(outcome) => {
            let made: Vec<String> = outcome.outputs.iter().map(ToString::to_string).collect();
            info!(
                job = name,
                group,
                outcome = outcome.done.name(),
                blocks = made.join(", "),
                balance = %outcome.balance,
                "a job is done"
            );
        }
        Err(Failure::Stopped) => info!(job = name, group, "a job is given up, the process stops"),
        Err(failure) => {
            let sources: Vec<String> = job.ids().map(|it| it.to_string()).collect();
            warn!(
                job = name,
                group,
                blocks = sources.join(", "),
                kind = failure.name(),
                error = %failure,
                "a job failed"
            );
        }
    }
}

/// 5 s, 10 s, 20 s … up to half an hour.
fn pause(failures: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX)
}
