//! Requests after they were checked: matchers are compiled, strategies are one value.

use model::{Labels, Matcher, TimeRange};
use xxhash_rust::xxh64::Xxh64;

use crate::error::Error;

/// What to do about a part of the data that cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartialResponse {
    /// Answer what there is and name the rest in a warning.
    #[default]
    Warn,
    /// Fail the whole call.
    Abort,
}

/// An aggregate of a downsampled series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// The samples themselves.
    Raw,
    /// Number of raw samples in a window.
    Count,
    /// Their sum.
    Sum,
    /// The least of them.
    Min,
    /// The greatest of them.
    Max,
    /// The counter that carries on over resets.
    Counter,
}

/// Keep only the series whose hash falls into one of several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which shard, from 0.
    pub index: u64,
    /// How many there are.
    pub total: u64,
    /// Whether `labels` are the ones hashed (true) or the ones left out (false).
    pub by: bool,
    /// Label names.
    pub labels: Vec<String>,
}

/// `Store/Series`.
#[derive(Clone, Debug)]
pub struct SeriesRequest {
    /// Samples wanted, both ends inclusive.
    pub range: TimeRange,
    /// All must hold; on external labels too.
    pub matchers: Vec<Matcher>,
    /// Coarsest resolution that the caller accepts, in ms; 0 is raw only.
    pub resolution_max_ms: i64,
    /// Aggregates wanted of downsampled blocks.
    pub aggregates: Vec<Aggregate>,
    /// What to do about missing parts.
    pub partial_response: PartialResponse,
    /// Labels only, no chunks.
    pub skip_chunks: bool,
    /// Shard wanted, if the caller shards.
    pub shard: Option<Shard>,
    /// Labels to take away before sorting.
    pub without_replica_labels: Vec<String>,
    /// Most series to send; 0 is no limit.
    pub limit: usize,
    /// Most series in one message; 0 is one series a message in the old form.
    pub batch_size: usize,
    /// Step of the query in ms, a hint.
    pub step_ms: i64,
    /// Window of the range selector in ms, a hint.
    pub range_ms: i64,
}

impl Shard {
    /// Whether a series belongs to the shard: XXH64 over `name 0xFF value 0xFF …` of the labels
    /// that count, modulo the number of shards. `labels` are those that are sent: external labels
    /// added, replica labels taken away.
    pub fn keeps(&self, labels: &Labels) -> bool {
        if self.total <= 1 {
            return true;
        }
        let mut hash = Xxh64::new(0);
        for (name, value) in labels {
            if self.labels.iter().any(|it| it == name) == self.by {
                hash.update(name.as_bytes());
                hash.update(&[0xff]);
                hash.update(value.as_bytes());
                hash.update(&[0xff]);
            }
        }
        hash.digest() % self.total == self.index
    }
}

impl SeriesRequest {
    /// A request for all samples of a range, raw, in batches.
    pub fn new(range: TimeRange, matchers: Vec<Matcher>) -> SeriesRequest {
        SeriesRequest {
            range,
            matchers,
            resolution_max_ms: 0,
            aggregates: vec![Aggregate::Raw],
            partial_response: PartialResponse::Warn,
            skip_chunks: false,
            shard: None,
            without_replica_labels: Vec::new(),
            limit: 0,
            batch_size: 64,
            step_ms: 0,
            range_ms: 0,
        }
    }

    /// Refuses a request for everything, as receivers and queriers do.
    ///
    /// # Errors
    /// `InvalidArgument` in Thanos' words when there is no matcher.
    pub fn require_matchers(&self) -> Result<(), Error> {
        if self.matchers.is_empty() {
            let text = "no matchers specified (excluding selector labels)";
            return Err(Error::InvalidArgument(text.to_owned()));
        }
        Ok(())
    }
}

/// `Store/LabelNames` and, with `label`, `Store/LabelValues`.
#[derive(Clone, Debug)]
pub struct LabelsRequest {
    /// Only series with samples in this range count, as exactly as the store can tell.
    pub range: TimeRange,
    /// Only series that fulfil these count.
    pub matchers: Vec<Matcher>,
    /// What to do about missing parts.
    pub partial_response: PartialResponse,
    /// Labels that are taken away.
    pub without_replica_labels: Vec<String>,
    /// Most answers; 0 is no limit.
    pub limit: usize,
}

/// Names or values, sorted, each once, and what is missing from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelsResponse {
    /// Sorted by bytes.
    pub values: Vec<String>,
    /// What is missing.
    pub warnings: Vec<String>,
}

impl LabelsResponse {
    /// Bytes in memory, what an account is charged for the answer.
    pub fn size_bytes(&self) -> usize {
        let texts = self.values.iter().chain(&self.warnings);
        texts.map(|it| size_of::<String>() + it.len()).sum()
    }
}

/// What a store says of itself by `Info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreInfo {
    /// `receive`, `store`, `sidecar`, `query`, `rule`, …
    pub component: String,
    /// External label sets of everything that it serves.
    pub label_sets: Vec<Labels>,
    /// First millisecond served.
    pub min_time_ms: i64,
    /// Last millisecond served.
    pub max_time_ms: i64,
    /// Whether it knows `shard_info`.
    pub supports_sharding: bool,
    /// Whether it knows `without_replica_labels`.
    pub supports_without_replica_labels: bool,
    /// Each database behind it.
    pub tsdbs: Vec<TsdbInfo>,
}

/// One database behind a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsdbInfo {
    /// Its external labels.
    pub labels: Labels,
    /// First millisecond that it holds.
    pub min_time_ms: i64,
    /// Last millisecond that it holds.
    pub max_time_ms: i64,
}
