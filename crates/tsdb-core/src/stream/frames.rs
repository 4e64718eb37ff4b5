//! The chunks of a source, read in the order in which they lie, each with the bytes around it.

use std::sync::Arc;

use bytes::Bytes;
use model::{BlockId, Budget};

use crate::block::ChunkData;
use crate::block::segments::{self, HEADER_BYTES, check_header, decode_frame, frame_bytes};
use crate::chunk::Encoding;
use crate::codec::{VARINT_BYTES_MAX, uvarint_bytes};
use crate::error::{Damage, Error, Result};
use crate::index::ChunkMeta;
use crate::stream::window::Window;
use crate::stream::{Ranged, Source};

/// A chunk with its length, encoding byte and checksum, which was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Time of the first sample in ms, as the index says.
    pub min_time_ms: i64,
    /// Time of the last sample in ms, as the index says.
    pub max_time_ms: i64,
    /// Where it lies in its block, as [`ChunkMeta::reference`].
    pub reference: u64,
    bytes: Bytes,
    data_start: usize,
}

impl Frame {
    /// The data alone.
    pub fn data(&self) -> &[u8] {
        let end = self.bytes.len() - segments::CRC_BYTES;
        self.bytes.get(self.data_start..end).unwrap_or_default()
    }

    /// Everything, as it is written to a segment.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the length in front of the data has the shortest form, as writers write it.
    pub(crate) fn is_canonical(&self) -> bool {
        self.data_start == uvarint_bytes(self.data().len() as u64) + 1
    }

    /// The chunk without what is around it; shares the memory.
    pub fn to_chunk(&self) -> ChunkData {
        let end = self.bytes.len() - segments::CRC_BYTES;
        ChunkData {
            encoding: self.encoding,
            min_time_ms: self.min_time_ms,
            max_time_ms: self.max_time_ms,
            data: self.bytes.slice(self.data_start..end),
        }
    }
}

/// Reads the chunks of a source.
#[derive(Debug)]
pub(crate) struct FrameReader {
    block: BlockId,
    segments: Vec<Arc<dyn Ranged>>,
    /// The segment under the window, once there is one.
    segment: usize,
    window: Option<Window>,
    window_bytes: usize,
    budget: Budget,
    read_bytes: u64,
}

impl FrameReader {
    pub(crate) fn new(source: &Source, window_bytes: usize, budget: &Budget) -> FrameReader {
        FrameReader {
            block: source.meta.ulid,
            segments: source.segments.clone(),
            segment: 0,
            window: None,
            window_bytes,
            budget: budget.clone(),
            read_bytes: 0,
        }
    }

    /// The name of a segment.
    pub(crate) fn name(&self, segment: usize) -> &str {
        self.segments.get(segment).map_or("chunks", |it| it.name())
    }

    /// Bytes of all chunks read so far, with what is around them.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Reads the chunks of one series. Those of the series before must not be in use any more.
    pub(crate) fn read(&mut self, chunks: &[ChunkMeta], out: &mut Vec<Frame>) -> Result<()> {
        if let Some(window) = &mut self.window {
            window.forget_slices()?;
        }
        out.reserve(chunks.len());
        for chunk in chunks {
            let frame = self.read_one(chunk)?;
            self.read_bytes += frame.bytes.len() as u64;
            out.push(frame);
        }
        Ok(())
    }

    fn read_one(&mut self, chunk: &ChunkMeta) -> Result<Frame> {
        let offset = chunk.offset();
        let window = self.window_over(chunk.segment())?;
        let head = window.get(offset, VARINT_BYTES_MAX)?;
        let length = match frame_bytes(head, offset) {
            Ok(Some(length)) => length,
            Ok(None) => {
                return Err(window.damaged(Damage::new(
                    "chunk",
                    offset,
                    "the file ends before it",
                )));
            }
            Err(damage) => return Err(window.damaged(damage)),
        };
        // Checked before anything is read or allocated by it.
        let there = window.file_bytes().saturating_sub(offset);
        if length > there {
            let text = format!("{length} bytes declared, {there} left in the file");
            return Err(window.damaged(Damage::new("chunk", offset, text)));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = window.slice(offset, length)?;
        let raw = decode_frame(&bytes, offset).map_err(|it| window.damaged(it))?;
        let (encoding, data_start) = (raw.encoding, raw.data_start);
        let (min_time_ms, max_time_ms) = (chunk.min_time_ms, chunk.max_time_ms);
        let reference = chunk.reference;
        Ok(Frame { encoding, min_time_ms, max_time_ms, reference, bytes, data_start })
    }

    /// The window over a segment, whose header is checked when it is begun.
    fn window_over(&mut self, segment: usize) -> Result<&mut Window> {
        if self.window.is_none() || self.segment != segment {
            let file = self.segments.get(segment).map(Arc::clone);
            // The cursor has checked the number already.
            let file = file.ok_or_else(|| Error::invalid(format!("no segment {segment}")))?;
            let mut window = match self.window.take() {
                Some(mut window) => {
                    window.switch(file);
                    window
                }
                None => Window::new(self.block, file, self.window_bytes, &self.budget)?,
            };
            let header = window.get(0, HEADER_BYTES)?;
            let header = header.get(..HEADER_BYTES.min(header.len())).unwrap_or_default();
            check_header(header).map_err(|it| window.damaged(it))?;
            self.segment = segment;
            self.window = Some(window);
        }
        self.window.as_mut().ok_or_else(|| Error::invalid("no window"))
    }
}
