//! The index of a block: symbols, series, posting lists and where they lie.
//!
//! The decoders here work on slices and know no file, so that a local reader and one over ranges
//! of a bucket share them. See `docs/format/index.md`.

pub mod header;
pub mod lookup;
pub mod offsets;
pub mod reader;
pub mod series;
pub mod symbol_list;
pub mod symbols;
pub mod writer;

use crate::codec::{Cursor, crc32c};
use crate::error::Damage;

pub use crate::index::lookup::Lookup;
pub use crate::index::offsets::PostingsRange;
pub use crate::index::reader::Reader;
pub use crate::index::series::{ChunkMeta, SeriesEntry};
pub use crate::index::symbol_list::SymbolList;
pub use crate::index::writer::Writer;

/// The first four bytes of an index.
pub const MAGIC: u32 = 0xbaaa_d700;
/// Magic and version.
pub const HEADER_BYTES: usize = 5;
/// Bytes of the table of contents at the end of an index, checksum included.
pub const TOC_BYTES: usize = 52;
/// Bytes of a section's length field.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Bytes of a checksum.
pub(crate) const CRC_BYTES: usize = 4;
/// Where series begin in version 2: references count in these steps.
pub(crate) const SERIES_ALIGN_BYTES: u64 = 16;

/// Version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Written before 2018: symbols and series by their offset.
    V1,
    /// Symbols by number, series by offset / 16.
    V2,
}

impl Version {
    /// The version that an index says it has in its first [`HEADER_BYTES`].
    ///
    /// # Errors
    /// When it is not an index, or of an unknown version.
    pub fn decode(header: &[u8]) -> Result<Version, Damage> {
        let mut cursor = Cursor::new("index header", header);
        let magic = cursor.u32()?;
        if magic != MAGIC {
            return Err(Damage::new("index header", 0, format!("magic {magic:08x}, not an index")));
        }
        Version::from_byte(cursor.u8()?)
    }

    /// The version that a byte names.
    ///
    /// # Errors
    /// When it is neither 1 nor 2.
    pub fn from_byte(byte: u8) -> Result<Version, Damage> {
        match byte {
            1 => Ok(Version::V1),
            2 => Ok(Version::V2),
            other => Err(Damage::new("index header", 4, format!("unknown version {other}"))),
        }
    }

    /// The byte that names it.
    pub fn to_byte(self) -> u8 {
        match self {
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }

    /// Where the series of a reference begins in the index.
    pub fn series_offset(self, reference: u32) -> u64 {
        match self {
            Version::V1 => u64::from(reference),
            Version::V2 => u64::from(reference) * SERIES_ALIGN_BYTES,
        }
    }
}

/// Where the sections of an index begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toc {
    /// The symbols, in bytes from the start of the index, as all others.
    pub symbols: u64,
    /// The series.
    pub series: u64,
    /// A section that is no longer written; equals `postings` today.
    pub label_indices: u64,
    /// Its table; equals `postings_table` today.
    pub label_indices_table: u64,
    /// The posting lists.
    pub postings: u64,
    /// The table that says which list lies where.
    pub postings_table: u64,
}

impl Toc {
    /// Decodes the last [`TOC_BYTES`] of an index of `index_bytes`.
    ///
    /// # Errors
    /// When the checksum is wrong or the sections are not inside of the index in their order.
    pub fn decode(bytes: &[u8], index_bytes: u64) -> Result<Toc, Damage> {
        let origin = index_bytes.saturating_sub(TOC_BYTES as u64);
        let mut cursor = Cursor::new_at("index table of contents", bytes, origin);
        let content = cursor.take(TOC_BYTES - CRC_BYTES)?;
        if cursor.u32()? != crc32c(content) {
            return Err(Damage::new("index table of contents", origin, "checksum mismatch"));
        }
        let mut cursor = Cursor::new_at("index table of contents", content, origin);
        let toc = Toc {
            symbols: cursor.u64()?,
            series: cursor.u64()?,
            label_indices: cursor.u64()?,
            label_indices_table: cursor.u64()?,
            postings: cursor.u64()?,
            postings_table: cursor.u64()?,
        };
        let ordered = HEADER_BYTES as u64 <= toc.symbols
            && toc.symbols <= toc.series
            && toc.series <= toc.postings
            && toc.postings <= toc.postings_table
            && toc.postings_table <= origin;
        if !ordered {
            return Err(cursor.damage(format!("sections out of order: {toc:?}")));
        }
        Ok(toc)
    }

    /// The bytes that end an index.
    pub fn encode(&self) -> [u8; TOC_BYTES] {
        let mut out = [0; TOC_BYTES];
        let fields = [
            self.symbols,
            self.series,
            self.label_indices,
            self.label_indices_table,
            self.postings,
            self.postings_table,
        ];
        for (place, field) in out.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        let (content, crc) = out.split_at_mut(TOC_BYTES - CRC_BYTES);
        crc.copy_from_slice(&crc32c(content).to_be_bytes());
        out
    }

    /// Where the posting lists end at the latest, for the last one of them.
    pub fn postings_end(&self) -> u64 {
        // Version 1 has the table of the label indices between the lists and their own table.
        let between = (self.postings..self.postings_table).contains(&self.label_indices_table);
        if between && self.label_indices_table > self.postings {
            self.label_indices_table
        } else {
            self.postings_table
        }
    }
}

/// The content of a section: checks and takes away its length field in front and its checksum
/// behind. `origin` is where `bytes` begin in the file.
///
/// # Errors
/// When the length reaches beyond `bytes` or the checksum is wrong.
pub fn section<'a>(what: &'static str, bytes: &'a [u8], origin: u64) -> Result<&'a [u8], Damage> {
    let mut cursor = Cursor::new_at(what, bytes, origin);
    let length = cursor.u32()?;
    let length = usize::try_from(length).map_err(|_| cursor.damage("length does not fit"))?;
    let content = cursor.take(length)?;
    if cursor.u32()? != crc32c(content) {
        return Err(Damage::new(what, origin, "checksum mismatch"));
    }
    Ok(content)
}
