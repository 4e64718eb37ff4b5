//! Blocks that another block has replaced: all of their sources are among its sources.

use std::collections::{BTreeMap, HashMap, HashSet};

use model::BlockId;

use crate::plan::{Candidate, GroupKey, Rules, View};

/// A block that nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Garbage {
    pub(crate) id: BlockId,
    /// The block that has all that it has.
    pub(crate) replaced_by: BlockId,
}

/// The blocks that another one has replaced. Who replaces must be whole, sound, and reach as far;
/// of equals the one with the lowest ULID stays.
pub(crate) fn find(view: &View, rules: &Rules) -> Vec<Garbage> {
    let mut groups: BTreeMap<GroupKey, Vec<&Candidate>> = BTreeMap::new();
    for block in view.blocks.iter().filter(|it| it.is_open) {
        groups.entry(GroupKey::of(block, rules)).or_default().push(block);
    }
    let mut found = Vec::new();
    for group in groups.values_mut() {
        find_in_group(group, &mut found);
    }
    found.sort_by_key(|it| it.id);
    found
}

fn find_in_group(group: &mut [&Candidate], found: &mut Vec<Garbage>) {
    group.sort_by_key(|it| (std::cmp::Reverse(it.sources().len()), it.id()));
    // Whoever holds all sources of a block holds its first one: only those are compared.
    let mut holders: HashMap<BlockId, Vec<usize>> = HashMap::new();
    let mut kept: Vec<(&Candidate, HashSet<BlockId>)> = Vec::new();
    for block in group.iter() {
        let sources: HashSet<BlockId> = block.sources().iter().copied().collect();
        let first = block.sources().first().and_then(|it| holders.get(it));
        let holder = first
            .into_iter()
            .flatten()
            .map(|at| &kept[*at])
            .find(|(holder, held)| reaches_as_far(holder, block) && sources.is_subset(held));
        if let Some((holder, _)) = holder
            && !block.is_busy
        {
            found.push(Garbage { id: block.id(), replaced_by: holder.id() });
            continue;
        }
        if block.is_whole && !block.is_quarantined {
            for source in &sources {
                holders.entry(*source).or_default().push(kept.len());
            }
            kept.push((block, sources));
        }
    }
}

fn reaches_as_far(holder: &Candidate, block: &Candidate) -> bool {
    holder.meta.min_time_ms <= block.meta.min_time_ms
        && holder.meta.max_time_ms >= block.meta.max_time_ms
}
