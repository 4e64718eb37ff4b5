//! Which blocks answer a request: the coarsest resolution that is allowed, gaps filled by finer
//! ones.

use std::sync::Arc;

use model::TimeRange;

use crate::block::Block;

/// Resolutions from the coarsest to the finest, in ms.
const RESOLUTIONS_MS: [i64; 3] = [3_600_000, 300_000, 0];

/// The blocks of one set of external labels that answer for `range`, none of them coarser than
/// `resolution_max_ms`. Blocks of an unknown resolution are never chosen.
pub(crate) fn choose(
    blocks: &[Arc<Block>],
    range: TimeRange,
    resolution_max_ms: i64,
) -> Vec<Arc<Block>> {
    let finest = RESOLUTIONS_MS.len() - 1;
    let allowed = RESOLUTIONS_MS.iter().position(|it| *it <= resolution_max_ms);
    let mut by_resolution = RESOLUTIONS_MS.map(|resolution_ms| {
        let of = |it: &&Arc<Block>| it.meta().thanos.downsample.resolution_ms == resolution_ms;
        blocks.iter().filter(of).cloned().collect::<Vec<Arc<Block>>>()
    });
    for list in &mut by_resolution {
        list.sort_by_key(|it| (it.meta().min_time_ms, it.meta().max_time_ms, it.id()));
    }
    let mut chosen = Vec::new();
    fill(&by_resolution, allowed.unwrap_or(finest), range, &mut chosen);
    chosen.sort_by_key(|it| (it.meta().min_time_ms, it.id()));
    chosen.dedup_by_key(|it| it.id());
    chosen
}

/// Takes the blocks of one resolution, and the finer ones where it has none.
fn fill(
    by_resolution: &[Vec<Arc<Block>>],
    level: usize,
    range: TimeRange,
    chosen: &mut Vec<Arc<Block>>,
) {
    let Some(blocks) = by_resolution.get(level) else { return };
    let mut start_ms = range.start_ms;
    for block in blocks.iter().filter(|it| it.range().overlaps(range)) {
        let gap = TimeRange::new(start_ms, block.meta().min_time_ms.saturating_sub(1));
        if !gap.is_empty() {
            fill(by_resolution, level + 1, gap, chosen);
        }
        chosen.push(Arc::clone(block));
        start_ms = start_ms.max(block.meta().max_time_ms);
    }
    let gap = TimeRange::new(start_ms, range.end_ms);
    if !gap.is_empty() {
        fill(by_resolution, level + 1, gap, chosen);
    }
}
