//! The names of the objects of a block; the layout is described in `docs/format/bucket.md`.

use std::collections::BTreeMap;

use model::BlockId;
use objstore::{ObjectMeta, ObjectStore};
use tsdb_core::block::{CHUNKS_DIRECTORY, INDEX_FILE, META_FILE};

use crate::error::Result;

/// The mark of a block that is to be deleted.
pub const DELETION_MARK: &str = "deletion-mark.json";
/// The mark of a block that no compaction may touch.
pub const NO_COMPACT_MARK: &str = "no-compact-mark.json";
/// The mark of a block that is not downsampled.
pub const NO_DOWNSAMPLE_MARK: &str = "no-downsample-mark.json";

/// What all keys of a block begin with: `<ULID>/`.
pub fn prefix(id: BlockId) -> String {
    format!("{id}/")
}

/// The key of a file of a block, by its path in the block's directory.
pub fn key(id: BlockId, path: &str) -> String {
    format!("{id}/{path}")
}

/// `<ULID>/meta.json`.
pub fn meta_key(id: BlockId) -> String {
    key(id, META_FILE)
}

/// `<ULID>/index`.
pub fn index_key(id: BlockId) -> String {
    key(id, INDEX_FILE)
}

/// `<ULID>/chunks/000001` for segment 0, as chunk references count them.
pub fn segment_key(id: BlockId, segment: u32) -> String {
    format!("{id}/{CHUNKS_DIRECTORY}/{:06}", u64::from(segment) + 1)
}

/// The block and the path in it that a key names; none for what is no part of a block.
pub fn parse(key: &str) -> Option<(BlockId, &str)> {
    let (id, path) = key.split_once('/')?;
    Some((id.parse().ok()?, path))
}

/// A file of a block, as the bucket lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Path in the block's directory.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was last written, in ms since the Unix epoch, by the store's clock.
    pub modified_ms: i64,
    /// The entity tag, where the store has one.
    pub etag: Option<String>,
}

impl StoredFile {
    fn new(object: ObjectMeta, path: &str) -> StoredFile {
        StoredFile {
            path: path.to_owned(),
            size_bytes: object.size_bytes,
            modified_ms: object.modified_ms,
            etag: object.etag,
        }
    }
}

/// The files of one block, by path.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn list_block(store: &dyn ObjectStore, id: BlockId) -> Result<Vec<StoredFile>> {
    let mut blocks = BTreeMap::new();
    list_below(store, &prefix(id), &mut blocks).await?;
    Ok(blocks.remove(&id).unwrap_or_default())
}

/// The files of every block of the bucket, by block and path, in one listing: a call for each
/// thousand objects, however many blocks there are.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn list_blocks(store: &dyn ObjectStore) -> Result<BTreeMap<BlockId, Vec<StoredFile>>> {
    let mut blocks = BTreeMap::new();
    list_below(store, "", &mut blocks).await?;
    Ok(blocks)
}

async fn list_below(
    store: &dyn ObjectStore,
    prefix: &str,
    blocks: &mut BTreeMap<BlockId, Vec<StoredFile>>,
) -> Result<()> {
    let mut next = None;
    loop {
        let page = store.list(prefix, false, next).await?;
        for object in page.objects {
            let object_key = object.key.clone();
            if let Some((id, path)) = parse(&object_key) {
                blocks.entry(id).or_default().push(StoredFile::new(object, path));
            }
        }
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_thanos() {
        let id: BlockId = "01M83S0FBCY141G7C3CQJ72YNQ".parse().unwrap();
        assert_eq!(meta_key(id), "01M83S0FBCY141G7C3CQJ72YNQ/meta.json");
        assert_eq!(index_key(id), "01M83S0FBCY141G7C3CQJ72YNQ/index");
        assert_eq!(segment_key(id, 0), "01M83S0FBCY141G7C3CQJ72YNQ/chunks/000001");
        assert_eq!(segment_key(id, 41), "01M83S0FBCY141G7C3CQJ72YNQ/chunks/000042");
        assert_eq!(parse(&segment_key(id, 0)), Some((id, "chunks/000001")));
        assert_eq!(parse("debug/metas/01M83S0FBCY141G7C3CQJ72YNQ.json"), None);
        assert_eq!(parse("01M83S0FBCY141G7C3CQJ72YNQ"), None);
        assert_eq!(parse("thanos.shipper.json"), None);
    }
}
