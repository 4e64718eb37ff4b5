//! What is to be done with the blocks of a bucket: a function of what is there and of the time.
//!
//! The rules are those of Thanos' compactor, but for these: overlaps are always merged, but for
//! late data among coarse blocks, which stay; several jobs come out at once, as long as none
//! touches what another one does; a block that cannot grow any more is downsampled although its
//! range is short; and what is past its retention waits only for a coarser version that is owed
//! to it.

mod downsampling;
mod garbage;
mod group;
mod index_size;
mod job;
mod simulation;
mod windows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use model::BlockId;
use tsdb_core::block::Meta;

use crate::plan::downsampling::{Downsampling, Due};
pub(crate) use crate::plan::garbage::Garbage;
pub(crate) use crate::plan::group::GroupKey;
pub(crate) use crate::plan::index_size::{INDEX_BYTES_MAX, TooLarge};
pub(crate) use crate::plan::job::{Job, JobKey, Kind};
pub(crate) use crate::plan::simulation::{Backlog, backlog};
use crate::plan::windows::Selection;
use crate::resolution::Resolution;
use crate::retention::{self, Expired, Policy};

/// The ranges that blocks are merged to, in ms: 1 h, 2 h, 8 h, 2 d and 14 d. A window of the first
/// one is never looked at.
pub(crate) const RANGES_MS: [i64; 5] =
    [3_600_000, 7_200_000, 8 * 3_600_000, 48 * 3_600_000, 14 * 24 * 3_600_000];

/// What the plan goes by.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The ranges that blocks are merged to, in ms, smallest first.
    pub(crate) ranges_ms: Vec<i64>,
    /// External labels that tell replicas apart.
    pub(crate) replica_labels: Vec<String>,
    /// Whether blocks are downsampled.
    pub(crate) downsampling: bool,
    pub(crate) retention: Policy,
    /// Blocks whose indexes come near to this size together are not merged.
    pub(crate) index_bytes_max: u64,
}

/// A block that can be planned with: it has a meta that makes sense.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) meta: Arc<Meta>,
    pub(crate) resolution: Resolution,
    /// All of its files.
    pub(crate) bytes: u64,
    pub(crate) index_bytes: u64,
    /// All files that its meta names are there.
    pub(crate) is_whole: bool,
    /// Old enough, within the times that the flags name, and surely without a deletion mark.
    pub(crate) is_open: bool,
    /// No compaction may touch it.
    pub(crate) no_compact: bool,
    /// It is not downsampled.
    pub(crate) no_downsample: bool,
    /// Something is wrong with it: no job touches it.
    pub(crate) is_quarantined: bool,
    /// A job that runs has it.
    pub(crate) is_busy: bool,
}

impl Candidate {
    pub(crate) fn id(&self) -> BlockId {
        self.meta.ulid
    }

    /// From its first to its last possible sample, in ms.
    pub(crate) fn range_ms(&self) -> i64 {
        self.meta.max_time_ms.saturating_sub(self.meta.min_time_ms)
    }

    /// The blocks cut from a head that are in it; a block that names none is its own.
    pub(crate) fn sources(&self) -> &[BlockId] {
        match &self.meta.compaction.sources[..] {
            [] => std::slice::from_ref(&self.meta.ulid),
            sources => sources,
        }
    }

    /// Whether a job may read it.
    fn is_usable(&self) -> bool {
        self.is_whole && self.is_open && !self.is_quarantined && !self.is_busy
    }
}

/// The bucket at one moment: blocks without a deletion mark.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) blocks: Vec<Candidate>,
    /// Jobs that are not to be done again.
    pub(crate) quarantined_jobs: HashSet<JobKey>,
    pub(crate) now_ms: i64,
}

/// A block past its retention that is kept a little longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: BlockId,
    pub(crate) bytes: u64,
    pub(crate) reason: String,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Blocks to mark: they have outlived their retention.
    pub(crate) expired: Vec<Expired>,
    /// Blocks past their retention that wait for a coarser version.
    pub(crate) held: Vec<Held>,
    /// Blocks to mark: another one has all that they have.
    pub(crate) garbage: Vec<Garbage>,
    /// Blocks to mark: merging them would make an index too large.
    pub(crate) too_large: Vec<TooLarge>,
    /// Jobs, the most urgent one first; no two touch the same block.
    pub(crate) jobs: Vec<Job>,
}

/// Plans.
pub(crate) fn plan(view: &View, rules: &Rules) -> Plan {
    let garbage = garbage::find(view, rules);
    let mut gone: HashSet<BlockId> = garbage.iter().map(|it| it.id).collect();
    let downsampling = Downsampling::new(view, rules, &gone);
    let mut plan = Plan { garbage, ..Plan::default() };
    retain(view, rules, &downsampling, &mut plan, &gone);
    gone.extend(plan.expired.iter().map(|it| it.id));
    let owed: HashSet<BlockId> = plan.held.iter().map(|it| it.id).collect();

    let mut groups: BTreeMap<GroupKey, Vec<&Candidate>> = BTreeMap::new();
    for block in view.blocks.iter().filter(|it| !gone.contains(&it.id())) {
        groups.entry(GroupKey::of(block, rules)).or_default().push(block);
    }
    for (key, blocks) in &mut groups {
        blocks.sort_by_key(|it| (it.meta.min_time_ms, it.id()));
        let group = Group { key, blocks, owed: &owed };
        plan_group(view, rules, &group, &downsampling, &mut plan);
    }
    plan.jobs.sort_by_key(Job::order);
    plan
}

/// The blocks of one group, by time.
#[derive(Clone, Copy)]
struct Group<'a> {
    key: &'a GroupKey,
    blocks: &'a [&'a Candidate],
    owed: &'a HashSet<BlockId>,
}

fn plan_group(
    view: &View,
    rules: &Rules,
    group: &Group<'_>,
    downsampling: &Downsampling<'_>,
    plan: &mut Plan,
) {
    let busy = group.blocks.iter().filter(|it| it.is_busy);
    let mut touched: HashSet<BlockId> = busy.map(|it| it.id()).collect();
    let selection = Selection { blocks: group.blocks, rules, view, key: group.key };
    let overlapping = selection.overlapping();
    // What is past its retention is not merged first into something that is larger and younger.
    let owed = |it: &&&Candidate| {
        group.owed.contains(&it.id()) && it.is_usable() && !overlapping.contains(&it.id())
    };
    for block in group.blocks.iter().filter(owed) {
        if let Due::Now { targets, reason } = downsampling.due_alone(block) {
            add_downsampling(view, group, (block, targets, reason), &mut touched, plan);
        }
    }
    let (selected, too_large) = index_size::select_within(&selection, &mut touched);
    plan.too_large.extend(too_large);
    for chosen in selected {
        let sources = chosen.blocks.iter().map(|it| Arc::clone(&it.meta)).collect();
        let job = Job {
            kind: chosen.kind,
            group: group.key.clone(),
            sources,
            bytes: chosen.blocks.iter().map(|it| it.bytes).sum(),
            reason: chosen.reason,
            is_owed: chosen.blocks.iter().any(|it| group.owed.contains(&it.id())),
        };
        plan.jobs.push(job);
    }
    let usable = group.blocks.iter().filter(|it| it.is_usable());
    for block in usable {
        if touched.contains(&block.id()) {
            continue;
        }
        if let Due::Now { targets, reason } = downsampling.due(block, group.blocks) {
            add_downsampling(view, group, (block, targets, reason), &mut touched, plan);
        }
    }
}

fn add_downsampling(
    view: &View,
    group: &Group<'_>,
    (block, targets, reason): (&Candidate, Vec<Resolution>, String),
    touched: &mut HashSet<BlockId>,
    plan: &mut Plan,
) {
    let job = Job {
        kind: Kind::Downsample { targets },
        group: group.key.clone(),
        sources: vec![Arc::clone(&block.meta)],
        bytes: block.bytes,
        reason,
        is_owed: group.owed.contains(&block.id()),
    };
    if !view.quarantined_jobs.contains(&job.key()) && touched.insert(block.id()) {
        plan.jobs.push(job);
    }
}

/// Which blocks have outlived their retention, and which of these wait.
fn retain(
    view: &View,
    rules: &Rules,
    downsampling: &Downsampling<'_>,
    plan: &mut Plan,
    gone: &HashSet<BlockId>,
) {
    let open = view.blocks.iter().filter(|it| it.is_open && !gone.contains(&it.id()));
    let by_id: HashMap<BlockId, &Candidate> = open.map(|it| (it.id(), it)).collect();
    let mut candidates: Vec<_> = by_id.values().map(|it| retention::Candidate::of(it)).collect();
    candidates.sort_by_key(|it| (it.max_time_ms, it.id));
    for expired in retention::expired(candidates, &rules.retention, view.now_ms) {
        let Some(block) = by_id.get(&expired.id) else { continue };
        match downsampling.owed(block) {
            Some(reason) => plan.held.push(Held { id: expired.id, bytes: block.bytes, reason }),
            None => plan.expired.push(expired),
        }
    }
}

#[cfg(test)]
mod tests;
