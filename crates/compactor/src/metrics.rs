//! The metrics of the compactor, under Thanos' names.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

const SYNC_BUCKETS_SECONDS: [f64; 6] = [0.01, 1.0, 10.0, 100.0, 300.0, 1000.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MarkLabels {
    marker: &'static str,
    reason: &'static str,
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
            marked: Family::default(),
            synced: Family::default(),
        };
        // A counter that is not there until the first event cannot be alerted on.
        drop(metrics.marked.get_or_create(&RETENTION));
        metrics
    }

    /// Counts a block that was marked because of its retention.
    pub(crate) fn count_marked(&self) {
        self.marked.get_or_create(&RETENTION).inc();
    }

    /// Blocks that were marked because of their retention.
    #[cfg(test)]
    pub(crate) fn marked(&self) -> u64 {
        self.marked.get_or_create(&RETENTION).get()
    }

    /// Shows how many blocks of each state the last sync saw.
    pub(crate) fn set_states(&self, states: &BTreeMap<&'static str, usize>) {
        let known = STATES.iter().filter(|it| !states.contains_key(*it)).map(|it| (*it, 0));
        for (state, count) in known.chain(states.iter().map(|(state, count)| (*state, *count))) {
            let gauge = self.synced.get_or_create(&StateLabels { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn register_meta(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("thanos_blocks_meta");
        registry.register("syncs", "Syncs of the view of blocks", self.syncs.clone());
        registry.register(
            "sync_failures",
            "Syncs of the view of blocks that failed",
            self.sync_failures.clone(),
        );
        registry.register(
            "sync_duration_seconds",
            "How long syncs took",
            self.sync_duration.clone(),
        );
        registry.register("synced", "Blocks in the bucket by their state", self.synced.clone());
    }

    fn register_compact(&self, registry: &mut Registry) {
        registry.register(
            "halted",
            "1 when the compactor stopped for good; it never does",
            Gauge::<i64>::default(),
        );
        registry.register("iterations", "Finished iterations", self.iterations.clone());
        registry.register("retries", "Iterations that are tried again", self.retries.clone());
        registry.register(
            "block_cleanup_loops",
            "Passes that removed marked and partial blocks",
            self.cleanup_loops.clone(),
        );
        registry.register("blocks_cleaned", "Marked blocks removed", self.blocks_cleaned.clone());
        registry.register(
            "block_cleanup_failures",
            "Removals of blocks that failed",
            self.cleanup_failures.clone(),
        );
        registry.register(
            "aborted_partial_uploads_deletion_attempts",
            "Removals of given-up uploads begun",
            self.partial_deletion_attempts.clone(),
        );
        registry.register(
            "todo_deletion_blocks",
            "Blocks that have outlived their retention",
            self.todo_deletion_blocks.clone(),
        );
        registry.register("blocks_marked", "Blocks marked for deletion", self.marked.clone());
    }
}

const RETENTION: MarkLabels = MarkLabels { marker: "deletion-mark.json", reason: "retention" };
