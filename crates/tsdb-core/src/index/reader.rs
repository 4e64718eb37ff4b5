//! An index on the local disk.

use std::path::Path;

use model::{Budget, Matcher};

use crate::error::Result;
use crate::fs::Fs;
use crate::index::offsets::{PostingsRange, SAMPLE_RATE, TablePlace};
use crate::index::series::{LENGTH_BYTES_MAX, entry_bytes};
use crate::index::{HEADER_BYTES, Lookup, SeriesEntry, TOC_BYTES, Toc, Version};
use crate::read_ahead::{ReadAhead, SealedFile};
use crate::{Damage, postings, select};

/// How much is read at once when series are read in order.
const SERIES_WINDOW_BYTES: usize = 64 * 1024;

/// An open index. Symbols, series and lists stay on disk.
#[derive(Debug)]
pub struct Reader {
    file: SealedFile,
    toc: Toc,
    lookup: Lookup,
}

impl Reader {
    /// Opens an index and checks its tables; series and lists are checked when they are read.
    ///
    /// # Errors
    /// When the disk fails, the index is damaged, or `budget` has no room for its samples.
    pub fn open(fs: &dyn Fs, path: &Path, budget: &Budget) -> Result<Reader> {
        let file = SealedFile::open(fs, path)?;
        let damaged = file.damaged();
        let size_bytes = file.size_bytes();
        let version = Version::decode(&file.read(0, HEADER_BYTES)?).map_err(&damaged)?;
        let toc_at = size_bytes.saturating_sub(TOC_BYTES as u64);
        let toc = Toc::decode(&file.read(toc_at, TOC_BYTES)?, size_bytes).map_err(&damaged)?;
        let place = TablePlace {
            section: toc.postings_table..toc_at,
            postings_end: toc.postings_end(),
            version,
            sample_rate: SAMPLE_RATE,
        };
        let lookup = Lookup::load(file.clone(), toc.symbols..toc.series, &place, budget)?;
        Ok(Reader { file, toc, lookup })
    }

    /// Symbols and posting offsets.
    pub fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// Where the sections lie.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The file.
    pub fn file(&self) -> &SealedFile {
        &self.file
    }

    /// One posting list.
    ///
    /// # Errors
    /// When the disk fails or the list is damaged.
    pub fn postings(&self, range: PostingsRange) -> Result<Vec<u32>> {
        let length = usize::try_from(range.size_bytes()).unwrap_or(usize::MAX);
        let bytes = self.file.read(range.start, length)?;
        postings::decode(&bytes, range.start).map_err(self.file.damaged())
    }

    /// The references of the series that fulfil all matchers, ascending; none without a matcher.
    ///
    /// # Errors
    /// When the disk fails, the index is damaged, or `budget` has no room for the lists.
    pub fn select(&self, matchers: &[Matcher], budget: &Budget) -> Result<Vec<u32>> {
        let plan = select::plan(&self.lookup, matchers)?;
        let mut held = budget.reserve(0)?;
        select::execute(&plan, |range| {
            // A range reaches as far as the next list, which bounds what is read and decoded.
            held.grow(usize::try_from(range.size_bytes()).unwrap_or(usize::MAX))?;
            self.postings(*range)
        })
    }

    /// The references of all series.
    ///
    /// # Errors
    /// When the disk fails or the list is damaged.
    pub fn all(&self) -> Result<Vec<u32>> {
        self.lookup.offsets().all().map_or_else(|| Ok(Vec::new()), |range| self.postings(range))
    }

    /// A reader of series, best asked in ascending order.
    pub fn series(&self) -> SeriesReader<'_> {
        let ahead = ReadAhead::new(self.file.clone(), SERIES_WINDOW_BYTES);
        SeriesReader { index: self, ahead }
    }
}

/// Reads series entries through a window.
#[derive(Debug)]
pub struct SeriesReader<'a> {
    index: &'a Reader,
    ahead: ReadAhead,
}

impl SeriesReader<'_> {
    /// Reads the series of a reference into `entry`.
    ///
    /// # Errors
    /// When the disk fails, or there is no whole series at that place.
    pub fn read(&mut self, reference: u32, entry: &mut SeriesEntry) -> Result<()> {
        let damaged = self.index.file.damaged();
        let toc = &self.index.toc;
        let at = self.index.lookup.version().series_offset(reference);
        if !(toc.series..toc.postings).contains(&at) {
            let text = format!("reference {reference} lies outside of the series section");
            return Err(damaged(Damage::new("series", at, text)));
        }
        let there = usize::try_from(toc.postings - at).unwrap_or(usize::MAX);
        let head = self.ahead.get(at, LENGTH_BYTES_MAX.min(there))?;
        let length = entry_bytes(head, at).map_err(&damaged)?;
        let length = length.and_then(|it| usize::try_from(it).ok()).unwrap_or(there);
        let bytes = self.ahead.get(at, length.min(there))?;
        entry.decode(bytes, at).map_err(damaged)
    }
}
