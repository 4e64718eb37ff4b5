//! Which blocks of a bucket lack their downsampled versions: a function of what is there.

use std::collections::HashSet;
use std::sync::Arc;

use model::BlockId;
use tsdb_core::block::Meta;
use tsdb_core::downsample::{FIVE_MINUTES_MS, ONE_HOUR_MS};

use crate::filter;
use crate::marker::Found;
use crate::view::{Block, Snapshot, State};

/// A raw block of this range or more is downsampled to 5 minutes.
pub const FIVE_MINUTES_RANGE_MS: i64 = 40 * 3_600_000;
/// A block of 5 minutes of this range or more is downsampled to an hour.
pub const ONE_HOUR_RANGE_MS: i64 = 10 * 24 * 3_600_000;

/// A block that is to be downsampled.
#[derive(Clone, Debug)]
pub struct Owed {
    /// The block that is read.
    pub meta: Arc<Meta>,
    /// Whether its version of 5 minutes is to be made.
    pub five_minutes: bool,
    /// Whether its version of an hour is to be made, in the same pass where both are.
    pub one_hour: bool,
}

/// The blocks that lack a version which their range asks for, as Thanos' tool finds them: the
/// version is there when the sources of blocks of that resolution hold all of theirs. Blocks that
/// are marked for deletion or against downsampling, and those whose samples another block has too,
/// are left out.
pub fn owed(snapshot: &Snapshot) -> Vec<Owed> {
    let visible: Vec<(&Arc<Meta>, &Block)> = snapshot
        .blocks
        .values()
        .filter_map(|block| match &block.state {
            State::Loaded(meta) if block.deletion.mark().is_none() => Some((meta, block)),
            _ => None,
        })
        .collect();
    let sources = |resolution_ms| -> HashSet<BlockId> {
        let metas = visible.iter().map(|(meta, _)| meta);
        let metas = metas.filter(|it| it.thanos.downsample.resolution_ms == resolution_ms);
        metas.flat_map(|it| it.compaction.sources.iter().copied()).collect()
    };
    let (five_minutes, one_hour) = (sources(FIVE_MINUTES_MS), sources(ONE_HOUR_MS));
    let duplicates = filter::duplicates(visible.iter().map(|(meta, _)| &***meta));
    let mut owed = Vec::new();
    for (meta, block) in visible {
        // Whoever set a mark that cannot be read meant it.
        let is_held = !matches!(block.no_downsample, Found::Absent);
        if is_held || duplicates.contains(&meta.ulid) {
            continue;
        }
        let range_ms = meta.max_time_ms.saturating_sub(meta.min_time_ms);
        let lacks =
            |there: &HashSet<BlockId>| meta.compaction.sources.iter().any(|it| !there.contains(it));
        let (five_minutes, one_hour) = match meta.thanos.downsample.resolution_ms {
            0 => {
                let five_minutes = range_ms >= FIVE_MINUTES_RANGE_MS && lacks(&five_minutes);
                // A version of 5 minutes that is there already is read instead, which is smaller.
                let both = five_minutes && range_ms >= ONE_HOUR_RANGE_MS && lacks(&one_hour);
                (five_minutes, both)
            }
            FIVE_MINUTES_MS => (false, range_ms >= ONE_HOUR_RANGE_MS && lacks(&one_hour)),
            _ => (false, false),
        };
        if five_minutes || one_hour {
            owed.push(Owed { meta: Arc::clone(meta), five_minutes, one_hour });
        }
    }
    owed
}
