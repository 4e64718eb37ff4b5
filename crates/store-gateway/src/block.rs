//! A block of the bucket that is ready to be read.

use std::sync::Arc;

use model::{BlockId, Labels, TimeRange};
use tsdb_core::block::{Meta, segments};
use tsdb_core::index::header::Header;
use tsdb_core::index::{Lookup, Toc};

use crate::remote::RemoteFile;

/// How many bytes a series entry is thought to have when nothing says how many.
const SERIES_BYTES_GUESS: u64 = 8 * 1024;
/// How many bytes a chunk is thought to have when nothing says where it ends.
const CHUNK_BYTES_GUESS: u64 = 2 * 1024;
/// A wrong statistic of a meta must not make every read a large one.
const GUESS_BYTES_MAX: u64 = 64 * 1024;

/// A loaded block: its meta and what the index header keeps in memory.
#[derive(Debug)]
pub(crate) struct Block {
    meta: Arc<Meta>,
    external: Labels,
    header: Header,
    index: RemoteFile,
}

impl Block {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When the external labels are none.
    pub(crate) fn new(
        meta: Arc<Meta>,
        header: Header,
    ) -> Result<Block, model::labels::LabelsError> {
        let external = meta.external_labels()?;
        let index = index_file(meta.ulid);
        Ok(Block { meta, external, header, index })
    }

    /// Its name.
    pub(crate) fn id(&self) -> BlockId {
        self.meta.ulid
    }

    /// What to call it in warnings and errors.
    pub(crate) fn name(&self) -> String {
        name_of(&self.meta)
    }

    /// Its meta.
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Its external labels.
    pub(crate) fn external(&self) -> &Labels {
        &self.external
    }

    /// Symbols and posting offsets.
    pub(crate) fn lookup(&self) -> &Lookup {
        &self.header.lookup
    }

    /// Where the sections of its index lie.
    pub(crate) fn toc(&self) -> &Toc {
        &self.header.toc
    }

    /// Its index in the bucket.
    pub(crate) fn index(&self) -> &RemoteFile {
        &self.index
    }

    /// One of its segments in the bucket, by number from 0.
    pub(crate) fn segment(&self, segment: usize) -> RemoteFile {
        let number = u32::try_from(segment).unwrap_or(u32::MAX).saturating_add(1);
        let key = format!("{}/chunks/{}", self.meta.ulid, segments::file_name(segment));
        RemoteFile { block: self.meta.ulid, number, key }
    }

    /// The time that it covers, both ends inclusive.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(self.meta.min_time_ms, self.meta.max_time_ms.saturating_sub(1))
    }

    /// How many bytes a series entry is thought to have.
    pub(crate) fn series_bytes_guess(&self) -> u64 {
        match self.meta.thanos.index_stats.series_max_bytes {
            0 => SERIES_BYTES_GUESS,
            // The statistic does not count length field and checksum.
            most => (most + 16).min(GUESS_BYTES_MAX),
        }
    }

    /// How many bytes a chunk is thought to have.
    pub(crate) fn chunk_bytes_guess(&self) -> u64 {
        match self.meta.thanos.index_stats.chunk_max_bytes {
            0 => CHUNK_BYTES_GUESS,
            most => (most + segments::FRAME_BYTES_MAX as u64).min(GUESS_BYTES_MAX),
        }
    }
}

/// The index of a block in the bucket.
pub(crate) fn index_file(block: BlockId) -> RemoteFile {
    RemoteFile { block, number: 0, key: format!("{block}/index") }
}

/// What to call a block in warnings and errors: its id and the time that it covers.
pub(crate) fn name_of(meta: &Meta) -> String {
    format!("block {} ({} to {} ms)", meta.ulid, meta.min_time_ms, meta.max_time_ms)
}
