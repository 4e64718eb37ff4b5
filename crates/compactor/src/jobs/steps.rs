//! One job from beginning to end, in the order in which no crash loses or doubles a sample.
//!
//! The result is built and verified; the sources are looked at again; `meta.json` makes the result
//! visible; the sources are marked. A crash before leaves files that nobody sees, which the same
//! job made again overwrites with the same bytes; a crash behind leaves sources whose samples
//! another block has too, which readers know by their meta and the next pass marks.

use std::sync::Arc;

use bucket::marker::{self, DeletionMark, Found, NoDownsampleMark};
use bucket::{layout, upload};
use model::BlockId;

use crate::executor::{Balance, Built, Failure, Progress};
use crate::jobs::Means;
use crate::metrics::Reason;
use crate::pass::write_mark;
use crate::plan::{Job, Kind};

/// How a job came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// New blocks are visible.
    Made,
    /// The blocks were there: an earlier try came so far.
    WasThere,
    /// There were no samples, so there is no block.
    Empty,
}

impl Done {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Done::Made => "made",
            Done::WasThere => "was there",
            Done::Empty => "no samples",
        }
    }
}

/// What came out of a job.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) done: Done,
    pub(crate) outputs: Vec<BlockId>,
    pub(crate) balance: Balance,
}

/// A job on its way.
pub(crate) struct Steps<'a> {
    pub(crate) means: &'a Means,
    pub(crate) job: &'a Job,
    pub(crate) progress: &'a Arc<Progress>,
}

impl Steps<'_> {
    pub(crate) async fn run(&self) -> Result<Outcome, Failure> {
        let planned = self.means.executor.outputs(self.job);
        if self.are_there(&planned).await? {
            self.check_sources().await?;
            self.mark_sources().await?;
            let balance = Balance::default();
            return Ok(Outcome { done: Done::WasThere, outputs: planned, balance });
        }
        let Built { blocks, balance } = self.means.executor.build(self.job, self.progress).await?;
        let outputs: Vec<BlockId> = blocks.iter().map(|it| it.id()).collect();
        let verdict = match balance.is_even() {
            true => self.check_sources().await,
            false => Err(Failure::Unbalanced(balance.clone())),
        };
        if let Err(failure) = verdict {
            for block in blocks {
                block.discard().await;
            }
            return Err(failure);
        }
        let mut blocks = blocks.into_iter();
        while let Some(block) = blocks.next() {
            if let Err(failure) = block.publish(self.means.clock.now_ms()).await {
                for block in blocks {
                    block.discard().await;
                }
                return Err(failure);
            }
        }
        self.mark_sources().await?;
        let done = if outputs.is_empty() { Done::Empty } else { Done::Made };
        if done == Done::Empty {
            self.mark_empty().await?;
        }
        Ok(Outcome { done, outputs, balance })
    }

    /// Whether all results of the job are visible and whole. A result that is marked for deletion
    /// must not be made: it would be deleted with all that is in it.
    async fn are_there(&self, outputs: &[BlockId]) -> Result<bool, Failure> {
        let mut are_there = !outputs.is_empty();
        for id in outputs {
            let store = &*self.means.store;
            match upload::verify(store, *id).await {
                Ok(Some(_)) => {}
                Ok(None) => are_there = false,
                Err(error) if error.is_transient() => return Err(transient(error)),
                // Damaged or incomplete, and so no result; the same bytes are written again.
                Err(bucket::Error::Corrupt { .. } | bucket::Error::Incomplete { .. }) => {
                    are_there = false;
                }
                Err(error) => return Err(transient(error)),
            }
            let mark = marker::read::<DeletionMark>(store, *id).await.map_err(transient)?;
            if mark != Found::Absent {
                let text =
                    format!("its result {id} is marked for deletion, and must be gone first");
                return Err(Failure::Transient(anyhow::anyhow!(text)));
            }
        }
        Ok(are_there)
    }

    /// Whether the sources are still visible, and nobody wants them gone.
    async fn check_sources(&self) -> Result<(), Failure> {
        for id in self.job.ids() {
            let store = &*self.means.store;
            match store.head(&layout::meta_key(id)).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    return Err(Failure::Changed(format!("source {id} is gone")));
                }
                Err(error) => return Err(transient(error)),
            }
            let mark = marker::read::<DeletionMark>(store, id).await.map_err(transient)?;
            if mark != Found::Absent {
                return Err(Failure::Changed(format!("source {id} is marked for deletion")));
            }
        }
        Ok(())
    }

    /// Marks a block of which nothing is left when it is downsampled, or that would be tried again
    /// and again.
    async fn mark_empty(&self) -> Result<(), Failure> {
        if matches!(self.job.kind, Kind::Compact { .. }) {
            return Ok(());
        }
        let now_ms = self.means.clock.now_ms();
        for id in self.job.ids() {
            let details = "no sample is left when it is downsampled";
            let mark = NoDownsampleMark::new(id, "nothing-to-downsample", details, now_ms);
            let is_new = write_mark(&*self.means.store, &mark).await.map_err(Failure::Transient)?;
            if is_new {
                self.means.metrics.count_marked(Reason::Empty);
            }
        }
        Ok(())
    }

    /// Marks what was merged; a downsampled block stays.
    async fn mark_sources(&self) -> Result<(), Failure> {
        if matches!(self.job.kind, Kind::Downsample { .. }) {
            return Ok(());
        }
        let now_ms = self.means.clock.now_ms();
        for id in self.job.ids() {
            let mark = DeletionMark::new(id, "source of compacted block", now_ms);
            let is_new = write_mark(&*self.means.store, &mark).await.map_err(Failure::Transient)?;
            if is_new {
                self.means.metrics.count_marked(Reason::Compacted);
            }
        }
        Ok(())
    }
}

fn transient(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Transient(anyhow::Error::new(error))
}
