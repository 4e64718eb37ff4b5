//! The seam between what is to be done and how it is done: whoever carries out jobs.

pub(crate) mod blocks;
mod failures;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use model::BlockId;

use crate::plan::Job;

/// Carries out jobs, all but what makes the result visible.
pub(crate) trait Executor: Send + Sync + fmt::Debug {
    /// The names of the blocks that a job makes: a function of what it does and of its sources, so
    /// that a job done twice makes one block.
    fn outputs(&self, job: &Job) -> Vec<BlockId>;

    /// Makes the blocks of a job and writes them to the bucket, all but their `meta.json`. When it
    /// fails it leaves nothing behind, or what nobody sees and the same job overwrites.
    fn build<'a>(
        &'a self,
        job: &'a Job,
        progress: &'a Arc<Progress>,
    ) -> BoxFuture<'a, Result<Built, Failure>>;
}

/// A block that is in the bucket but for its `meta.json`.
pub(crate) trait Pending: Send + fmt::Debug {
    /// Its name.
    fn id(&self) -> BlockId;

    /// Verifies its files and makes it visible. When it fails nothing is left behind.
    fn publish(self: Box<Self>, now_ms: i64) -> BoxFuture<'static, Result<(), Failure>>;

    /// Removes what was written.
    fn discard(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// What a job made.
#[derive(Debug, Default)]
pub(crate) struct Built {
    /// The finer one first; none when there were no samples.
    pub(crate) blocks: Vec<Box<dyn Pending>>,
    pub(crate) balance: Balance,
}

/// The account of a job's samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) in_samples: u64,
    pub(crate) out_samples: u64,
    /// Samples that did not come out, by reason.
    pub(crate) dropped: BTreeMap<&'static str, u64>,
    /// What else is to be said, with a count: what is lost of samples that came out.
    pub(crate) notes: BTreeMap<&'static str, u64>,
}

impl Balance {
    /// Whether each sample that went in came out or was dropped for a reason.
    pub(crate) fn is_even(&self) -> bool {
        let dropped =
            self.dropped.values().try_fold(self.out_samples, |all, it| all.checked_add(*it));
        dropped == Some(self.in_samples)
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples in, {} out", self.in_samples, self.out_samples)?;
        for (reason, count) in &self.dropped {
            write!(f, ", {count} dropped: {reason}")?;
        }
        Ok(())
    }
}

/// Why a job did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A source holds damaged bytes.
    Damaged { block: BlockId, place: String, what: String },
    /// The samples that came out are not those that went in.
    Unbalanced(Balance),
    /// The sources are no longer what they were.
    Changed(String),
    /// Another try may succeed.
    Transient(anyhow::Error),
    /// Another try will not succeed, and no single block is to blame.
    Hopeless(String),
    /// The process stops.
    Stopped,
}

impl Failure {
    /// What went wrong, in a word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Failure::Damaged { .. } => "damaged",
            Failure::Unbalanced(_) => "unbalanced",
            Failure::Changed(_) => "changed",
            Failure::Transient(_) => "transient",
            Failure::Hopeless(_) => "failed",
            Failure::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Damaged { place, what, .. } => write!(f, "{place}: {what}"),
            Failure::Unbalanced(balance) => write!(f, "samples are missing or too many: {balance}"),
            Failure::Changed(what) | Failure::Hopeless(what) => f.write_str(what),
            Failure::Transient(error) => {
                let mut text = error.to_string();
                for cause in error.chain().skip(1).map(ToString::to_string) {
                    // Many errors tell their cause themselves.
                    if !text.contains(&cause) {
                        text = format!("{text}: {cause}");
                    }
                }
                f.write_str(&text)
            }
            Failure::Stopped => f.write_str("the process stops"),
        }
    }
}

/// How far a job is; threads write it, the API reads it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    done_bytes: AtomicU64,
    is_cancelled: AtomicBool,
}

impl Progress {
    /// Sets how many bytes of the sources were read.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.done_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(crate) fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }

    /// Tells the threads of the job to end soon.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}
