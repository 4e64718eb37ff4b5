//! The gateway's metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BlockLabel {
    block: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// What is counted; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    block_loads: Counter,
    block_load_failures: Counter,
    block_drops: Counter,
    blocks_loaded: Gauge,
    blocks_last_loaded_seconds: Gauge,
    blocks_synced: Family<StateLabel, Gauge>,
    blocks_damaged: Family<BlockLabel, Counter>,
    headers_built: Counter,
    headers_rebuilt: Counter,
    syncs: Counter,
    sync_failures: Counter,
    pages_hit: Counter,
    pages_missed: Counter,
    fetched_bytes: Counter,
    cached_bytes: Gauge,
    queries_dropped: Family<ReasonLabel, Counter>,
    series_touched: Counter,
    chunks_sent: Counter,
    series_refetches: Counter,
    chunk_refetches: Counter,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        let mut add = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        add(
            "thanos_bucket_store_block_loads",
            "Loads of a block that were begun",
            &metrics.block_loads,
        );
        add(
            "thanos_bucket_store_block_load_failures",
            "Loads of a block that failed",
            &metrics.block_load_failures,
        );
        add("thanos_bucket_store_block_drops", "Blocks that were let go", &metrics.block_drops);
        add("thanos_blocks_meta_syncs", "Looks at the bucket", &metrics.syncs);
        add("thanos_blocks_meta_sync_failures", "Looks that failed", &metrics.sync_failures);
        add(
            "aion_store_index_headers_built",
            "Index headers made from the bucket",
            &metrics.headers_built,
        );
        add(
            "aion_store_index_headers_rebuilt",
            "Local index headers that were damaged and made again",
            &metrics.headers_rebuilt,
        );
        add("aion_store_pages_hit", "Pages that the cache had", &metrics.pages_hit);
        add("aion_store_pages_missed", "Pages that came from the bucket", &metrics.pages_missed);
        add(
            "aion_store_fetched_bytes",
            "Bytes read from the bucket for queries",
            &metrics.fetched_bytes,
        );
        add("aion_store_series_touched", "Series that queries found", &metrics.series_touched);
        add("aion_store_chunks_sent", "Chunks that were sent", &metrics.chunks_sent);
        add(
            "thanos_bucket_store_series_refetches",
            "Series entries that were longer than guessed",
            &metrics.series_refetches,
        );
        add(
            "thanos_bucket_store_chunk_refetches",
            "Chunks that were longer than guessed",
            &metrics.chunk_refetches,
        );
        metrics.register_rest(registry);
        metrics
    }

    fn register_rest(&self, registry: &mut Registry) {
        registry.register(
            "thanos_bucket_store_blocks_loaded",
            "Blocks that answer queries",
            self.blocks_loaded.clone(),
        );
        registry.register(
            "thanos_bucket_store_blocks_last_loaded_timestamp_seconds",
            "When a look at the bucket last succeeded",
            self.blocks_last_loaded_seconds.clone(),
        );
        registry.register(
            "aion_store_page_cache_bytes",
            "Bytes of pages in memory",
            self.cached_bytes.clone(),
        );
        registry.register(
            "thanos_blocks_meta_synced",
            "Blocks of the bucket by what became of them",
            self.blocks_synced.clone(),
        );
        registry.register(
            "aion_store_block_damages",
            "Damaged bytes met in a block",
            self.blocks_damaged.clone(),
        );
        registry.register(
            "thanos_bucket_store_queries_dropped",
            "Queries that passed a limit",
            self.queries_dropped.clone(),
        );
    }

    pub(crate) fn count_pages(&self, hit: usize, missed: usize) {
        self.pages_hit.inc_by(hit as u64);
        self.pages_missed.inc_by(missed as u64);
    }

    pub(crate) fn count_fetched(&self, bytes: usize) {
        self.fetched_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn count_header_built(&self) {
        self.headers_built.inc();
    }

    pub(crate) fn count_header_rebuilt(&self) {
        self.headers_rebuilt.inc();
    }

    pub(crate) fn count_load(&self, is_good: bool) {
        self.block_loads.inc();
        if !is_good {
            self.block_load_failures.inc();
        }
    }

    pub(crate) fn count_drop(&self) {
        self.block_drops.inc();
    }

    pub(crate) fn count_damage(&self, block: &str) {
        self.blocks_damaged.get_or_create(&BlockLabel { block: block.to_owned() }).inc();
    }

    pub(crate) fn count_sync(&self, is_good: bool) {
        self.syncs.inc();
        if !is_good {
            self.sync_failures.inc();
        }
    }

    pub(crate) fn set_states(&self, states: &std::collections::BTreeMap<&'static str, usize>) {
        self.blocks_synced.clear();
        for (state, count) in states {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.blocks_synced.get_or_create(&StateLabel { state }).set(count);
        }
    }

    pub(crate) fn set_cached_bytes(&self, bytes: u64) {
        self.cached_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_loaded(&self, blocks: usize, now_ms: i64) {
        self.blocks_loaded.set(i64::try_from(blocks).unwrap_or(i64::MAX));
        self.blocks_last_loaded_seconds.set(now_ms / 1000);
    }

    pub(crate) fn count_dropped_query(&self, reason: &'static str) {
        self.queries_dropped.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn count_series(&self, series: usize) {
        self.series_touched.inc_by(series as u64);
    }

    pub(crate) fn count_chunks(&self, chunks: usize) {
        self.chunks_sent.inc_by(chunks as u64);
    }

    pub(crate) fn count_series_refetches(&self, entries: usize) {
        self.series_refetches.inc_by(entries as u64);
    }

    pub(crate) fn count_chunk_refetches(&self, chunks: usize) {
        self.chunk_refetches.inc_by(chunks as u64);
    }
}
