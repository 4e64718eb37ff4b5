//! Writes a block: series in the order of their labels, with their chunks.
//!
//! The directory has its name only once everything in it is durable.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::{Budget, Labels};

use crate::block::segments::{SEGMENT_BYTES_MAX, SegmentWriter, file_name};
use crate::block::{CHUNKS_DIRECTORY, INDEX_FILE, META_FILE, Meta, UNFINISHED_SUFFIX};
use crate::chunk::{self, Encoding};
use crate::error::{Error, Result};
use crate::fs::{EntryKind, Fs};
use crate::index::{self, ChunkMeta};
use crate::stream::Sink;
use crate::stream::local::FilesSink;

/// A chunk with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkData {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Time of the first sample in ms.
    pub min_time_ms: i64,
    /// Time of the last sample in ms.
    pub max_time_ms: i64,
    /// The data alone.
    pub data: Bytes,
}

/// A block being written.
#[derive(Debug)]
pub struct Writer<'a> {
    fs: &'a dyn Fs,
    directory: PathBuf,
    temporary: PathBuf,
    index: index::Writer<'a>,
    segments: SegmentWriter<'a>,
    meta: Meta,
    placed: Vec<ChunkMeta>,
}

impl<'a> Writer<'a> {
    /// Begins the block that `meta` names, below `parent`. `symbols` are the label names and
    /// values of all series to come, sorted, each once.
    ///
    /// Of the meta, statistics and sizes are filled in; everything else stays as it is given.
    ///
    /// # Errors
    /// When the disk fails, symbols are not sorted, or `budget` has no room for them.
    pub fn create<S: AsRef<str>>(
        fs: &'a dyn Fs,
        parent: &Path,
        meta: Meta,
        symbols: impl IntoIterator<Item = S>,
        budget: &Budget,
    ) -> Result<Writer<'a>> {
        let directory = parent.join(meta.ulid.to_string());
        let temporary = parent.join(format!("{}{UNFINISHED_SUFFIX}", meta.ulid));
        match fs.remove_directory(&temporary).map_err(Error::io("remove", &temporary)) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        fs.make_directory(&temporary).map_err(Error::io("make", &temporary))?;
        let chunks = temporary.join(CHUNKS_DIRECTORY);
        fs.make_directory(&chunks).map_err(Error::io("make", &chunks))?;
        let segments = SegmentWriter::new(sink(fs, &temporary), SEGMENT_BYTES_MAX);
        let index = index::Writer::create(fs, &temporary.join(INDEX_FILE), symbols, budget)?;
        let placed = Vec::new();
        Ok(Writer { fs, directory, temporary, index, segments, meta, placed })
    }

    /// Bounds the segments, for tests; a chunk that is larger gets a segment of its own.
    pub fn set_segment_bytes_max(&mut self, bytes: u64) {
        self.segments = SegmentWriter::new(sink(self.fs, &self.temporary), bytes);
    }

    /// Bounds the buffer in which posting lists are gathered; smaller means more passes over the
    /// series.
    pub fn set_lists_bytes_max(&mut self, bytes: usize) {
        self.index.set_lists_bytes_max(bytes);
    }

    /// Adds a series: labels above those of the series before, chunks in time order, not
    /// overlapping and within the block.
    ///
    /// # Errors
    /// When the disk fails, the order is broken, a symbol is missing, or a bound is passed.
    pub fn add_series(&mut self, labels: &Labels, chunks: &[ChunkData]) -> Result<()> {
        self.place(chunks, labels)?;
        self.index.add_series(labels, &self.placed)?;
        self.count_series(chunks);
        Ok(())
    }

    /// As [`Writer::add_series`], with labels named by the places of their texts among the
    /// `symbols` that the block was begun with, from 0, which must not have the empty one.
    ///
    /// # Errors
    /// As [`Writer::add_series`].
    pub(crate) fn add_ranked(&mut self, labels: &[(u32, u32)], chunks: &[ChunkData]) -> Result<()> {
        self.place(chunks, &"a series")?;
        self.index.add_ranked(labels, &self.placed)?;
        self.count_series(chunks);
        Ok(())
    }

    fn count_series(&mut self, chunks: &[ChunkData]) {
        self.meta.stats.num_series += 1;
        self.meta.stats.num_chunks += chunks.len() as u64;
    }

    /// Writes chunks to the segments and takes note of their places.
    fn place(&mut self, chunks: &[ChunkData], labels: &dyn fmt::Display) -> Result<()> {
        self.placed.clear();
        self.segments.begin_series();
        for chunk in chunks {
            let last_ms = chunk.max_time_ms;
            if !self.meta.contains(chunk.min_time_ms) || !self.meta.contains(last_ms) {
                let span = format!("{} to {last_ms}", chunk.min_time_ms);
                let text = format!("chunk of {labels} from {span} lies outside of the block");
                return Err(Error::invalid(text));
            }
            let reference = self.segments.write(chunk.encoding, &chunk.data)?;
            let (min_time_ms, max_time_ms) = (chunk.min_time_ms, last_ms);
            self.placed.push(ChunkMeta { reference, min_time_ms, max_time_ms });
            self.count(chunk)?;
        }
        Ok(())
    }

    /// Writes what is missing, makes everything durable, gives the directory its name, and
    /// answers the finished meta.
    ///
    /// # Errors
    /// When the disk fails or a bound is passed; the block then does not exist.
    pub fn finish(self) -> Result<Meta> {
        let mut meta = self.meta;
        let segments = self.segments.finish()?;
        let sync = |path: &Path| self.fs.sync_directory(path).map_err(Error::io("sync", path));
        sync(&self.temporary.join(CHUNKS_DIRECTORY))?;
        let written = self.index.finish()?;
        meta.thanos.index_stats.series_max_bytes = written.series_max_bytes;
        meta.thanos.index_stats.chunk_max_bytes = segments.chunk_max_bytes;
        meta.thanos.segment_files = (0..segments.sizes_bytes.len()).map(file_name).collect();
        let path = self.temporary.join(META_FILE);
        let file = self.fs.create(&path).map_err(Error::io("create", &path))?;
        file.append(&meta.encode()).map_err(Error::io("write", &path))?;
        file.sync_data().map_err(Error::io("sync", &path))?;
        sync(&self.temporary)?;
        let renamed = self.fs.rename(&self.temporary, &self.directory);
        renamed.map_err(Error::io("rename", &self.temporary))?;
        sync(self.directory.parent().unwrap_or(Path::new(".")))?;
        Ok(meta)
    }

    fn count(&mut self, chunk: &ChunkData) -> Result<()> {
        let stats = &mut self.meta.stats;
        if chunk.encoding == Encoding::Aggregate {
            return Ok(());
        }
        let samples = chunk::sample_count(chunk.encoding, &chunk.data);
        let samples = u64::from(samples.map_err(|it| Error::invalid(it.to_string()))?);
        stats.num_samples += samples;
        match chunk.encoding {
            Encoding::Xor | Encoding::Xor2 => stats.num_float_samples += samples,
            _ => stats.num_histogram_samples += samples,
        }
        Ok(())
    }
}

/// Removes the directories of blocks that were never finished; answers how many there were.
///
/// # Errors
/// When the disk fails.
pub fn remove_unfinished(fs: &dyn Fs, parent: &Path) -> Result<usize> {
    let entries = fs.list(parent).map_err(Error::io("list", parent))?;
    let unfinished = |it: &&crate::fs::Entry| {
        it.kind == EntryKind::Directory && it.name.ends_with(UNFINISHED_SUFFIX)
    };
    let mut count = 0;
    for entry in entries.iter().filter(unfinished) {
        let path = parent.join(&entry.name);
        fs.remove_directory(&path).map_err(Error::io("remove", &path))?;
        count += 1;
    }
    Ok(count)
}

fn sink<'a>(fs: &'a dyn Fs, directory: &Path) -> Arc<dyn Sink + 'a> {
    Arc::new(FilesSink { fs, directory: directory.to_owned() })
}
