//! The parts of an index that every query needs first: symbols and where posting lists lie.
//!
//! They lie in the index itself, or in an index header that holds a copy of them.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Budget, Labels, Reservation};

use crate::error::Result;
use crate::index::offsets::{OffsetTable, PostingsRange, TablePlace};
use crate::index::symbols::SymbolTable;
use crate::index::{SeriesEntry, Version};
use crate::read_ahead::{ReadAhead, SealedFile};
use crate::select::LabelIndex;

/// How much is read at once when the tables are loaded.
const LOAD_WINDOW_BYTES: usize = 256 * 1024;
/// How much is read at once when something is looked up.
const LOOKUP_WINDOW_BYTES: usize = 4 * 1024;

/// Symbols and posting offsets, mostly on disk.
#[derive(Debug)]
pub struct Lookup {
    file: SealedFile,
    version: Version,
    symbols: Arc<SymbolTable>,
    offsets: OffsetTable,
    _held: Reservation,
}

impl Lookup {
    /// Loads and checks both tables.
    ///
    /// # Errors
    /// When the disk fails, a table is damaged, or `budget` has no room for the samples.
    pub fn load(
        file: SealedFile,
        symbols: Range<u64>,
        table: &TablePlace,
        budget: &Budget,
    ) -> Result<Lookup> {
        let mut reader = ReadAhead::new(file.clone(), LOAD_WINDOW_BYTES);
        // What the tables keep is a part of what they are: every sample is of some of their bytes.
        let window = LOAD_WINDOW_BYTES.min(usize::try_from(file.size_bytes()).unwrap_or(0));
        let mut held = budget.reserve(window)?;
        let version = table.version;
        let symbols = Arc::new(SymbolTable::load(&mut reader, symbols, version)?);
        held.grow(symbols.size_bytes())?;
        let offsets = OffsetTable::load(&mut reader, table)?;
        held.resize(symbols.size_bytes() + offsets.size_bytes())?;
        Ok(Lookup { file, version, symbols, offsets, _held: held })
    }

    /// Version of the index.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The symbol table.
    pub fn symbols(&self) -> &SymbolTable {
        &self.symbols
    }

    /// The posting offset table.
    pub fn offsets(&self) -> &OffsetTable {
        &self.offsets
    }

    /// The label names, sorted.
    pub fn label_names(&self) -> Vec<String> {
        self.offsets.names().map(str::to_owned).collect()
    }

    /// The values of a label, sorted.
    ///
    /// # Errors
    /// When the disk fails or the table is damaged.
    pub fn label_values(&self, name: &str) -> Result<Vec<String>> {
        let mut values = Vec::new();
        self.offsets.scan(&mut self.reader(), name, "", |value, _| {
            values.push(value.to_owned());
            ControlFlow::Continue(())
        })?;
        Ok(values)
    }

    /// Calls `visit` with every symbol in order.
    ///
    /// # Errors
    /// Those of `visit`, or when the disk fails or the table is damaged.
    pub fn for_each_symbol(&self, visit: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut reader = ReadAhead::new(self.file.clone(), LOAD_WINDOW_BYTES);
        self.symbols.for_each(&mut reader, visit)
    }

    /// Turns symbol references into texts, each read once.
    ///
    /// # Errors
    /// When `budget` has no room for a window over the file.
    pub fn resolver(&self, budget: &Budget) -> Result<Resolver> {
        Ok(Resolver {
            symbols: Arc::clone(&self.symbols),
            reader: self.reader(),
            texts: String::new(),
            places: HashMap::default(),
            pairs: Vec::new(),
            held: budget.reserve(LOOKUP_WINDOW_BYTES)?,
        })
    }

    fn reader(&self) -> ReadAhead {
        ReadAhead::new(self.file.clone(), LOOKUP_WINDOW_BYTES)
    }
}

impl LabelIndex for Lookup {
    type List = PostingsRange;

    fn all(&self) -> Result<Option<PostingsRange>> {
        Ok(self.offsets.all())
    }

    fn lists_of(&self, name: &str, values: &[&str]) -> Result<Vec<PostingsRange>> {
        let mut reader = self.reader();
        let mut found = Vec::new();
        for value in values {
            found.extend(self.offsets.find(&mut reader, name, value)?);
        }
        Ok(found)
    }

    fn lists_where(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<PostingsRange>> {
        let mut found = Vec::new();
        self.offsets.scan(&mut self.reader(), name, prefix, |value, range| {
            if !value.starts_with(prefix) {
                return ControlFlow::Break(());
            }
            if keep(value) {
                found.push(range);
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}

/// Turns symbol references into texts. Keeps what it read, for one request.
#[derive(Debug)]
pub struct Resolver {
    symbols: Arc<SymbolTable>,
    reader: ReadAhead,
    texts: String,
    places: HashMap<u32, Place, foldhash::fast::RandomState>,
    /// The labels of the last series.
    pairs: Vec<(Place, Place)>,
    held: Reservation,
}

/// Where a text begins and ends among those of a [`Resolver`].
type Place = (usize, usize);

/// The labels of a series as texts of a [`Resolver`], for those who make something else of them
/// than [`Labels`].
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    texts: &'a str,
    places: &'a [(Place, Place)],
}

impl<'a> Pairs<'a> {
    /// Names and values in the order of the entry.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let texts = self.texts;
        let text = move |place: Place| &texts[place.0..place.1];
        self.places.iter().map(move |&(name, value)| (text(name), text(value)))
    }

    /// Whether they come sorted by name, as they should; [`Resolver::labels`] puts others right.
    pub fn is_sorted(&self) -> bool {
        self.iter().is_sorted_by(|a, b| a.0 < b.0)
    }
}

impl Resolver {
    /// The text of a reference.
    ///
    /// # Errors
    /// When there is none, the disk fails, or the budget is used up.
    pub fn resolve(&mut self, reference: u32) -> Result<&str> {
        let (start, end) = self.place(reference)?;
        Ok(&self.texts[start..end])
    }

    /// The labels of a series.
    ///
    /// # Errors
    /// As [`Resolver::resolve`], and when the labels do not come sorted by name.
    pub fn labels(&mut self, entry: &SeriesEntry) -> Result<Labels> {
        let pairs = self.pairs(entry)?;
        if pairs.is_sorted() {
            return Ok(Labels::from_sorted(pairs.iter()));
        }
        // Labels that came in disorder into a block are put right, as far as that can be done.
        Labels::from_pairs(pairs.iter()).map_err(|error| {
            let damage = crate::Damage::new("series", 0, error.to_string());
            damage.within(self.reader.file().path())
        })
    }

    /// The labels of a series as texts.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    pub fn pairs(&mut self, entry: &SeriesEntry) -> Result<Pairs<'_>> {
        self.pairs.clear();
        for &(name, value) in &entry.labels {
            let places = (self.place(name)?, self.place(value)?);
            self.pairs.push(places);
        }
        Ok(Pairs { texts: &self.texts, places: &self.pairs })
    }

    fn place(&mut self, reference: u32) -> Result<Place> {
        if let Some(place) = self.places.get(&reference) {
            return Ok(*place);
        }
        let start = self.texts.len();
        self.symbols.append(&mut self.reader, reference, &mut self.texts)?;
        let place = (start, self.texts.len());
        self.held.grow(place.1 - place.0 + 32)?;
        self.places.insert(reference, place);
        Ok(place)
    }
}
