//! Counts and times every call, under Thanos' metric names.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::environment::Environment;
use crate::error::Error;
use crate::operation::Operation;
use crate::store::{ListPage, ObjectMeta, ObjectStore, PutOutcome, Result, SharedStore};
use crate::upload::{Part, Upload, Whole};

const DURATION_BUCKETS_SECONDS: [f64; 14] =
    [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    bucket: String,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BucketLabels {
    bucket: String,
}

type Calls = Family<CallLabels, Counter>;
type Sizes = Family<CallLabels, Histogram, fn() -> Histogram>;
type Stamps = Family<BucketLabels, Gauge<f64, AtomicU64>>;

/// The metrics of all buckets of a process.
#[derive(Clone)]
pub struct Metrics {
    operations: Calls,
    failures: Calls,
    retries: Calls,
    duration: Sizes,
    transferred: Sizes,
    last_upload: Stamps,
}

impl Metrics {
    /// Metrics that nobody reads yet.
    pub fn unregistered() -> Metrics {
        Metrics {
            operations: Calls::default(),
            failures: Calls::default(),
            retries: Calls::default(),
            duration: Sizes::new_with_constructor(duration_histogram),
            transferred: Sizes::new_with_constructor(transferred_histogram),
            last_upload: Stamps::default(),
        }
    }

    /// Metrics that are shown by a registry, which must not add a prefix of its own.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::unregistered();
        registry.register(
            "aion_objstore_bucket_operation_retries",
            "Calls of the object store that were tried again after a transient failure",
            metrics.retries.clone(),
        );
        let registry = registry.sub_registry_with_prefix("thanos_objstore_bucket");
        registry.register("operations", "Calls of the object store", metrics.operations.clone());
        registry.register(
            "operation_failures",
            "Calls of the object store that failed, after retries; an absent object is no failure",
            metrics.failures.clone(),
        );
        registry.register(
            "operation_duration_seconds",
            "Duration of the calls that succeeded",
            metrics.duration.clone(),
        );
        registry.register(
            "operation_transferred_bytes",
            "Bytes sent or received by a call",
            metrics.transferred.clone(),
        );
        registry.register(
            "last_successful_upload_time",
            "Unix time in seconds of the last upload that succeeded",
            metrics.last_upload.clone(),
        );
        metrics
    }

    pub(crate) fn retries(&self, bucket: &str) -> RetryCounters {
        RetryCounters { by_operation: handles(&self.retries, bucket) }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn duration_histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS_SECONDS)
}

fn transferred_histogram() -> Histogram {
    // 32 KiB to 1 GiB.
    Histogram::new((15..31).map(|power| f64::from(1_u32 << power)))
}

/// One held handle per operation: looking a family up costs more than counting.
fn handles<M, C>(family: &Family<CallLabels, M, C>, bucket: &str) -> [M; 7]
where
    M: Clone,
    C: prometheus_client::metrics::family::MetricConstructor<M>,
{
    Operation::ALL.map(|it| {
        let labels = CallLabels { bucket: bucket.to_owned(), operation: it.name() };
        family.get_or_create_owned(&labels)
    })
}

/// The retry counters of one bucket.
#[derive(Clone, Debug)]
pub(crate) struct RetryCounters {
    by_operation: [Counter; 7],
}

impl RetryCounters {
    pub(crate) fn count(&self, operation: Operation) {
        self.by_operation[operation.index()].inc();
    }
}

/// Counts and times the calls of a store.
#[derive(Debug)]
pub struct Metered {
    inner: SharedStore,
    meters: Meters,
}

/// The held handles of one bucket's metrics.
#[derive(Clone, Debug)]
struct Meters {
    environment: Environment,
    operations: [Counter; 7],
    failures: [Counter; 7],
    duration: [Histogram; 7],
    transferred: [Histogram; 7],
    last_upload: Gauge<f64, AtomicU64>,
}

impl Metered {
    /// The store with its calls counted in `metrics` and timed by the environment's clock.
    pub fn new(inner: SharedStore, environment: Environment, metrics: &Metrics) -> Metered {
        let bucket = inner.name().to_owned();
        let meters = Meters {
            environment,
            operations: handles(&metrics.operations, &bucket),
            failures: handles(&metrics.failures, &bucket),
            duration: handles(&metrics.duration, &bucket),
            transferred: handles(&metrics.transferred, &bucket),
            last_upload: metrics.last_upload.get_or_create_owned(&BucketLabels { bucket }),
        };
        Metered { inner, meters }
    }

    async fn count<T>(
        &self,
        operation: Operation,
        bytes_of: impl FnOnce(&T) -> Option<u64>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.meters.count(operation, bytes_of, call).await
    }
}

impl Meters {
    async fn count<T>(
        &self,
        operation: Operation,
        bytes_of: impl FnOnce(&T) -> Option<u64>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let at = operation.index();
        self.operations[at].inc();
        let begin = self.environment.monotonic();
        let result = call.await;
        match &result {
            Ok(value) => {
                let passed = self.environment.monotonic().saturating_sub(begin);
                self.duration[at].observe(passed.as_secs_f64());
                if let Some(bytes) = bytes_of(value) {
                    self.transferred[at].observe(bytes as f64);
                }
                if operation == Operation::Upload {
                    self.last_upload.set(self.environment.now_ms() as f64 / 1e3);
                }
            }
            Err(Error::NotFound { .. } | Error::AlreadyExists { .. }) => {}
            Err(_) => {
                self.failures[at].inc();
            }
        }
        result
    }
}

/// An upload whose calls are counted one by one; the bytes are those of its parts.
#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn Upload>,
    meters: Meters,
}

impl Upload for MeteredUpload {
    fn put_part(&self, part: Part) -> BoxFuture<'_, Result<()>> {
        let part_bytes = part.body.len() as u64;
        let call = self.inner.put_part(part);
        Box::pin(self.meters.count(Operation::Upload, move |()| Some(part_bytes), call))
    }

    fn finish<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.meters.count(Operation::Upload, no_bytes, self.inner.finish(whole)))
    }

    fn abort(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.meters.count(Operation::AbortUploads, no_bytes, self.inner.abort()))
    }
}

fn no_bytes<T>(_: &T) -> Option<u64> {
    None
}

fn body_bytes(body: &Bytes) -> Option<u64> {
    Some(body.len() as u64)
}

fn sent_bytes(outcome: &PutOutcome) -> Option<u64> {
    Some(outcome.size_bytes)
}

impl ObjectStore for Metered {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>> {
        let call = self.inner.list(prefix, delimiter, page);
        Box::pin(self.count(Operation::Iter, no_bytes, call))
    }

    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(self.count(Operation::Get, body_bytes, self.inner.get(key, size_max_bytes)))
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(self.count(Operation::GetRange, body_bytes, self.inner.get_range(key, range)))
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.count(Operation::Upload, sent_bytes, self.inner.put(key, body)))
    }

    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.count(Operation::Upload, sent_bytes, self.inner.put_if_absent(key, body)))
    }

    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.count(Operation::Upload, sent_bytes, self.inner.put_file(key, path)))
    }

    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            let begin = self.inner.begin_upload(key);
            let inner = self.count(Operation::Upload, no_bytes, begin).await?;
            let meters = self.meters.clone();
            let upload: Box<dyn Upload> = Box::new(MeteredUpload { inner, meters });
            Ok(upload)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.count(Operation::Delete, no_bytes, self.inner.delete(key)))
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>> {
        Box::pin(self.count(Operation::Attributes, no_bytes, self.inner.head(key)))
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>> {
        let call = self.inner.abort_stale_uploads(prefix, before_ms);
        Box::pin(self.count(Operation::AbortUploads, no_bytes, call))
    }
}
