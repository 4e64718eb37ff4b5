//! The names under which a registry shows the metrics.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics::Metrics;

impl Metrics {
    pub(super) fn register_meta(&self, registry: &mut Registry) {
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

    pub(super) fn register_compact(&self, registry: &mut Registry) {
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
        registry.register(
            "blocks_marked",
            "Blocks marked, by mark and reason",
            self.marked.clone(),
        );
        self.register_garbage(registry);
        self.register_groups(registry);
        self.register_downsampling(registry);
    }

    fn register_garbage(&self, registry: &mut Registry) {
        registry.register(
            "garbage_collected_blocks",
            "Blocks marked because another one has replaced them",
            self.garbage_collected_blocks.clone(),
        );
        registry.register(
            "garbage_collection",
            "Searches for blocks that others have replaced",
            self.garbage_collections.clone(),
        );
        registry.register(
            "garbage_collection_failures",
            "Searches after which not every block could be marked",
            self.garbage_failures.clone(),
        );
        registry.register(
            "garbage_collection_duration_seconds",
            "How long it took to mark what was found",
            self.garbage_duration.clone(),
        );
    }

    fn register_groups(&self, registry: &mut Registry) {
        registry.register("group_compactions", "Finished compactions", self.compactions.clone());
        registry.register(
            "group_compaction_runs_started",
            "Compactions begun",
            self.runs_started.clone(),
        );
        registry.register(
            "group_compaction_runs_completed",
            "Compactions that came to an end, also where there was nothing left to write",
            self.runs_completed.clone(),
        );
        registry.register(
            "group_compactions_failures",
            "Compactions that failed",
            self.run_failures.clone(),
        );
        registry.register(
            "group_vertical_compactions",
            "Finished compactions of overlapping blocks",
            self.vertical_compactions.clone(),
        );
        registry.register(
            "todo_compactions",
            "Compactions until there is nothing left to merge",
            self.todo_compactions.clone(),
        );
        registry.register(
            "todo_compaction_blocks",
            "Blocks that these compactions read",
            self.todo_compaction_blocks.clone(),
        );
    }

    fn register_downsampling(&self, registry: &mut Registry) {
        registry.register("downsample", "Finished downsamplings", self.downsamplings.clone());
        registry.register(
            "downsample_failures",
            "Downsamplings that failed",
            self.downsample_failures.clone(),
        );
        registry.register(
            "downsample_duration_seconds",
            "How long downsamplings took",
            self.downsample_duration.clone(),
        );
        registry.register(
            "todo_downsample_blocks",
            "Blocks to be made by downsampling",
            self.todo_downsample_blocks.clone(),
        );
    }

    /// What Thanos does not have.
    pub(super) fn register_own(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("aion_compact");
        registry.register(
            "held_blocks",
            "Blocks past their retention that wait for a coarser version",
            self.held_blocks.clone(),
        );
        registry.register("held_bytes", "Their bytes", self.held_bytes.clone());
        registry.register(
            "quarantined",
            "What is wrong in the bucket and kept away from",
            self.quarantined.clone(),
        );
        registry.register(
            "samples_dropped",
            "Samples that went into a job and did not come out, by reason",
            self.samples_dropped.clone(),
        );
    }
}
