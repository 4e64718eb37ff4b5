//! The seam for what is done where chunks of one series overlap.

use std::fmt;

use crate::block::ChunkData;
use crate::chunk::{self, DecodeError, Encoding};
use crate::compact::Balance;
use crate::error::Damage;

/// How often a merge may hold samples at once: as they were and as they become.
const COPIES: usize = 2;
/// What a merge keeps of a window beside its aggregates.
const WINDOW_BYTES: usize = 48;

/// A chunk of an overlapping run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunChunk {
    /// Place of its block among the sources of the job.
    pub source: usize,
    /// The chunk; its encoding is one of those that are written (1 to 3 and 255), its deleted
    /// samples are gone already, its checksum was right.
    pub chunk: ChunkData,
}

impl RunChunk {
    /// The most bytes of memory that the chunk takes when it is decoded, with its share of what
    /// becomes of it.
    pub fn merged_bytes(&self) -> usize {
        let ChunkData { encoding, data, .. } = &self.chunk;
        let windows = match encoding {
            // A damaged chunk is not decoded. A window takes a bit or more.
            Encoding::Aggregate => chunk::counted_samples(*encoding, data)
                .map_or(0, |it| usize::try_from(it).unwrap_or(usize::MAX))
                .min(8 * data.len()),
            _ => 0,
        };
        chunk::decoded_bytes_max(*encoding, data)
            .saturating_add(windows.saturating_mul(WINDOW_BYTES))
            .saturating_mul(COPIES)
            .saturating_add(data.len())
    }
}

/// A chunk of a run that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// Place of its block among the sources of the job.
    pub source: usize,
    /// What is wrong with its data.
    pub damage: Damage,
}

impl RunError {
    /// The error of a chunk of a source; for `map_err`.
    pub fn of(source: usize) -> impl Fn(DecodeError) -> RunError {
        move |error| {
            let damage = match error {
                DecodeError::Damaged(damage) => damage,
                other => Damage::new("chunk", 0, other.to_string()),
            };
            RunError { source, damage }
        }
    }
}

/// Makes one sequence of chunks out of chunks that overlap.
///
/// A job has one of its own, so that it may keep buffers from one run to the next. What it answers
/// must depend on nothing but the run.
pub trait Merge: Send + fmt::Debug {
    /// Names the rule, in reports and in the name of the block that comes out.
    fn name(&self) -> &'static str;

    /// Tells, before the first run of a job, the resolution of its blocks in ms; 0 for raw samples.
    fn begin(&mut self, _resolution_ms: i64) {}

    /// How far apart chunks may lie and still be given to [`Merge::merge`] as one run, in ms. 0
    /// means that only chunks that overlap are, at least in one timestamp; all others are copied.
    fn reach_ms(&self) -> i64 {
        0
    }

    /// The most bytes of memory that a run takes while it is merged, with what it becomes; charged
    /// to the job's account before [`Merge::merge`] is called. Unless told otherwise, a merge is
    /// thought to decode the whole run.
    fn memory_bytes(&self, run: &[RunChunk]) -> usize {
        run.iter().map(RunChunk::merged_bytes).fold(0, usize::saturating_add)
    }

    /// Appends to `out` what the chunks of a run become: in order of time, not overlapping,
    /// within the span of the run.
    ///
    /// `run` holds two chunks of one series or more, sorted by first and last time, then by
    /// source; of equal neighbours in this order only one is left. What is not in `out` any more
    /// is told to `balance` by [`Balance::drop_samples`]; its other counts are the caller's.
    ///
    /// # Errors
    /// [`RunError`] when a chunk of the run cannot be decoded; it names the source.
    fn merge(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
        balance: &mut Balance,
    ) -> Result<(), RunError>;
}
