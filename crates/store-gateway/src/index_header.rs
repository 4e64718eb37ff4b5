//! Index headers on the local disk, made from ranged reads of the index when they are missing.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use daemon::Tasks;
use model::{BlockId, Budget};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use tsdb_core::fs::SharedFs;
use tsdb_core::index::header::{Builder, Header};
use tsdb_core::index::{self, Toc, Version};

use crate::block::index_file;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::remote::Remote;

/// How much of an index is read by one request.
const PART_BYTES: u64 = 8 * 1024 * 1024;

/// Finds and makes index headers.
#[derive(Clone, Debug)]
pub(crate) struct IndexHeaders {
    /// The local disk.
    pub(crate) fs: SharedFs,
    /// Where the headers lie: `<data-dir>/<ULID>/index-header`.
    pub(crate) data_dir: PathBuf,
    /// One posting offset in so many is kept in memory.
    pub(crate) sample_rate: usize,
    /// Blocking work.
    pub(crate) tasks: Tasks,
    /// Counts.
    pub(crate) metrics: Metrics,
}

impl IndexHeaders {
    /// The header of a block: from the disk, or made from the bucket.
    ///
    /// # Errors
    /// When the bucket or the disk fails, or the index in the bucket is damaged.
    pub(crate) async fn open(
        &self,
        remote: &Arc<Remote>,
        block: BlockId,
        budget: &Budget,
    ) -> Result<Header> {
        let path = self.path(block);
        match self.open_local(&path, budget).await {
            Ok(header) => return Ok(header),
            Err(Error::Local(error)) if error.is_not_found() => {}
            Err(error) if error.is_damage() => {
                warn!(%block, "the local index header is made again: {error}");
                self.metrics.count_header_rebuilt();
            }
            Err(error) => return Err(error),
        }
        self.build(remote, block, &path).await?;
        match self.open_local(&path, budget).await {
            // What was just copied is damaged, so the index itself is.
            Err(Error::Local(tsdb_core::Error::Corrupt { damage, .. })) => {
                let (fs, path) = (Arc::clone(&self.fs), path.clone());
                let unlink = move || fs.unlink(&path);
                let _gone = self.tasks.spawn_blocking("remove index header", unlink).await;
                Err(Error::Damaged { key: index_file(block).key, damage })
            }
            opened => opened,
        }
    }

    /// Removes what is kept of all other blocks.
    pub(crate) async fn keep_only(&self, blocks: BTreeSet<BlockId>) {
        let headers = self.clone();
        let work = move || {
            let kept = headers.kept();
            let gone = kept.into_iter().filter(|it| !blocks.contains(it));
            gone.for_each(|it| headers.remove(it));
        };
        // It is left undone only when the process stops, and done after the next start.
        let _done = self.tasks.spawn_blocking("remove index headers", work).await;
    }

    fn remove(&self, block: BlockId) {
        let directory = self.data_dir.join(block.to_string());
        match self.fs.remove_directory(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!(%block, "cannot remove the local files of a block: {error}");
            }
            _ => {}
        }
    }

    /// The blocks of which something is kept.
    fn kept(&self) -> Vec<BlockId> {
        let entries = self.fs.list(&self.data_dir).unwrap_or_default();
        entries.iter().filter_map(|it| it.name.parse().ok()).collect()
    }

    fn path(&self, block: BlockId) -> PathBuf {
        self.data_dir.join(block.to_string()).join("index-header")
    }

    async fn open_local(&self, path: &Path, budget: &Budget) -> Result<Header> {
        let (fs, path, budget) = (Arc::clone(&self.fs), path.to_owned(), budget.clone());
        let sample_rate = self.sample_rate;
        let open = move || Header::open(&*fs, &path, sample_rate, &budget);
        let opened = self.tasks.spawn_blocking("open index header", open).await;
        Ok(opened.map_err(|_| Error::Stopping)??)
    }

    async fn build(&self, remote: &Arc<Remote>, block: BlockId, path: &Path) -> Result<()> {
        let key = index_file(block).key;
        let store = remote.store();
        let damaged = |damage| Error::Damaged { key: key.clone(), damage };
        let size_bytes = store.head(&key).await?.size_bytes;
        let toc_at = size_bytes.saturating_sub(index::TOC_BYTES as u64);
        let toc = store.get_range(&key, toc_at..size_bytes).await?;
        let toc = Toc::decode(&toc, size_bytes).map_err(damaged)?;
        let head = store.get_range(&key, 0..index::HEADER_BYTES as u64).await?;
        let version = Version::decode(&head).map_err(damaged)?;
        let (fs, path) = (Arc::clone(&self.fs), path.to_owned());
        let writing = Writing { fs, path, version, toc, index_bytes: size_bytes };
        let (tell, wanted) = oneshot::channel();
        let (parts, arriving) = mpsc::channel(1);
        let work = move || writing.write(tell, arriving);
        let written = self.tasks.spawn_blocking("write index header", work);
        let fetched = fetch_parts(remote, &key, wanted, parts).await;
        let written = written.await.map_err(|_| Error::Stopping)?;
        // Without all parts no header was made, for which the first failure is the reason.
        fetched?;
        written?;
        self.metrics.count_header_built();
        Ok(())
    }
}

/// Reads the ranges of an index that `wanted` tells, part by part. When nobody takes parts any
/// more, the taker has a failure of its own to tell.
async fn fetch_parts(
    remote: &Remote,
    key: &str,
    wanted: oneshot::Receiver<[Range<u64>; 2]>,
    parts: mpsc::Sender<Bytes>,
) -> Result<()> {
    let Ok(wanted) = wanted.await else { return Ok(()) };
    for range in wanted {
        let mut at = range.start;
        while at < range.end {
            let end = (at + PART_BYTES).min(range.end);
            let part = remote.store().get_range(key, at..end).await?;
            if part.len() as u64 != end - at {
                let text = format!("{} bytes of {} came", part.len(), end - at);
                let damage = tsdb_core::Damage::new("index", at, text);
                return Err(Error::Damaged { key: key.to_owned(), damage });
            }
            if parts.send(part).await.is_err() {
                return Ok(());
            }
            at = end;
        }
    }
    Ok(())
}

/// An index header that is being written, on a thread that may wait for the disk.
struct Writing {
    fs: SharedFs,
    path: PathBuf,
    version: Version,
    toc: Toc,
    index_bytes: u64,
}

impl Writing {
    /// Tells the ranges of the index that are needed, and writes what comes of them.
    fn write(
        self,
        tell: oneshot::Sender<[Range<u64>; 2]>,
        mut parts: mpsc::Receiver<Bytes>,
    ) -> tsdb_core::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let made = self.fs.make_directory(directory);
        made.map_err(tsdb_core::Error::io("make", directory))?;
        let Writing { version, toc, index_bytes, .. } = self;
        let mut builder = Builder::create(&*self.fs, &self.path, version, toc, index_bytes)?;
        // When the call is gone, no parts come, and without them nothing is finished.
        let _gone = tell.send(builder.wanted());
        while let Some(part) = parts.blocking_recv() {
            builder.append(&part)?;
        }
        builder.finish()
    }
}
