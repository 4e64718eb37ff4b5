//! The symbol table of an index, on disk, with every 32nd place in memory.

use std::ops::Range;

use crate::codec::{Crc32c, Cursor, VARINT_BYTES_MAX};
use crate::error::{Damage, Result};
use crate::index::{CRC_BYTES, HEADER_BYTES, LENGTH_BYTES, Version};
use crate::read_ahead::ReadAhead;

/// One place in so many is kept in memory.
const SAMPLE_RATE: u32 = 32;
/// How much is read at once when a whole section is checked.
const CHECK_BYTES: usize = 256 * 1024;

/// Where the symbols lie in a file: an index, or an index header that holds a copy of it.
#[derive(Debug)]
pub struct SymbolTable {
    version: Version,
    /// The section in the file, length field included.
    section_start: u64,
    /// The texts, behind the count and before the checksum.
    texts: Range<u64>,
    count: u32,
    /// Offset in the file of every [`SAMPLE_RATE`]th symbol; version 2 only.
    samples: Vec<u64>,
}

impl SymbolTable {
    /// Finds and checks the symbols that begin at `section.start`, reading through `reader`.
    ///
    /// # Errors
    /// When the disk fails or the section is damaged.
    pub fn load(
        reader: &mut ReadAhead,
        section: Range<u64>,
        version: Version,
    ) -> Result<SymbolTable> {
        let content = checked_section("symbol table", reader, section.clone())?;
        let damaged = reader.file().damaged();
        let head = reader.get(content.start, LENGTH_BYTES)?;
        let count = Cursor::new_at("symbol table", head, content.start).u32().map_err(&damaged)?;
        let texts = content.start + LENGTH_BYTES as u64..content.end;
        let mut table = SymbolTable {
            version,
            section_start: section.start,
            texts: texts.clone(),
            count,
            samples: Vec::new(),
        };
        let mut at = texts.start;
        for number in 0..count {
            if number % SAMPLE_RATE == 0 {
                table.samples.push(at);
            }
            at = skip_text(reader, at, texts.end)?;
        }
        if at != texts.end {
            let text = format!("{} bytes behind the last symbol", texts.end - at);
            return Err(damaged(Damage::new("symbol table", at, text)));
        }
        Ok(table)
    }

    /// Number of symbols.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of memory that it holds.
    pub fn size_bytes(&self) -> usize {
        self.samples.capacity() * size_of::<u64>()
    }

    /// Appends the symbol of a reference to `out`: its number in version 2, in version 1 its
    /// offset in the index.
    ///
    /// # Errors
    /// When there is no such symbol, it is not UTF-8, or the disk fails.
    pub fn append(&self, reader: &mut ReadAhead, reference: u32, out: &mut String) -> Result<()> {
        let damaged = reader.file().damaged();
        let missing = |at| {
            let text = format!("no symbol {reference} among {}", self.count);
            damaged(Damage::new("symbol table", at, text))
        };
        let at = match self.version {
            Version::V1 => {
                // References count from the start of the index, where symbols begin at byte 5.
                let inside = u64::from(reference).checked_sub(HEADER_BYTES as u64);
                let at = inside.and_then(|it| it.checked_add(self.section_start));
                at.filter(|at| self.texts.contains(at)).ok_or_else(|| missing(self.texts.start))?
            }
            Version::V2 => {
                let page = (reference / SAMPLE_RATE) as usize;
                let sample = self.samples.get(page).filter(|_| reference < self.count);
                let mut at = *sample.ok_or_else(|| missing(self.texts.start))?;
                for _ in 0..reference % SAMPLE_RATE {
                    at = skip_text(reader, at, self.texts.end)?;
                }
                at
            }
        };
        let end = skip_text(reader, at, self.texts.end)?;
        let length = usize::try_from(end - at).unwrap_or(usize::MAX);
        let mut cursor = Cursor::new_at("symbol", reader.get(at, length)?, at);
        out.push_str(cursor.text().map_err(&damaged)?);
        Ok(())
    }

    /// Calls `visit` with every symbol in the order of the table.
    ///
    /// # Errors
    /// Those of `visit`, a text that is not UTF-8, or when the disk fails.
    pub fn for_each(
        &self,
        reader: &mut ReadAhead,
        mut visit: impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let damaged = reader.file().damaged();
        let mut at = self.texts.start;
        for _ in 0..self.count {
            let end = skip_text(reader, at, self.texts.end)?;
            let length = usize::try_from(end - at).unwrap_or(usize::MAX);
            let mut cursor = Cursor::new_at("symbol", reader.get(at, length)?, at);
            visit(cursor.text().map_err(&damaged)?)?;
            at = end;
        }
        Ok(())
    }
}

/// Where the text at `at` ends, which must not be behind `end`.
fn skip_text(reader: &mut ReadAhead, at: u64, end: u64) -> Result<u64> {
    let damaged = reader.file().damaged();
    let there = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
    let head = reader.get(at, VARINT_BYTES_MAX.min(there))?;
    let mut cursor = Cursor::new_at("symbol", head, at);
    let length = cursor.uvarint().map_err(&damaged)?;
    let text_end = length.checked_add(at + cursor.position() as u64);
    let text_end = text_end.filter(|it| *it <= end);
    text_end.ok_or_else(|| {
        let text = format!("{length} bytes declared, {there} left in the section");
        damaged(Damage::new("symbol", at, text))
    })
}

/// The content of the section that begins at `section.start`, behind its length field and before
/// its checksum, which is checked; it must end before `section.end`.
pub(crate) fn checked_section(
    what: &'static str,
    reader: &mut ReadAhead,
    section: Range<u64>,
) -> Result<Range<u64>> {
    let damaged = reader.file().damaged();
    let head = reader.get(section.start, LENGTH_BYTES)?;
    let length = Cursor::new_at(what, head, section.start).u32().map_err(&damaged)?;
    let content = section.start + LENGTH_BYTES as u64;
    let content = content..content + u64::from(length);
    if content.end + CRC_BYTES as u64 > section.end.min(reader.file().size_bytes()) {
        let text = format!("{length} bytes declared, the section ends at {}", section.end);
        return Err(damaged(Damage::new(what, section.start, text)));
    }
    let mut crc = Crc32c::new();
    let mut at = content.start;
    while at < content.end {
        let left = usize::try_from(content.end - at).unwrap_or(usize::MAX);
        let bytes = reader.get(at, CHECK_BYTES.min(left))?;
        crc.update(bytes);
        at += bytes.len() as u64;
        if bytes.is_empty() {
            return Err(damaged(Damage::new(what, at, "the file became shorter")));
        }
    }
    let stored = reader.get(content.end, CRC_BYTES)?;
    let stored = Cursor::new_at(what, stored, content.end).u32().map_err(&damaged)?;
    if stored != crc.value() {
        return Err(damaged(Damage::new(what, section.start, "checksum mismatch")));
    }
    Ok(content)
}
