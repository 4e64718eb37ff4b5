//! The series of a source in the order of their labels, with their chunks.

use std::sync::Arc;

use model::{BlockId, Budget, TimeRange};

use crate::block::segments;
use crate::block::tombstones::Tombstones;
use crate::error::{Damage, Error, Result};
use crate::index::series::{LENGTH_BYTES_MAX, entry_bytes};
use crate::index::{
    ChunkMeta, HEADER_BYTES, SERIES_ALIGN_BYTES, SeriesEntry, TOC_BYTES, Toc, Version,
};
use crate::stream::Source;
use crate::stream::frames::{Frame, FrameReader};
use crate::stream::symbols::SymbolRun;
use crate::stream::window::Window;

/// Walks over a source from front to back and checks everything that it passes.
///
/// Damage of the source is [`Error::BlockDamaged`]: bytes that fail their checksum, series that
/// are out of order or there twice, chunks that overlap, are out of order, lie outside of the
/// block's range or in no segment.
#[derive(Debug)]
pub struct SeriesCursor {
    block: BlockId,
    /// The block's samples lie here, both ends inclusive.
    span: TimeRange,
    version: Version,
    toc: Toc,
    series_end: u64,
    window: Window,
    frames: FrameReader,
    segments_bytes: Vec<u64>,
    tombstones: Tombstones,
    at: u64,
    reference: u32,
    entry: SeriesEntry,
    before: SeriesEntry,
    is_first: bool,
}

impl SeriesCursor {
    /// Opens a source. At most `window_bytes` of its index and as much of its chunks are read at
    /// once and charged to `budget`, and as much again while slices of them are in use.
    ///
    /// # Errors
    /// When the source cannot be read, its index has no valid table of contents, or `budget` has
    /// no room.
    pub fn open(source: &Source, window_bytes: usize, budget: &Budget) -> Result<SeriesCursor> {
        let block = source.meta.ulid;
        let mut window = Window::new(block, Arc::clone(&source.index), window_bytes, budget)?;
        let size_bytes = window.file_bytes();
        let named =
            |damage| Error::BlockDamaged { block, file: source.index.name().to_owned(), damage };
        if size_bytes < (HEADER_BYTES + TOC_BYTES) as u64 {
            let text = format!("{size_bytes} bytes are no index");
            return Err(named(Damage::new("index", 0, text)));
        }
        let toc = source.index.read(size_bytes - TOC_BYTES as u64..size_bytes)?;
        let toc = Toc::decode(&toc, size_bytes).map_err(named)?;
        let header = window.get(0, HEADER_BYTES)?;
        let version = Version::decode(header.get(..HEADER_BYTES).unwrap_or_default());
        // Old writers put label indices between series and postings.
        let has_indices = (toc.series..toc.postings).contains(&toc.label_indices);
        Ok(SeriesCursor {
            block,
            span: TimeRange::new(
                source.meta.min_time_ms,
                source.meta.max_time_ms.saturating_sub(1),
            ),
            version: version.map_err(named)?,
            toc,
            series_end: if has_indices { toc.label_indices } else { toc.postings },
            window,
            frames: FrameReader::new(source, window_bytes, budget),
            segments_bytes: source.segments.iter().map(|it| it.size_bytes()).collect(),
            tombstones: source.tombstones.clone(),
            at: toc.series,
            reference: 0,
            entry: SeriesEntry::default(),
            before: SeriesEntry::default(),
            is_first: true,
        })
    }

    /// The block that is read.
    pub fn block(&self) -> BlockId {
        self.block
    }

    /// Moves to the next series; false when there is none.
    ///
    /// # Errors
    /// When the source cannot be read or the series is damaged.
    pub fn advance(&mut self) -> Result<bool> {
        let Some(at) = self.next_entry()? else { return Ok(false) };
        let there = usize::try_from(self.series_end - at).unwrap_or(usize::MAX);
        let head = self.window.get(at, LENGTH_BYTES_MAX.min(there))?;
        let head = head.get(..LENGTH_BYTES_MAX.min(there).min(head.len())).unwrap_or_default();
        let length = entry_bytes(head, at).map_err(|it| self.window.damaged(it))?;
        let length = length.and_then(|it| usize::try_from(it).ok()).filter(|it| *it <= there);
        let Some(length) = length else {
            let text = format!("it is longer than the {there} bytes left in the section");
            return Err(self.damage(at, text));
        };
        std::mem::swap(&mut self.before, &mut self.entry);
        let bytes = self.window.get(at, length)?;
        self.entry.decode(bytes, at).map_err(|it| self.window.damaged(it))?;
        self.check(at)?;
        self.reference = self.reference_at(at)?;
        self.is_first = false;
        self.at = at + length as u64;
        // The entry was decoded out of the window; nothing of it is in use.
        self.window.forget_slices()?;
        Ok(true)
    }

    /// Name and value of each label of the series as symbol references of this source, to be
    /// turned into numbers by its [`SymbolMap`](crate::stream::symbols::SymbolMap).
    pub fn labels(&self) -> &[(u32, u32)] {
        &self.entry.labels
    }

    /// The chunks of the series, in order of time.
    pub fn chunks(&self) -> &[ChunkMeta] {
        &self.entry.chunks
    }

    /// The intervals of the series that are deleted, sorted, joined, both ends inclusive.
    pub fn deleted(&self) -> &[TimeRange] {
        self.tombstones.of(self.reference)
    }

    /// Reads the data of the series' chunks, appended to `out`. What was read of a series before
    /// must not be in use any more.
    ///
    /// # Errors
    /// When the source cannot be read or a chunk is damaged.
    pub fn read_chunks(&mut self, out: &mut Vec<Frame>) -> Result<()> {
        self.frames.read(&self.entry.chunks, out)
    }

    /// As [`SeriesCursor::read_chunks`], of chunks that were taken before the cursor moved on.
    pub(crate) fn read_frames(&mut self, chunks: &[ChunkMeta], out: &mut Vec<Frame>) -> Result<()> {
        self.frames.read(chunks, out)
    }

    /// Takes the chunks of the series away, in exchange for a used vector.
    pub(crate) fn take_chunks(&mut self, chunks: &mut Vec<ChunkMeta>) {
        std::mem::swap(&mut self.entry.chunks, chunks);
        self.entry.chunks.clear();
    }

    /// The error of a label whose symbol is not there.
    pub(crate) fn symbol_missing(&self) -> Error {
        self.damage(self.at, "a label of the series before this place has no symbol".to_owned())
    }

    /// Bytes of the index and of chunks that were passed so far.
    pub fn read_bytes(&self) -> u64 {
        self.at + self.frames.read_bytes()
    }

    /// The error of damage in the data of a chunk, whose checksum was right; `reference` says
    /// which chunk.
    pub fn chunk_damaged(&self, reference: u64, damage: Damage) -> Error {
        let place = ChunkMeta { reference, min_time_ms: 0, max_time_ms: 0 };
        let file = self.frames.name(place.segment()).to_owned();
        let reason = format!("{} (at {} of its data)", damage.reason, damage.offset);
        let damage = Damage::new(damage.what, place.offset(), reason);
        Error::BlockDamaged { block: self.block, file, damage }
    }

    /// The symbols; to be read before the first series.
    pub(crate) fn symbols(&mut self) -> Result<SymbolRun<'_>> {
        let section = self.toc.symbols..self.toc.series;
        SymbolRun::open(&mut self.window, section, self.version)
    }

    /// Where the next entry begins.
    fn next_entry(&mut self) -> Result<Option<u64>> {
        let mut at = match self.version {
            Version::V1 => self.at,
            Version::V2 => self.at.next_multiple_of(SERIES_ALIGN_BYTES),
        };
        // Zeros are padding in front of the next section, or else nothing at all.
        while at < self.series_end {
            if self.window.get(at, 1)?.first().is_some_and(|it| *it != 0) {
                return Ok(Some(at));
            }
            if self.version == Version::V2 && self.series_end - at >= SERIES_ALIGN_BYTES {
                return Err(self.damage(at, "there is nothing".to_owned()));
            }
            at += 1;
        }
        Ok(None)
    }

    fn reference_at(&self, at: u64) -> Result<u32> {
        let reference = match self.version {
            Version::V1 => at,
            Version::V2 => at / SERIES_ALIGN_BYTES,
        };
        u32::try_from(reference).map_err(|_| self.damage(at, "it lies too far behind".to_owned()))
    }

    /// Checks what the checksum does not: the order of labels, series and chunks, and whether the
    /// chunks can be there.
    fn check(&self, at: u64) -> Result<()> {
        let labels = &self.entry.labels;
        if labels.windows(2).any(|it| it[1].0 <= it[0].0) {
            return Err(self.damage(at, "its labels are out of order or there twice".to_owned()));
        }
        if !self.is_first && self.before.labels == *labels {
            return Err(self.damage(at, "it has the labels of the series before".to_owned()));
        }
        if !self.is_first && self.before.labels > *labels {
            return Err(self.damage(at, "it is out of order".to_owned()));
        }
        let mut before: Option<&ChunkMeta> = None;
        for chunk in &self.entry.chunks {
            self.check_chunk(at, chunk, before)?;
            before = Some(chunk);
        }
        Ok(())
    }

    fn check_chunk(&self, at: u64, chunk: &ChunkMeta, before: Option<&ChunkMeta>) -> Result<()> {
        let (min_time_ms, max_time_ms) = (chunk.min_time_ms, chunk.max_time_ms);
        let span = || format!("chunk from {min_time_ms} to {max_time_ms}");
        if max_time_ms < min_time_ms {
            return Err(self.damage(at, format!("{} ends before it begins", span())));
        }
        if !self.span.contains(min_time_ms) || !self.span.contains(max_time_ms) {
            return Err(self.damage(at, format!("{} lies outside of the block", span())));
        }
        if let Some(before) = before.filter(|it| min_time_ms <= it.max_time_ms) {
            let text = format!("overlaps the one before, which ends at {}", before.max_time_ms);
            return Err(self.damage(at, format!("{} {text}", span())));
        }
        let size_bytes = self.segments_bytes.get(chunk.segment()).copied().unwrap_or(0);
        if !(segments::HEADER_BYTES as u64..size_bytes).contains(&chunk.offset()) {
            let name = segments::file_name(chunk.segment().min(u32::MAX as usize));
            let text = format!("lies at {} of segment {name}, where nothing is", chunk.offset());
            return Err(self.damage(at, format!("{} {text}", span())));
        }
        Ok(())
    }

    fn damage(&self, at: u64, reason: String) -> Error {
        self.window.damaged(Damage::new("series", at, reason))
    }
}
