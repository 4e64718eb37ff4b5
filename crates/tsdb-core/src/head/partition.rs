//! A partition of the head: its series, their labels and their chunks, behind one short lock.

use std::collections::BTreeSet;
use std::path::PathBuf;

use hashbrown::{HashMap, HashSet, HashTable};
use model::{Budget, Columns, Labels, Reservation};

use crate::chunk::xor;
use crate::chunk::xor::Appender;
use crate::db::scan::FoundChunk;
use crate::error::{Error, Result};
use crate::fs::SharedFs;
use crate::head::chunk_log::{ChunkLog, ChunkSource, ClosedChunk};
use crate::head::postings::Postings;
use crate::head::series::Series;
use crate::head::symbols::Symbols;

/// How many partitions a head has. Written into every series reference, so it never changes.
pub(crate) const PARTITION_COUNT: usize = 16;

/// What a series costs besides its labels: the struct, an open chunk, tables and postings.
const SERIES_BYTES: usize = 700;
/// What a label of a series costs: two symbols and a place in a posting list.
const LABEL_BYTES: usize = 24;

/// What a series that is being cut costs besides labels and chunks, with its place in the order.
const CUT_SERIES_BYTES: usize = size_of::<CutSeries>() + 2 * size_of::<(u128, u32, u32)>();
/// Labels of removed series whose symbols are left where they are.
const DEAD_LABELS_KEPT: usize = 1000;
/// What a symbol costs besides its text.
const SYMBOL_BYTES: usize = 16;

/// What a partition needs from outside.
#[derive(Clone, Debug)]
pub(crate) struct PartitionOptions {
    pub(crate) fs: SharedFs,
    pub(crate) chunk_directory: PathBuf,
    pub(crate) budget: Budget,
    pub(crate) block_ms: i64,
    pub(crate) seed: u64,
}

/// What no later partition of the same number may use again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Floor {
    /// Counter of the next series reference.
    pub(crate) counter: u64,
    /// Sequence of the last frame.
    pub(crate) sequence: u64,
    /// Number of the next chunk file.
    pub(crate) file: u32,
}

#[derive(Debug)]
pub(crate) struct Partition {
    number: u16,
    block_ms: i64,
    seed: u64,
    pub(crate) symbols: Symbols,
    pub(crate) series: Vec<Option<Series>>,
    free: Vec<u32>,
    by_key: HashTable<(u64, u32)>,
    pub(crate) postings: Postings,
    pub(crate) chunks: ChunkLog,
    /// Sequence of the last frame that was queued.
    pub(crate) sequence: u64,
    next_counter: u64,
    reservation: Reservation,
    is_retired: bool,
    /// Labels of all series.
    live_labels: usize,
    /// Labels of series that were removed since the symbols were made anew.
    dead_labels: usize,
}

/// Where the head has a sample of a series at some time.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// Nowhere.
    Absent,
    /// In the open chunk, with these bits.
    Found(u64),
    /// In this closed chunk, if anywhere.
    Closed(ChunkSource),
}

/// A series' part of a block that is being cut.
#[derive(Debug)]
pub(crate) struct CutSeries {
    /// Pairs of symbols of the partition, sorted by the text of the name.
    pub(crate) labels: Box<[(u32, u32)]>,
    pub(crate) reference: u64,
    pub(crate) chunks: Vec<ClosedChunk>,
}

impl Partition {
    pub(crate) fn new(number: u16, options: &PartitionOptions, floor: Floor) -> Result<Partition> {
        let directory = options.chunk_directory.clone();
        let fs = SharedFs::clone(&options.fs);
        Ok(Partition {
            number,
            block_ms: options.block_ms,
            seed: options.seed,
            symbols: Symbols::new(options.seed),
            series: Vec::new(),
            free: Vec::new(),
            by_key: HashTable::new(),
            postings: Postings::default(),
            chunks: ChunkLog::new(fs, directory, number, floor.file),
            sequence: floor.sequence,
            next_counter: floor.counter,
            reservation: options.budget.reserve(0)?,
            is_retired: false,
            live_labels: 0,
            dead_labels: 0,
        })
    }

    /// What a successor of this partition must not use again.
    pub(crate) fn floor(&self) -> Floor {
        let (counter, sequence) = (self.next_counter, self.sequence);
        Floor { counter, sequence, file: self.chunks.next_file() }
    }

    /// Raises what is used next to what an earlier process used.
    pub(crate) fn raise(&mut self, floor: Floor) {
        self.next_counter = self.next_counter.max(floor.counter);
        self.sequence = self.sequence.max(floor.sequence);
        self.chunks.raise_next_file(floor.file);
    }

    /// The sequence of the next frame.
    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The series with this canonical key.
    pub(crate) fn find(&self, tenant: u32, key_hash: u64, labels: &Labels) -> Option<u32> {
        let is_same = |(hash, slot): &(u64, u32)| {
            *hash == key_hash
                && self.get(*slot).is_some_and(|it| it.tenant == tenant && self.has(it, labels))
        };
        self.by_key.find(key_hash, is_same).map(|(_, slot)| *slot)
    }

    /// Number of series.
    pub(crate) fn series_count(&self) -> usize {
        self.series.len() - self.free.len()
    }

    /// The series of a slot.
    pub(crate) fn get(&self, slot: u32) -> Option<&Series> {
        self.series.get(slot as usize)?.as_ref()
    }

    /// The series of a slot, if it is still the one of this reference.
    pub(crate) fn get_mut(&mut self, slot: u32, reference: u64) -> Option<&mut Series> {
        let series = self.series.get_mut(slot as usize)?.as_mut()?;
        (series.reference == reference).then_some(series)
    }

    /// A new series. Its reference is made here unless an earlier process gave one.
    ///
    /// # Errors
    /// When the budget has no room for it.
    pub(crate) fn create(
        &mut self,
        tenant: u32,
        key_hash: u64,
        labels: &Labels,
        reference: Option<u64>,
    ) -> Result<u32> {
        let slot = match self.free.last() {
            Some(slot) => *slot,
            None => u32::try_from(self.series.len())
                .map_err(|_| Error::invalid("a head partition has no room for more series"))?,
        };
        // Asked before anything is interned, because symbols are not given back; what a series
        // costs that is on the disk already is there in any case.
        let own_bytes = SERIES_BYTES + LABEL_BYTES * labels.len();
        let texts: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        let most = own_bytes + texts + 2 * SYMBOL_BYTES * labels.len();
        let before = self.reservation.bytes();
        match reference {
            Some(_) => self.reservation.grow_unchecked(most),
            None => self.reservation.grow(most)?,
        }
        let symbols_before = self.symbols.size_bytes();
        let mut pairs = Vec::with_capacity(labels.len());
        for (name, value) in labels {
            pairs.push((self.symbols.intern(name)?, self.symbols.intern(value)?));
        }
        let grown = self.symbols.size_bytes().saturating_sub(symbols_before);
        self.reservation.resize_unchecked(before + own_bytes + grown);
        let reference =
            reference.unwrap_or_else(|| self.next_counter << 4 | u64::from(self.number));
        self.next_counter = self.next_counter.max((reference >> 4) + 1);
        self.postings.insert(slot, tenant, &pairs);
        self.live_labels += pairs.len();
        self.by_key.insert_unique(key_hash, (key_hash, slot), |(hash, _)| *hash);
        let series = Series::new(reference, tenant, key_hash, pairs.into_boxed_slice());
        if self.free.pop().is_some() {
            self.series[slot as usize] = Some(series);
        } else {
            self.series.push(Some(series));
        }
        Ok(slot)
    }

    /// Gives a series without samples the chunks that were found for it in the chunk files.
    pub(crate) fn restore_chunks(&mut self, slot: u32, reference: u64, chunks: &[FoundChunk]) {
        let Some(Some(series)) = self.series.get_mut(slot as usize) else { return };
        let Some(last) = chunks.last() else { return };
        series.reference = reference;
        series.last_ms = last.closed.end_ms();
        series.last_bits = last.last_bits;
        series.closed = chunks.iter().map(|it| it.closed).collect();
    }

    /// Drops all series, for a successor that needs the memory.
    pub(crate) fn clear(&mut self) {
        self.symbols = Symbols::new(self.seed);
        self.postings = Postings::default();
        self.series = Vec::new();
        self.free = Vec::new();
        self.by_key = HashTable::new();
        (self.live_labels, self.dead_labels) = (0, 0);
        self.reservation.resize_unchecked(0);
    }

    /// Ends writing for good and answers what a successor must not use again. Whoever waits for
    /// the lock finds the partition ended.
    pub(crate) fn retire(&mut self) -> Floor {
        self.is_retired = true;
        self.floor()
    }

    /// Whether it takes writes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when a successor is being made.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.is_retired {
            true => Err(Error::unavailable("the head is being read again from disk; send again")),
            false => Ok(()),
        }
    }

    /// Appends a sample that is newer than the series' newest. A chunk that began before
    /// `low_ms`, the end of the last cut, takes none from behind it.
    ///
    /// # Errors
    /// The disk's, from writing a chunk that is full.
    pub(crate) fn push(
        &mut self,
        slot: u32,
        timestamp_ms: i64,
        value: f64,
        low_ms: i64,
    ) -> Result<()> {
        let block_ms = self.block_ms;
        let Some(Some(series)) = self.series.get_mut(slot as usize) else { return Ok(()) };
        let crosses = !series.open.is_empty() && series.open_start_ms < low_ms;
        if series.must_cut(timestamp_ms) || (crosses && timestamp_ms >= low_ms) {
            close_open(series, &mut self.chunks)?;
        }
        series.push(timestamp_ms, value, block_ms);
        Ok(())
    }

    /// Where a sample of a series is, if the head has it.
    pub(crate) fn lookup(&self, slot: u32, timestamp_ms: i64) -> Lookup {
        let Some(series) = self.get(slot) else { return Lookup::Absent };
        if timestamp_ms == series.last_ms && !series.open.is_empty() {
            return Lookup::Found(series.last_bits);
        }
        if !series.open.is_empty() && timestamp_ms >= series.open_start_ms {
            return match find_sample(&series.open.to_bytes(), timestamp_ms) {
                Some(bits) => Lookup::Found(bits),
                None => Lookup::Absent,
            };
        }
        let after = series.closed.partition_point(|it| it.end_ms() < timestamp_ms);
        match series.closed.get(after) {
            Some(chunk) if chunk.start_ms <= timestamp_ms => {
                Lookup::Closed(self.chunks.source(series.reference, chunk))
            }
            _ => Lookup::Absent,
        }
    }

    /// The labels of a series.
    pub(crate) fn labels(&self, series: &Series) -> Labels {
        Labels::from_sorted(self.pairs(series))
    }

    /// The labels of a series as texts, sorted by name.
    pub(crate) fn pairs<'a>(
        &'a self,
        series: &'a Series,
    ) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> {
        let text = |id: u32| self.symbols.text(id);
        series.labels.iter().map(move |(name, value)| (text(*name), text(*value)))
    }

    /// What a block that ends before `until_ms` takes from a tenant's series. Open chunks that
    /// begin before that are closed; all of it is readable through the chunk log afterwards.
    ///
    /// # Errors
    /// The disk's, and [`Error::Budget`] when `held` cannot grow by what is answered and by what
    /// sorting it takes; nothing is damaged then.
    pub(crate) fn collect(
        &mut self,
        tenant: u32,
        until_ms: i64,
        held: &mut Reservation,
    ) -> Result<Vec<CutSeries>> {
        let mut cut = Vec::new();
        for slot in self.postings.all(tenant).to_vec() {
            let Some(Some(series)) = self.series.get_mut(slot as usize) else { continue };
            if series.first_ms().is_none_or(|it| it >= until_ms) {
                continue;
            }
            if !series.open.is_empty() && series.open_start_ms < until_ms {
                close_open(series, &mut self.chunks)?;
            }
            let Some(series) = self.get(slot) else { continue };
            let count = series.closed.partition_point(|it| it.start_ms < until_ms);
            let labels_bytes = size_of_val(&*series.labels);
            let chunks_bytes = count * size_of::<ClosedChunk>();
            held.grow(CUT_SERIES_BYTES + labels_bytes + chunks_bytes)?;
            cut.push(CutSeries {
                labels: series.labels.clone(),
                reference: series.reference,
                chunks: series.closed[..count].to_vec(),
            });
        }
        self.chunks.flush()?;
        Ok(cut)
    }

    /// Forgets a tenant's samples before `low_ms`, which are in a block, and the series that have
    /// none left. Answers the time of the first sample that is left.
    ///
    /// # Errors
    /// When the labels that are left cannot be kept.
    pub(crate) fn truncate(&mut self, tenant: u32, low_ms: i64) -> Result<Option<i64>> {
        let mut first_ms: Option<i64> = None;
        let mut removed = Vec::new();
        for slot in self.postings.all(tenant) {
            let Some(Some(series)) = self.series.get_mut(*slot as usize) else { continue };
            let count = series.closed.partition_point(|it| it.end_ms() < low_ms);
            series.closed.drain(..count);
            if series.closed.capacity() > 4 * series.closed.len() {
                series.closed.shrink_to_fit();
            }
            // An open chunk from before the cut belongs to a series that stopped.
            if !series.open.is_empty() && series.last_ms < low_ms {
                series.open = Appender::new();
            }
            match series.first_ms() {
                None => removed.push(*slot),
                Some(first) => first_ms = Some(first_ms.map_or(first, |it| it.min(first))),
            }
        }
        self.remove(&removed)?;
        Ok(first_ms)
    }

    /// Numbers of the chunk files that series refer to.
    pub(crate) fn live_files(&self) -> BTreeSet<u32> {
        let closed = self.series.iter().flatten().flat_map(|it| &it.closed);
        closed.map(|it| it.file).collect()
    }

    /// Removes the series of these slots, and everything that only they needed.
    pub(crate) fn remove(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut gone: HashMap<u32, HashSet<(u32, u32)>> = HashMap::new();
        let mut freed_bytes = 0;
        for slot in slots {
            let Some(series) = self.series.get_mut(*slot as usize).and_then(Option::take) else {
                continue;
            };
            gone.entry(series.tenant).or_default().extend(&series.labels);
            freed_bytes += SERIES_BYTES + LABEL_BYTES * series.labels.len();
            self.live_labels -= series.labels.len();
            self.dead_labels += series.labels.len();
            let entry = self.by_key.find_entry(series.key_hash, |(_, it)| it == slot);
            if let Ok(entry) = entry {
                entry.remove();
            }
            self.free.push(*slot);
        }
        // Symbols are not counted per user, so they are made anew, but only when many may be
        // unused: that takes time in which nobody else gets at the partition.
        if self.dead_labels > self.live_labels / 2 + DEAD_LABELS_KEPT {
            return self.rebuild_labels();
        }
        let removed: HashSet<u32> = slots.iter().copied().collect();
        for (tenant, labels) in gone {
            self.postings.remove(tenant, &removed, &labels);
        }
        let left_bytes = self.reservation.bytes().saturating_sub(freed_bytes);
        self.reservation.resize_unchecked(left_bytes);
        Ok(())
    }

    /// Makes symbols and postings anew from the series that are left.
    fn rebuild_labels(&mut self) -> Result<()> {
        let mut symbols = Symbols::new(self.seed);
        let mut postings = Postings::default();
        let mut renamed: Vec<Option<u32>> = vec![None; self.symbols.count()];
        let mut bytes = 0;
        for (slot, series) in self.series.iter_mut().enumerate() {
            let Some(series) = series else { continue };
            for id in series.labels.iter_mut().flat_map(|(name, value)| [name, value]) {
                let new = match renamed[*id as usize] {
                    Some(new) => new,
                    None => symbols.intern(self.symbols.text(*id))?,
                };
                renamed[*id as usize] = Some(new);
                *id = new;
            }
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            postings.insert(slot, series.tenant, &series.labels);
            bytes += SERIES_BYTES + LABEL_BYTES * series.labels.len();
        }
        self.symbols = symbols;
        self.postings = postings;
        self.dead_labels = 0;
        // Series that stay are there already, whatever the account says.
        self.reservation.resize_unchecked(bytes + self.symbols.size_bytes());
        Ok(())
    }

    fn has(&self, series: &Series, labels: &Labels) -> bool {
        self.pairs(series).eq(labels.iter())
    }
}

/// Moves the open chunk of a series to the chunk log.
fn close_open(series: &mut Series, chunks: &mut ChunkLog) -> Result<()> {
    let data = series.open.to_bytes();
    let (file, offset) = chunks.append(series.reference, &data)?;
    let span_ms = series.open.last_timestamp_ms().saturating_sub(series.open_start_ms);
    let too_large = |_| Error::invalid("a head chunk is longer than its form allows");
    series.closed.push(ClosedChunk {
        start_ms: series.open_start_ms,
        span_ms: u32::try_from(span_ms).map_err(too_large)?,
        file,
        offset,
        size_bytes: u16::try_from(data.len()).map_err(too_large)?,
        sample_count: series.open.sample_count(),
    });
    series.open = Appender::new();
    Ok(())
}

/// The bits of the sample at a time in a chunk's data.
pub(crate) fn find_sample(data: &[u8], timestamp_ms: i64) -> Option<u64> {
    let mut columns = Columns::default();
    // Damage is reported by whoever reads the chunk for its samples; here it is an absent one.
    xor::decode(data, &mut columns).ok()?;
    columns.float_bits_at(timestamp_ms)
}
