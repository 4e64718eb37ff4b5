//! Time and randomness as a store gets them from outside.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

type NowMs = Arc<dyn Fn() -> i64 + Send + Sync>;
type Monotonic = Arc<dyn Fn() -> Duration + Send + Sync>;
type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a store needs to know of the world; closures, so that a daemon lends its own clock.
#[derive(Clone)]
pub struct Environment {
    now_ms: NowMs,
    monotonic: Monotonic,
    random: Random,
}

impl Environment {
    /// From the wall clock in ms since the Unix epoch, the time since some fixed moment, and a
    /// source of random bits.
    pub fn new(
        now_ms: impl Fn() -> i64 + Send + Sync + 'static,
        monotonic: impl Fn() -> Duration + Send + Sync + 'static,
        random: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Environment {
        let (now_ms, monotonic, random) = (Arc::new(now_ms), Arc::new(monotonic), Arc::new(random));
        Environment { now_ms, monotonic, random }
    }

    /// The wall clock in ms since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        (self.now_ms)()
    }

    /// Time since some fixed moment; never goes back.
    pub fn monotonic(&self) -> Duration {
        (self.monotonic)()
    }

    /// The next 64 random bits.
    pub fn random(&self) -> u64 {
        (self.random)()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}
