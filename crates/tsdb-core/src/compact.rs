//! Compaction: several blocks become one, streaming.
//!
//! A job makes three passes, each from front to back, and holds no more than windows over its
//! sources:
//!
//! 1. The symbols of all sources are sorted runs. They are merged into one list, and every source
//!    gets a table from its references to the numbers in that list, which sort as the texts do.
//!    From here on no text is touched.
//! 2. The series of all sources are sorted runs too, compared by their numbers. The chunks of
//!    equal series come together (`series`): what overlaps nothing is copied as bytes, with the
//!    checksum that was verified; equal chunks collapse; encodings that Thanos cannot read are
//!    written again; deleted samples are taken out; what overlaps goes through a [`Merge`]. Chunks
//!    stream to the sink, series entries to an index on scratch space.
//! 3. Posting lists are gathered from the series entries just written, and the index follows the
//!    chunks to the sink.
//!
//! Samples are counted where they are read and where they are written ([`Balance`]). A job whose
//! counts do not add up is an error, as is any damage, named with its block; in either case what
//! went to the sink is worth nothing. The meta.json is not written here: whoever publishes the
//! block writes it last. Bytes are a function of the sources and the options alone. See
//! `docs/format/compaction.md`.

pub(crate) mod aggregates;
pub mod balance;
pub(crate) mod deleted;
mod heads;
pub mod merge;
pub mod naming;
pub mod one_to_one;
pub mod progress;
mod series;

use std::sync::Arc;

use model::Budget;

use crate::block::Meta;
use crate::block::segments::SEGMENT_BYTES_MAX;
pub use crate::compact::balance::Balance;
use crate::compact::heads::Heads;
pub use crate::compact::merge::{Merge, RunChunk, RunError};
pub use crate::compact::one_to_one::OneToOne;
pub use crate::compact::progress::{Done, Ignored, Progress};
use crate::compact::series::Assembler;
use crate::error::{Error, Result};
use crate::stream::{BlockWriter, Scratch, SeriesCursor, Sink, Source, Written, symbols};

/// Memory of a job, unless told otherwise.
pub const MEMORY_BYTES_MAX: usize = 512 * 1024 * 1024;
/// How much of a file is read at once at most.
const WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much of a file is read at once at least, however many sources there are.
const WINDOW_BYTES_MIN: usize = 64 * 1024;
/// Windows that a source may have in memory: index and chunks, each with the one before it.
const WINDOWS_PER_SOURCE: usize = 4;
/// How many series are written between two reports of progress.
const PROGRESS_EVERY_SERIES: u64 = 256;

/// What a job may use and how it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most memory of the job in bytes.
    pub memory_bytes_max: usize,
    /// Most bytes of a chunk segment, unless a single chunk is larger.
    pub segment_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { memory_bytes_max: MEMORY_BYTES_MAX, segment_bytes_max: SEGMENT_BYTES_MAX }
    }
}

/// Where a job's block goes, and what else the job uses of its surroundings.
#[derive(Debug)]
pub struct Target<'a> {
    /// Takes the block's files.
    pub sink: Arc<dyn Sink + 'a>,
    /// Holds the index until it is whole.
    pub scratch: Scratch<'a>,
    /// The account that the job's memory is charged to.
    pub budget: &'a Budget,
    /// Is told how far the job is, and can end it.
    pub progress: &'a dyn Progress,
}

/// What a job did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The meta of the new block, complete but for Thanos' labels, source and extensions; `None`
    /// when no sample is left, and then nothing was written.
    pub meta: Option<Meta>,
    /// What became of the samples.
    pub balance: Balance,
    /// How often chunks were treated in which way.
    pub chunks: ChunkCounts,
    /// Samples that lost their start timestamp, because no chunk that Thanos reads has one.
    pub start_timestamps_dropped: u64,
    /// Bytes of indices and chunks that were read.
    pub read_bytes: u64,
    /// Bytes of the new block's files, without the meta.json.
    pub written_bytes: u64,
    /// Bytes of scratch space that were used.
    pub scratch_bytes: u64,
    /// The most memory that was charged at once, in bytes.
    pub memory_peak_bytes: usize,
}

/// How often chunks were treated in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkCounts {
    /// Copied as bytes.
    pub copied: u64,
    /// Left out because an equal one was there.
    pub collapsed: u64,
    /// Written again without start timestamps.
    pub made_plain: u64,
    /// Written again without deleted samples, or gone with them.
    pub with_deletions: u64,
    /// Given to the merge of overlapping chunks.
    pub merged: u64,
}

/// Makes one block of all sources, named and described by `meta` (see
/// [`naming::meta_of`]); the order of the sources decides between equal timestamps.
///
/// # Errors
/// [`Error::BlockDamaged`] names a source that is damaged; [`Error::Scratch`] comes before
/// anything is read; [`Error::Unbalanced`] when samples were lost or invented; all others when the
/// sources, the sink or the scratch space fail, a bound is passed, or the job was cancelled. What
/// the sink has got then must be removed.
pub fn compact(
    sources: &[Source],
    meta: Meta,
    target: &Target<'_>,
    options: &Options,
    merge: &mut dyn Merge,
) -> Result<Report> {
    let needed_bytes = scratch_bytes_needed(sources);
    if needed_bytes > target.scratch.bytes_max {
        return Err(Error::Scratch { needed_bytes, limit_bytes: target.scratch.bytes_max });
    }
    let budget = target.budget.child(format!("compaction {}", meta.ulid), options.memory_bytes_max);
    let window_bytes = window_bytes(options.memory_bytes_max, sources.len());
    let cursors = sources.iter().map(|it| SeriesCursor::open(it, window_bytes, &budget));
    let mut cursors = cursors.collect::<Result<Vec<SeriesCursor>>>()?;
    let (list, maps) = symbols::join(&mut cursors, &budget)?;
    let sink = Arc::clone(&target.sink);
    let mut writer = BlockWriter::create(sink, target.scratch, &meta, list, &budget)?;
    writer.set_segment_bytes_max(options.segment_bytes_max);
    let heads = Heads::open(cursors, maps)?;
    merge.begin(meta.thanos.downsample.resolution_ms);
    let total_bytes = sources.iter().map(Source::size_bytes).sum();
    let mut job = Job { heads, assembler: Assembler::new(merge, &budget)?, writer };
    job.run(target.progress, total_bytes)?;
    job.finish(meta, &budget)
}

/// A job at work.
struct Job<'a, 'm> {
    heads: Heads,
    assembler: Assembler<'m>,
    writer: BlockWriter<'a>,
}

impl Job<'_, '_> {
    /// The second pass.
    fn run(&mut self, progress: &dyn Progress, total_bytes: u64) -> Result<()> {
        let mut series_count = 0_u64;
        while self.heads.next_group()? {
            self.assembler.add(&mut self.heads, &mut self.writer)?;
            series_count += 1;
            if series_count.is_multiple_of(PROGRESS_EVERY_SERIES) {
                self.report(progress, total_bytes)?;
            }
        }
        self.report(progress, total_bytes)
    }

    fn report(&self, progress: &dyn Progress, total_bytes: u64) -> Result<()> {
        let done = Done {
            samples: self.assembler.balance.in_samples,
            read_bytes: self.heads.read_bytes(),
            total_bytes,
            written_bytes: self.writer.written_bytes(),
        };
        if progress.advance(done).is_break() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// The third pass and the end.
    fn finish(self, mut meta: Meta, budget: &Budget) -> Result<Report> {
        let Assembler { mut balance, chunks, start_timestamps_dropped, .. } = self.assembler;
        balance.out_samples = self.writer.stats().num_samples;
        // Before the index is made: nothing is visible yet, and nothing will be.
        balance.check()?;
        let read_bytes = self.heads.read_bytes();
        drop(self.heads);
        let written: Written = self.writer.finish()?;
        written.fill(&mut meta);
        let is_empty = meta.stats.num_samples == 0;
        Ok(Report {
            meta: (!is_empty).then_some(meta),
            balance,
            chunks,
            start_timestamps_dropped,
            read_bytes,
            written_bytes: written.size_bytes(),
            scratch_bytes: written.index_bytes(),
            memory_peak_bytes: budget.peak_bytes(),
        })
    }
}

/// What a job of these sources may need of scratch space: the index of the new block is not larger
/// than those of its sources together, but for numbers that become longer.
pub fn scratch_bytes_needed(sources: &[Source]) -> u64 {
    let index_bytes: u64 = sources.iter().map(|it| it.index.size_bytes()).sum();
    index_bytes.saturating_add(index_bytes / 4)
}

/// How much of a file is read at once, so that the windows take a quarter of the memory at most.
fn window_bytes(memory_bytes_max: usize, source_count: usize) -> usize {
    let windows = source_count.max(1).saturating_mul(WINDOWS_PER_SOURCE);
    (memory_bytes_max / 4 / windows).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
}
