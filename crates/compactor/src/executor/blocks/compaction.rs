//! Merges the sources of a job into one block.

use std::sync::Arc;

use tracing::info;
use tsdb_core::block::Meta;
use tsdb_core::compact::{self, Merge, OneToOne, Options, Report, Target, naming};
use tsdb_core::dedup::penalty::PenaltyMerge;
use tsdb_core::dedup::phases::PhasesMerge;
use tsdb_core::stream::writer::SCRATCH_BYTES_MAX;
use tsdb_core::stream::{Scratch, Sink};

use crate::config::Deduplication;
use crate::executor::blocks::{Blocks, Watched, Written, fill_thanos, give_up};
use crate::executor::{Balance, Built, Executor as _, Failure, Progress};
use crate::plan::Job;

/// Start timestamps that samples had and have no more: no encoding that Thanos reads has them.
const START_TIMESTAMPS: &str = "start timestamps dropped";

impl Blocks {
    pub(super) async fn compact(
        &self,
        job: &Job,
        progress: &Arc<Progress>,
    ) -> Result<Built, Failure> {
        let sources = self.sources(job).await?;
        let metas: Vec<&Meta> = sources.iter().map(|it| &it.meta).collect();
        let Some(id) = self.outputs(job).first().copied() else {
            return Err(Failure::Hopeless("it makes no block".to_owned()));
        };
        let meta = naming::meta_of(&metas, id)?;
        let Some(draft) = self.begin(id).await? else {
            return Err(Failure::Changed(format!("its result {id} has come meanwhile")));
        };
        let sink: Arc<dyn Sink> = Arc::new(draft.sink().clone());
        let (fs, directory) = (Arc::clone(&self.fs), self.scratch.clone());
        let (budget, watched) = (self.budget.clone(), Watched(Arc::clone(progress)));
        let options = Options { memory_bytes_max: self.memory_bytes_max, ..Options::default() };
        let mut merge = self.deduplication.merge();
        let report = self.on_thread("compact", move || {
            let scratch = Scratch { fs: &*fs, directory: &directory, bytes_max: SCRATCH_BYTES_MAX };
            let target = Target { sink, scratch, budget: &budget, progress: &watched };
            compact::compact(&sources, meta, &target, &options, &mut *merge)
        });
        match report.await {
            Ok(report) => Ok(built(draft, job, report).await),
            Err(failure) => {
                give_up(draft).await;
                Err(failure)
            }
        }
    }
}

async fn built(draft: bucket::publish::Draft, job: &Job, report: Report) -> Built {
    info!(
        block = %draft.id(),
        read_bytes = report.read_bytes,
        written_bytes = report.written_bytes,
        scratch_bytes = report.scratch_bytes,
        memory_peak_bytes = report.memory_peak_bytes,
        chunks_copied = report.chunks.copied,
        chunks_merged = report.chunks.merged,
        "blocks are merged, the result is verified next"
    );
    let mut balance = Balance::from(report.balance);
    if report.start_timestamps_dropped > 0 {
        balance.notes.insert(START_TIMESTAMPS, report.start_timestamps_dropped);
    }
    let Some(mut meta) = report.meta else {
        give_up(draft).await;
        return Built { blocks: Vec::new(), balance };
    };
    fill_thanos(&mut meta, job, job.group.resolution);
    Built { blocks: vec![Box::new(Written { draft, meta })], balance }
}

impl Deduplication {
    /// The rule as it is named in results and reports.
    pub(super) fn name(self) -> &'static str {
        self.merge().name()
    }

    /// What merges the overlapping chunks of one job.
    fn merge(self) -> Box<dyn Merge> {
        match self {
            Deduplication::OneToOne => Box::new(OneToOne::new()),
            Deduplication::Phases => Box::new(PhasesMerge::new()),
            Deduplication::Penalty => Box::new(PenaltyMerge::new()),
        }
    }
}
