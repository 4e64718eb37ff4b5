//! Another try for what may succeed later.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tracing::debug;

use crate::digest::md5_hex;
use crate::environment::Environment;
use crate::metered::{Metrics, RetryCounters};
use crate::operation::Operation;
use crate::store::{ListPage, ObjectMeta, ObjectStore, PutOutcome, Result, SharedStore};
use crate::upload::{Part, Upload, Whole};

/// How often, how long and with which pauses a call is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Calls in all, the first included; at least 1.
    pub tries_max: u32,
    /// No further try begins once this long has passed since the first.
    pub total_max: Duration,
    /// Upper end of the first pause; every further one is twice as long.
    pub pause_first: Duration,
    /// Upper end of the longest pause.
    pub pause_max: Duration,
}

impl RetryPolicy {
    /// The usual pauses with a given number of tries.
    pub fn with_tries(tries_max: u32) -> RetryPolicy {
        RetryPolicy {
            tries_max: tries_max.max(1),
            total_max: Duration::from_secs(60),
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(10),
        }
    }

    /// The pause after the given try (from 1): between half and all of the exponential step, so
    /// that those who failed together do not come back together.
    pub fn pause(&self, tried: u32, random: u64) -> Duration {
        let doublings = tried.saturating_sub(1).min(30);
        let step = self.pause_first.saturating_mul(1 << doublings).min(self.pause_max);
        let half = step / 2;
        let half_ns = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX - 1);
        half + Duration::from_nanos(random % (half_ns + 1))
    }
}

/// Runs calls by a policy and counts every further try.
#[derive(Clone, Debug)]
pub(crate) struct Retrier {
    policy: RetryPolicy,
    environment: Environment,
    counters: RetryCounters,
}

impl Retrier {
    pub(crate) fn new(
        policy: RetryPolicy,
        environment: Environment,
        counters: RetryCounters,
    ) -> Retrier {
        Retrier { policy, environment, counters }
    }

    /// Calls until it succeeds, fails for good, or the policy is used up. `call` gets the number
    /// of the try, from 1.
    pub(crate) async fn run<T, F>(
        &self,
        operation: Operation,
        mut call: impl FnMut(u32) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let begin = self.environment.monotonic();
        let mut tried = 0;
        loop {
            tried += 1;
            let error = match call(tried).await {
                Err(error) if error.is_transient() => error,
                done => return done,
            };
            let pause = self.policy.pause(tried, self.environment.random());
            let passed = self.environment.monotonic().saturating_sub(begin);
            if tried >= self.policy.tries_max || passed + pause > self.policy.total_max {
                return Err(error);
            }
            self.counters.count(operation);
            let pause_ms = pause.as_millis();
            debug!(%operation, tried, pause_ms, "object store: {error}; trying again");
            tokio::time::sleep(pause).await;
        }
    }
}

/// Tries transient failures again, with growing, jittered pauses and an end.
#[derive(Debug)]
pub struct Retry {
    inner: SharedStore,
    retrier: Retrier,
}

impl Retry {
    /// The store with retries, counted in `metrics`.
    pub fn new(
        inner: SharedStore,
        policy: RetryPolicy,
        environment: Environment,
        metrics: &Metrics,
    ) -> Retry {
        let retrier = Retrier::new(policy, environment, metrics.retries(inner.name()));
        Retry { inner, retrier }
    }

    /// A conditional write whose answer got lost meets its own object on the next try: equal bytes
    /// are taken as ours.
    async fn put_if_absent_once(&self, key: &str, body: Bytes, tried: u32) -> Result<PutOutcome> {
        let size_bytes = body.len() as u64;
        let error = match self.inner.put_if_absent(key, body.clone()).await {
            Err(error) if tried > 1 && error.is_already_exists() => error,
            done => return done,
        };
        match self.inner.get(key, size_bytes).await {
            Ok(found) if found == body => {
                let md5_hex = md5_hex(&body);
                Ok(PutOutcome { size_bytes, md5_hex, etag: None, etag_is_md5: false })
            }
            Err(transient) if transient.is_transient() => Err(transient),
            _ => Err(error),
        }
    }
}

/// An upload whose parts are tried again one by one.
#[derive(Debug)]
struct RetryUpload {
    inner: Box<dyn Upload>,
    retrier: Retrier,
}

impl Upload for RetryUpload {
    fn put_part(&self, part: Part) -> BoxFuture<'_, Result<()>> {
        let call = move |_| self.inner.put_part(part.clone());
        Box::pin(self.retrier.run(Operation::Upload, call))
    }

    fn finish<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.retrier.run(Operation::Upload, move |_| self.inner.finish(whole)))
    }

    fn abort(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.retrier.run(Operation::AbortUploads, move |_| self.inner.abort()))
    }
}

impl ObjectStore for Retry {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>> {
        Box::pin(
            self.retrier
                .run(Operation::Iter, move |_| self.inner.list(prefix, delimiter, page.clone())),
        )
    }

    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(self.retrier.run(Operation::Get, move |_| self.inner.get(key, size_max_bytes)))
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        let call = move |_| self.inner.get_range(key, range.clone());
        Box::pin(self.retrier.run(Operation::GetRange, call))
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        let call = move |_| self.inner.put(key, body.clone());
        Box::pin(self.retrier.run(Operation::Upload, call))
    }

    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        let call = move |tried| self.put_if_absent_once(key, body.clone(), tried);
        Box::pin(self.retrier.run(Operation::Upload, call))
    }

    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.retrier.run(Operation::Upload, move |_| self.inner.put_file(key, path)))
    }

    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            let begin = || self.inner.begin_upload(key);
            let inner = self.retrier.run(Operation::Upload, move |_| begin()).await?;
            let upload: Box<dyn Upload> =
                Box::new(RetryUpload { inner, retrier: self.retrier.clone() });
            Ok(upload)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.retrier.run(Operation::Delete, move |_| self.inner.delete(key)))
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>> {
        Box::pin(self.retrier.run(Operation::Attributes, move |_| self.inner.head(key)))
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>> {
        Box::pin(self.retrier.run(Operation::AbortUploads, move |_| {
            self.inner.abort_stale_uploads(prefix, before_ms)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_limit_and_keep_their_lower_half() {
        let policy = RetryPolicy::with_tries(10);
        let range = |tried| (policy.pause(tried, 0), policy.pause(tried, u64::MAX));
        assert_eq!(range(1).0, Duration::from_millis(50));
        assert_eq!(range(2).0, Duration::from_millis(100));
        assert_eq!(range(40).0, Duration::from_secs(5));
        for tried in 1..50 {
            let (low, high) = range(tried);
            assert!(low <= high && high <= policy.pause_max, "{tried}: {low:?} {high:?}");
        }
    }
}
