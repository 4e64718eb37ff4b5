//! Makes coarser blocks of the source of a job, both in one pass where both are due.

use std::sync::Arc;

use bucket::publish::Draft;
use tracing::info;
use tsdb_core::compact::Options;
use tsdb_core::downsample::{self, Made, Report, Target};
use tsdb_core::stream::writer::SCRATCH_BYTES_MAX;
use tsdb_core::stream::{Scratch, Sink};

use crate::executor::blocks::{Blocks, Watched, Written, fill_thanos, give_up};
use crate::executor::{Balance, Built, Failure, Pending, Progress};
use crate::plan::Job;
use crate::resolution::Resolution;

/// The blocks that are being made; none where one is not wanted, or there already.
#[derive(Default)]
struct Drafts {
    five_minutes: Option<Draft>,
    one_hour: Option<Draft>,
}

impl Blocks {
    pub(super) async fn downsample(
        &self,
        job: &Job,
        targets: &[Resolution],
        progress: &Arc<Progress>,
    ) -> Result<Built, Failure> {
        let sources = self.sources(job).await?;
        let Some(source) = sources.into_iter().next() else {
            return Err(Failure::Hopeless("it has no source".to_owned()));
        };
        let mut drafts = Drafts::default();
        for target in targets {
            let id = downsample::meta_of(&source.meta, target.ms())?.ulid;
            match target {
                Resolution::OneHour => drafts.one_hour = self.begin(id).await?,
                _ => drafts.five_minutes = self.begin(id).await?,
            }
        }
        let sink = |draft: &Option<Draft>| {
            draft.as_ref().map(|it| Arc::new(it.sink().clone()) as Arc<dyn Sink>)
        };
        let (five_minutes, one_hour) = (sink(&drafts.five_minutes), sink(&drafts.one_hour));
        if five_minutes.is_none() && one_hour.is_none() {
            return Err(Failure::Changed("its results have come meanwhile".to_owned()));
        }
        let (fs, directory) = (Arc::clone(&self.fs), self.scratch.clone());
        let (budget, watched) = (self.budget.clone(), Watched(Arc::clone(progress)));
        let options = Options { memory_bytes_max: self.memory_bytes_max, ..Options::default() };
        let report = self.on_thread("downsample", move || {
            let scratch = Scratch { fs: &*fs, directory: &directory, bytes_max: SCRATCH_BYTES_MAX };
            let (budget, progress) = (&budget, &watched);
            let target = Target { five_minutes, one_hour, scratch, budget, progress };
            downsample::downsample(&source, &target, &options)
        });
        match report.await {
            Ok(report) => Ok(built(drafts, job, report).await),
            Err(failure) => {
                for draft in [drafts.five_minutes, drafts.one_hour].into_iter().flatten() {
                    give_up(draft).await;
                }
                Err(failure)
            }
        }
    }
}

async fn built(drafts: Drafts, job: &Job, report: Report) -> Built {
    info!(
        read_bytes = report.read_bytes,
        memory_peak_bytes = report.memory_peak_bytes,
        "a block is downsampled, the result is verified next"
    );
    let mut built = Built::default();
    let made = [
        (drafts.five_minutes, report.five_minutes, Resolution::FiveMinutes),
        (drafts.one_hour, report.one_hour, Resolution::OneHour),
    ];
    for (draft, made, resolution) in made {
        let (Some(draft), Some(Made { meta, balance, .. })) = (draft, made) else { continue };
        let Some(mut meta) = meta else {
            built.balance = Balance::from(balance);
            give_up(draft).await;
            continue;
        };
        // Both resolutions stand for the same samples.
        built.balance = Balance::from(balance);
        fill_thanos(&mut meta, job, resolution);
        let block: Box<dyn Pending> = Box::new(Written { draft, meta });
        built.blocks.push(block);
    }
    built
}
