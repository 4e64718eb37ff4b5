//! Frames: the one form in which the log, the series files and the snapshots keep their records.
//!
//! All numbers are big-endian: magic (4 bytes), length of the payload (4), CRC-32C of all that
//! follows it (4), kind (1), zero (1), partition (2), sequence (8), payload. The page
//! `docs/format/wal.md` is the reference.

use std::path::{Path, PathBuf};

use crate::codec::{Crc32c, Cursor};
use crate::error::{Damage, Error, Result};
use crate::fs::File;

/// Begins every frame. The first byte cannot begin or continue UTF-8 text of labels.
pub(crate) const MAGIC: [u8; 4] = [0xfe, b'A', b'L', 0x01];
/// Bytes in front of the payload.
pub(crate) const HEADER_BYTES: usize = 24;
/// Longest payload.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16 << 20;

const CRC_COVERS_FROM: usize = 12;
const WINDOW_BYTES: usize = 1 << 20;

/// What a frame holds. Numbers are on disk and never given to anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Series with their labels.
    Series = 1,
    /// Float samples.
    Floats = 2,
    /// Native histograms with integer counts; reserved.
    Histograms = 3,
    /// Native histograms with float counts; reserved.
    FloatHistograms = 4,
    /// Exemplars; reserved.
    Exemplars = 5,
    /// Metric metadata; reserved.
    Metadata = 6,
    /// Deletions of ranges; reserved.
    Tombstones = 7,
    /// The end of a tenant; reserved.
    TenantGone = 8,
    /// What a snapshot is about.
    SnapshotHead = 64,
    /// Series of a snapshot: open chunk and references to closed ones.
    SnapshotSeries = 65,
    /// The end of a snapshot.
    SnapshotEnd = 66,
}

impl Kind {
    /// The kind of a byte on disk, if this version knows it.
    pub(crate) fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Series,
            2 => Kind::Floats,
            3 => Kind::Histograms,
            4 => Kind::FloatHistograms,
            5 => Kind::Exemplars,
            6 => Kind::Metadata,
            7 => Kind::Tombstones,
            8 => Kind::TenantGone,
            64 => Kind::SnapshotHead,
            65 => Kind::SnapshotSeries,
            66 => Kind::SnapshotEnd,
            _ => return None,
        })
    }
}

/// What a frame that is to be written is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHead {
    /// What it holds.
    pub(crate) kind: Kind,
    /// Partition of the head.
    pub(crate) partition: u16,
    /// Place in the order of its partition.
    pub(crate) sequence: u64,
}

/// A frame that was read, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// The byte of its kind.
    pub(crate) kind: u8,
    /// Partition of the head.
    pub(crate) partition: u16,
    /// Place in the order of its partition.
    pub(crate) sequence: u64,
    /// What it holds.
    pub(crate) payload: &'a [u8],
    /// Where it begins in the file.
    pub(crate) offset: u64,
}

/// Bytes of a file that are no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSpan {
    /// The file.
    pub path: PathBuf,
    /// First damaged byte.
    pub start: u64,
    /// Byte behind the last damaged one: the next good frame, or the end of the file.
    pub end: u64,
    /// Whether nothing good follows: what an interrupted write leaves.
    pub is_tail: bool,
    /// What is wrong with the first bytes.
    pub reason: String,
}

/// Appends a frame to `out`.
///
/// # Errors
/// When the payload is longer than [`PAYLOAD_BYTES_MAX`]; `out` is as before then.
pub(crate) fn put(out: &mut Vec<u8>, head: FrameHead, payload: &[u8]) -> Result<()> {
    let FrameHead { kind, partition, sequence } = head;
    if payload.len() > PAYLOAD_BYTES_MAX {
        let length = payload.len();
        return Err(Error::invalid(format!(
            "a record of {length} bytes does not fit into a frame of {PAYLOAD_BYTES_MAX} bytes"
        )));
    }
    let length = u32::try_from(payload.len()).map_err(|_| Error::invalid("frame is too long"))?;
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&length.to_be_bytes());
    header[12] = kind as u8;
    header[14..16].copy_from_slice(&partition.to_be_bytes());
    header[16..24].copy_from_slice(&sequence.to_be_bytes());
    let mut crc = Crc32c::new();
    crc.update(&header[CRC_COVERS_FROM..]);
    crc.update(payload);
    header[8..12].copy_from_slice(&crc.value().to_be_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    Ok(())
}

/// One step of a [`Reader`].
#[derive(Debug)]
pub(crate) enum Item<'a> {
    /// A good frame.
    Frame(Frame<'a>),
    /// Bytes that are none; reading goes on behind them.
    Damaged(DamagedSpan),
}

/// Reads the frames of a file one after the other with memory for one frame.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    file: &'a dyn File,
    path: &'a Path,
    end: u64,
    at: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Reader<'a> {
    /// Begins at the start of a file and ends at `end`, or where the file ends.
    pub(crate) fn new(file: &'a dyn File, path: &'a Path, end: u64) -> Result<Reader<'a>> {
        let size_bytes = file.size_bytes().map_err(Error::io("size of", path))?;
        let end = end.min(size_bytes);
        Ok(Reader { file, path, end, at: 0, window: Vec::new(), window_start: 0 })
    }

    /// The next frame or damaged span; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Item<'_>>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let start = self.at;
        match self.check(start)? {
            Ok(length) => {
                self.at = start + length;
                Ok(Some(Item::Frame(self.frame(start, length)?)))
            }
            Err(damage) => {
                let next = self.find_frame(start + 1)?;
                self.at = next.unwrap_or(self.end);
                Ok(Some(Item::Damaged(DamagedSpan {
                    path: self.path.to_owned(),
                    start,
                    end: self.at,
                    is_tail: next.is_none(),
                    reason: damage.reason.into_owned(),
                })))
            }
        }
    }

    /// The frame at `start`, which [`Reader::check`] found good and left in the window.
    fn frame(&mut self, start: u64, length: u64) -> Result<Frame<'_>> {
        let path = self.path;
        let bytes = self.bytes(start, length)?;
        let mut cursor = Cursor::new_at("frame", bytes, start);
        let read = (|| -> std::result::Result<Frame<'_>, Damage> {
            cursor.take(CRC_COVERS_FROM)?;
            let kind = cursor.u8()?;
            cursor.u8()?;
            let partition = cursor.u16()?;
            let sequence = cursor.u64()?;
            Ok(Frame { kind, partition, sequence, payload: cursor.rest(), offset: start })
        })();
        read.map_err(|damage| damage.within(path))
    }

    /// Length of the whole frame at `start`, or why there is none.
    fn check(&mut self, start: u64) -> Result<std::result::Result<u64, Damage>> {
        let damage = |reason: &'static str| Ok(Err(Damage::new("frame", start, reason)));
        let left = self.end - start;
        if left < HEADER_BYTES as u64 {
            return damage("the file ends inside the header of a frame");
        }
        let header = self.bytes(start, HEADER_BYTES as u64)?;
        let mut cursor = Cursor::new_at("frame", header, start);
        let fields = (|| -> std::result::Result<_, Damage> {
            Ok((cursor.take(4)? == MAGIC, cursor.u32()?, cursor.u32()?))
        })();
        let Ok((is_frame, length, crc)) = fields else { return damage("header is cut short") };
        if !is_frame {
            return damage("there is no frame");
        }
        if length as usize > PAYLOAD_BYTES_MAX {
            return damage("the declared length is too large");
        }
        let length = HEADER_BYTES as u64 + u64::from(length);
        if length > left {
            return damage("the file ends inside a frame");
        }
        let bytes = self.bytes(start, length)?;
        if crate::codec::crc32c(&bytes[CRC_COVERS_FROM..]) != crc {
            return damage("checksum mismatch");
        }
        Ok(Ok(length))
    }

    /// Where the next good frame at or behind `from` begins.
    fn find_frame(&mut self, from: u64) -> Result<Option<u64>> {
        let mut at = from;
        while at + HEADER_BYTES as u64 <= self.end {
            let length = (self.end - at).min(WINDOW_BYTES as u64);
            let bytes = self.bytes(at, length)?;
            let found = bytes.windows(MAGIC.len()).position(|it| it == MAGIC);
            let Some(found) = found else {
                // The last three bytes may begin a magic that ends in the next window.
                at += length.saturating_sub(MAGIC.len() as u64 - 1).max(1);
                continue;
            };
            at += found as u64;
            if at < self.end && self.check(at)?.is_ok() {
                return Ok(Some(at));
            }
            at += 1;
        }
        Ok(None)
    }

    /// Bytes of the file, through the window; the caller keeps within `end`.
    fn bytes(&mut self, start: u64, length: u64) -> Result<&[u8]> {
        let window_end = self.window_start + self.window.len() as u64;
        if start < self.window_start || start + length > window_end {
            let wanted = length.max(WINDOW_BYTES as u64).min(self.end - start);
            self.window.resize(usize_of(wanted), 0);
            self.window_start = start;
            let read = self.file.read_exact_at(&mut self.window, start);
            if let Err(source) = read {
                self.window.clear();
                return Err(Error::io("read", self.path)(source));
            }
        }
        let from = usize_of(start - self.window_start);
        Ok(&self.window[from..from + usize_of(length)])
    }
}

/// A length that is bounded by the largest frame and window.
fn usize_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
