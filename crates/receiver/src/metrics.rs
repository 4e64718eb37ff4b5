//! The metrics of the receiver, under the names of Thanos and Prometheus where they have one.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What requests hold: from a single sample to the largest.
const WRITE_BUCKETS: [f64; 9] = [0.0, 5.0, 10.0, 25.0, 100.0, 500.0, 1000.0, 5000.0, 10_000.0];
/// Seconds of a group commit: from a fast disk to one that is in trouble.
const COMMIT_BUCKETS_SECONDS: [f64; 8] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 2.0];

/// Tenants that have metrics of their own; writes of all others are counted together, because a
/// sender may make up as many names as it likes.
const TENANTS_MAX: usize = 1000;
/// Stands for the tenants beyond the bound.
const OTHER_TENANTS: &str = "other";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    code: u16,
    tenant: String,
}

/// The metrics of the receiver.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    write_samples: Family<WriteLabels, Histogram>,
    write_timeseries: Family<WriteLabels, Histogram>,
    /// The tenants that have metrics of their own.
    tenants: Arc<RwLock<HashSet<String>>>,
    pub(crate) head_series: Gauge,
    pub(crate) samples_appended: Counter,
    pub(crate) samples_refused: Counter,
    pub(crate) samples_duplicate: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) commit_bytes: Counter,
    pub(crate) log_failures: Counter,
    pub(crate) log_damaged: Counter,
    pub(crate) blocks_cut: Counter,
    pub(crate) cut_failures: Counter,
    pub(crate) chunks_lost: Counter,
    pub(crate) blocks_removed: Counter,
    pub(crate) dir_syncs: Counter,
    pub(crate) dir_sync_failures: Counter,
    pub(crate) uploads: Counter,
    pub(crate) upload_failures: Counter,
}

impl Metrics {
    /// Metrics that nobody reads yet.
    pub(crate) fn new() -> Metrics {
        let of_write = || Histogram::new(WRITE_BUCKETS);
        Metrics {
            write_samples: Family::new_with_constructor(of_write as fn() -> Histogram),
            write_timeseries: Family::new_with_constructor(of_write as fn() -> Histogram),
            tenants: Arc::default(),
            head_series: Gauge::default(),
            samples_appended: Counter::default(),
            samples_refused: Counter::default(),
            samples_duplicate: Counter::default(),
            commit_seconds: Histogram::new(COMMIT_BUCKETS_SECONDS),
            commit_bytes: Counter::default(),
            log_failures: Counter::default(),
            log_damaged: Counter::default(),
            blocks_cut: Counter::default(),
            cut_failures: Counter::default(),
            chunks_lost: Counter::default(),
            blocks_removed: Counter::default(),
            dir_syncs: Counter::default(),
            dir_sync_failures: Counter::default(),
            uploads: Counter::default(),
            upload_failures: Counter::default(),
        }
    }

    /// Shows the metrics in a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "thanos_receive_write_samples",
            "Samples of a write request",
            self.write_samples.clone(),
        );
        registry.register(
            "thanos_receive_write_timeseries",
            "Series of a write request",
            self.write_timeseries.clone(),
        );
        let tsdb = registry.sub_registry_with_prefix("prometheus_tsdb");
        tsdb.register("head_series", "Series in the head", self.head_series.clone());
        tsdb.register(
            "head_samples_appended",
            "Samples taken into the head",
            self.samples_appended.clone(),
        );
        tsdb.register("compactions", "Blocks cut from the head", self.blocks_cut.clone());
        tsdb.register(
            "compactions_failed",
            "Cuts of the head that failed",
            self.cut_failures.clone(),
        );
        tsdb.register(
            "wal_fsync_duration_seconds",
            "Time of a group commit of the log",
            self.commit_seconds.clone(),
        );
        tsdb.register(
            "wal_corruptions",
            "Damaged spans found in the log and its companions",
            self.log_damaged.clone(),
        );
        let shipper = registry.sub_registry_with_prefix("thanos_shipper");
        shipper.register("dir_syncs", "Rounds of shipping", self.dir_syncs.clone());
        shipper.register(
            "dir_sync_failures",
            "Rounds of shipping in which a block failed",
            self.dir_sync_failures.clone(),
        );
        shipper.register("uploads", "Blocks uploaded", self.uploads.clone());
        shipper.register(
            "upload_failures",
            "Uploads of blocks that failed",
            self.upload_failures.clone(),
        );
        self.register_own(registry.sub_registry_with_prefix("aion_receive"));
    }

    fn register_own(&self, registry: &mut Registry) {
        registry.register(
            "samples_refused",
            "Samples that were refused and named to their sender",
            self.samples_refused.clone(),
        );
        registry.register(
            "samples_duplicate",
            "Samples that were there already, equal to the bit",
            self.samples_duplicate.clone(),
        );
        registry.register(
            "log_bytes",
            "Bytes written to the log and synced",
            self.commit_bytes.clone(),
        );
        registry.register(
            "log_failures",
            "Failed writes or syncs of the log, each followed by a rebuild",
            self.log_failures.clone(),
        );
        registry.register(
            "head_chunks_lost",
            "Damaged chunks of the head that are missing in a block",
            self.chunks_lost.clone(),
        );
        registry.register(
            "blocks_removed",
            "Local blocks removed after their retention",
            self.blocks_removed.clone(),
        );
        // That every write is synced before it is acknowledged is a promise; it can be seen here.
        let synced: Gauge = Gauge::default();
        synced.set(1);
        registry.register(
            "log_synced_before_acknowledgement",
            "1: a write is on the disk before it is acknowledged",
            synced,
        );
    }

    /// Notes an answered write.
    #[expect(clippy::cast_precision_loss, reason = "counts of a request are far below 2^53")]
    pub(crate) fn wrote(&self, code: u16, tenant: &str, series: usize, samples: usize) {
        let labels = WriteLabels { code, tenant: self.name_of(tenant).to_owned() };
        self.write_samples.get_or_create(&labels).observe(samples as f64);
        self.write_timeseries.get_or_create(&labels).observe(series as f64);
    }

    /// The name under which a tenant is counted.
    fn name_of<'a>(&self, tenant: &'a str) -> &'a str {
        if self.tenants.read().contains(tenant) {
            return tenant;
        }
        let mut tenants = self.tenants.write();
        if tenants.len() < TENANTS_MAX {
            tenants.insert(tenant.to_owned());
        }
        if tenants.contains(tenant) { tenant } else { OTHER_TENANTS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_made_up_take_no_memory_without_bound() {
        let metrics = Metrics::new();
        for index in 0..TENANTS_MAX + 50 {
            metrics.wrote(204, &format!("t{index}"), 1, 1);
        }
        metrics.wrote(204, "t0", 1, 1);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let counts = "thanos_receive_write_samples_count{";
        assert_eq!(text.matches(counts).count(), TENANTS_MAX + 1);
        for (tenant, count) in [("t0", 2), ("t999", 1), ("other", 50)] {
            let line = format!("{counts}code=\"204\",tenant=\"{tenant}\"}} {count}\n");
            assert!(text.contains(&line), "{line}");
        }
    }
}
