//! What becomes of a view when jobs are done: tells how much there is to do until nothing is left.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use model::BlockId;
use tsdb_core::block::Meta;

use crate::plan::{Candidate, Job, Kind, Plan, Rules, View, plan};
use crate::resolution::Resolution;

/// Plans that follow each other; each merges what the one before it made, and no more ranges are
/// there than levels.
const STEPS_MAX: usize = 32;

/// What is to be done until nothing is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) compactions: usize,
    /// Blocks that these compactions read.
    pub(crate) compaction_blocks: usize,
    /// Bytes that they read, as far as the blocks are there already.
    pub(crate) compaction_bytes: u64,
    pub(crate) downsamplings: usize,
    pub(crate) downsampling_bytes: u64,
}

/// What is to be done until nothing is left, when no time passes and nothing fails.
pub(crate) fn backlog(view: &View, rules: &Rules) -> Backlog {
    let mut view = view.clone();
    view.blocks.iter_mut().for_each(|it| it.is_busy = false);
    let mut backlog = Backlog::default();
    for _ in 0..STEPS_MAX {
        let plan = plan(&view, rules);
        if plan.jobs.is_empty() {
            break;
        }
        for job in &plan.jobs {
            match &job.kind {
                Kind::Compact { .. } => {
                    backlog.compactions += 1;
                    backlog.compaction_blocks += job.sources.len();
                    backlog.compaction_bytes = backlog.compaction_bytes.saturating_add(job.bytes);
                }
                Kind::Downsample { targets } => {
                    backlog.downsamplings += targets.len();
                    let bytes = backlog.downsampling_bytes.saturating_add(job.bytes);
                    backlog.downsampling_bytes = bytes;
                }
            }
        }
        apply_marks(&mut view, &plan);
        apply(&mut view, &plan.jobs);
    }
    backlog
}

/// Takes away what a plan marks for deletion, and marks what it marks otherwise.
pub(crate) fn apply_marks(view: &mut View, plan: &Plan) {
    let expired = plan.expired.iter().map(|it| it.id);
    let gone: HashSet<BlockId> = expired.chain(plan.garbage.iter().map(|it| it.id)).collect();
    view.blocks.retain(|it| !gone.contains(&it.id()));
    let large: HashSet<BlockId> = plan.too_large.iter().map(|it| it.id).collect();
    for block in view.blocks.iter_mut().filter(|it| large.contains(&it.id())) {
        block.no_compact = true;
    }
}

/// Does jobs: their results are there, and what compactions have read is gone.
pub(crate) fn apply(view: &mut View, jobs: &[Job]) {
    let merges = |it: &&Job| matches!(it.kind, Kind::Compact { .. });
    let index_bytes: HashMap<BlockId, u64> =
        view.blocks.iter().map(|it| (it.id(), it.index_bytes)).collect();
    let merged: HashSet<BlockId> = jobs.iter().filter(merges).flat_map(Job::ids).collect();
    view.blocks.retain(|it| !merged.contains(&it.id()));
    for job in jobs {
        match &job.kind {
            Kind::Compact { .. } => {
                let index_bytes = job.ids().filter_map(|it| index_bytes.get(&it)).sum();
                view.blocks.push(result(job, job.group.resolution, index_bytes));
            }
            Kind::Downsample { targets } => {
                view.blocks.extend(targets.iter().map(|it| result(job, *it, 0)));
            }
        }
    }
}

fn result(job: &Job, resolution: Resolution, index_bytes: u64) -> Candidate {
    Candidate {
        meta: Arc::new(result_meta(job, resolution)),
        resolution,
        bytes: job.bytes,
        index_bytes,
        is_whole: true,
        is_open: true,
        no_compact: false,
        no_downsample: false,
        is_quarantined: false,
        is_busy: false,
    }
}

/// A meta such as the result of a job has, but for its name and its counts.
fn result_meta(job: &Job, resolution: Resolution) -> Meta {
    let mut hasher = DefaultHasher::new();
    (job.key(), resolution).hash(&mut hasher);
    let made_ms = job.ids().map(|it| it.timestamp_ms()).max().unwrap_or_default();
    let id = BlockId::from_parts(made_ms, u128::from(hasher.finish()));
    let min_time_ms = job.sources.iter().map(|it| it.min_time_ms).min().unwrap_or_default();
    let max_time_ms = job.sources.iter().map(|it| it.max_time_ms).max().unwrap_or_default();
    let mut meta = Meta::of_head(id, min_time_ms, max_time_ms);
    let sources: BTreeSet<&BlockId> = job.sources.iter().flat_map(|it| sources_of(it)).collect();
    meta.compaction.sources = sources.into_iter().copied().collect();
    let level = job.sources.iter().map(|it| it.compaction.level).max().unwrap_or_default();
    meta.compaction.level = level + u32::from(matches!(job.kind, Kind::Compact { .. }));
    meta.thanos.labels = job.group.labels.clone();
    meta.thanos.downsample.resolution_ms = resolution.ms();
    "compactor".clone_into(&mut meta.thanos.source);
    meta
}

fn sources_of(meta: &Meta) -> &[BlockId] {
    match &meta.compaction.sources[..] {
        [] => std::slice::from_ref(&meta.ulid),
        sources => sources,
    }
}
