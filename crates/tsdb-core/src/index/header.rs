//! The index header of a store gateway: the parts of an index that every query needs, byte for
//! byte as Thanos keeps them.
//!
//! See `docs/format/index-header.md`.

use std::path::{Path, PathBuf};

use model::Budget;

use crate::codec::{Cursor, crc32c};
use crate::error::{Damage, Error, Result};
use crate::fs::{File, Fs};
use crate::index::offsets::TablePlace;
use crate::index::{CRC_BYTES, Lookup, TOC_BYTES, Toc, Version};
use crate::read_ahead::SealedFile;

/// The first four bytes of an index header.
pub const MAGIC: u32 = 0xbaaa_d792;
/// The only version of the format.
const FORMAT_VERSION: u8 = 1;
/// Magic, version, version of the index, offset of its posting offset table.
pub const HEADER_BYTES: usize = 14;
/// Two offsets and a checksum at the end.
const FOOTER_BYTES: usize = 20;

/// Writes an index header from pieces of the index, in their order, however they are cut.
///
/// The file has its name only once it is whole.
#[derive(Debug)]
pub struct Builder<'a> {
    fs: &'a dyn Fs,
    file: Box<dyn File>,
    path: PathBuf,
    temporary: PathBuf,
    toc: Toc,
    index_bytes: u64,
    written_bytes: u64,
}

impl<'a> Builder<'a> {
    /// Begins the header of an index of `index_bytes`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn create(
        fs: &'a dyn Fs,
        path: &Path,
        version: Version,
        toc: Toc,
        index_bytes: u64,
    ) -> Result<Builder<'a>> {
        let mut temporary = path.to_owned();
        temporary.as_mut_os_string().push(".tmp");
        match fs.unlink(&temporary).map_err(Error::io("remove", &temporary)) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let file = fs.create(&temporary).map_err(Error::io("create", &temporary))?;
        let mut head = [0; HEADER_BYTES];
        head[..4].copy_from_slice(&MAGIC.to_be_bytes());
        head[4] = FORMAT_VERSION;
        head[5] = version.to_byte();
        head[6..].copy_from_slice(&toc.postings_table.to_be_bytes());
        let written_bytes = HEADER_BYTES as u64;
        let path = path.to_owned();
        let builder = Builder { fs, file, path, temporary, toc, index_bytes, written_bytes };
        builder.file.append(&head).map_err(Error::io("write", &builder.temporary))?;
        Ok(builder)
    }

    /// The parts of the index that are wanted, in this order: the symbols up to the series, and
    /// all from the posting offset table to the end.
    pub fn wanted(&self) -> [std::ops::Range<u64>; 2] {
        [self.toc.symbols..self.toc.series, self.toc.postings_table..self.index_bytes]
    }

    /// Appends the next bytes of the wanted parts.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.append(bytes).map_err(Error::io("write", &self.temporary))?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Ends the header and gives it its name.
    ///
    /// # Errors
    /// When the disk fails or not all wanted bytes came.
    pub fn finish(mut self) -> Result<()> {
        let [symbols, table] = self.wanted();
        let symbols_at = HEADER_BYTES as u64;
        let table_at = symbols_at + (symbols.end - symbols.start);
        let expected = table_at + (table.end - table.start);
        if self.written_bytes != expected {
            let text = format!("{} bytes of {expected} came", self.written_bytes);
            return Err(Damage::new("index header", self.written_bytes, text).within(&self.path));
        }
        let mut footer = [0; FOOTER_BYTES];
        footer[..8].copy_from_slice(&symbols_at.to_be_bytes());
        footer[8..16].copy_from_slice(&table_at.to_be_bytes());
        let crc = crc32c(&footer[..16]);
        footer[16..].copy_from_slice(&crc.to_be_bytes());
        self.append(&footer)?;
        self.file.sync_data().map_err(Error::io("sync", &self.temporary))?;
        let renamed = self.fs.rename(&self.temporary, &self.path);
        renamed.map_err(Error::io("rename", &self.temporary))?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        self.fs.sync_directory(directory).map_err(Error::io("sync", directory))
    }
}

/// An opened index header.
#[derive(Debug)]
pub struct Header {
    /// Where the sections of the index lie.
    pub toc: Toc,
    /// Symbols and posting offsets.
    pub lookup: Lookup,
    /// Size of the index itself, as far as the header tells: its table of contents ends it.
    pub index_bytes: u64,
}

impl Header {
    /// Opens and checks an index header, all of it.
    ///
    /// # Errors
    /// When the disk fails, the header is damaged, or `budget` has no room for it.
    pub fn open(fs: &dyn Fs, path: &Path, sample_rate: usize, budget: &Budget) -> Result<Header> {
        let file = SealedFile::open(fs, path)?;
        let damaged = file.damaged();
        let size_bytes = file.size_bytes();
        let least = (HEADER_BYTES + TOC_BYTES + FOOTER_BYTES) as u64;
        if size_bytes < least {
            let text = format!("{size_bytes} bytes, {least} or more expected");
            return Err(damaged(Damage::new("index header", 0, text)));
        }
        let (version, postings_table) =
            decode_head(&file.read(0, HEADER_BYTES)?).map_err(&damaged)?;
        let footer_at = size_bytes - FOOTER_BYTES as u64;
        let footer = file.read(footer_at, FOOTER_BYTES)?;
        let (symbols_at, table_at) = decode_footer(&footer, footer_at).map_err(&damaged)?;
        let toc_at = footer_at - TOC_BYTES as u64;
        // The table of contents was copied from the end of the index, which so is known.
        let index_bytes = (toc_at + TOC_BYTES as u64).saturating_sub(table_at) + postings_table;
        let toc = Toc::decode(&file.read(toc_at, TOC_BYTES)?, index_bytes).map_err(&damaged)?;
        let fits = symbols_at == HEADER_BYTES as u64
            && table_at == symbols_at + (toc.series - toc.symbols)
            && toc.postings_table == postings_table
            && table_at <= toc_at;
        if !fits {
            let text = "offsets do not fit those of the index";
            return Err(damaged(Damage::new("index header", footer_at, text)));
        }
        let place = TablePlace {
            section: table_at..toc_at,
            postings_end: toc.postings_end(),
            version,
            sample_rate,
        };
        let lookup = Lookup::load(file, symbols_at..table_at, &place, budget)?;
        Ok(Header { toc, lookup, index_bytes })
    }
}

fn decode_head(bytes: &[u8]) -> std::result::Result<(Version, u64), Damage> {
    let mut cursor = Cursor::new("index header", bytes);
    let magic = cursor.u32()?;
    if magic != MAGIC {
        return Err(Damage::new("index header", 0, format!("magic {magic:08x}")));
    }
    let format_version = cursor.u8()?;
    if format_version != FORMAT_VERSION {
        return Err(cursor.damage(format!("unknown version {format_version}")));
    }
    Ok((Version::from_byte(cursor.u8()?)?, cursor.u64()?))
}

fn decode_footer(bytes: &[u8], at: u64) -> std::result::Result<(u64, u64), Damage> {
    let mut cursor = Cursor::new_at("index header", bytes, at);
    let content = cursor.take(FOOTER_BYTES - CRC_BYTES)?;
    if cursor.u32()? != crc32c(content) {
        return Err(Damage::new("index header", at, "checksum mismatch"));
    }
    let mut cursor = Cursor::new_at("index header", content, at);
    Ok((cursor.u64()?, cursor.u64()?))
}
