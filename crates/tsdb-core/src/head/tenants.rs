//! What the head knows of each tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hashbrown::HashMap;
use model::Tenant;

/// One tenant of the head.
#[derive(Debug)]
pub(crate) struct TenantState {
    pub(crate) tenant: Tenant,
    /// Its index, part of the identity of its series in this process.
    pub(crate) index: u32,
    newest_ms: AtomicI64,
    oldest_ms: AtomicI64,
    low_ms: AtomicI64,
    arrivals: AtomicU64,
}

impl TenantState {
    fn new(tenant: &Tenant, index: u32) -> TenantState {
        TenantState {
            tenant: tenant.clone(),
            index,
            newest_ms: AtomicI64::new(i64::MIN),
            oldest_ms: AtomicI64::new(i64::MAX),
            low_ms: AtomicI64::new(i64::MIN),
            arrivals: AtomicU64::new(0),
        }
    }

    /// Time of the newest sample ever taken, `i64::MIN` before the first.
    pub(crate) fn newest_ms(&self) -> i64 {
        self.newest_ms.load(Ordering::Acquire)
    }

    /// Time before which the head has no sample, `i64::MAX` when it has none at all.
    pub(crate) fn oldest_ms(&self) -> i64 {
        self.oldest_ms.load(Ordering::Acquire)
    }

    /// End of the last cut: samples before it are in blocks, or on the way there.
    pub(crate) fn low_ms(&self) -> i64 {
        self.low_ms.load(Ordering::Acquire)
    }

    /// Takes note of samples between two times, both included.
    pub(crate) fn saw(&self, oldest_ms: i64, newest_ms: i64) {
        // The newest first, and in one order for all threads: see `forget_before`.
        self.newest_ms.fetch_max(newest_ms, Ordering::SeqCst);
        self.oldest_ms.fetch_min(oldest_ms, Ordering::SeqCst);
        self.arrivals.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes whenever samples are taken.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Acquire)
    }

    /// Raises the end of the last cut. A partition that is locked afterwards takes nothing before
    /// it any more.
    pub(crate) fn raise_low(&self, low_ms: i64) {
        self.low_ms.fetch_max(low_ms, Ordering::AcqRel);
    }

    /// Says that no sample before the last cut is left.
    pub(crate) fn forget_before(&self, low_ms: i64) {
        // A bound is enough: who needs the exact time looks at the series.
        let bound_ms = if self.newest_ms() >= low_ms { low_ms } else { i64::MAX };
        let update = |now: i64| (now < low_ms).then_some(bound_ms);
        // Nothing to do when an oldest time at or behind the cut came from a new sample.
        let _unchanged = self.oldest_ms.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update);
        // A sample that came between the two has raised the newest time but not lowered the
        // oldest, which was lower still; one that comes later lowers it by itself.
        if self.newest_ms.load(Ordering::SeqCst) >= low_ms {
            let orders = (Ordering::SeqCst, Ordering::SeqCst);
            let _known = self.oldest_ms.compare_exchange(i64::MAX, low_ms, orders.0, orders.1);
        }
    }
}

/// The tenants, by name and by index.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    by_name: HashMap<Tenant, u32>,
    states: Vec<Arc<TenantState>>,
}

impl Tenants {
    pub(crate) fn find(&self, tenant: &Tenant) -> Option<Arc<TenantState>> {
        self.at(*self.by_name.get(tenant)?)
    }

    pub(crate) fn at(&self, index: u32) -> Option<Arc<TenantState>> {
        self.states.get(index as usize).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> Vec<Arc<TenantState>> {
        self.states.clone()
    }

    pub(crate) fn find_or_add(&mut self, tenant: &Tenant) -> Arc<TenantState> {
        if let Some(state) = self.find(tenant) {
            return state;
        }
        let index = u32::try_from(self.states.len()).unwrap_or(u32::MAX);
        let state = Arc::new(TenantState::new(tenant, index));
        self.states.push(Arc::clone(&state));
        self.by_name.insert(tenant.clone(), index);
        state
    }
}
