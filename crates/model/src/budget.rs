//! Memory by account: process → tenant → query.
//!
//! Whoever holds a buffer that grows with its input takes a [`Reservation`] before it allocates.
//! A reservation is charged to its account and to every account above it, so that the process
//! never promises more than it has; passing a bound is an error for the one who asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An account of bytes; cheap to clone, clones share the account.
#[derive(Clone)]
pub struct Budget(Arc<Account>);

struct Account {
    name: String,
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
    /// What the allocator says is in use, for the process' account alone.
    allocated_bytes: Option<fn() -> usize>,
    parent: Option<Budget>,
    /// What holds the bytes of an account of memory that was set aside.
    _set_aside: Option<Reservation>,
}

/// A bound was passed: which, how far, and by how much more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory budget of {account} exceeded: {asked_bytes} bytes more asked, {used_bytes} of \
     {limit_bytes} bytes in use"
)]
pub struct BudgetExceeded {
    /// Name of the account whose bound was passed.
    pub account: String,
    /// Bytes that were asked for.
    pub asked_bytes: usize,
    /// Bytes that were in use at that moment.
    pub used_bytes: usize,
    /// The bound in bytes.
    pub limit_bytes: usize,
}

impl Budget {
    /// The account of the whole process.
    ///
    /// A fifth of `memory_bytes` is kept back for what nobody accounts for. When `allocated_bytes`
    /// is given (the allocator's own count), the larger of it and the reservations decides.
    pub fn process(memory_bytes: usize, allocated_bytes: Option<fn() -> usize>) -> Budget {
        Budget::account("process", memory_bytes - memory_bytes / 5, allocated_bytes, None)
    }

    /// An account without a bound, for tools and tests.
    pub fn unlimited() -> Budget {
        Budget::account("unlimited", usize::MAX, None, None)
    }

    /// An account below this one.
    pub fn child(&self, name: impl Into<String>, limit_bytes: usize) -> Budget {
        Budget::account(name, limit_bytes, None, Some(self.clone()))
    }

    fn account(
        name: impl Into<String>,
        limit_bytes: usize,
        allocated_bytes: Option<fn() -> usize>,
        parent: Option<Budget>,
    ) -> Budget {
        Budget(Arc::new(Account {
            name: name.into(),
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
            allocated_bytes,
            parent,
            _set_aside: None,
        }))
    }

    /// Takes `bytes` from this account and from all above it.
    ///
    /// # Errors
    /// [`BudgetExceeded`] names the account whose bound would be passed; nothing is charged then.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, BudgetExceeded> {
        self.charge(bytes)?;
        Ok(Reservation { account: self.clone(), bytes })
    }

    /// The name that errors give to the account.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Bytes reserved now.
    pub fn used_bytes(&self) -> usize {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// The most bytes that were ever reserved at once.
    pub fn peak_bytes(&self) -> usize {
        self.0.peak_bytes.load(Ordering::Relaxed)
    }

    /// The bound in bytes.
    pub fn limit_bytes(&self) -> usize {
        self.0.limit_bytes
    }

    /// An account whose bound is what a reservation holds: memory that was set aside, so that
    /// what is charged to it is never refused for the sake of others.
    pub fn set_aside(name: impl Into<String>, reservation: Reservation) -> Budget {
        Budget(Arc::new(Account {
            name: name.into(),
            limit_bytes: reservation.bytes,
            used_bytes: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
            allocated_bytes: None,
            parent: None,
            _set_aside: Some(reservation),
        }))
    }

    /// Charges this account and all above it, whatever their bounds.
    fn charge_unchecked(&self, bytes: usize) {
        let account = &*self.0;
        let before = account.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        account.peak_bytes.fetch_max(before.saturating_add(bytes), Ordering::Relaxed);
        if let Some(parent) = &account.parent {
            parent.charge_unchecked(bytes);
        }
    }

    /// Charges this account and all above it, or none of them.
    fn charge(&self, bytes: usize) -> Result<(), BudgetExceeded> {
        let account = &*self.0;
        let allocated = account.allocated_bytes.map_or(0, |it| it());
        // Compare and swap, so that not even for a moment more is charged than there is: a sum
        // that overshoots and is taken back would refuse others for nothing.
        let room = |used: usize| {
            let needed = used.max(allocated).checked_add(bytes)?;
            (needed <= account.limit_bytes).then_some(used + bytes)
        };
        let charged = account.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        let used_before = charged.map_err(|used| BudgetExceeded {
            account: account.name.clone(),
            asked_bytes: bytes,
            used_bytes: used.max(allocated),
            limit_bytes: account.limit_bytes,
        })?;
        if let Some(parent) = &account.parent {
            parent.charge(bytes).inspect_err(|_| {
                account.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
            })?;
        }
        account.peak_bytes.fetch_max(used_before + bytes, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, bytes: usize) {
        let before = self.0.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more given back to {} than taken", self.0.name);
        if let Some(parent) = &self.0.parent {
            parent.release(bytes);
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = &*self.0;
        write!(f, "{}: {} of {} bytes", account.name, self.used_bytes(), account.limit_bytes)
    }
}

/// Bytes taken from an account; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    account: Budget,
    bytes: usize,
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more bytes from the same account.
    ///
    /// # Errors
    /// [`BudgetExceeded`]; what is held already stays held.
    pub fn grow(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        self.account.charge(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes more bytes even where that passes a bound: for what is in memory already, or must be
    /// for the sake of data on the disk. Others are refused until there is room again.
    pub fn grow_unchecked(&mut self, bytes: usize) {
        self.account.charge_unchecked(bytes);
        self.bytes += bytes;
    }

    /// Holds exactly `bytes` from now on, even where that passes a bound.
    pub fn resize_unchecked(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow_unchecked(more),
            None => {
                self.account.release(self.bytes - bytes);
                self.bytes = bytes;
            }
        }
    }

    /// Holds exactly `bytes` from now on, taking or giving back the difference.
    ///
    /// # Errors
    /// [`BudgetExceeded`] when more were asked than there are; what is held already stays held.
    pub fn resize(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes);
        }
        self.account.release(self.bytes - bytes);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_charged_all_the_way_up_and_given_back() {
        let process = Budget::process(1000, None);
        let tenant = process.child("tenant a", 600);
        let query = tenant.child("query 1", 500);
        let mut held = query.reserve(400).unwrap();
        assert_eq!((process.used_bytes(), tenant.used_bytes()), (400, 400));
        let error = held.grow(101).unwrap_err();
        assert_eq!(error.account, "query 1");
        assert_eq!(tenant.reserve(201).unwrap_err().account, "tenant a");
        assert_eq!(process.reserve(401).unwrap_err().account, "process");
        drop(held);
        assert_eq!((process.used_bytes(), query.used_bytes()), (0, 0));
        assert_eq!(query.peak_bytes(), 400);
    }

    #[test]
    fn what_is_set_aside_is_not_refused_and_what_is_there_is_counted() {
        let process = Budget::process(1000, None);
        let aside = Budget::set_aside("aside", process.reserve(300).unwrap());
        let mut held = process.reserve(400).unwrap();
        held.grow_unchecked(200);
        assert_eq!((held.bytes(), process.used_bytes()), (600, 900));
        assert!(process.reserve(1).is_err());
        let inside = aside.reserve(300).unwrap();
        assert_eq!(aside.reserve(1).unwrap_err().account, "aside");
        held.resize_unchecked(100);
        assert_eq!(process.used_bytes(), 400);
        drop(inside);
        drop(aside);
        assert_eq!(process.used_bytes(), 100);
    }

    #[test]
    fn the_allocator_has_the_last_word() {
        let process = Budget::process(1000, Some(|| 790));
        assert!(process.reserve(10).is_ok());
        assert!(process.reserve(11).is_err());
    }
}
