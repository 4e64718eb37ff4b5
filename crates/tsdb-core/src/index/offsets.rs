//! The table of an index that says where each posting list lies, on disk, sampled in memory.

use std::ops::{ControlFlow, Range};

use crate::codec::{Cursor, VARINT_BYTES_MAX};
use crate::error::{Damage, Result};
use crate::index::symbols::checked_section;
use crate::index::{LENGTH_BYTES, Version};
use crate::read_ahead::ReadAhead;

/// One entry in so many is kept in memory, as Thanos does unless told otherwise.
pub const SAMPLE_RATE: usize = 32;

/// Where a posting list lies in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PostingsRange {
    /// Where its length field begins.
    pub start: u64,
    /// Where the list ends at the latest, checksum included.
    pub end: u64,
}

impl PostingsRange {
    /// Most bytes that the list takes.
    pub fn size_bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Where the lists of all label pairs lie, found through a few entries in memory.
#[derive(Debug)]
pub struct OffsetTable {
    /// Sorted by name; the entry of all postings is kept apart.
    names: Vec<Name>,
    all: Option<PostingsRange>,
    entry_count: u64,
    size_bytes: usize,
}

/// Which part of the file holds the table, and what is to be known of the lists.
#[derive(Clone, Debug)]
pub struct TablePlace {
    /// The section in the file, length field included.
    pub section: Range<u64>,
    /// Where the last posting list ends at the latest, in the index.
    pub postings_end: u64,
    /// Version of the index: only version 2 is sorted.
    pub version: Version,
    /// One entry in so many is kept in memory.
    pub sample_rate: usize,
}

#[derive(Debug)]
struct Name {
    name: Box<str>,
    /// Every so manyth entry, sorted by value.
    samples: Vec<Sample>,
    /// Where the name's last entry ends in the table; equal to the start where all entries are
    /// samples and the table is not read.
    table_end: u64,
    /// Where the list of the last value ends at the latest.
    list_end: u64,
}

#[derive(Clone, Debug)]
struct Sample {
    value: Box<str>,
    /// Where the entry lies in the file.
    at: u64,
    /// Where the list begins in the index.
    start: u64,
    /// Where it ends; known only where all entries are samples.
    end: u64,
}

impl OffsetTable {
    /// Reads and checks the whole table once and keeps samples of it.
    ///
    /// # Errors
    /// When the disk fails or the table is damaged.
    pub fn load(reader: &mut ReadAhead, place: &TablePlace) -> Result<OffsetTable> {
        let content = checked_section("posting offset table", reader, place.section.clone())?;
        let damaged = reader.file().damaged();
        let head = reader.get(content.start, LENGTH_BYTES)?;
        let head = Cursor::new_at("posting offset table", head, content.start).u32();
        let count = head.map_err(&damaged)?;
        let mut loader = Loader::new(place);
        let mut at = content.start + LENGTH_BYTES as u64;
        for _ in 0..count {
            let entry = read_entry(reader, at, content.end)?;
            loader.add(at, &entry).map_err(&damaged)?;
            at = entry.end;
        }
        if at != content.end {
            let text = format!("{} bytes behind the last entry", content.end - at);
            return Err(damaged(Damage::new("posting offset table", at, text)));
        }
        loader.finish(at).map_err(damaged)
    }

    /// The label names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|it| &*it.name)
    }

    /// Number of entries, the one of all postings included.
    pub fn entry_count(&self) -> u64 {
        self.entry_count
    }

    /// The list of all series, if the index has one.
    pub fn all(&self) -> Option<PostingsRange> {
        self.all
    }

    /// Bytes of memory that it holds, about.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Where the list of a label pair lies, if there is one.
    ///
    /// # Errors
    /// When the disk fails or the table is damaged.
    pub fn find(
        &self,
        reader: &mut ReadAhead,
        name: &str,
        value: &str,
    ) -> Result<Option<PostingsRange>> {
        let mut found = None;
        self.scan(reader, name, value, |it, range| {
            if it == value {
                found = Some(range);
            }
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Calls `visit` with each value of the label from `first` on, in order, until it breaks.
    ///
    /// # Errors
    /// When the disk fails or the table is damaged.
    pub fn scan(
        &self,
        reader: &mut ReadAhead,
        name: &str,
        first: &str,
        mut visit: impl FnMut(&str, PostingsRange) -> ControlFlow<()>,
    ) -> Result<()> {
        let Ok(index) = self.names.binary_search_by(|it| (*it.name).cmp(name)) else {
            return Ok(());
        };
        let entries = &self.names[index];
        let page = entries.samples.partition_point(|it| *it.value <= *first).saturating_sub(1);
        if entries.table_end == 0 {
            for it in entries.samples.iter().skip(page).filter(|it| *it.value >= *first) {
                let range = PostingsRange { start: it.start, end: it.end };
                if visit(&it.value, range).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let Some(sample) = entries.samples.get(page) else { return Ok(()) };
        let mut at = sample.at;
        let mut entry = read_entry(reader, at, entries.table_end)?;
        loop {
            at = entry.end;
            let next = match at < entries.table_end {
                true => Some(read_entry(reader, at, entries.table_end)?),
                false => None,
            };
            let end = list_end(entry.start, next.as_ref().map(|it| it.start), entries.list_end);
            let range = PostingsRange { start: entry.start, end };
            if *entry.value >= *first && visit(&entry.value, range).is_break() {
                return Ok(());
            }
            let Some(next) = next else { return Ok(()) };
            entry = next;
        }
    }
}

/// Where a list ends at the latest: where the next one begins, if that lies behind it.
fn list_end(start: u64, next: Option<u64>, last: u64) -> u64 {
    next.filter(|next| *next > start).unwrap_or(last)
}

struct Entry {
    name: Box<str>,
    value: Box<str>,
    start: u64,
    /// Where the entry ends in the file.
    end: u64,
}

fn read_entry(reader: &mut ReadAhead, at: u64, end: u64) -> Result<Entry> {
    let damaged = reader.file().damaged();
    let there = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
    // Most entries are short; one with long texts is read again with as much as it says.
    let mut want = 256;
    loop {
        let bytes = reader.get(at, want.min(there))?;
        match decode_entry(bytes, at) {
            Err(_) if want < there => want = entry_bytes_hint(bytes).max(2 * want),
            other => return other.map_err(damaged),
        }
    }
}

fn decode_entry(bytes: &[u8], at: u64) -> std::result::Result<Entry, Damage> {
    let mut cursor = Cursor::new_at("posting offset", bytes, at);
    let key_count = cursor.uvarint()?;
    if key_count != 2 {
        return Err(cursor.damage(format!("{key_count} keys, 2 expected")));
    }
    let (name, value) = (cursor.text()?, cursor.text()?);
    let start = cursor.uvarint()?;
    let end = at + cursor.position() as u64;
    Ok(Entry { name: name.into(), value: value.into(), start, end })
}

/// How many bytes an entry that is cut short seems to need.
fn entry_bytes_hint(bytes: &[u8]) -> usize {
    let mut cursor = Cursor::new("posting offset", bytes);
    let name = cursor.uvarint().and_then(|_| cursor.length()).unwrap_or(0);
    let behind = cursor.take(name).and_then(|_| cursor.length()).unwrap_or(0);
    name.saturating_add(behind).saturating_add(4 * VARINT_BYTES_MAX)
}

/// Builds the table while its entries go by.
struct Loader<'a> {
    place: &'a TablePlace,
    names: Vec<Name>,
    all: Option<PostingsRange>,
    /// Entries of the current name so far.
    in_name: usize,
    last: Option<(Box<str>, u64)>,
    entry_count: u64,
    text_bytes: usize,
    /// Whether the entry before was the one of all postings.
    all_open: bool,
}

impl<'a> Loader<'a> {
    fn new(place: &'a TablePlace) -> Loader<'a> {
        Loader {
            place,
            names: Vec::new(),
            all: None,
            in_name: 0,
            last: None,
            entry_count: 0,
            text_bytes: 0,
            all_open: false,
        }
    }

    fn add(&mut self, at: u64, entry: &Entry) -> std::result::Result<(), Damage> {
        self.entry_count += 1;
        if let Some(all) = self.all.as_mut().filter(|_| self.all_open) {
            all.end = list_end(all.start, Some(entry.start), self.place.postings_end);
        }
        self.all_open = entry.name.is_empty() && entry.value.is_empty();
        if self.all_open {
            self.close_name(at, entry.start);
            self.all = Some(PostingsRange { start: entry.start, end: self.place.postings_end });
            return Ok(());
        }
        let sorted = self.place.version == Version::V2;
        if self.names.last().is_none_or(|it| it.name != entry.name) {
            self.close_name(at, entry.start);
            self.text_bytes += entry.name.len();
            self.names.push(Name {
                name: entry.name.clone(),
                samples: Vec::new(),
                table_end: 0,
                list_end: 0,
            });
        } else if sorted && self.last.as_ref().is_some_and(|it| *it.0 >= *entry.value) {
            let text = format!("values of {:?} are not sorted", entry.name);
            return Err(Damage::new("posting offset table", at, text));
        }
        self.last = Some((entry.value.clone(), entry.start));
        if !sorted || self.in_name.is_multiple_of(self.place.sample_rate.max(1)) {
            self.text_bytes += entry.value.len();
            let sample =
                Sample { value: entry.value.clone(), at, start: entry.start, end: entry.start };
            if let Some(name) = self.names.last_mut() {
                name.samples.push(sample);
            }
        }
        self.in_name += 1;
        Ok(())
    }

    /// Ends the current name: the next entry lies at `at`, its list at `next_start`.
    fn close_name(&mut self, at: u64, next_start: u64) {
        let last = self.last.take();
        let (Some(name), Some((_, start))) = (self.names.last_mut(), last) else { return };
        name.table_end = at;
        name.list_end = list_end(start, Some(next_start), self.place.postings_end);
        self.in_name = 0;
    }

    fn finish(mut self, at: u64) -> std::result::Result<OffsetTable, Damage> {
        self.close_name(at, 0);
        if self.place.version == Version::V1 {
            self.keep_all();
        }
        self.names.sort_by(|a, b| a.name.cmp(&b.name));
        if self.names.windows(2).any(|it| it[0].name == it[1].name) {
            let text = "entries of a label name lie apart";
            return Err(Damage::new("posting offset table", at, text));
        }
        let samples: usize = self.names.iter().map(|it| it.samples.len()).sum();
        let size_bytes =
            self.text_bytes + self.names.len() * size_of::<Name>() + samples * size_of::<Sample>();
        Ok(OffsetTable {
            names: self.names,
            all: self.all,
            entry_count: self.entry_count,
            size_bytes,
        })
    }

    /// Version 1 is sorted by nothing: every entry is in memory, its end found among all starts.
    fn keep_all(&mut self) {
        let mut starts: Vec<u64> =
            self.names.iter().flat_map(|it| &it.samples).map(|it| it.start).collect();
        starts.extend(self.all.map(|it| it.start));
        starts.sort_unstable();
        let end = self.place.postings_end;
        let behind = |start| {
            let next = starts.partition_point(|it| *it <= start);
            starts.get(next).copied().unwrap_or(end)
        };
        let mut merged: Vec<Name> = Vec::new();
        let mut names = std::mem::take(&mut self.names);
        names.sort_by(|a, b| a.name.cmp(&b.name));
        for mut name in names {
            name.table_end = 0;
            match merged.last_mut().filter(|it| it.name == name.name) {
                Some(before) => before.samples.append(&mut name.samples),
                None => merged.push(name),
            }
        }
        for name in &mut merged {
            name.samples.sort_by(|a, b| a.value.cmp(&b.value));
            name.samples.iter_mut().for_each(|it| it.end = behind(it.start));
        }
        if let Some(all) = &mut self.all {
            all.end = behind(all.start);
        }
        self.names = merged;
    }
}
