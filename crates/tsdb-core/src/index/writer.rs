//! Writes an index from front to back: symbols, series in the order of their labels, postings.
//!
//! Memory holds the symbols, a count for every label pair and a reference for every series. Lists
//! are filled in passes over the series that were just written, as many as a bounded buffer asks
//! for.

use std::fmt;
use std::hash::BuildHasher as _;
use std::path::Path;

use hashbrown::{HashMap, HashTable};
use model::{Budget, Labels, Reservation};

use crate::codec::{crc32c, put_text, put_uvarint};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::index::series::{LENGTH_BYTES_MAX, entry_bytes};
use crate::index::symbol_list::{SymbolList, section_length};
use crate::index::{ChunkMeta, MAGIC, SERIES_ALIGN_BYTES, SeriesEntry, Toc, Version};
use crate::output::Output;
use crate::read_ahead::{ReadAhead, SealedFile};

/// Most bytes of posting lists that are gathered in one pass over the series.
const LISTS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How much is read at once in such a pass.
const PASS_WINDOW_BYTES: usize = 256 * 1024;
/// How many series are added between two adjustments of the account.
const ACCOUNT_EVERY: usize = 1024;
/// Most bytes of an entry of the offset table besides its texts: count, lengths of empty texts,
/// offset; and the table's own count.
const TABLE_ENTRY_BYTES_MAX: usize = 1 + 2 + LENGTH_BYTES_MAX + size_of::<u32>();
/// Bytes that a label pair takes in memory, map and sorted list together.
const PAIR_BYTES: usize = 32;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Number of series.
    pub series_count: u64,
    /// Size of the index in bytes.
    pub size_bytes: u64,
    /// Size of the largest series entry in bytes.
    pub series_max_bytes: u64,
}

/// An index being written.
#[derive(Debug)]
pub struct Writer<'a> {
    fs: &'a dyn Fs,
    output: Output,
    symbols: SymbolList,
    /// Symbols by text, once a series was added that needs it.
    found: Option<Numbers>,
    toc: Toc,
    last: Option<Labels>,
    entry: SeriesEntry,
    scratch: Vec<u8>,
    encoded: Vec<u8>,
    references: Vec<u32>,
    /// Number of series of each label pair; later, the pair's place in the sorted order.
    pairs: HashMap<(u32, u32), u32, foldhash::fast::RandomState>,
    series_max_bytes: u64,
    held: Reservation,
    lists_bytes_max: usize,
    is_scratch: bool,
}

impl<'a> Writer<'a> {
    /// Makes the file and writes the symbols, which must come sorted, each once: every label name
    /// and value of the series to come. The empty symbol is added when it is not among them.
    ///
    /// # Errors
    /// When the disk fails, symbols are not sorted, or `budget` has no room for them.
    pub fn create<S: AsRef<str>>(
        fs: &'a dyn Fs,
        path: &Path,
        symbols: impl IntoIterator<Item = S>,
        budget: &Budget,
    ) -> Result<Writer<'a>> {
        let mut list = SymbolList::new(budget)?;
        for symbol in symbols {
            list.push(symbol.as_ref())?;
        }
        Writer::create_listed(fs, path, list, budget)
    }

    /// As [`Writer::create`], with symbols that were gathered before.
    ///
    /// # Errors
    /// When the disk fails or `budget` has no room.
    pub fn create_listed(
        fs: &'a dyn Fs,
        path: &Path,
        mut symbols: SymbolList,
        budget: &Budget,
    ) -> Result<Writer<'a>> {
        symbols.account()?;
        let mut output = Output::create(fs, path)?;
        output.write(&MAGIC.to_be_bytes())?;
        output.write(&[Version::V2.to_byte()])?;
        let mut toc = Toc {
            symbols: output.position(),
            series: 0,
            label_indices: 0,
            label_indices_table: 0,
            postings: 0,
            postings_table: 0,
        };
        symbols.write(&mut output)?;
        toc.series = output.position();
        Ok(Writer {
            fs,
            output,
            symbols,
            found: None,
            toc,
            last: None,
            entry: SeriesEntry::default(),
            scratch: Vec::new(),
            encoded: Vec::new(),
            references: Vec::new(),
            pairs: HashMap::default(),
            series_max_bytes: 0,
            held: budget.reserve(0)?,
            lists_bytes_max: LISTS_BYTES_MAX,
            is_scratch: false,
        })
    }

    /// Bounds the buffer in which posting lists are gathered; smaller means more passes.
    pub fn set_lists_bytes_max(&mut self, bytes: usize) {
        self.lists_bytes_max = bytes;
    }

    /// Leaves out what makes the file durable: it is read once and thrown away.
    pub(crate) fn set_scratch(&mut self) {
        self.is_scratch = true;
    }

    /// Bytes that were written so far.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.output.position()
    }

    /// Adds a series: labels above those of the series before, chunks in order of time and place,
    /// not overlapping.
    ///
    /// # Errors
    /// When the disk fails, the order is broken, a symbol is missing, or a bound of the format or
    /// of memory is passed.
    pub fn add_series(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<()> {
        if let Some(last) = self.last.as_ref().filter(|last| *last >= labels) {
            return Err(Error::invalid(format!("series {labels} is added after {last}")));
        }
        check_chunks(labels, chunks)?;
        self.set_entry_labels(labels)?;
        self.last = Some(labels.clone());
        self.add_entry(chunks)
    }

    /// As [`Writer::add_series`], with labels named by the places of their texts among the
    /// symbols given to [`Writer::create`], from 0, which must not have had the empty one.
    ///
    /// # Errors
    /// As [`Writer::add_series`].
    pub(crate) fn add_ranked(&mut self, labels: &[(u32, u32)], chunks: &[ChunkMeta]) -> Result<()> {
        // The empty symbol has number 0.
        self.add(labels.iter().map(|(name, value)| (name + 1, value + 1)), chunks)
    }

    /// As [`Writer::add_series`], with labels named by the numbers of their symbols.
    ///
    /// # Errors
    /// As [`Writer::add_series`].
    pub fn add_numbered(&mut self, labels: &[(u32, u32)], chunks: &[ChunkMeta]) -> Result<()> {
        self.add(labels.iter().copied(), chunks)
    }

    fn add(
        &mut self,
        numbers: impl Iterator<Item = (u32, u32)> + Clone,
        chunks: &[ChunkMeta],
    ) -> Result<()> {
        let count = self.symbols.count();
        if numbers.clone().any(|it| it.0.max(it.1) as usize >= count) {
            return Err(Error::invalid("a label of a series is not among the symbols"));
        }
        let is_first = self.references.is_empty();
        if !is_first && self.entry.labels.iter().copied().cmp(numbers.clone()).is_ge() {
            return Err(Error::invalid("series are not added in the order of their labels"));
        }
        check_chunks(&"a series", chunks)?;
        self.entry.labels.clear();
        self.entry.labels.extend(numbers);
        self.add_entry(chunks)
    }

    /// Writes the entry whose labels are set.
    fn add_entry(&mut self, chunks: &[ChunkMeta]) -> Result<()> {
        self.entry.chunks.clear();
        self.entry.chunks.extend_from_slice(chunks);
        self.output.pad_to(SERIES_ALIGN_BYTES)?;
        let reference = u32::try_from(self.output.position() / SERIES_ALIGN_BYTES);
        let reference = reference.map_err(|_| Error::invalid("index exceeds 64 GiB of series"))?;
        self.encoded.clear();
        self.entry.encode(&mut self.scratch, &mut self.encoded);
        self.output.write(&self.encoded)?;
        self.series_max_bytes = self.series_max_bytes.max(self.encoded.len() as u64);
        for pair in &self.entry.labels {
            *self.pairs.entry(*pair).or_default() += 1;
        }
        self.references.push(reference);
        if self.references.len().is_multiple_of(ACCOUNT_EVERY) {
            self.account()?;
        }
        Ok(())
    }

    /// Writes the postings and the table of contents and makes the file durable.
    ///
    /// # Errors
    /// When the disk fails or a bound of the format or of memory is passed.
    pub fn finish(mut self) -> Result<Written> {
        self.account()?;
        self.toc.label_indices = self.output.position();
        self.toc.postings = self.output.position();
        let table = self.write_lists()?;
        self.toc.postings_table = self.output.position();
        self.toc.label_indices_table = self.output.position();
        self.output.write(&section_length(table.len())?)?;
        self.output.write(&table)?;
        self.output.write(&crc32c(&table).to_be_bytes())?;
        self.output.write(&self.toc.encode())?;
        let size_bytes =
            if self.is_scratch { self.output.finish_scratch()? } else { self.output.finish()? };
        let series_count = self.references.len() as u64;
        Ok(Written { series_count, size_bytes, series_max_bytes: self.series_max_bytes })
    }

    fn account(&mut self) -> Result<()> {
        let series = self.references.capacity() * size_of::<u32>();
        let pairs = self.pairs.capacity() * PAIR_BYTES;
        let found = self.found.as_ref().map_or(0, Numbers::size_bytes);
        self.held.resize(series + pairs + found)?;
        Ok(())
    }

    /// Looks the labels' symbols up; what is the same as in the series before is not looked up.
    fn set_entry_labels(&mut self, labels: &Labels) -> Result<()> {
        let symbols = &self.symbols;
        let numbers = self.found.get_or_insert_with(|| Numbers::of(symbols));
        let mut count = 0;
        for (name, value) in labels {
            let before = self.entry.labels.get(count).copied();
            let reuse = |reference: Option<u32>, text: &str| {
                reference.filter(|it| symbols.get(*it) == text)
            };
            let find = |reference: Option<u32>, text: &str| {
                reuse(reference, text).or_else(|| numbers.find(symbols, text)).ok_or_else(|| {
                    Error::invalid(format!("{text:?} of series {labels} is not among the symbols"))
                })
            };
            let pair = (find(before.map(|it| it.0), name)?, find(before.map(|it| it.1), value)?);
            match self.entry.labels.get_mut(count) {
                Some(place) => *place = pair,
                None => self.entry.labels.push(pair),
            }
            count += 1;
        }
        self.entry.labels.truncate(count);
        Ok(())
    }

    /// Writes all posting lists and answers the content of their offset table.
    fn write_lists(&mut self) -> Result<Vec<u8>> {
        let mut sorted: Vec<((u32, u32), u32)> = self.pairs.drain().collect();
        sorted.sort_unstable();
        for (place, (pair, _)) in sorted.iter().enumerate() {
            let place = u32::try_from(place);
            let place = place.map_err(|_| Error::invalid("index exceeds 2^32 label pairs"))?;
            self.pairs.insert(*pair, place);
        }
        let count = u32::try_from(sorted.len() + 1);
        let count = count.map_err(|_| Error::invalid("index exceeds 2^32 label pairs"))?;
        let table_bytes = self.table_bytes_max(&sorted);
        self.held.grow(table_bytes)?;
        let mut table = Vec::with_capacity(table_bytes);
        table.extend_from_slice(&count.to_be_bytes());
        let all = std::mem::take(&mut self.references);
        self.write_list(("", ""), &all, &mut table)?;
        self.output.flush()?;
        let file = SealedFile::open(self.fs, self.output.path())?;
        let mut from = 0;
        while from < sorted.len() {
            let to = pass_end(&sorted, from, self.lists_bytes_max / size_of::<u32>());
            let pass = self.gather(&file, &all, from, &sorted[from..to])?;
            let mut start = 0;
            for ((name, value), count) in &sorted[from..to] {
                let end = start + *count as usize;
                let (name, value) = (self.symbols.get(*name), self.symbols.get(*value));
                let (name, value) = (name.to_owned(), value.to_owned());
                self.write_list((&name, &value), &pass[start..end], &mut table)?;
                start = end;
            }
            from = to;
        }
        self.references = all;
        Ok(table)
    }

    /// The most bytes that the offset table takes.
    fn table_bytes_max(&self, sorted: &[((u32, u32), u32)]) -> usize {
        let text = |number| LENGTH_BYTES_MAX + self.symbols.get(number).len();
        let entry = |(name, value)| TABLE_ENTRY_BYTES_MAX + text(name) + text(value);
        // The list of all series has an entry too.
        TABLE_ENTRY_BYTES_MAX + sorted.iter().map(|it| entry(it.0)).sum::<usize>()
    }

    /// The lists of the pairs of one pass, one behind the other: a counting sort over the series.
    fn gather(
        &mut self,
        file: &SealedFile,
        all: &[u32],
        from: usize,
        pass: &[((u32, u32), u32)],
    ) -> Result<Vec<u32>> {
        let mut next: Vec<usize> = Vec::with_capacity(pass.len());
        let mut total = 0;
        for (_, count) in pass {
            next.push(total);
            total += *count as usize;
        }
        let before = self.held.bytes();
        self.held.grow(total * size_of::<u32>() + next.len() * size_of::<usize>())?;
        let mut lists = vec![0; total];
        let mut ahead = ReadAhead::new(file.clone(), PASS_WINDOW_BYTES);
        for reference in all {
            let at = Version::V2.series_offset(*reference);
            let head = ahead.get(at, LENGTH_BYTES_MAX)?;
            let length = entry_bytes(head, at).map_err(file.damaged())?;
            let length = length.and_then(|it| usize::try_from(it).ok()).unwrap_or(0);
            let bytes = ahead.get(at, length)?;
            self.entry.decode(bytes, at).map_err(file.damaged())?;
            for pair in &self.entry.labels {
                let place = self.pairs.get(pair).map_or(usize::MAX, |it| *it as usize);
                if let Some(next) = place.checked_sub(from).and_then(|it| next.get_mut(it)) {
                    lists[*next] = *reference;
                    *next += 1;
                }
            }
        }
        self.held.resize(before)?;
        Ok(lists)
    }

    fn write_list(
        &mut self,
        pair: (&str, &str),
        references: &[u32],
        table: &mut Vec<u8>,
    ) -> Result<()> {
        self.output.pad_to(size_of::<u32>() as u64)?;
        table.push(2);
        put_text(table, pair.0);
        put_text(table, pair.1);
        put_uvarint(table, self.output.position());
        self.scratch.clear();
        self.scratch.extend_from_slice(&section_length(references.len())?);
        for reference in references {
            self.scratch.extend_from_slice(&reference.to_be_bytes());
        }
        self.output.write(&section_length(self.scratch.len())?)?;
        self.output.write(&self.scratch)?;
        self.output.write(&crc32c(&self.scratch).to_be_bytes())
    }
}

/// Where a pass over the pairs ends that begins at `from` and has room for `references_max`.
fn pass_end(sorted: &[((u32, u32), u32)], from: usize, references_max: usize) -> usize {
    let mut total = 0_usize;
    let fits = |(_, count): &&((u32, u32), u32)| {
        total += *count as usize;
        total <= references_max
    };
    from + sorted[from..].iter().take_while(fits).count().max(1)
}

fn check_chunks(labels: &dyn fmt::Display, chunks: &[ChunkMeta]) -> Result<()> {
    let backwards = chunks.iter().any(|it| it.max_time_ms < it.min_time_ms);
    let overlapping = chunks
        .windows(2)
        .any(|it| it[1].min_time_ms <= it[0].max_time_ms || it[1].reference <= it[0].reference);
    if backwards || overlapping {
        let text = format!("chunks of series {labels} overlap or are not in order");
        return Err(Error::invalid(text));
    }
    Ok(())
}

/// The numbers of symbols by their text.
#[derive(Debug)]
struct Numbers {
    table: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
}

impl Numbers {
    fn of(symbols: &SymbolList) -> Numbers {
        let hasher = foldhash::fast::FixedState::default();
        let mut table = HashTable::with_capacity(symbols.count());
        for number in (0..symbols.count()).map_while(|it| u32::try_from(it).ok()) {
            let hash = |number: &u32| hasher.hash_one(symbols.get(*number));
            table.insert_unique(hash(&number), number, hash);
        }
        Numbers { table, hasher }
    }

    fn find(&self, symbols: &SymbolList, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.table.find(hash, |it| symbols.get(*it) == text).copied()
    }

    fn size_bytes(&self) -> usize {
        self.table.capacity() * (size_of::<u32>() + 1)
    }
}
