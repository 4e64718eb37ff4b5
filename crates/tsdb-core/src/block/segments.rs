//! Chunk segment files: the chunks of a block, one behind the other.
//!
//! A header of eight bytes, then for each chunk its length as an unsigned varint, an encoding
//! byte, the data, and a CRC-32C over encoding and data. See `docs/format/chunks.md`.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::CHUNKS_DIRECTORY;
use crate::chunk::Encoding;
use crate::codec::{Cursor, VARINT_BYTES_MAX, crc32c, put_uvarint};
use crate::error::{Damage, Error, Result};
use crate::fs::{EntryKind, Fs};
use crate::index::ChunkMeta;
use crate::read_ahead::SealedFile;
use crate::stream::{Sink, SinkFile};

/// The first four bytes of a segment.
pub const MAGIC: u32 = 0x85bd_40dd;
/// Magic, version 1, three zeros.
pub const HEADER_BYTES: usize = 8;
/// Most bytes of a segment, unless a single chunk is larger.
pub const SEGMENT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most bytes around a chunk's data: length, encoding, checksum.
pub const FRAME_BYTES_MAX: usize = 5 + 1 + CRC_BYTES;
/// Bytes of the checksum behind a chunk.
pub(crate) const CRC_BYTES: usize = 4;
/// How many bytes a chunk is thought to have when nothing says where it ends.
const CHUNK_BYTES_GUESS: usize = 4 * 1024;
/// Chunks further apart than this are read by separate calls.
const GAP_BYTES_MAX: u64 = 64 * 1024;
/// How much is gathered before it is written.
const BUFFER_BYTES: usize = 256 * 1024;

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
    if cursor.u32()? != crc32c(checked) {
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
    sink: Arc<dyn Sink + 'a>,
    open: Option<OpenSegment>,
    bytes_max: u64,
    /// Where the next chunk would go if every length field of this series took all its bytes:
    /// what Prometheus compares with the bound.
    planned_position: u64,
    written: WrittenSegments,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenSegments {
    /// The size of each segment in bytes.
    pub sizes_bytes: Vec<u64>,
    /// The size of the largest chunk in bytes, with what is around it.
    pub chunk_max_bytes: u64,
}

/// The segment that chunks go to, gathered into pieces.
#[derive(Debug)]
struct OpenSegment {
    file: Box<dyn SinkFile>,
    buffer: Vec<u8>,
    flushed_bytes: u64,
}

impl<'a> SegmentWriter<'a> {
    /// A writer that makes a segment when it has a chunk for it.
    pub fn new(sink: Arc<dyn Sink + 'a>, bytes_max: u64) -> SegmentWriter<'a> {
        SegmentWriter {
            sink,
            open: None,
            bytes_max: bytes_max.min(u64::from(u32::MAX)),
            planned_position: 0,
            written: WrittenSegments::default(),
        }
    }

    /// Tells that the next chunk is of another series.
    pub fn begin_series(&mut self) {
        self.planned_position = self.open.as_ref().map_or(0, OpenSegment::position);
    }

    /// Writes a chunk and answers its reference.
    ///
    /// # Errors
    /// When it cannot be written or the chunk is too large for any segment.
    pub fn write(&mut self, encoding: Encoding, data: &[u8]) -> Result<u64> {
        self.place(data.len(), |out| {
            put_uvarint(out, data.len() as u64);
            let start = out.len();
            out.push(encoding.to_byte());
            out.extend_from_slice(data);
            let checksum = crc32c(out.get(start..).unwrap_or_default());
            out.extend_from_slice(&checksum.to_be_bytes());
        })
    }

    /// Copies a chunk with its length, encoding and checksum, which the caller has checked, and
    /// answers its reference.
    ///
    /// # Errors
    /// As [`SegmentWriter::write`].
    pub fn copy(&mut self, frame: &[u8], data_bytes: usize) -> Result<u64> {
        self.place(data_bytes, |out| out.extend_from_slice(frame))
    }

    /// Ends the last segment.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<WrittenSegments> {
        self.close_segment()?;
        Ok(self.written)
    }

    /// Bytes of all segments so far.
    pub fn size_bytes(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, OpenSegment::position);
        self.written.sizes_bytes.iter().sum::<u64>() + open
    }

    fn place(&mut self, data_bytes: usize, put: impl FnOnce(&mut Vec<u8>)) -> Result<u64> {
        let most = data_bytes + FRAME_BYTES_MAX;
        if u32::try_from(most).is_err() {
            return Err(Error::invalid(format!("chunk of {data_bytes} bytes")));
        }
        let empty = self.planned_position <= HEADER_BYTES as u64;
        if !empty && self.planned_position + most as u64 > self.bytes_max {
            self.close_segment()?;
        }
        if self.open.is_none() {
            self.open_segment()?;
        }
        let Some(open) = &mut self.open else { return Err(Error::invalid("no open segment")) };
        if open.buffer.len() + most > BUFFER_BYTES {
            open.flush()?;
        }
        let (start, offset) = (open.buffer.len(), open.position());
        put(&mut open.buffer);
        let frame_bytes = (open.buffer.len() - start) as u64;
        self.written.chunk_max_bytes = self.written.chunk_max_bytes.max(frame_bytes);
        self.planned_position += most as u64;
        Ok(((self.written.sizes_bytes.len() as u64) << 32) | offset)
    }

    fn open_segment(&mut self) -> Result<()> {
        let name = file_name(self.written.sizes_bytes.len());
        let file = self.sink.create(&format!("{CHUNKS_DIRECTORY}/{name}"))?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        buffer.extend_from_slice(&MAGIC.to_be_bytes());
        buffer.extend_from_slice(&[1, 0, 0, 0]);
        self.open = Some(OpenSegment { file, buffer, flushed_bytes: 0 });
        self.planned_position = HEADER_BYTES as u64;
        Ok(())
    }

    fn close_segment(&mut self) -> Result<()> {
        if let Some(mut open) = self.open.take() {
            open.flush()?;
            open.file.finish()?;
            self.written.sizes_bytes.push(open.flushed_bytes);
        }
        self.planned_position = 0;
        Ok(())
    }
}

impl OpenSegment {
    fn position(&self) -> u64 {
        self.flushed_bytes + self.buffer.len() as u64
    }

    fn flush(&mut self) -> Result<()> {
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER_BYTES));
        self.flushed_bytes += piece.len() as u64;
        self.file.write(Bytes::from(piece))
    }
}
