//! Faults on demand, so that tests see what a bad day of the store does.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::error::Error;
use crate::operation::Operation;
use crate::store::{ListPage, ObjectMeta, ObjectStore, PutOutcome, Result, SharedStore};
use crate::upload::{Part, Upload, Whole};

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The call of this number, from 1, counted among the calls that the fault looks at.
    Nth(u64),
    /// The call of this number and all that follow.
    From(u64),
    /// Each call with this probability in thousandths.
    PerMille(u16),
}

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing happens in the bucket.
    Before,
    /// The call has its effect, and only its answer is lost.
    After,
}

/// A fault: the calls it looks at, those that fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The calls it looks at; none means all.
    pub operation: Option<Operation>,
    /// Which of them fail.
    pub trigger: Trigger,
    /// When they fail.
    pub moment: Moment,
    /// Whether the failure is worth another try.
    pub transient: bool,
}

impl Fault {
    /// A transient failure without an effect, for every kind of call.
    pub fn new(trigger: Trigger) -> Fault {
        Fault { operation: None, trigger, moment: Moment::Before, transient: true }
    }
}

#[derive(Debug)]
struct Plan {
    faults: Vec<(Fault, u64)>,
    calls: u64,
    failed: u64,
    random: u64,
}

/// Makes calls of a store fail by a plan; the same seed and calls give the same failures.
#[derive(Debug)]
pub struct Faulty {
    inner: SharedStore,
    plan: Arc<Mutex<Plan>>,
}

impl Faulty {
    /// The store without any fault yet.
    pub fn new(inner: SharedStore, seed: u64) -> Faulty {
        let plan = Plan { faults: Vec::new(), calls: 0, failed: 0, random: seed };
        Faulty { inner, plan: Arc::new(Mutex::new(plan)) }
    }

    /// Adds a fault; its count begins now.
    pub fn add(&self, fault: Fault) {
        self.plan.lock().faults.push((fault, 0));
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.plan.lock().faults.clear();
    }

    /// Calls so far, those that failed included.
    pub fn calls(&self) -> u64 {
        self.plan.lock().calls
    }

    /// Calls that were made to fail so far.
    pub fn failed(&self) -> u64 {
        self.plan.lock().failed
    }

    async fn run<T>(
        &self,
        operation: Operation,
        key: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        run(&self.plan, operation, key, call).await
    }
}

/// Makes a call, or one that fails by the plan.
async fn run<T>(
    plan: &Mutex<Plan>,
    operation: Operation,
    key: &str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let fault = plan.lock().next(operation);
    match fault {
        None => call.await,
        Some(fault) => {
            if fault.moment == Moment::After {
                call.await?;
            }
            Err(injected(operation, key, fault.transient))
        }
    }
}

impl Plan {
    /// Counts a call and answers the fault that it meets.
    fn next(&mut self, operation: Operation) -> Option<Fault> {
        self.calls += 1;
        let mut met = None;
        for (fault, seen) in &mut self.faults {
            if fault.operation.is_some_and(|it| it != operation) {
                continue;
            }
            *seen += 1;
            let fails = match fault.trigger {
                Trigger::Nth(number) => *seen == number,
                Trigger::From(number) => *seen >= number,
                Trigger::PerMille(chance) => split_mix(&mut self.random) % 1000 < u64::from(chance),
            };
            if fails && met.is_none() {
                met = Some(*fault);
            }
        }
        self.failed += u64::from(met.is_some());
        met
    }
}

fn injected(operation: Operation, key: &str, transient: bool) -> Error {
    let (operation, key) = (operation.name(), key.to_owned());
    match transient {
        true => Error::Unavailable { operation, key, cause: "injected fault".into() },
        false => Error::Other { operation, key, cause: "injected fault".into() },
    }
}

/// One step of the SplitMix64 generator.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// An upload whose calls fail by the plan of its store.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn Upload>,
    key: String,
    plan: Arc<Mutex<Plan>>,
}

impl Upload for FaultyUpload {
    fn put_part(&self, part: Part) -> BoxFuture<'_, Result<()>> {
        Box::pin(run(&self.plan, Operation::Upload, &self.key, self.inner.put_part(part)))
    }

    fn finish<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(run(&self.plan, Operation::Upload, &self.key, self.inner.finish(whole)))
    }

    fn abort(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(run(&self.plan, Operation::AbortUploads, &self.key, self.inner.abort()))
    }
}

impl ObjectStore for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>> {
        Box::pin(self.run(Operation::Iter, prefix, self.inner.list(prefix, delimiter, page)))
    }

    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(self.run(Operation::Get, key, self.inner.get(key, size_max_bytes)))
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(self.run(Operation::GetRange, key, self.inner.get_range(key, range)))
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.run(Operation::Upload, key, self.inner.put(key, body)))
    }

    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.run(Operation::Upload, key, self.inner.put_if_absent(key, body)))
    }

    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.run(Operation::Upload, key, self.inner.put_file(key, path)))
    }

    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            let begin = self.inner.begin_upload(key);
            let inner = self.run(Operation::Upload, key, begin).await?;
            let (key, plan) = (key.to_owned(), Arc::clone(&self.plan));
            let upload: Box<dyn Upload> = Box::new(FaultyUpload { inner, key, plan });
            Ok(upload)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.run(Operation::Delete, key, self.inner.delete(key)))
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>> {
        Box::pin(self.run(Operation::Attributes, key, self.inner.head(key)))
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>> {
        let call = self.inner.abort_stale_uploads(prefix, before_ms);
        Box::pin(self.run(Operation::AbortUploads, prefix, call))
    }
}
