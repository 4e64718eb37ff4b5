//! Which blocks of a bucket are due to be deleted: a function of what is there and of time.

use model::BlockId;
use tsdb_core::block::Meta;

use crate::filter::is_mark_older;
use crate::layout::DELETION_MARK;
use crate::partial::is_given_up;
use crate::view::{Block, Snapshot, State};

/// How long blocks live on; times in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// After they were marked.
    pub delete_ms: i64,
    /// After anything of an upload without meta was last written, where that is more than
    /// [`crate::partial::GIVEN_UP_AFTER_MS`].
    pub consistency_ms: i64,
}

/// Why a block goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was marked long enough ago, by the mark's own time and by the store's; when, in seconds
    /// since the Unix epoch, and why.
    Marked {
        /// When.
        at_s: i64,
        /// The details of the mark.
        details: String,
    },
    /// An upload that was given up; when anything of it was last written, in ms since the epoch.
    GivenUp {
        /// When.
        modified_ms: i64,
    },
}

/// A block that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The block.
    pub id: BlockId,
    /// Why.
    pub reason: Reason,
    /// Its objects.
    pub objects: usize,
    /// Bytes of all of them.
    pub size_bytes: u64,
}

/// The blocks that are due, by id.
pub fn due(snapshot: &Snapshot, delays: Delays, now_ms: i64) -> Vec<Due> {
    let due = snapshot.blocks.iter().filter_map(|(id, block)| {
        let reason = reason(*id, block, delays, now_ms)?;
        let size_bytes = block.files.iter().map(|it| it.size_bytes).sum();
        Some(Due { id: *id, reason, objects: block.files.len(), size_bytes })
    });
    due.collect()
}

fn reason(id: BlockId, block: &Block, delays: Delays, now_ms: i64) -> Option<Reason> {
    if let Some(mark) = block.deletion.mark() {
        let is_due = mark.id == id
            && is_mark_older(mark, now_ms, delays.delete_ms)
            && is_mark_object_older(block, now_ms, delays.delete_ms);
        let (at_s, details) = (mark.deletion_time_s, mark.details.clone());
        return is_due.then_some(Reason::Marked { at_s, details });
    }
    let modified_ms = block.modified_ms();
    let is_old = now_ms.saturating_sub(modified_ms) > delays.consistency_ms;
    (is_old && is_given_up(block, now_ms)).then_some(Reason::GivenUp { modified_ms })
}

/// Whether the store wrote the mark more than the delay ago: whoever made the mark may have had a
/// clock that was wrong, or have copied it with its bucket. A store that tells no time says no.
fn is_mark_object_older(block: &Block, now_ms: i64, delay_ms: i64) -> bool {
    let object = block.files.iter().find(|it| it.path == DELETION_MARK);
    object.is_some_and(|it| it.modified_ms > 0 && now_ms.saturating_sub(it.modified_ms) > delay_ms)
}

/// How long samples are kept, by resolution, in ms; none is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Raw samples.
    pub raw_ms: Option<i64>,
    /// Aggregates of 5 minutes.
    pub five_minutes_ms: Option<i64>,
    /// Aggregates of 1 hour.
    pub one_hour_ms: Option<i64>,
}

/// A block that outlived its retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The block.
    pub id: BlockId,
    /// What the mark is to say.
    pub details: String,
    /// Bytes of all its objects.
    pub size_bytes: u64,
}

/// The visible blocks, not marked for deletion yet, whose newest possible sample is older than the
/// retention of their resolution. Whether the same time exists in another resolution plays no part,
/// as in Thanos.
pub fn expired(snapshot: &Snapshot, retention: &Retention, now_ms: i64) -> Vec<Expired> {
    let expired = snapshot.blocks.iter().filter_map(|(id, block)| {
        // Also where files are missing: retention ends all the same.
        let (State::Loaded(meta) | State::Incomplete { meta, .. }) = &block.state else {
            return None;
        };
        if block.deletion.mark().is_some() {
            return None;
        }
        let details = outlived(meta, retention, now_ms)?;
        let size_bytes = block.files.iter().map(|it| it.size_bytes).sum();
        Some(Expired { id: *id, details, size_bytes })
    });
    expired.collect()
}

fn outlived(meta: &Meta, retention: &Retention, now_ms: i64) -> Option<String> {
    let (kept_ms, resolution) = match meta.thanos.downsample.resolution_ms {
        0 => (retention.raw_ms?, "raw"),
        300_000 => (retention.five_minutes_ms?, "5m"),
        3_600_000 => (retention.one_hour_ms?, "1h"),
        // Nobody writes another one, and nothing was said about it.
        _ => return None,
    };
    let is_over = meta.max_time_ms.saturating_add(kept_ms) < now_ms;
    is_over.then(|| {
        let kept = model::duration::format_ms(kept_ms);
        format!("block exceeding retention of {kept} for resolution {resolution}")
    })
}
