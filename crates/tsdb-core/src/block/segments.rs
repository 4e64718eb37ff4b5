//! Chunk segment files: the chunks of a block, one behind the other.
//!
//! A header of eight bytes, then for each chunk its length as an unsigned varint, an encoding
//! byte, the data, and a CRC-32C over encoding and data. See `docs/format/chunks.md`.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::block::CHUNKS_DIRECTORY;
use crate::chunk::Encoding;
use crate::codec::{Crc32c, Cursor, VARINT_BYTES_MAX, put_uvarint};
use crate::error::{Damage, Error, Result};
use crate::fs::{EntryKind, Fs};
use crate::index::ChunkMeta;
use crate::output::Output;
use crate::read_ahead::SealedFile;

/// The first four bytes of a segment.
pub const MAGIC: u32 = 0x85bd_40dd;
/// Magic, version 1, three zeros.
pub const HEADER_BYTES: usize = 8;
/// Most bytes of a segment, unless a single chunk is larger.
pub const SEGMENT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most bytes around a chunk's data: length, encoding, checksum.
pub const FRAME_BYTES_MAX: usize = 5 + 1 + 4;
/// How many bytes a chunk is thought to have when nothing says where it ends.
const CHUNK_BYTES_GUESS: usize = 4 * 1024;
/// Chunks further apart than this are read by separate calls.
const GAP_BYTES_MAX: u64 = 64 * 1024;

/// A chunk found in the bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawChunk<'a> {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Where its data begins in the bytes that were looked at.
    pub data_start: usize,
    /// The data alone.
    pub data: &'a [u8],
}

/// Name of a segment by its number from 0.
pub fn file_name(segment: usize) -> String {
    format!("{:06}", segment + 1)
}

/// How many bytes the chunk at the start of `bytes` takes with everything around its data;
/// `None` when `bytes` do not even hold its length.
///
/// # Errors
/// When the length is not one.
pub fn frame_bytes(bytes: &[u8], origin: u64) -> std::result::Result<Option<u64>, Damage> {
    let mut cursor = Cursor::new_at("chunk", bytes, origin);
    match cursor.uvarint() {
        Ok(length) => Ok(Some(length.saturating_add(cursor.position() as u64 + 5))),
        Err(_) if bytes.len() < VARINT_BYTES_MAX => Ok(None),
        Err(damage) => Err(damage),
    }
}

/// Decodes the frame at the start of `bytes`, which lie at `origin` of the segment, and checks
/// its checksum; what is behind it is ignored.
///
/// # Errors
/// When the chunk is cut short, its encoding is unknown, or the checksum is wrong.
pub fn decode_frame(bytes: &[u8], origin: u64) -> std::result::Result<RawChunk<'_>, Damage> {
    let mut cursor = Cursor::new_at("chunk", bytes, origin);
    let length = cursor.length()?;
    let start = cursor.position();
    let byte = cursor.u8()?;
    let data = cursor.take(length)?;
    let checked = &bytes[start..cursor.position()];
    if cursor.u32()? != crate::codec::crc32c(checked) {
        return Err(Damage::new("chunk", origin, "checksum mismatch"));
    }
    let encoding = Encoding::from_byte(byte);
    let unknown = || Damage::new("chunk", origin, format!("unknown encoding {byte}"));
    Ok(RawChunk { encoding: encoding.ok_or_else(unknown)?, data_start: start + 1, data })
}

/// The segments of a block on disk.
#[derive(Debug)]
pub struct Segments {
    files: Vec<SealedFile>,
}

impl Segments {
    /// Opens the segments in a block's directory and checks their headers.
    ///
    /// # Errors
    /// When the disk fails, a segment is missing in between, or a header is damaged.
    pub fn open(fs: &dyn Fs, block: &Path) -> Result<Segments> {
        let directory = block.join(CHUNKS_DIRECTORY);
        let entries = fs.list(&directory).map_err(Error::io("list", &directory))?;
        let mut files = Vec::new();
        for entry in entries.iter().filter(|it| it.kind == EntryKind::File) {
            if !entry.name.bytes().all(|it| it.is_ascii_digit()) {
                continue;
            }
            let path = directory.join(&entry.name);
            if entry.name != file_name(files.len()) {
                let text = format!("segment {} is missing before it", file_name(files.len()));
                return Err(Damage::new("segment", 0, text).within(&path));
            }
            let file = SealedFile::open(fs, &path)?;
            check_header(&file.read(0, HEADER_BYTES)?).map_err(file.damaged())?;
            files.push(file);
        }
        Ok(Segments { files })
    }

    /// Size of all segments in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(SealedFile::size_bytes).sum()
    }

    /// Number of segments.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// The data of the chunks of one series, in their order, checksums checked. Neighbours are
    /// read by one call and share its memory.
    ///
    /// # Errors
    /// When the disk fails or a chunk is damaged or not there.
    pub fn read(&self, chunks: &[ChunkMeta]) -> Result<Vec<(Encoding, Bytes)>> {
        let mut out = Vec::with_capacity(chunks.len());
        for run in chunks.chunk_by(near) {
            let Some(first) = run.first() else { continue };
            let file = self.files.get(first.segment()).ok_or_else(|| {
                let text = format!("segment {} of {}", first.segment(), self.files.len());
                Error::invalid(format!("chunk reference {:x}: no {text}", first.reference))
            })?;
            self.read_run(file, run, &mut out)?;
        }
        Ok(out)
    }

    fn read_run(
        &self,
        file: &SealedFile,
        run: &[ChunkMeta],
        out: &mut Vec<(Encoding, Bytes)>,
    ) -> Result<()> {
        let start = run.first().map_or(0, ChunkMeta::offset);
        let span = run.last().map_or(0, ChunkMeta::offset) - start;
        let span = usize::try_from(span).unwrap_or(usize::MAX);
        let bytes = Bytes::from(file.read(start, span.saturating_add(CHUNK_BYTES_GUESS))?);
        for chunk in run {
            let at = usize::try_from(chunk.offset() - start).unwrap_or(usize::MAX);
            let part = bytes.get(at..).unwrap_or_default();
            let needed = frame_bytes(part, chunk.offset()).map_err(file.damaged())?;
            // A chunk that ends behind what was read is read again, alone: file.read() never
            // gives more than the file has.
            let part = match needed.and_then(|it| usize::try_from(it).ok()) {
                Some(needed) if needed > part.len() => {
                    Bytes::from(file.read(chunk.offset(), needed)?)
                }
                _ => bytes.slice(at.min(bytes.len())..),
            };
            let raw = decode_frame(&part, chunk.offset()).map_err(file.damaged())?;
            let data = raw.data_start..raw.data_start + raw.data.len();
            out.push((raw.encoding, part.slice(data)));
        }
        Ok(())
    }
}

fn near(a: &ChunkMeta, b: &ChunkMeta) -> bool {
    a.segment() == b.segment()
        && b.offset().checked_sub(a.offset()).is_some_and(|gap| gap <= GAP_BYTES_MAX)
}

/// Checks the first [`HEADER_BYTES`] of a segment.
///
/// # Errors
/// When it is not a segment, or of an unknown version.
pub fn check_header(bytes: &[u8]) -> std::result::Result<(), Damage> {
    let mut cursor = Cursor::new("segment header", bytes);
    let magic = cursor.u32()?;
    if magic != MAGIC {
        return Err(Damage::new("segment header", 0, format!("magic {magic:08x}")));
    }
    match cursor.u8()? {
        1 => Ok(()),
        other => Err(Damage::new("segment header", 4, format!("unknown version {other}"))),
    }
}

/// Writes the segments of a block.
#[derive(Debug)]
pub struct SegmentWriter<'a> {
    fs: &'a dyn Fs,
    directory: PathBuf,
    output: Option<Output>,
    segment_count: usize,
    bytes_max: u64,
    /// Where the next chunk would go if every length field of this series took all its bytes:
    /// what Prometheus compares with the bound.
    planned_position: u64,
    frame: Vec<u8>,
    chunk_max_bytes: u64,
}

impl<'a> SegmentWriter<'a> {
    /// Makes the directory; a segment is made when it has a chunk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn create(fs: &'a dyn Fs, block: &Path, bytes_max: u64) -> Result<SegmentWriter<'a>> {
        let directory = block.join(CHUNKS_DIRECTORY);
        fs.make_directory(&directory).map_err(Error::io("make", &directory))?;
        Ok(SegmentWriter {
            fs,
            directory,
            output: None,
            segment_count: 0,
            bytes_max: bytes_max.min(u64::from(u32::MAX)),
            planned_position: 0,
            frame: Vec::new(),
            chunk_max_bytes: 0,
        })
    }

    /// Tells that the next chunk is of another series.
    pub fn begin_series(&mut self) {
        self.planned_position = self.output.as_ref().map_or(0, Output::position);
    }

    /// Writes a chunk and answers its reference.
    ///
    /// # Errors
    /// When the disk fails or the chunk is too large for any segment.
    pub fn write(&mut self, encoding: Encoding, data: &[u8]) -> Result<u64> {
        let most = (data.len() + FRAME_BYTES_MAX) as u64;
        if u32::try_from(most).is_err() {
            return Err(Error::invalid(format!("chunk of {} bytes", data.len())));
        }
        let empty = self.planned_position <= HEADER_BYTES as u64;
        let full = !empty && self.planned_position + most > self.bytes_max;
        if full {
            self.close_segment()?;
        }
        self.frame.clear();
        put_uvarint(&mut self.frame, data.len() as u64);
        let start = self.frame.len();
        self.frame.push(encoding.to_byte());
        self.frame.extend_from_slice(data);
        let mut crc = Crc32c::new();
        crc.update(&self.frame[start..]);
        self.frame.extend_from_slice(&crc.value().to_be_bytes());
        self.chunk_max_bytes = self.chunk_max_bytes.max(self.frame.len() as u64);
        let frame = std::mem::take(&mut self.frame);
        let output = self.open_segment()?;
        let offset = output.position();
        output.write(&frame)?;
        self.frame = frame;
        self.planned_position += most;
        Ok(((self.segment_count as u64 - 1) << 32) | offset)
    }

    /// Makes everything durable; answers the size of the largest chunk with what is around it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(mut self) -> Result<u64> {
        self.close_segment()?;
        let synced = self.fs.sync_directory(&self.directory);
        synced.map_err(Error::io("sync", &self.directory))?;
        Ok(self.chunk_max_bytes)
    }

    fn open_segment(&mut self) -> Result<&mut Output> {
        let output = match self.output.take() {
            Some(output) => output,
            None => {
                let path = self.directory.join(file_name(self.segment_count));
                let mut output = Output::create(self.fs, &path)?;
                let mut header = [0; HEADER_BYTES];
                header[..4].copy_from_slice(&MAGIC.to_be_bytes());
                header[4] = 1;
                output.write(&header)?;
                self.segment_count += 1;
                self.planned_position = HEADER_BYTES as u64;
                output
            }
        };
        Ok(self.output.insert(output))
    }

    fn close_segment(&mut self) -> Result<()> {
        if let Some(output) = self.output.take() {
            output.finish()?;
        }
        self.planned_position = 0;
        Ok(())
    }
}
