//! The metrics of the compactor, under Thanos' names.

mod registration;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bucket::layout;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::executor::Failure;
use crate::jobs::{Done, Outcome};
use crate::plan::{Backlog, Job, Kind, Plan};
use crate::resolution::Resolution;

const SYNC_BUCKETS_SECONDS: [f64; 6] = [0.01, 1.0, 10.0, 100.0, 300.0, 1000.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MarkLabels {
    marker: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResolutionLabels {
    /// In ms.
    resolution: i64,
}

/// Why samples that went into a job did not come out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DropLabels {
    pub(crate) reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// The states of blocks that Thanos knows, to show zero where there are none.
const STATES: [&str; 8] = [
    "loaded",
    "failed",
    "duplicate",
    "marked-for-deletion",
    "no-meta-json",
    "corrupted-meta-json",
    "too-fresh",
    "time-excluded",
];

type Seconds = Gauge<f64, AtomicU64>;

const RESOLUTIONS: [Resolution; 3] =
    [Resolution::Raw, Resolution::FiveMinutes, Resolution::OneHour];
const JOB_BUCKETS_SECONDS: [f64; 8] = [1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0];

fn job_histogram() -> Histogram {
    Histogram::new(JOB_BUCKETS_SECONDS)
}

/// The metrics of the compactor.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) iterations: Counter,
    pub(crate) retries: Counter,
    pub(crate) cleanup_loops: Counter,
    pub(crate) blocks_cleaned: Counter,
    pub(crate) cleanup_failures: Counter,
    pub(crate) partial_deletion_attempts: Counter,
    pub(crate) todo_deletion_blocks: Gauge,
    pub(crate) syncs: Counter,
    pub(crate) sync_failures: Counter,
    pub(crate) sync_duration: Histogram,
    /// By how much the clock is ahead of the store's, negative when it is behind.
    pub(crate) clock_ahead: Seconds,
    pub(crate) clock_refusals: Counter,
    pub(crate) todo_compactions: Gauge,
    pub(crate) todo_compaction_blocks: Gauge,
    pub(crate) todo_downsample_blocks: Gauge,
    pub(crate) held_blocks: Gauge,
    pub(crate) held_bytes: Gauge,
    pub(crate) quarantined: Gauge,
    pub(crate) runs_started: Counter,
    pub(crate) runs_completed: Counter,
    pub(crate) run_failures: Counter,
    pub(crate) vertical_compactions: Counter,
    pub(crate) samples_dropped: Family<DropLabels, Counter>,
    garbage_collected_blocks: Counter,
    garbage_collections: Counter,
    garbage_failures: Counter,
    garbage_duration: Histogram,
    compactions: Family<ResolutionLabels, Counter>,
    downsamplings: Family<ResolutionLabels, Counter>,
    downsample_failures: Family<ResolutionLabels, Counter>,
    downsample_duration: Family<ResolutionLabels, Histogram, fn() -> Histogram>,
    marked: Family<MarkLabels, Counter>,
    synced: Family<StateLabels, Gauge>,
}

impl Metrics {
    /// Metrics that a registry shows, with the delays that Thanos shows beside them.
    pub(crate) fn register(
        registry: &mut Registry,
        delete_delay: Duration,
        consistency_delay: Duration,
    ) -> Metrics {
        let metrics = Metrics::unregistered();
        let (delete_seconds, consistency_seconds) = (Seconds::default(), Seconds::default());
        delete_seconds.set(delete_delay.as_secs_f64());
        consistency_seconds.set(consistency_delay.as_secs_f64());
        registry.register(
            "thanos_delete_delay_seconds",
            "Time between the mark on a block and its deletion",
            delete_seconds,
        );
        registry.register(
            "thanos_consistency_delay_seconds",
            "Age below which a block is left alone",
            consistency_seconds,
        );
        registry.register(
            "aion_compact_clock_ahead_seconds",
            "Lead of this clock over the store's when something was last to be marked or deleted",
            metrics.clock_ahead.clone(),
        );
        registry.register(
            "aion_compact_clock_refusals",
            "Passes that marked or deleted nothing because the clock is not that of the store",
            metrics.clock_refusals.clone(),
        );
        metrics.register_meta(registry);
        metrics.register_own(registry);
        let registry = registry.sub_registry_with_prefix("thanos_compact");
        metrics.register_compact(registry);
        metrics
    }

    /// Metrics that nobody reads.
    pub(crate) fn unregistered() -> Metrics {
        let metrics = Metrics {
            iterations: Counter::default(),
            retries: Counter::default(),
            cleanup_loops: Counter::default(),
            blocks_cleaned: Counter::default(),
            cleanup_failures: Counter::default(),
            partial_deletion_attempts: Counter::default(),
            todo_deletion_blocks: Gauge::default(),
            syncs: Counter::default(),
            sync_failures: Counter::default(),
            sync_duration: Histogram::new(SYNC_BUCKETS_SECONDS),
            clock_ahead: Seconds::default(),
            clock_refusals: Counter::default(),
            todo_compactions: Gauge::default(),
            todo_compaction_blocks: Gauge::default(),
            todo_downsample_blocks: Gauge::default(),
            held_blocks: Gauge::default(),
            held_bytes: Gauge::default(),
            quarantined: Gauge::default(),
            runs_started: Counter::default(),
            runs_completed: Counter::default(),
            run_failures: Counter::default(),
            vertical_compactions: Counter::default(),
            samples_dropped: Family::default(),
            garbage_collected_blocks: Counter::default(),
            garbage_collections: Counter::default(),
            garbage_failures: Counter::default(),
            garbage_duration: Histogram::new(SYNC_BUCKETS_SECONDS),
            compactions: Family::default(),
            downsamplings: Family::default(),
            downsample_failures: Family::default(),
            downsample_duration: Family::new_with_constructor(job_histogram),
            marked: Family::default(),
            synced: Family::default(),
        };
        // A counter that is not there until the first event cannot be alerted on.
        for reason in Reason::ALL {
            drop(metrics.marked.get_or_create(&reason.labels()));
        }
        for resolution in RESOLUTIONS {
            let labels = ResolutionLabels { resolution: resolution.ms() };
            drop(metrics.compactions.get_or_create(&labels));
            drop(metrics.downsamplings.get_or_create(&labels));
            drop(metrics.downsample_failures.get_or_create(&labels));
            drop(metrics.downsample_duration.get_or_create(&labels));
        }
        metrics
    }

    /// Counts a block that was marked.
    pub(crate) fn count_marked(&self, reason: Reason) {
        self.marked.get_or_create(&reason.labels()).inc();
    }

    /// Blocks that were marked for a reason.
    #[cfg(test)]
    pub(crate) fn marked(&self, reason: Reason) -> u64 {
        self.marked.get_or_create(&reason.labels()).get()
    }

    /// Counts blocks that were marked, or could not be, because others have replaced them.
    pub(crate) fn count_garbage(&self, collected: usize, failed: usize, passed: Duration) {
        self.garbage_collections.inc();
        self.garbage_collected_blocks.inc_by(collected as u64);
        self.garbage_failures.inc_by(u64::from(failed > 0));
        self.garbage_duration.observe(passed.as_secs_f64());
    }

    /// Shows what retention is about to mark, and what it holds.
    pub(crate) fn set_due_for_deletion(&self, plan: &Plan) {
        self.todo_deletion_blocks.set(whole(plan.expired.len()));
        self.held_blocks.set(whole(plan.held.len()));
        let bytes = plan.held.iter().map(|it| it.bytes).sum::<u64>();
        self.held_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a job that has ended.
    pub(crate) fn count_job(&self, job: &Job, result: &Result<Outcome, Failure>, passed: Duration) {
        let labels = ResolutionLabels { resolution: job.group.resolution.ms() };
        if let Ok(outcome) = result {
            for (reason, count) in &outcome.balance.dropped {
                let reason = (*reason).to_owned();
                self.samples_dropped.get_or_create(&DropLabels { reason }).inc_by(*count);
            }
        }
        match (&job.kind, result) {
            (_, Err(Failure::Stopped)) => {}
            (Kind::Compact { is_vertical, .. }, Ok(outcome)) => {
                self.runs_completed.inc();
                if outcome.done == Done::Made {
                    self.compactions.get_or_create(&labels).inc();
                    self.vertical_compactions.inc_by(u64::from(*is_vertical));
                }
            }
            (Kind::Compact { .. }, Err(_)) => drop(self.run_failures.inc()),
            (Kind::Downsample { .. }, Ok(_)) => {
                self.downsamplings.get_or_create(&labels).inc();
                self.downsample_duration.get_or_create(&labels).observe(passed.as_secs_f64());
            }
            (Kind::Downsample { .. }, Err(_)) => {
                self.downsample_failures.get_or_create(&labels).inc();
            }
        }
    }

    /// Counts a job that begins.
    pub(crate) fn count_start(&self, job: &Job) {
        if let Kind::Compact { .. } = job.kind {
            self.runs_started.inc();
        }
    }

    /// Shows how much is wrong in the bucket.
    pub(crate) fn set_quarantined(&self, entries: usize) {
        self.quarantined.set(whole(entries));
    }

    /// Shows what is to be done until nothing is left.
    pub(crate) fn set_backlog(&self, backlog: Backlog) {
        self.todo_compactions.set(whole(backlog.compactions));
        self.todo_compaction_blocks.set(whole(backlog.compaction_blocks));
        self.todo_downsample_blocks.set(whole(backlog.downsamplings));
    }

    /// Shows how many blocks of each state the last sync saw.
    pub(crate) fn set_states(&self, states: &BTreeMap<&'static str, usize>) {
        let known = STATES.iter().filter(|it| !states.contains_key(*it)).map(|it| (*it, 0));
        for (state, count) in known.chain(states.iter().map(|(state, count)| (*state, *count))) {
            let gauge = self.synced.get_or_create(&StateLabels { state });
            gauge.set(whole(count));
        }
    }
}

/// Why a block was marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has outlived its retention.
    Retention,
    /// Another block has all that it has.
    Garbage,
    /// It was merged into another block.
    Compacted,
    /// Merging it would make an index too large.
    IndexSize,
    /// Nothing of it is left when it is downsampled.
    Empty,
}

impl Reason {
    const ALL: [Reason; 5] =
        [Reason::Retention, Reason::Garbage, Reason::Compacted, Reason::IndexSize, Reason::Empty];

    /// As metrics and logs name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::Retention => "retention",
            Reason::Garbage => "outdated",
            Reason::Compacted => "compacted",
            Reason::IndexSize => "index-size-exceeding",
            Reason::Empty => "nothing-to-downsample",
        }
    }

    fn labels(self) -> MarkLabels {
        let marker = match self {
            Reason::Retention | Reason::Garbage | Reason::Compacted => layout::DELETION_MARK,
            Reason::IndexSize => layout::NO_COMPACT_MARK,
            Reason::Empty => layout::NO_DOWNSAMPLE_MARK,
        };
        MarkLabels { marker, reason: self.name() }
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
