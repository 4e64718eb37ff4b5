//! The symbols of an index that is being written: sorted texts, each found by its number.

use model::{Budget, Reservation};

use crate::codec::{Crc32c, put_text, uvarint_bytes};
use crate::error::{Error, Result};
use crate::output::Output;

/// How many symbols are added between two adjustments of the account.
const ACCOUNT_EVERY: usize = 1024;
/// How much is gathered before it is written.
const PIECE_BYTES: usize = 64 * 1024;

/// Sorted symbols, numbered from 0, the first of them empty.
#[derive(Debug)]
pub struct SymbolList {
    texts: String,
    /// Where each symbol ends in `texts`.
    ends: Vec<usize>,
    held: Reservation,
}

impl SymbolList {
    /// A list that has only the empty symbol: Prometheus' head always has it, as it names the
    /// list of all series.
    ///
    /// # Errors
    /// When `budget` has no room at all.
    pub fn new(budget: &Budget) -> Result<SymbolList> {
        Ok(SymbolList { texts: String::new(), ends: vec![0], held: budget.reserve(0)? })
    }

    /// Adds a symbol, which must be above the one added before, and answers its number. The empty
    /// one is there already.
    ///
    /// # Errors
    /// When it is not above the one before, there are too many, or the budget has no room.
    pub fn push(&mut self, symbol: &str) -> Result<u32> {
        if symbol.is_empty() && self.ends.len() == 1 {
            return Ok(0);
        }
        let number = u32::try_from(self.ends.len());
        let number = number.map_err(|_| Error::invalid("index exceeds 2^32 symbols"))?;
        let last = self.get(number - 1);
        if last >= symbol {
            return Err(Error::invalid(format!("symbol {symbol:?} comes after {last:?}")));
        }
        self.texts.push_str(symbol);
        self.ends.push(self.texts.len());
        if self.ends.len().is_multiple_of(ACCOUNT_EVERY) {
            self.account()?;
        }
        Ok(number)
    }

    /// The symbol of a number; the empty one where there is none.
    pub fn get(&self, number: u32) -> &str {
        text_at(&self.texts, &self.ends, number)
    }

    /// Number of symbols, with the empty one.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Adjusts the account to what is held.
    ///
    /// # Errors
    /// When the budget has no room.
    pub(crate) fn account(&mut self) -> Result<()> {
        let ends = self.ends.capacity() * size_of::<usize>();
        self.held.resize(self.texts.capacity() + ends)?;
        Ok(())
    }

    /// Writes the section of an index that holds them.
    pub(crate) fn write(&self, output: &mut Output) -> Result<()> {
        let length = |text: &str| uvarint_bytes(text.len() as u64) + text.len();
        let content: usize = self.iter().map(length).sum();
        let count = section_length(self.ends.len())?;
        output.write(&section_length(content + count.len())?)?;
        output.write(&count)?;
        let mut crc = Crc32c::new();
        crc.update(&count);
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        for text in self.iter() {
            put_text(&mut piece, text);
            if piece.len() >= PIECE_BYTES {
                crc.update(&piece);
                output.write(&piece)?;
                piece.clear();
            }
        }
        crc.update(&piece);
        output.write(&piece)?;
        output.write(&crc.value().to_be_bytes())
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.texts[start..*end])
    }
}

/// A length or count as the four bytes that the format has for it.
pub(crate) fn section_length(length: usize) -> Result<[u8; 4]> {
    let length = u32::try_from(length);
    let length = length.map_err(|_| Error::invalid("a section of the index exceeds 4 GiB"))?;
    Ok(length.to_be_bytes())
}

fn text_at<'a>(texts: &'a str, ends: &[usize], number: u32) -> &'a str {
    let number = number as usize;
    let start = number.checked_sub(1).and_then(|it| ends.get(it)).copied().unwrap_or(0);
    let end = ends.get(number).copied().unwrap_or(start);
    &texts[start..end]
}
