//! Downsampling: the samples of a series become aggregates of windows of 5 minutes or an hour.
//!
//! Batches, windows, the first and last values of counters and the bytes are Thanos', so that
//! either program reads and goes on with the blocks of the other; `docs/format/downsampling.md`
//! has the rules, and the places where Thanos would lose windows and we keep them.

pub mod block;
mod clean;
mod counter;
mod decode;
mod encode;
mod float_run;
mod floats;
mod histogram_level;
mod histogram_run;
mod histograms;
mod level;
mod plan;
pub mod read;
mod series;
mod windows;

pub use crate::downsample::block::{Made, Report, Target, downsample, meta_of};
pub use crate::downsample::series::{Counts, Downsampled, Downsampler, SeriesError, Targets};

/// Length of the windows of the first resolution.
pub const FIVE_MINUTES_MS: i64 = 5 * 60 * 1000;
/// Length of the windows of the second resolution, which is made from the first.
pub const ONE_HOUR_MS: i64 = 60 * 60 * 1000;
