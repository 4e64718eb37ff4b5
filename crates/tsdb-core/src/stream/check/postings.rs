//! The posting lists of a block and the table that says where they lie.

use std::sync::Arc;

use super::{Context, Report};
use crate::codec::{Crc32c, Cursor};
use crate::error::{Damage, Error, Result};
use crate::index::{CRC_BYTES, LENGTH_BYTES, Toc, Version, section};
use crate::stream::window::Window;

/// What is read of the table at first for an entry; entries are hardly longer.
const ENTRY_BYTES: usize = 4096;

/// Checks the table and every list that it names; `references` are those of all series, where all
/// of them could be read.
pub(super) fn check(
    context: &Context<'_>,
    table: Window,
    (toc, version, references): (Toc, Version, Option<&[u32]>),
    report: &mut Report,
) -> Result<()> {
    let source = context.source;
    let lists = Window::new(
        source.meta.ulid,
        Arc::clone(&source.index),
        context.window_bytes,
        context.budget,
    )?;
    let mut check =
        PostingsCheck { table, lists, toc, references, file: source.index.name().to_owned() };
    let checked = check.run(version, report);
    report.keep(checked)?;
    Ok(())
}

struct PostingsCheck<'a> {
    table: Window,
    lists: Window,
    toc: Toc,
    references: Option<&'a [u32]>,
    file: String,
}

/// An entry of the table.
struct Entry {
    name: String,
    value: String,
    /// Where the list begins.
    list: u64,
}

impl PostingsCheck<'_> {
    fn run(&mut self, version: Version, report: &mut Report) -> Result<()> {
        let start = self.toc.postings_table;
        let head = self.table.slice(start, 2 * LENGTH_BYTES)?;
        let mut cursor = Cursor::new_at("posting offset table", &head, start);
        let fields = cursor.u32().and_then(|length| Ok((length, cursor.u32()?)));
        let (length, count) = fields.map_err(|it| self.table.damaged(it))?;
        let end = start + LENGTH_BYTES as u64 + u64::from(length);
        if end + CRC_BYTES as u64 > self.table.file_bytes() || (length as usize) < LENGTH_BYTES {
            return Err(
                self.damage(start, format!("{length} bytes declared, the index ends before"))
            );
        }
        let mut crc = Crc32c::new();
        crc.update(head.get(LENGTH_BYTES..).unwrap_or_default());
        let mut at = start + 2 * LENGTH_BYTES as u64;
        let mut before: Option<(String, String)> = None;
        for _ in 0..count {
            let (entry, length) = self.entry(at, end, &mut crc)?;
            let pair = (entry.name, entry.value);
            // Version 1 is sorted by nothing.
            if version == Version::V2 && before.as_ref().is_some_and(|it| *it >= pair) {
                let damage = Damage::new(
                    "posting offset table",
                    at,
                    format!("{}={:?} is out of order or there twice", pair.0, pair.1),
                );
                report.add(&self.file, damage);
            }
            let checked = self.list(&pair, entry.list, report);
            report.keep(checked)?;
            before = Some(pair);
            at += length;
            self.table.forget_slices()?;
            self.lists.forget_slices()?;
        }
        if at != end {
            return Err(self.damage(at, format!("{} bytes behind the last entry", end - at)));
        }
        let stored = self.table.slice(end, CRC_BYTES)?;
        let stored = Cursor::new_at("posting offset table", &stored, end).u32();
        if stored.map_err(|it| self.table.damaged(it))? != crc.value() {
            return Err(self.damage(start, "checksum mismatch".to_owned()));
        }
        Ok(())
    }

    /// The entry that begins at an offset, and how long it is.
    fn entry(&mut self, at: u64, end: u64, crc: &mut Crc32c) -> Result<(Entry, u64)> {
        let there = usize::try_from(end - at).unwrap_or(usize::MAX);
        let mut wanted = ENTRY_BYTES.min(there);
        loop {
            let bytes = self.table.slice(at, wanted)?;
            let mut cursor = Cursor::new_at("posting offset table", &bytes, at);
            match decode_entry(&mut cursor) {
                Ok(entry) => {
                    let length = cursor.position();
                    crc.update(bytes.get(..length).unwrap_or_default());
                    return Ok((entry, length as u64));
                }
                // It may be longer than what was read of it.
                Err(_) if wanted < there => wanted = wanted.saturating_mul(2).min(there),
                Err(damage) => return Err(self.table.damaged(damage)),
            }
        }
    }

    /// Checks one list.
    fn list(&mut self, pair: &(String, String), at: u64, report: &mut Report) -> Result<()> {
        let what = "posting list";
        let (name, value) = pair;
        let end = self.toc.postings_end();
        // Any 64 bits may be said to be the place.
        let head_end = at.checked_add(LENGTH_BYTES as u64);
        if at < self.toc.postings || head_end.is_none_or(|it| it > end) {
            let text = format!("the list of {name}={value:?} is said to lie at {at}");
            return Err(self.damage(self.toc.postings_table, text));
        }
        let head = self.lists.slice(at, LENGTH_BYTES)?;
        let length = Cursor::new_at(what, &head, at).u32();
        let length = u64::from(length.map_err(|it| self.lists.damaged(it))?);
        let whole = length + (LENGTH_BYTES + CRC_BYTES) as u64;
        if at + whole > end {
            let text = format!("{length} bytes declared for the list of {name}={value:?}");
            return Err(self.lists.damaged(Damage::new(what, at, text)));
        }
        let bytes = self.lists.slice(at, usize::try_from(whole).unwrap_or(usize::MAX))?;
        let content = section(what, &bytes, at).map_err(|it| self.lists.damaged(it))?;
        let is_all = name.is_empty() && value.is_empty();
        if let Err(reason) = check_list(content, self.references, is_all) {
            let reason = format!("{name}={value:?}: {reason}");
            report.add(&self.file, Damage::new(what, at, reason));
        }
        Ok(())
    }

    fn damage(&self, at: u64, reason: String) -> Error {
        self.table.damaged(Damage::new("posting offset table", at, reason))
    }
}

fn decode_entry(cursor: &mut Cursor<'_>) -> std::result::Result<Entry, Damage> {
    let keys = cursor.uvarint()?;
    if keys != 2 {
        return Err(cursor.damage(format!("{keys} keys, 2 expected")));
    }
    let (name, value) = (cursor.text()?.to_owned(), cursor.text()?.to_owned());
    Ok(Entry { name, value, list: cursor.uvarint()? })
}

/// Checks that the references of a list ascend and are those of series; the list of all series
/// must have each.
fn check_list(
    content: &[u8],
    series: Option<&[u32]>,
    is_all: bool,
) -> std::result::Result<(), String> {
    let (count, references) = content.split_at_checked(4).ok_or("it has no count")?;
    let count = count.try_into().map_or(0, u32::from_be_bytes);
    let (references, rest) = references.as_chunks::<4>();
    if references.len() as u64 != u64::from(count) || !rest.is_empty() {
        return Err(format!("{count} series declared in {} bytes", content.len()));
    }
    let mut before = None;
    for reference in references.iter().map(|it| u32::from_be_bytes(*it)) {
        if before.is_some_and(|it| it >= reference) {
            return Err(format!("series {reference} is out of order"));
        }
        if series.is_some_and(|it| it.binary_search(&reference).is_err()) {
            return Err(format!("series {reference} does not exist"));
        }
        before = Some(reference);
    }
    match series {
        Some(series) if is_all && series.len() != references.len() => {
            let (named, there) = (references.len(), series.len());
            Err(format!("it names {named} of {there} series"))
        }
        _ => Ok(()),
    }
}
