//! Deletes a block so that nobody ever sees half of it.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use model::BlockId;
use objstore::ObjectStore;
use tsdb_core::block::META_FILE;

use crate::error::Result;
use crate::layout::{self, DELETION_MARK};

/// Objects that are deleted at once.
const PARALLEL: usize = 16;

/// Deletes a block: `meta.json` first, which makes it invisible, `deletion-mark.json` last, which
/// says until then that the rest is to go. Answers how many objects there were.
///
/// # Errors
/// When the bucket fails; what is left is still marked, and another call goes on.
pub async fn delete(store: &dyn ObjectStore, id: BlockId) -> Result<usize> {
    let files = layout::list_block(store, id).await?;
    store.delete(&layout::meta_key(id)).await?;
    let others = files.iter().filter(|it| it.path != META_FILE && it.path != DELETION_MARK);
    let others: Vec<String> = others.map(|it| layout::key(id, &it.path)).collect();
    stream::iter(others)
        .map(|key| async move { store.delete(&key).await })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    store.delete(&layout::key(id, DELETION_MARK)).await?;
    Ok(files.len())
}
