//! Uploads that were begun and given up.

use model::BlockId;
use objstore::ObjectStore;

use crate::delete::delete;
use crate::error::{Error, Result};
use crate::layout;
use crate::marker::Found;
use crate::view::{Block, Snapshot, State};

/// An upload without `meta.json` of which nothing was written for so long was given up.
pub const GIVEN_UP_AFTER_MS: i64 = 2 * 24 * 3_600_000;

/// What a clean-up did.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// Blocks that were deleted.
    pub deleted: Vec<BlockId>,
    /// Blocks that could not be deleted, and why; the next clean-up tries again.
    pub failed: Vec<(BlockId, Error)>,
}

/// Whether a block is an upload that was given up. One that is marked for deletion is not: its
/// deletion goes on by the mark. Where the store tells no times, nothing was given up.
pub fn is_given_up(block: &Block, now_ms: i64) -> bool {
    let modified_ms = block.modified_ms();
    matches!(block.state, State::NoMeta)
        && block.deletion.mark().is_none()
        && modified_ms > 0
        && now_ms.saturating_sub(modified_ms) > GIVEN_UP_AFTER_MS
}

/// Deletes the uploads that were given up. Their age is by the store's clock, so `now_ms` must be
/// of a clock that agrees with it: see [`crate::clock::compare`].
pub async fn clean(store: &dyn ObjectStore, snapshot: &Snapshot, now_ms: i64) -> Cleaned {
    let mut cleaned = Cleaned::default();
    let given_up = snapshot.blocks.iter().filter(|(_, block)| is_given_up(block, now_ms));
    for (id, _) in given_up {
        match clean_one(store, *id, now_ms).await {
            Ok(true) => cleaned.deleted.push(*id),
            Ok(false) => {}
            Err(error) => cleaned.failed.push((*id, error)),
        }
    }
    cleaned
}

/// Deletes an upload that was given up, unless somebody went on with it since it was listed;
/// answers whether it did.
///
/// # Errors
/// When the bucket fails; what is left goes with another call.
pub async fn clean_one(store: &dyn ObjectStore, id: BlockId, now_ms: i64) -> Result<bool> {
    let files = layout::list_block(store, id).await?;
    let block = Block {
        state: State::NoMeta,
        files,
        deletion: Found::Absent,
        no_compact: Found::Absent,
        no_downsample: Found::Absent,
    };
    let has_meta = block.file_bytes(tsdb_core::block::META_FILE).is_some();
    if has_meta || block.files.is_empty() || !is_given_up(&block, now_ms) {
        return Ok(false);
    }
    delete(store, id).await?;
    Ok(true)
}
