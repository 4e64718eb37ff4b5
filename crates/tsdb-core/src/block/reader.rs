//! A block on the local disk.

use std::path::{Path, PathBuf};

use hashbrown::HashSet;
use model::{Budget, Labels, Matcher, TimeRange};

use crate::block::segments::Segments;
use crate::block::tombstones::Tombstones;
use crate::block::writer::ChunkData;
use crate::block::{INDEX_FILE, META_FILE, Meta, TOMBSTONES_FILE};
use crate::chunk::{self, DecodeError};
use crate::error::{Damage, Error, Result};
use crate::fs::Fs;
use crate::index::lookup::Resolver;
use crate::index::reader::SeriesReader;
use crate::index::{self, ChunkMeta, SeriesEntry};

/// An open block. Only samples of its index are in memory.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    meta: Meta,
    index: index::Reader,
    segments: Segments,
    tombstones: Tombstones,
}

/// A series of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSeries {
    /// Its labels, without external ones.
    pub labels: Labels,
    /// Its chunks that overlap the range asked for.
    pub chunks: Vec<ChunkMeta>,
    /// Intervals in which its samples are deleted.
    pub deleted: Vec<TimeRange>,
}

impl Reader {
    /// Opens the block in a directory.
    ///
    /// # Errors
    /// When the disk fails, something of it is damaged, or `budget` has no room for it.
    pub fn open(fs: &dyn Fs, path: &Path, budget: &Budget) -> Result<Reader> {
        Ok(Reader {
            path: path.to_owned(),
            meta: Meta::read(fs, &path.join(META_FILE))?,
            index: index::Reader::open(fs, &path.join(INDEX_FILE), budget)?,
            segments: Segments::open(fs, path)?,
            tombstones: Tombstones::open(fs, &path.join(TOMBSTONES_FILE))?,
        })
    }

    /// The block's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The block's meta.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The block's index.
    pub fn index(&self) -> &index::Reader {
        &self.index
    }

    /// The block's tombstones.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Size of index and chunks in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.index.file().size_bytes() + self.segments.size_bytes()
    }

    /// The series that fulfil all matchers and have chunks in `range`, in the order of their
    /// labels; none without a matcher.
    ///
    /// # Errors
    /// When the disk fails, the index is damaged, or `budget` has no room for the lists.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Selection<'_>> {
        self.selection(self.index.select(matchers, budget)?, range, budget)
    }

    /// All series, as [`Reader::select`].
    ///
    /// # Errors
    /// As [`Reader::select`].
    pub fn all(&self, range: TimeRange, budget: &Budget) -> Result<Selection<'_>> {
        self.selection(self.index.all()?, range, budget)
    }

    fn selection(
        &self,
        references: Vec<u32>,
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Selection<'_>> {
        Ok(Selection {
            block: self,
            held: budget.reserve(references.len() * size_of::<u32>())?,
            references: references.into_iter(),
            range,
            series: self.index.series(),
            resolver: self.index.lookup().resolver(budget)?,
            entry: SeriesEntry::default(),
        })
    }

    /// The data of a series' chunks. Deleted samples are taken out.
    ///
    /// # Errors
    /// When the disk fails, a chunk is damaged, or samples of an aggregate chunk are deleted.
    pub fn chunks(&self, series: &BlockSeries) -> Result<Vec<ChunkData>> {
        let read = self.segments.read(&series.chunks)?;
        let mut out = Vec::with_capacity(read.len());
        for (meta, (encoding, data)) in series.chunks.iter().zip(read) {
            let (min_time_ms, max_time_ms) = (meta.min_time_ms, meta.max_time_ms);
            let chunk = ChunkData { encoding, min_time_ms, max_time_ms, data };
            let span = TimeRange::new(min_time_ms, max_time_ms);
            if series.deleted.iter().any(|it| it.overlaps(span)) {
                out.extend(self.without_deleted(&chunk, &series.deleted)?);
            } else {
                out.push(chunk);
            }
        }
        Ok(out)
    }

    /// The names of the labels, of all series or of those that fulfil all matchers; sorted.
    ///
    /// # Errors
    /// As [`Reader::select`].
    pub fn label_names(&self, matchers: &[Matcher], budget: &Budget) -> Result<Vec<String>> {
        if matchers.is_empty() {
            return Ok(self.index.lookup().label_names());
        }
        self.texts_of(matchers, budget, |_, entry, found| {
            found.extend(entry.labels.iter().map(|it| it.0));
            Ok(())
        })
    }

    /// The values of a label, of all series or of those that fulfil all matchers; sorted.
    ///
    /// # Errors
    /// As [`Reader::select`].
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        budget: &Budget,
    ) -> Result<Vec<String>> {
        if matchers.is_empty() {
            return self.index.lookup().label_values(name);
        }
        self.texts_of(matchers, budget, |resolver, entry, found| {
            for &(label, value) in &entry.labels {
                if resolver.resolve(label)? == name {
                    found.insert(value);
                }
            }
            Ok(())
        })
    }

    /// The texts of the symbols that `gather` finds in the series that fulfil all matchers.
    fn texts_of(
        &self,
        matchers: &[Matcher],
        budget: &Budget,
        gather: impl Fn(&mut Resolver, &SeriesEntry, &mut HashSet<u32>) -> Result<()>,
    ) -> Result<Vec<String>> {
        let mut resolver = self.index.lookup().resolver(budget)?;
        let mut series = self.index.series();
        let mut entry = SeriesEntry::default();
        let mut found = HashSet::new();
        for reference in self.index.select(matchers, budget)? {
            series.read(reference, &mut entry)?;
            gather(&mut resolver, &entry, &mut found)?;
        }
        let texts = found.iter().map(|it| Ok(resolver.resolve(*it)?.to_owned()));
        let mut texts = texts.collect::<Result<Vec<String>>>()?;
        texts.sort_unstable();
        Ok(texts)
    }

    /// A chunk written again without its deleted samples; none when nothing is left.
    fn without_deleted(
        &self,
        chunk: &ChunkData,
        deleted: &[TimeRange],
    ) -> Result<Option<ChunkData>> {
        let (min_time_ms, max_time_ms) = (chunk.min_time_ms, chunk.max_time_ms);
        if deleted.iter().any(|it| it.contains(min_time_ms) && it.contains(max_time_ms)) {
            return Ok(None);
        }
        let is_left = |at: i64| !deleted.iter().any(|it| it.contains(at));
        chunk::retain(chunk.encoding, &chunk.data, is_left).map_err(|error| match error {
            DecodeError::Damaged(damage) => damage.within(&self.path),
            DecodeError::Unsupported(_) => {
                let what = "deleted samples in an aggregate chunk".to_owned();
                Error::Unsupported { path: self.path.clone(), what }
            }
        })
    }
}

/// Series of a block, read one by one.
#[derive(Debug)]
pub struct Selection<'a> {
    block: &'a Reader,
    held: model::Reservation,
    references: std::vec::IntoIter<u32>,
    range: TimeRange,
    series: SeriesReader<'a>,
    resolver: Resolver,
    entry: SeriesEntry,
}

impl Selection<'_> {
    /// Bytes of memory that the list of what is to come holds.
    pub fn held_bytes(&self) -> usize {
        self.held.bytes()
    }

    /// The next series that has chunks in the range.
    fn read_next(&mut self) -> Result<Option<BlockSeries>> {
        while let Some(reference) = self.references.next() {
            self.series.read(reference, &mut self.entry)?;
            let deleted = self.block.tombstones.of(reference);
            let wanted = |it: &ChunkMeta| {
                let span = TimeRange::new(it.min_time_ms, it.max_time_ms);
                let gone = |range: &TimeRange| {
                    range.contains(it.min_time_ms) && range.contains(it.max_time_ms)
                };
                span.overlaps(self.range) && !deleted.iter().any(gone)
            };
            let chunks: Vec<ChunkMeta> = self.entry.chunks.iter().copied().filter(wanted).collect();
            if chunks.is_empty() {
                continue;
            }
            let labels = self.resolver.labels(&self.entry)?;
            return Ok(Some(BlockSeries { labels, chunks, deleted: deleted.to_vec() }));
        }
        Ok(None)
    }
}

/// After an error the next call goes on behind the series that is damaged.
impl Iterator for Selection<'_> {
    type Item = Result<BlockSeries>;

    fn next(&mut self) -> Option<Result<BlockSeries>> {
        self.read_next().transpose()
    }
}

/// Checks every series and every chunk of a block against its checksums; answers the damage.
///
/// # Errors
/// When the disk fails; damage is not an error here but the answer.
pub fn verify(block: &Reader, budget: &Budget) -> Result<Vec<Damage>> {
    let mut damages = Vec::new();
    for series in block.all(TimeRange::ALL, budget)? {
        let read = series.and_then(|it| block.segments.read(&it.chunks).map(drop));
        match read {
            Ok(()) => {}
            Err(Error::Corrupt { damage, .. }) => damages.push(damage),
            Err(other) => return Err(other),
        }
    }
    Ok(damages)
}
