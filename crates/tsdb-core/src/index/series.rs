//! One entry of the series section: labels as symbol references, chunks as times and places.

use crate::codec::{Cursor, VARINT_BYTES_MAX, crc32c, put_uvarint, put_varint, uvarint_bytes};
use crate::error::Damage;
use crate::index::CRC_BYTES;

/// Where a chunk lies and what time it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Segment number from 0 in the upper 32 bits, offset in the segment file in the lower.
    pub reference: u64,
    /// Time of the first sample in ms.
    pub min_time_ms: i64,
    /// Time of the last sample in ms.
    pub max_time_ms: i64,
}

impl ChunkMeta {
    /// Number of the segment, from 0.
    pub fn segment(&self) -> usize {
        usize::try_from(self.reference >> 32).unwrap_or(usize::MAX)
    }

    /// Offset in the segment file.
    pub fn offset(&self) -> u64 {
        self.reference & u64::from(u32::MAX)
    }
}

/// A decoded entry; meant to be reused from one series to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesEntry {
    /// Name and value of each label as symbol references, sorted by name.
    pub labels: Vec<(u32, u32)>,
    /// The chunks in the order of their time.
    pub chunks: Vec<ChunkMeta>,
}

/// Most bytes that the length field of an entry takes.
pub const LENGTH_BYTES_MAX: usize = VARINT_BYTES_MAX;

/// Bytes of the whole entry that begins at the start of `bytes`, length field and checksum
/// included, or `None` when not even the length field is there.
///
/// # Errors
/// When the length is not a number.
pub fn entry_bytes(bytes: &[u8], origin: u64) -> Result<Option<u64>, Damage> {
    let mut cursor = Cursor::new_at("series", bytes, origin);
    match cursor.uvarint() {
        Ok(length) => Ok(Some(length.saturating_add((cursor.position() + CRC_BYTES) as u64))),
        Err(_) if bytes.len() < LENGTH_BYTES_MAX => Ok(None),
        Err(damage) => Err(damage),
    }
}

impl SeriesEntry {
    /// Decodes the entry that begins at the start of `bytes`, which lie at `origin` of the index;
    /// what is behind it is ignored.
    ///
    /// # Errors
    /// When it is cut short, its checksum is wrong, or its fields do not fit.
    pub fn decode(&mut self, bytes: &[u8], origin: u64) -> Result<(), Damage> {
        self.labels.clear();
        self.chunks.clear();
        let mut outer = Cursor::new_at("series", bytes, origin);
        let content = outer.sized_bytes()?;
        let start = outer.position() - content.len();
        if outer.u32()? != crc32c(content) {
            return Err(Damage::new("series", origin, "checksum mismatch"));
        }
        let mut cursor = Cursor::new_at("series", content, origin + start as u64);
        self.decode_labels(&mut cursor)?;
        self.decode_chunks(&mut cursor)
    }

    fn decode_labels(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Damage> {
        let count = cursor.length()?;
        if count > cursor.remaining() / 2 {
            return Err(cursor.damage(format!("{count} labels declared")));
        }
        self.labels.reserve(count);
        for _ in 0..count {
            self.labels.push((symbol(cursor)?, symbol(cursor)?));
        }
        Ok(())
    }

    fn decode_chunks(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Damage> {
        let count = cursor.length()?;
        if count > cursor.remaining() / 3 {
            return Err(cursor.damage(format!("{count} chunks declared")));
        }
        self.chunks.reserve(count);
        let (mut time_ms, mut reference) = (0_i64, 0_i64);
        for index in 0..count {
            let min_time_ms = match index {
                0 => cursor.varint()?,
                _ => time_ms.wrapping_add(cursor.uvarint()?.cast_signed()),
            };
            let max_time_ms = min_time_ms.wrapping_add(cursor.uvarint()?.cast_signed());
            reference = match index {
                0 => cursor.uvarint()?.cast_signed(),
                _ => reference.wrapping_add(cursor.varint()?),
            };
            let chunk =
                ChunkMeta { reference: reference.cast_unsigned(), min_time_ms, max_time_ms };
            self.chunks.push(chunk);
            time_ms = max_time_ms;
        }
        Ok(())
    }

    /// Appends the whole entry, length field and checksum included. `scratch` is overwritten.
    pub fn encode(&self, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        put_uvarint(scratch, self.labels.len() as u64);
        for &(name, value) in &self.labels {
            put_uvarint(scratch, u64::from(name));
            put_uvarint(scratch, u64::from(value));
        }
        put_uvarint(scratch, self.chunks.len() as u64);
        let mut before: Option<ChunkMeta> = None;
        for chunk in &self.chunks {
            let span_ms = chunk.max_time_ms.wrapping_sub(chunk.min_time_ms);
            let reference = chunk.reference.cast_signed();
            match before {
                None => {
                    put_varint(scratch, chunk.min_time_ms);
                    put_uvarint(scratch, span_ms.cast_unsigned());
                    put_uvarint(scratch, chunk.reference);
                }
                Some(before) => {
                    let gap_ms = chunk.min_time_ms.wrapping_sub(before.max_time_ms);
                    put_uvarint(scratch, gap_ms.cast_unsigned());
                    put_uvarint(scratch, span_ms.cast_unsigned());
                    put_varint(scratch, reference.wrapping_sub(before.reference.cast_signed()));
                }
            }
            before = Some(*chunk);
        }
        out.reserve(uvarint_bytes(scratch.len() as u64) + scratch.len() + CRC_BYTES);
        put_uvarint(out, scratch.len() as u64);
        out.extend_from_slice(scratch);
        out.extend_from_slice(&crc32c(scratch).to_be_bytes());
    }
}

fn symbol(cursor: &mut Cursor<'_>) -> Result<u32, Damage> {
    let value = cursor.uvarint()?;
    u32::try_from(value).map_err(|_| cursor.damage(format!("symbol reference {value}")))
}
