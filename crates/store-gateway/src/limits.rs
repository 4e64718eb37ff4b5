//! Bounds on what one request may touch, over all of its blocks together.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// Samples that a chunk counts as, so that nothing needs to be decoded: Thanos' figure.
const SAMPLES_PER_CHUNK: u64 = 120;

/// The bounds; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Most series of a request, counted before equal ones of several blocks are joined.
    pub(crate) request_series: u64,
    /// Most samples of a request, a chunk counting as 120.
    pub(crate) request_samples: u64,
    /// Most bytes that a request may read from the bucket or the cache.
    pub(crate) downloaded_bytes: u64,
}

/// What one request has touched so far.
#[derive(Debug)]
pub(crate) struct Touched {
    limits: Limits,
    metrics: Metrics,
    series: AtomicU64,
    chunks: AtomicU64,
    bytes: AtomicU64,
}

impl Touched {
    /// Nothing yet.
    pub(crate) fn new(limits: Limits, metrics: Metrics) -> Touched {
        let (series, chunks, bytes) = Default::default();
        Touched { limits, metrics, series, chunks, bytes }
    }

    /// Counts series.
    ///
    /// # Errors
    /// [`Error::Limit`] when they are too many.
    pub(crate) fn add_series(&self, count: usize) -> Result<()> {
        let all = add(&self.series, count as u64);
        let flag = "--store.limits.request-series";
        self.check("series", all, self.limits.request_series, flag)
    }

    /// Counts chunks.
    ///
    /// # Errors
    /// [`Error::Limit`] when they are too many.
    pub(crate) fn add_chunks(&self, count: usize) -> Result<()> {
        let all = add(&self.chunks, count as u64).saturating_mul(SAMPLES_PER_CHUNK);
        let flag = "--store.limits.request-samples";
        self.check("samples", all, self.limits.request_samples, flag)
    }

    /// Counts bytes.
    ///
    /// # Errors
    /// [`Error::Limit`] when they are too many.
    pub(crate) fn add_bytes(&self, count: usize) -> Result<()> {
        let all = add(&self.bytes, count as u64);
        let flag = "--store.grpc.downloaded-bytes-limit";
        self.check("bytes", all, self.limits.downloaded_bytes, flag)
    }

    fn check(&self, what: &'static str, all: u64, limit: u64, flag: &str) -> Result<()> {
        if limit == 0 || all <= limit {
            return Ok(());
        }
        self.metrics.count_dropped_query(what);
        Err(Error::Limit(format!(
            "the request touches {all} {what} or more, at most {limit} are allowed by {flag}: \
             narrow its matchers or its range"
        )))
    }
}

fn add(counter: &AtomicU64, count: u64) -> u64 {
    counter.fetch_add(count, Ordering::Relaxed).saturating_add(count)
}
