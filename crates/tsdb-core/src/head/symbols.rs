//! Label texts of a partition, each kept once and named by a number.

use hashbrown::HashTable;
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

use crate::error::{Error, Result};

/// The texts; numbers are given in the order of first use and never change.
#[derive(Debug)]
pub(crate) struct Symbols {
    arena: String,
    /// Where each text ends in the arena.
    ends: Vec<u32>,
    table: HashTable<u32>,
    hasher: FixedState,
}

impl Symbols {
    pub(crate) fn new(seed: u64) -> Symbols {
        Symbols {
            arena: String::new(),
            ends: Vec::new(),
            table: HashTable::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// The number of a text, given when it has none.
    ///
    /// # Errors
    /// When the texts of a partition would take more than 4 GiB.
    pub(crate) fn intern(&mut self, text: &str) -> Result<u32> {
        let hash = self.hasher.hash_one(text);
        let Symbols { arena, ends, table, hasher } = self;
        if let Some(found) = table.find(hash, |id| text_of(arena, ends, *id) == text) {
            return Ok(*found);
        }
        let full = |_| Error::invalid("the labels of a head partition take more than 4 GiB");
        let id = u32::try_from(ends.len()).map_err(full)?;
        let end = u32::try_from(arena.len() + text.len()).map_err(full)?;
        arena.push_str(text);
        ends.push(end);
        table.insert_unique(hash, id, |id| hasher.hash_one(text_of(arena, ends, *id)));
        Ok(id)
    }

    /// The number of a text, if it has one.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.table.find(hash, |id| text_of(&self.arena, &self.ends, *id) == text).copied()
    }

    /// The text of a number that this table gave.
    pub(crate) fn text(&self, id: u32) -> &str {
        text_of(&self.arena, &self.ends, id)
    }

    /// A copy of the texts, which stays when the table goes on.
    pub(crate) fn texts(&self) -> SymbolTexts {
        SymbolTexts { arena: self.arena.as_str().into(), ends: self.ends.as_slice().into() }
    }

    /// What such a copy and ranking its texts take at most.
    pub(crate) fn texts_bytes(&self) -> usize {
        self.arena.len() + (2 * size_of::<u32>() + 3 * size_of::<&str>()) * self.ends.len()
    }

    /// How many texts there are.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes on the heap, nearly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.arena.capacity() + 4 * self.ends.capacity() + 5 * self.table.capacity()
    }
}

/// The texts of a table at some moment, under their numbers.
#[derive(Debug)]
pub(crate) struct SymbolTexts {
    arena: Box<str>,
    ends: Box<[u32]>,
}

impl SymbolTexts {
    /// The text of a number that the table had given.
    pub(crate) fn text(&self, id: u32) -> &str {
        text_of(&self.arena, &self.ends, id)
    }

    /// How many texts there are.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }
}

fn text_of<'a>(arena: &'a str, ends: &[u32], id: u32) -> &'a str {
    let index = id as usize;
    let start = if index == 0 { 0 } else { ends[index - 1] as usize };
    &arena[start..ends[index] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_number() {
        let mut symbols = Symbols::new(7);
        let texts: Vec<String> = (0..3000).map(|it| format!("text-{it}")).collect();
        let ids: Vec<u32> = texts.iter().map(|it| symbols.intern(it).unwrap()).collect();
        for (text, id) in texts.iter().zip(&ids) {
            assert_eq!(symbols.intern(text).unwrap(), *id);
            assert_eq!(symbols.find(text), Some(*id));
            assert_eq!(symbols.text(*id), text);
        }
        assert_eq!(symbols.intern("").unwrap(), 3000);
        assert_eq!(symbols.text(3000), "");
        assert_eq!(symbols.find("absent"), None);
    }
}
