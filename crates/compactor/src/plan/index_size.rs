//! Keeps merged indexes below a size that the format and its readers can bear.

use std::collections::HashSet;

use model::BlockId;
use tsdb_core::stream::writer::SCRATCH_BYTES_MAX;

use crate::plan::windows::{Chosen, Selection};

/// The largest size that makes sense: a merge is refused when the indexes of its sources and a
/// quarter of them exceed the scratch space of a job, and 15 % of the size are kept free here.
pub(crate) const INDEX_BYTES_MAX: u64 = SCRATCH_BYTES_MAX / 5 * 4 / 85 * 100;

/// A block that is not merged any more, since the index of the result could become too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) id: BlockId,
    /// What the indexes of the blocks that were to be merged have together.
    pub(crate) sum_bytes: u64,
    pub(crate) max_bytes: u64,
}

/// Selects what to merge such that no index can become too large: the block with the largest
/// index of a selection is left out until what remains is small enough. Touched blocks are added.
pub(crate) fn select_within<'a>(
    selection: &Selection<'a>,
    touched: &mut HashSet<BlockId>,
) -> (Vec<Chosen<'a>>, Vec<TooLarge>) {
    let max_bytes = selection.rules.index_bytes_max;
    let mut excluded: HashSet<BlockId> = HashSet::new();
    let mut too_large = Vec::new();
    loop {
        let mut taken = touched.clone();
        let chosen = selection.select(&excluded, &mut taken);
        match chosen.iter().find_map(|it| largest_of_too_many(it, max_bytes)) {
            Some(found) => {
                excluded.insert(found.id);
                too_large.push(found);
            }
            None => {
                *touched = taken;
                return (chosen, too_large);
            }
        }
    }
}

fn largest_of_too_many(chosen: &Chosen<'_>, max_bytes: u64) -> Option<TooLarge> {
    let sum_bytes: u64 = chosen.blocks.iter().map(|it| it.index_bytes).sum();
    // The merged index may be a little larger than its parts: 15 % are kept free.
    let is_too_large = sum_bytes >= max_bytes - max_bytes / 100 * 15;
    // A block that is rewritten alone has an index that was written before.
    let is_too_large = is_too_large && chosen.blocks.len() > 1;
    let largest = chosen.blocks.iter().max_by_key(|it| (it.index_bytes, it.id()))?;
    is_too_large.then(|| TooLarge { id: largest.id(), sum_bytes, max_bytes })
}
