//! Ships a local block: chunks, index, and `meta.json` last, which makes it visible.

use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use model::{BlockId, Labels};
use objstore::ObjectStore;
use tracing::{debug, warn};
use tsdb_core::block::meta::File as MetaFile;
use tsdb_core::block::{CHUNKS_DIRECTORY, INDEX_FILE, META_FILE, Meta};
use tsdb_core::fs::{EntryKind, Fs};

use crate::error::{Error, Result};
use crate::layout::{self, StoredFile};
use crate::view::{fetch_meta, missing_files};

/// Multipart uploads that were begun so long ago and never finished are aborted.
pub const STALE_UPLOAD_AFTER_MS: i64 = 2 * 24 * 3_600_000;

/// A block on the local disk.
#[derive(Clone, Copy, Debug)]
pub struct LocalBlock<'a> {
    /// The disk.
    pub fs: &'a dyn Fs,
    /// The block's directory.
    pub directory: &'a Path,
}

/// What an upload adds to the meta.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// External labels; at least one.
    pub labels: &'a Labels,
    /// Which component uploads: `receive`, `compactor`, …
    pub source: &'a str,
    /// The time, in ms since the Unix epoch.
    pub now_ms: i64,
    /// Files of the block that are sent at once.
    pub parallel: usize,
}

/// What an upload led to.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// The meta as it is in the bucket.
    pub meta: Meta,
    /// Whether this call made the block visible; it was already otherwise.
    pub is_new: bool,
}

/// A file of the local block.
#[derive(Clone, Debug)]
struct LocalFile {
    /// Path in the block's directory, with `/`.
    name: String,
    path: PathBuf,
    size_bytes: u64,
}

/// A file that is in the bucket now.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Path in the block's directory, with `/`.
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    /// The tag that the store answered, if it was sent now.
    pub(crate) etag: Option<String>,
}

/// Uploads a block, unless its `meta.json` is in the bucket already. Every other file is verified
/// in the bucket before the meta is written: the size as listed, and the entity tag where it is
/// defined to be the MD5. What an earlier try left is used where it is equal.
///
/// # Errors
/// When the bucket or the disk fails; the block is invisible then, and another call goes on.
pub async fn upload(
    store: &dyn ObjectStore,
    block: LocalBlock<'_>,
    stamp: Stamp<'_>,
) -> Result<Uploaded> {
    let mut meta = Meta::read(block.fs, &block.directory.join(META_FILE))?;
    let id = meta.ulid;
    if stamp.labels.is_empty() {
        let reason = "no external labels, so that its series could not be told from others'";
        return Err(Error::Unfit { id, reason: reason.to_owned() });
    }
    match fetch_meta(store, id).await {
        Ok(Some(meta)) => return Ok(Uploaded { meta, is_new: false }),
        Ok(None) => {}
        // Ours by its name, and of no use to anybody: the whole local block replaces it.
        Err(Error::Corrupt { key, damage }) => warn!("replacing corrupt object {key}: {damage}"),
        Err(error) => return Err(error),
    }
    let files = local_files(block)?;
    let sent = send_files(store, id, &files, stamp.parallel).await?;
    verify_listed(store, id, &sent).await?;
    complete(&mut meta, &files, stamp);
    send_meta(store, &meta).await?;
    Ok(Uploaded { meta, is_new: true })
}

/// Uploads a block where it is not in the bucket yet, and then looks at the bucket anew: the block
/// must be visible, and every file that its meta names and every file that is here must be there
/// in its size. What a local block needs before it may go.
///
/// # Errors
/// As [`upload`]; [`Error::Unverified`] when the block is not visible after all, and
/// [`Error::Incomplete`] names what is missing.
pub async fn upload_verified(
    store: &dyn ObjectStore,
    block: LocalBlock<'_>,
    stamp: Stamp<'_>,
) -> Result<Uploaded> {
    let Uploaded { meta, is_new } = upload(store, block, stamp).await?;
    let id = meta.ulid;
    let Some(meta) = fetch_meta(store, id).await? else {
        let (key, reason) = (layout::meta_key(id), "it is not there after the upload".to_owned());
        return Err(Error::Unverified { key, reason });
    };
    let listed = layout::list_block(store, id).await?;
    let mut missing = missing_files(&meta, &listed);
    // A meta may name no files, or not all: what is here is what must not be lost.
    for file in local_files(block)? {
        let stored = listed.iter().find(|it| it.path == file.name);
        let is_named = meta.thanos.files.iter().any(|it| it.rel_path == file.name);
        match stored.map(|it| it.size_bytes) {
            Some(size_bytes) if size_bytes == file.size_bytes => {}
            Some(size_bytes) => {
                let (name, here_bytes) = (file.name, file.size_bytes);
                missing.push(format!("{name} ({size_bytes} bytes, {here_bytes} on the disk)"));
            }
            // Named already.
            None if is_named || missing.contains(&file.name) => {}
            None => missing.push(file.name),
        }
    }
    match missing.is_empty() {
        true => Ok(Uploaded { meta, is_new }),
        false => Err(Error::Incomplete { id, missing }),
    }
}

/// Checks that a block is visible in the bucket with all its files in their sizes, and answers its
/// meta; none when it is not visible. Whoever has the block on a disk uses [`upload_verified`].
///
/// # Errors
/// When the bucket fails; [`Error::Incomplete`] names what is missing.
pub async fn verify(store: &dyn ObjectStore, id: BlockId) -> Result<Option<Meta>> {
    let Some(meta) = fetch_meta(store, id).await? else { return Ok(None) };
    let missing = missing_files(&meta, &layout::list_block(store, id).await?);
    match missing.is_empty() {
        true => Ok(Some(meta)),
        false => Err(Error::Incomplete { id, missing }),
    }
}

/// Aborts multipart uploads of blocks that were begun more than two days ago and never finished,
/// and answers how many.
///
/// # Errors
/// When the bucket fails.
pub async fn abort_stale_uploads(store: &dyn ObjectStore, now_ms: i64) -> Result<usize> {
    let before_ms = now_ms.saturating_sub(STALE_UPLOAD_AFTER_MS);
    Ok(store.abort_stale_uploads("", before_ms).await?)
}

/// Chunk segments in order, then the index.
fn local_files(block: LocalBlock<'_>) -> Result<Vec<LocalFile>> {
    let chunks = block.directory.join(CHUNKS_DIRECTORY);
    let entries = block.fs.list(&chunks).map_err(tsdb_core::error::Error::io("list", &chunks))?;
    let mut names: Vec<String> = entries
        .into_iter()
        .filter(|it| it.kind == EntryKind::File)
        .map(|it| format!("{CHUNKS_DIRECTORY}/{}", it.name))
        .collect();
    names.sort();
    names.push(INDEX_FILE.to_owned());
    let file = |name: String| {
        let path = block.directory.join(&name);
        let size = block.fs.open(&path).and_then(|it| it.size_bytes());
        let size_bytes = size.map_err(tsdb_core::error::Error::io("open", &path))?;
        Ok(LocalFile { name, path, size_bytes })
    };
    names.into_iter().map(file).collect()
}

async fn send_files(
    store: &dyn ObjectStore,
    id: BlockId,
    files: &[LocalFile],
    parallel: usize,
) -> Result<Vec<Sent>> {
    let listed = layout::list_block(store, id).await?;
    let listed = &listed;
    let (chunks, index) = files.split_at(files.len().saturating_sub(1));
    let mut sent = Vec::with_capacity(files.len());
    for group in [chunks, index] {
        // Made before the stream, so that the whole stays a future that threads can share.
        let sends: Vec<_> = group.iter().map(|file| send_file(store, id, file, listed)).collect();
        let sends = stream::iter(sends).buffer_unordered(parallel.max(1));
        sent.extend(sends.try_collect::<Vec<_>>().await?);
    }
    Ok(sent)
}

async fn send_file(
    store: &dyn ObjectStore,
    id: BlockId,
    file: &LocalFile,
    listed: &[StoredFile],
) -> Result<Sent> {
    let key = layout::key(id, &file.name);
    let stored = listed.iter().find(|it| it.path == file.name);
    if let Some(stored) = stored
        && stored.size_bytes == file.size_bytes
        && tag_agrees(file, stored).await?
    {
        debug!(key, "in the bucket already");
        return Ok(Sent { name: file.name.clone(), size_bytes: file.size_bytes, etag: None });
    }
    let outcome = store.put_file(&key, &file.path).await?;
    if outcome.size_bytes != file.size_bytes {
        let reason = format!("{} of {} bytes were sent", outcome.size_bytes, file.size_bytes);
        return Err(Error::Unverified { key, reason });
    }
    if let (true, Some(etag)) = (outcome.etag_is_md5, &outcome.etag)
        && !etag.eq_ignore_ascii_case(&outcome.md5_hex)
    {
        let reason = format!("its MD5 is {etag}, that of the file {}", outcome.md5_hex);
        return Err(Error::Unverified { key, reason });
    }
    Ok(Sent { name: file.name.clone(), size_bytes: file.size_bytes, etag: outcome.etag })
}

/// Whether the tag of a stored file, where it looks like an MD5, is that of the local one. Tags of
/// another form say nothing: then the size decides, since objects appear whole or not at all.
async fn tag_agrees(file: &LocalFile, stored: &StoredFile) -> Result<bool> {
    let is_md5 = |it: &&String| it.len() == 32 && it.bytes().all(|it| it.is_ascii_hexdigit());
    let Some(etag) = stored.etag.as_ref().filter(is_md5) else { return Ok(true) };
    let md5 = objstore::md5_hex_of_file(&file.path).await;
    let md5 = md5.map_err(tsdb_core::error::Error::io("read", &file.path))?;
    Ok(etag.eq_ignore_ascii_case(&md5))
}

/// Checks what was sent against a new listing.
pub(crate) async fn verify_listed(
    store: &dyn ObjectStore,
    id: BlockId,
    sent: &[Sent],
) -> Result<()> {
    let listed = layout::list_block(store, id).await?;
    for file in sent {
        let reason = match listed.iter().find(|it| it.path == file.name) {
            None => "it is not listed".to_owned(),
            Some(stored) if stored.size_bytes != file.size_bytes => {
                format!("{} bytes are listed, {} were sent", stored.size_bytes, file.size_bytes)
            }
            Some(stored) => match (&stored.etag, &file.etag) {
                (Some(listed), Some(sent)) if listed != sent => {
                    format!("tag {listed} is listed, {sent} was answered")
                }
                _ => continue,
            },
        };
        return Err(Error::Unverified { key: layout::key(id, &file.name), reason });
    }
    Ok(())
}

/// Fills Thanos' section.
fn complete(meta: &mut Meta, files: &[LocalFile], stamp: Stamp<'_>) {
    let labels = stamp.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    meta.thanos.labels = labels.collect();
    stamp.source.clone_into(&mut meta.thanos.source);
    fill_files(meta, files.iter().map(|it| (&*it.name, it.size_bytes)));
    meta.thanos.upload_time = rfc3339(stamp.now_ms);
}

/// Fills the lists of files, which are sorted; `meta.json` is in them without its size.
pub(crate) fn fill_files<'a>(meta: &mut Meta, files: impl Iterator<Item = (&'a str, u64)>) {
    let mut listed: Vec<MetaFile> = files
        .map(|(name, size_bytes)| MetaFile { rel_path: name.to_owned(), size_bytes, hash: None })
        .collect();
    listed.push(MetaFile { rel_path: META_FILE.to_owned(), ..MetaFile::default() });
    listed.sort_by(|a, b| a.rel_path.cmp(&b.rel_path));
    let prefix = format!("{CHUNKS_DIRECTORY}/");
    let segments = listed.iter().filter_map(|it| it.rel_path.strip_prefix(&prefix));
    meta.thanos.segment_files = segments.map(str::to_owned).collect();
    meta.thanos.files = listed;
}

/// Writes the meta, and checks that it arrived.
pub(crate) async fn send_meta(store: &dyn ObjectStore, meta: &Meta) -> Result<()> {
    let key = layout::meta_key(meta.ulid);
    let outcome = store.put(&key, meta.encode().into()).await?;
    let stored = store.head(&key).await?;
    let tag_differs = outcome.etag_is_md5 && outcome.etag.as_ref() != Some(&outcome.md5_hex);
    if stored.size_bytes != outcome.size_bytes || tag_differs {
        let reason = format!("{} of {} bytes", stored.size_bytes, outcome.size_bytes);
        return Err(Error::Unverified { key, reason });
    }
    Ok(())
}

/// A time as Go prints it in RFC 3339; times that no calendar has are the epoch.
pub(crate) fn rfc3339(now_ms: i64) -> String {
    Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
