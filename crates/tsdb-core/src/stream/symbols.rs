//! The symbols of sources, read as the sorted runs that they are, and joined into one list.

use std::ops::Range;

use model::{Budget, Reservation};

use crate::codec::{Crc32c, Cursor, VARINT_BYTES_MAX};
use crate::error::{Damage, Result};
use crate::index::{CRC_BYTES, LENGTH_BYTES, SymbolList, Version};
use crate::loser_tree::LoserTree;
use crate::stream::cursor::SeriesCursor;
use crate::stream::window::Window;

/// What a number takes in the account.
const NUMBER_BYTES: usize = size_of::<u32>();
/// How many numbers are added between two adjustments of the account.
const ACCOUNT_EVERY: usize = 4096;

/// From the symbol references of one source to the numbers in a joined [`SymbolList`].
#[derive(Debug)]
pub struct SymbolMap {
    /// References, where they are not 0, 1, 2, …: in version 1 they are offsets.
    references: Option<Vec<u32>>,
    numbers: Vec<u32>,
    held: Reservation,
}

impl SymbolMap {
    /// The number of the symbol that a reference of the source means.
    pub fn number(&self, reference: u32) -> Option<u32> {
        let place = match &self.references {
            None => reference as usize,
            Some(references) => references.binary_search(&reference).ok()?,
        };
        self.numbers.get(place).copied()
    }

    fn push(&mut self, reference: u32, number: u32) -> Result<()> {
        self.numbers.push(number);
        let mut capacity = self.numbers.capacity();
        if let Some(references) = &mut self.references {
            references.push(reference);
            capacity += references.capacity();
        }
        if self.numbers.len().is_multiple_of(ACCOUNT_EVERY) {
            self.held.resize(capacity * NUMBER_BYTES)?;
        }
        Ok(())
    }
}

/// Joins the symbols of all sources, each once, in their order: one list, and for every source
/// the way into it.
///
/// # Errors
/// When a source cannot be read or its symbols are damaged or not sorted, or when `budget` has no
/// room.
pub fn join(cursors: &mut [SeriesCursor], budget: &Budget) -> Result<(SymbolList, Vec<SymbolMap>)> {
    let mut runs = Vec::with_capacity(cursors.len());
    let mut maps = Vec::with_capacity(cursors.len());
    for cursor in cursors {
        let run = cursor.symbols()?;
        let references = (run.version == Version::V1).then(Vec::new);
        maps.push(SymbolMap { references, numbers: Vec::new(), held: budget.reserve(0)? });
        runs.push(run);
    }
    for run in &mut runs {
        run.advance()?;
    }
    let mut list = SymbolList::new(budget)?;
    let mut number = 0;
    let mut last = String::new();
    let mut tree = LoserTree::new(runs.len(), |a, b| before(&runs, a, b));
    while let Some(winner) = tree.winner() {
        let run = &mut runs[winner];
        if run.is_done {
            break;
        }
        if run.text != last {
            number = list.push(&run.text)?;
            last.clone_from(&run.text);
        }
        maps[winner].push(run.reference, number)?;
        run.advance()?;
        tree.replay(|a, b| before(&runs, a, b));
    }
    for map in &mut maps {
        let references = map.references.as_ref().map_or(0, Vec::capacity);
        map.held.resize((map.numbers.capacity() + references) * NUMBER_BYTES)?;
    }
    list.account()?;
    Ok((list, maps))
}

fn before(runs: &[SymbolRun<'_>], a: usize, b: usize) -> bool {
    let key = |at: usize| (runs[at].is_done, runs[at].text.as_str(), at);
    key(a) < key(b)
}

/// The symbols of one source, read from front to back; its checksum is checked at the end.
#[derive(Debug)]
pub(crate) struct SymbolRun<'a> {
    window: &'a mut Window,
    version: Version,
    /// What of the section's content is to be read.
    left: Range<u64>,
    count_left: u32,
    crc: Crc32c,
    /// The symbol read last.
    text: String,
    reference: u32,
    is_first: bool,
    is_done: bool,
    before: String,
}

impl<'a> SymbolRun<'a> {
    /// Begins with the section at `section.start`, which must end before `section.end`.
    pub(crate) fn open(
        window: &'a mut Window,
        section: Range<u64>,
        version: Version,
    ) -> Result<SymbolRun<'a>> {
        let what = "symbol table";
        let (start, head_bytes) = (section.start, 2 * LENGTH_BYTES);
        let head = window.get(start, head_bytes)?;
        let head = head.get(..head_bytes.min(head.len())).unwrap_or_default().to_vec();
        let mut cursor = Cursor::new_at(what, &head, start);
        let fields = cursor.u32().and_then(|length| Ok((length, cursor.u32()?)));
        let (length, count) = fields.map_err(|it| window.damaged(it))?;
        let content_start = start + LENGTH_BYTES as u64;
        let content_end = content_start + u64::from(length);
        let too_long = content_end + CRC_BYTES as u64 > section.end;
        if too_long || (length as usize) < LENGTH_BYTES {
            let text = format!("{length} bytes declared, the section ends at {}", section.end);
            return Err(window.damaged(Damage::new(what, start, text)));
        }
        let mut crc = Crc32c::new();
        crc.update(head.get(LENGTH_BYTES..).unwrap_or_default());
        Ok(SymbolRun {
            window,
            version,
            left: content_start + LENGTH_BYTES as u64..content_end,
            count_left: count,
            crc,
            text: String::new(),
            reference: 0,
            is_first: true,
            is_done: false,
            before: String::new(),
        })
    }

    /// Reads all symbols and answers their references in order: offsets in version 1, else numbers.
    pub(crate) fn references(mut self) -> Result<Vec<u32>> {
        let mut references = Vec::new();
        loop {
            self.advance()?;
            if self.is_done {
                return Ok(references);
            }
            references.push(self.reference);
        }
    }

    /// Reads the next symbol, or finds that there is none.
    fn advance(&mut self) -> Result<()> {
        if self.count_left == 0 {
            self.is_done = true;
            self.text.clear();
            return self.check_end();
        }
        let at = self.left.start;
        let there = usize::try_from(self.left.end - at).unwrap_or(usize::MAX);
        let head = self.window.get(at, VARINT_BYTES_MAX.min(there))?;
        let head = head.get(..VARINT_BYTES_MAX.min(there).min(head.len())).unwrap_or_default();
        let mut cursor = Cursor::new_at("symbol", head, at);
        let length = cursor.length();
        let head_bytes = cursor.position();
        let length = length.map_err(|it| self.window.damaged(it))?;
        if length > there - head_bytes {
            let text = format!("{length} bytes declared, {there} left in the section");
            return Err(self.window.damaged(Damage::new("symbol", at, text)));
        }
        let whole = head_bytes + length;
        let bytes = self.window.get(at, whole)?.get(..whole).unwrap_or_default();
        self.crc.update(bytes);
        std::mem::swap(&mut self.before, &mut self.text);
        self.text.clear();
        match std::str::from_utf8(bytes.get(head_bytes..).unwrap_or_default()) {
            Ok(text) => self.text.push_str(text),
            Err(_) => return Err(self.damage(at, "text is not UTF-8")),
        }
        if !self.is_first && self.before >= self.text {
            return Err(self.damage(at, "it is not above the one before"));
        }
        self.reference = self.reference_at(at)?;
        self.is_first = false;
        self.count_left -= 1;
        self.left.start = at + whole as u64;
        // The symbol was copied out of the window.
        self.window.forget_slices()
    }

    /// The reference of the symbol that begins at an offset: the offset itself in version 1, else
    /// its number.
    fn reference_at(&self, at: u64) -> Result<u32> {
        match self.version {
            Version::V1 => u32::try_from(at).map_err(|_| self.damage(at, "it lies behind 4 GiB")),
            Version::V2 if self.is_first => Ok(0),
            Version::V2 => Ok(self.reference + 1),
        }
    }

    fn check_end(&mut self) -> Result<()> {
        let at = self.left.end;
        if self.left.start != at {
            let text = format!("{} bytes behind the last symbol", at - self.left.start);
            return Err(self.window.damaged(Damage::new("symbol table", self.left.start, text)));
        }
        let stored = self.window.get(at, CRC_BYTES)?;
        let stored = Cursor::new_at("symbol table", stored, at).u32();
        if stored.map_err(|it| self.window.damaged(it))? != self.crc.value() {
            let damage = Damage::new("symbol table", at, "checksum mismatch");
            return Err(self.window.damaged(damage));
        }
        Ok(())
    }

    fn damage(&self, at: u64, reason: &'static str) -> crate::Error {
        self.window.damaged(Damage::new("symbol", at, reason))
    }
}
