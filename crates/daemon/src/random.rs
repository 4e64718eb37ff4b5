//! Randomness: one seed from the operating system, then a generator of our own.

use std::fmt;

use anyhow::Context as _;
use parking_lot::Mutex;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, SeedableRng as _, TryRng as _};

/// The only source of randomness.
pub trait Random: Send + Sync + fmt::Debug {
    /// The next 64 random bits.
    fn next_u64(&self) -> u64;
}

/// A generator that repeats itself when it is given the same seed.
pub struct SeededRandom {
    seed: u64,
    generator: Mutex<StdRng>,
}

impl SeededRandom {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom { seed, generator: Mutex::new(StdRng::seed_from_u64(seed)) }
    }

    /// A generator whose seed the operating system gave.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn from_system() -> anyhow::Result<SeededRandom> {
        let seed = SysRng.try_next_u64().context("ask the operating system for a random seed")?;
        Ok(SeededRandom::new(seed))
    }

    /// The seed that it started from.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        self.generator.lock().next_u64()
    }
}

impl fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeededRandom({})", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let random = SeededRandom::new(seed);
            [random.next_u64(), random.next_u64()]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        let [first, second] = numbers(7);
        assert_ne!(first, second);
    }

    #[test]
    fn the_system_gives_different_seeds() {
        let seed = || SeededRandom::from_system().unwrap().seed();
        assert_ne!(seed(), seed());
    }
}
