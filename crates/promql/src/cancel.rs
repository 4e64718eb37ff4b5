//! How a running query learns that nobody waits for it any more.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Reads a clock: milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A handle that stops a query: by hand, or by a deadline on a clock that comes from outside.
/// Clones share the flag.
#[derive(Clone, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<(i64, Clock)>,
}

impl Cancel {
    /// A handle without a deadline.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// A handle that also stops the query when `clock` passes `deadline_ms`.
    pub fn with_deadline(deadline_ms: i64, clock: Clock) -> Cancel {
        Cancel { flag: Arc::default(), deadline: Some((deadline_ms, clock)) }
    }

    /// Stops every query that holds this handle.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether the query may go on.
    ///
    /// # Errors
    /// [`Error::Canceled`] or [`Error::Timeout`].
    pub fn check(&self) -> Result<(), Error> {
        if self.flag.load(Ordering::Relaxed) {
            return Err(Error::Canceled);
        }
        match &self.deadline {
            Some((deadline_ms, clock)) if clock() > *deadline_ms => Err(Error::Timeout),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel")
            .field("canceled", &self.flag.load(Ordering::Relaxed))
            .field("deadline_ms", &self.deadline.as_ref().map(|(deadline_ms, _)| *deadline_ms))
            .finish()
    }
}

/// Steps of work between two looks at the flag; some tens of microseconds of the slowest loop.
const STEPS_BETWEEN_CHECKS: usize = 1 << 14;

/// Counts the work of a loop and looks at the [`Cancel`] handle now and then.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    cancel: Cancel,
    steps: usize,
}

impl Pace {
    pub(crate) fn new(cancel: Cancel) -> Pace {
        Pace { cancel, steps: 0 }
    }

    /// Accounts for `steps` units of work (a sample looked at, a value computed).
    #[inline]
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), Error> {
        self.steps += steps;
        if self.steps < STEPS_BETWEEN_CHECKS {
            return Ok(());
        }
        self.steps = 0;
        self.cancel.check()
    }
}
