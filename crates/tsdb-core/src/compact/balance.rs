//! What became of every sample that a job read.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Deleted by a tombstone.
pub const DELETED: &str = "deleted";
/// In a chunk that equals another one of the same series, byte for byte.
pub const DUPLICATE: &str = "duplicate";
/// At the time of another sample of the same series, which was kept.
pub const EQUAL_TIME: &str = "equal_time";

/// The account of a job's samples: what was read is what was written and what was dropped for a
/// named reason.
///
/// Samples are counted where chunks are read and, independently, where chunks are written; who
/// drops one says so. Start timestamps are no samples. An aggregate chunk counts with the windows
/// of its first aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Samples of all chunks that were read.
    pub in_samples: u64,
    /// Samples of all chunks that were written.
    pub out_samples: u64,
    /// Samples that were left out, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What is missing of samples that were written, such as single aggregates of a window, by
    /// name; no part of the account.
    pub lost: BTreeMap<&'static str, u64>,
}

impl Balance {
    /// Takes note of samples that are left out for a reason, such as [`DUPLICATE`].
    pub fn drop_samples(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason).or_default() += count;
        }
    }

    /// Takes note of what is missing of samples that are written.
    pub fn lose(&mut self, name: &'static str, count: u64) {
        if count > 0 {
            *self.lost.entry(name).or_default() += count;
        }
    }

    /// Samples left out for all reasons.
    pub fn dropped_samples(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Checks that nothing was lost and nothing invented.
    ///
    /// # Errors
    /// [`Error::Unbalanced`] with all counts.
    pub fn check(&self) -> Result<()> {
        if self.in_samples == self.out_samples + self.dropped_samples() {
            return Ok(());
        }
        Err(Error::Unbalanced { balance: Box::new(self.clone()) })
    }
}

impl std::fmt::Display for Balance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} samples read, {} written", self.in_samples, self.out_samples)?;
        for (reason, count) in &self.dropped {
            write!(f, ", {count} dropped as {reason}")?;
        }
        for (name, count) in &self.lost {
            write!(f, ", {count} times lost {name}")?;
        }
        Ok(())
    }
}
