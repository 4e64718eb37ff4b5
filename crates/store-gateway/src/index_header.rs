//! Index headers on the local disk, made from ranged reads of the index when they are missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::Tasks;
use model::{BlockId, Budget};
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
        self.open_local(&path, budget).await.map_err(|error| match error {
            // What was just copied is damaged, so the index itself is.
            Error::Local(tsdb_core::Error::Corrupt { damage, .. }) => {
                let _gone = self.fs.unlink(&path);
                Error::Damaged { key: index_file(block).key, damage }
            }
            other => other,
        })
    }

    /// Removes what is kept of a block.
    pub(crate) fn remove(&self, block: BlockId) {
        let directory = self.data_dir.join(block.to_string());
        match self.fs.remove_directory(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!(%block, "cannot remove the local files of a block: {error}");
            }
            _ => {}
        }
    }

    /// The blocks of which something is kept.
    pub(crate) fn kept(&self) -> Vec<BlockId> {
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
        let directory = path.parent().unwrap_or(Path::new("."));
        let made = self.fs.make_directory(directory);
        made.map_err(tsdb_core::Error::io("make", directory))?;
        let mut builder = Builder::create(&*self.fs, path, version, toc, size_bytes)?;
        for range in builder.wanted() {
            let mut at = range.start;
            while at < range.end {
                let end = (at + PART_BYTES).min(range.end);
                let part = store.get_range(&key, at..end).await?;
                if part.len() as u64 != end - at {
                    let text = format!("{} bytes of {} came", part.len(), end - at);
                    return Err(damaged(tsdb_core::Damage::new("index", at, text)));
                }
                builder.append(&part)?;
                at = end;
            }
        }
        builder.finish()?;
        self.metrics.count_header_built();
        Ok(())
    }
}
