//! Writes a block to a sink: chunks stream there at once, the index is built on scratch space and
//! follows when it is whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::{Budget, TimeRange};

use crate::block::meta::{File, IndexStats, Stats};
use crate::block::segments::{SEGMENT_BYTES_MAX, SegmentWriter, file_name};
use crate::block::{CHUNKS_DIRECTORY, ChunkData, INDEX_FILE, META_FILE, Meta};
use crate::chunk::{self, Encoding};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::index::{self, ChunkMeta, SERIES_ALIGN_BYTES, SymbolList};
use crate::read_ahead::SealedFile;
use crate::stream::Sink;
use crate::stream::frames::Frame;

/// How much of the index is handed to the sink at once.
const PIECE_BYTES: usize = 1024 * 1024;
/// Scratch space of a job, unless told otherwise.
pub const SCRATCH_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Bound of the buffer in which posting lists are gathered.
const LISTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where a job may write what it throws away again.
#[derive(Clone, Copy, Debug)]
pub struct Scratch<'a> {
    /// The disk.
    pub fs: &'a dyn Fs,
    /// The directory, which exists; files in it are named after the block that is made.
    pub directory: &'a Path,
    /// Most bytes of it, such as [`SCRATCH_BYTES_MAX`].
    pub bytes_max: u64,
}

/// What a block became.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// What is in it; of an empty block nothing was written.
    pub stats: Stats,
    /// Its largest entries, for the meta's Thanos section.
    pub index_stats: IndexStats,
    /// Names of its segments, for the same.
    pub segment_files: Vec<String>,
    /// All its files, sorted by path, with the meta.json that is to follow (which has no size in
    /// this list), for the same.
    pub files: Vec<File>,
}

impl Written {
    /// Puts everything into a meta.
    pub fn fill(&self, meta: &mut Meta) {
        meta.stats = self.stats.clone();
        meta.thanos.index_stats = self.index_stats;
        meta.thanos.segment_files.clone_from(&self.segment_files);
        meta.thanos.files.clone_from(&self.files);
    }

    /// Size of the index in bytes.
    pub fn index_bytes(&self) -> u64 {
        self.files.iter().find(|it| it.rel_path == INDEX_FILE).map_or(0, |it| it.size_bytes)
    }

    /// Size of all files but the meta.json in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|it| it.size_bytes).sum()
    }
}

/// A block being written. Dropped before [`BlockWriter::finish`] it leaves no scratch space in
/// use; what of it went to the sink is for the sink's owner to remove.
#[derive(Debug)]
pub struct BlockWriter<'a> {
    sink: Arc<dyn Sink + 'a>,
    index: index::Writer<'a>,
    segments: SegmentWriter<'a>,
    /// The block's samples lie here, both ends inclusive.
    span: TimeRange,
    placed: Vec<ChunkMeta>,
    stats: Stats,
    scratch_bytes_max: u64,
    // Behind the index, which has it open.
    scratch: ScratchFile<'a>,
}

/// A file that is removed when it is dropped.
#[derive(Debug)]
struct ScratchFile<'a> {
    fs: &'a dyn Fs,
    path: PathBuf,
}

impl Drop for ScratchFile<'_> {
    fn drop(&mut self) {
        // When it fails the next job of this block removes it.
        let _removed = self.fs.unlink(&self.path);
    }
}

impl<'a> BlockWriter<'a> {
    /// Begins the block that `meta` names and whose range it has; nothing else of it is used.
    /// `symbols` are all label names and values of the series to come.
    ///
    /// # Errors
    /// When the scratch space cannot be written or `budget` has no room.
    pub fn create(
        sink: Arc<dyn Sink + 'a>,
        scratch: Scratch<'a>,
        meta: &Meta,
        symbols: SymbolList,
        budget: &Budget,
    ) -> Result<BlockWriter<'a>> {
        let path = scratch.directory.join(format!("{}.{INDEX_FILE}", meta.ulid));
        match scratch.fs.unlink(&path).map_err(Error::io("remove", &path)) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let file = ScratchFile { fs: scratch.fs, path };
        let mut index = index::Writer::create_listed(scratch.fs, &file.path, symbols, budget)?;
        index.set_scratch();
        index.set_lists_bytes_max(LISTS_BYTES_MAX.min(budget.limit_bytes() / 4));
        Ok(BlockWriter {
            segments: SegmentWriter::new(Arc::clone(&sink), SEGMENT_BYTES_MAX),
            sink,
            index,
            span: TimeRange::new(meta.min_time_ms, meta.max_time_ms.saturating_sub(1)),
            placed: Vec::new(),
            stats: Stats::default(),
            scratch_bytes_max: scratch.bytes_max,
            scratch: file,
        })
    }

    /// Bounds the segments, before the first chunk; a chunk that is larger gets one of its own.
    pub fn set_segment_bytes_max(&mut self, bytes: u64) {
        self.segments = SegmentWriter::new(Arc::clone(&self.sink), bytes);
    }

    /// Begins a series: chunks follow in order of time, then [`BlockWriter::end_series`].
    pub fn begin_series(&mut self) {
        self.placed.clear();
        self.segments.begin_series();
    }

    /// Copies a chunk as it was read, with its checksum.
    ///
    /// # Errors
    /// When it cannot be written or lies outside of the block.
    pub fn copy(&mut self, frame: &Frame) -> Result<()> {
        let (min_time_ms, max_time_ms) = (frame.min_time_ms, frame.max_time_ms);
        self.check_span(min_time_ms, max_time_ms)?;
        self.count(frame.encoding, frame.data())?;
        let reference = if frame.is_canonical() {
            self.segments.copy(frame.bytes(), frame.data().len())?
        } else {
            self.segments.write(frame.encoding, frame.data())?
        };
        self.placed.push(ChunkMeta { reference, min_time_ms, max_time_ms });
        Ok(())
    }

    /// Writes a chunk.
    ///
    /// # Errors
    /// As [`BlockWriter::copy`].
    pub fn write(&mut self, chunk: &ChunkData) -> Result<()> {
        let (min_time_ms, max_time_ms) = (chunk.min_time_ms, chunk.max_time_ms);
        self.check_span(min_time_ms, max_time_ms)?;
        self.count(chunk.encoding, &chunk.data)?;
        let reference = self.segments.write(chunk.encoding, &chunk.data)?;
        self.placed.push(ChunkMeta { reference, min_time_ms, max_time_ms });
        Ok(())
    }

    /// Ends a series, whose labels are named by the numbers of their symbols and are above those
    /// of the series before. One without chunks is left out.
    ///
    /// # Errors
    /// When the order is broken, chunks overlap, or a bound of memory, of scratch space or of the
    /// format is passed.
    pub fn end_series(&mut self, labels: &[(u32, u32)]) -> Result<()> {
        if self.placed.is_empty() {
            return Ok(());
        }
        self.index.add_numbered(labels, &self.placed)?;
        self.stats.num_series += 1;
        self.stats.num_chunks += self.placed.len() as u64;
        self.check_scratch(self.index.size_bytes())
    }

    /// What was written so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Bytes that went to the sink and to scratch space so far.
    pub fn written_bytes(&self) -> u64 {
        self.segments.size_bytes() + self.index.size_bytes()
    }

    /// Ends the chunks, writes the index and hands it to the sink. A block without series gets no
    /// index.
    ///
    /// # Errors
    /// When something cannot be written or a bound is passed.
    pub fn finish(self) -> Result<Written> {
        let segments = self.segments.finish()?;
        if self.stats.num_series == 0 {
            return Ok(Written::default());
        }
        let index = self.index.finish()?;
        send(self.scratch.fs, &self.scratch.path, &*self.sink)?;
        let segment_files: Vec<String> = (0..segments.sizes_bytes.len()).map(file_name).collect();
        let file = |rel_path: String, size_bytes| File { rel_path, size_bytes, hash: None };
        let chunks = segment_files.iter().zip(&segments.sizes_bytes);
        let mut files: Vec<File> = chunks
            .map(|(name, size_bytes)| file(format!("{CHUNKS_DIRECTORY}/{name}"), *size_bytes))
            .collect();
        files.push(file(INDEX_FILE.to_owned(), index.size_bytes));
        files.push(file(META_FILE.to_owned(), 0));
        Ok(Written {
            stats: self.stats,
            index_stats: IndexStats {
                // Thanos measures from the start of one series to that of the next.
                series_max_bytes: index.series_max_bytes.next_multiple_of(SERIES_ALIGN_BYTES),
                chunk_max_bytes: segments.chunk_max_bytes,
            },
            segment_files,
            files,
        })
    }

    fn check_scratch(&self, needed_bytes: u64) -> Result<()> {
        let limit_bytes = self.scratch_bytes_max;
        if needed_bytes > limit_bytes {
            return Err(Error::Scratch { needed_bytes, limit_bytes });
        }
        Ok(())
    }

    fn check_span(&self, min_time_ms: i64, max_time_ms: i64) -> Result<()> {
        if self.span.contains(min_time_ms) && self.span.contains(max_time_ms) {
            return Ok(());
        }
        let text = format!("chunk from {min_time_ms} to {max_time_ms} lies outside of the block");
        Err(Error::invalid(text))
    }

    fn count(&mut self, encoding: Encoding, data: &[u8]) -> Result<()> {
        let samples = chunk::counted_samples(encoding, data);
        let samples = samples.map_err(|it| Error::invalid(it.to_string()))?;
        self.stats.num_samples += samples;
        match encoding {
            Encoding::Xor | Encoding::Xor2 => self.stats.num_float_samples += samples,
            // Prometheus counts them as neither.
            Encoding::Aggregate => {}
            _ => self.stats.num_histogram_samples += samples,
        }
        Ok(())
    }
}

/// Hands a finished index to the sink.
fn send(fs: &dyn Fs, path: &Path, sink: &dyn Sink) -> Result<()> {
    let file = SealedFile::open(fs, path)?;
    let mut out = sink.create(INDEX_FILE)?;
    let mut at = 0;
    while at < file.size_bytes() {
        let piece = file.read(at, PIECE_BYTES)?;
        if piece.is_empty() {
            break;
        }
        at += piece.len() as u64;
        out.write(Bytes::from(piece))?;
    }
    out.finish()
}
