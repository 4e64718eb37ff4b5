//! Checks a whole block, and names everything that is wrong with it instead of the first thing.
//!
//! Compaction refuses a block at the first damage that it meets; whoever mends a block wants to
//! know all of it. Every checksum of index and segments is compared, every chunk is decoded, and
//! what checksums do not see is checked too: order and uniqueness of symbols, labels, series and
//! chunks, times, references, and whether the posting lists name just the series that are there.

mod chunks;
mod index;
mod postings;

use std::fmt;

use model::{Budget, TimeRange};

use crate::error::{Damage, Error, Result};
use crate::stream::Source;

/// Damages that are kept one by one; the rest is counted.
pub const FINDINGS_MAX: usize = 100;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, with its block.
    pub file: String,
    /// What is wrong, and where.
    pub damage: Damage,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.damage)
    }
}

/// What a block holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Series that could be read.
    pub series: u64,
    /// Chunks of these series, readable or not.
    pub chunks: u64,
    /// Samples in the chunks that could be read, as statistics count them.
    pub samples: u64,
    /// What is wrong, at most [`FINDINGS_MAX`], index first.
    pub findings: Vec<Finding>,
    /// How many more things are wrong.
    pub more_findings: u64,
}

impl Checked {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Checks a block. `progress` is told the bytes of the index and of chunks that were passed, and
/// answers whether to go on.
///
/// # Errors
/// When the source cannot be read or `budget` has no room; damage is no error here.
/// [`Error::Cancelled`] when `progress` says so.
pub fn check(
    source: &Source,
    window_bytes: usize,
    budget: &Budget,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Checked> {
    let mut report = Report::default();
    let last_ms = source.meta.max_time_ms.saturating_sub(1);
    let context = Context {
        source,
        window_bytes,
        budget,
        span: TimeRange::new(source.meta.min_time_ms, last_ms),
    };
    index::check(&context, &mut report, progress)?;
    compare_stats(source, &mut report);
    Ok(report.checked)
}

/// What every part of the check needs to know.
struct Context<'a> {
    source: &'a Source,
    window_bytes: usize,
    budget: &'a Budget,
    /// The block's samples lie here, both ends inclusive.
    span: TimeRange,
}

/// What was found so far.
#[derive(Default)]
struct Report {
    checked: Checked,
}

impl Report {
    fn add(&mut self, file: &str, damage: Damage) {
        if self.checked.findings.len() < FINDINGS_MAX {
            self.checked.findings.push(Finding { file: file.to_owned(), damage });
        } else {
            self.checked.more_findings += 1;
        }
    }

    /// Keeps damage and hands on what is none.
    fn keep<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::BlockDamaged { file, damage, .. }) => {
                self.add(&file, damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Compares the counts of the meta with what was read, where all of it could be read.
fn compare_stats(source: &Source, report: &mut Report) {
    if !report.checked.is_sound() {
        return;
    }
    let (checked, stats) = (&report.checked, &source.meta.stats);
    // What samples of a downsampled block are is not agreed upon.
    let samples = match source.meta.thanos.downsample.resolution_ms {
        0 => checked.samples,
        _ => stats.num_samples,
    };
    let counts = [
        ("numSeries", stats.num_series, checked.series),
        ("numChunks", stats.num_chunks, checked.chunks),
        ("numSamples", stats.num_samples, samples),
    ];
    for (name, said, found) in counts {
        if said != found {
            let reason = format!("{name} is {said}, the block has {found}");
            let file = format!("{}/{}", source.meta.ulid, crate::block::META_FILE);
            report.add(&file, Damage::new("meta", 0, reason));
        }
    }
}
