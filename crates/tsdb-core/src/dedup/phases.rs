//! Our deduplication: replicas are told apart by the rhythm of their samples, and one is followed.
//!
//! A function of the samples of a series alone, whatever replica or chunk they came in; what is
//! chosen at a time depends on nothing that lies farther than [`REACH_MS`] from it. Defined in
//! `docs/deduplication.md`.

mod choose;
mod merge;
mod query;
mod rhythm;
mod union;

pub use crate::dedup::phases::merge::{PhasesMerge, REPLICA};
pub use crate::dedup::phases::query::Deduplicator;

/// Windows of absolute time in which one replica is followed.
const WINDOW_MS: i64 = 120_000;
/// So many windows one after the other are looked at together to find a rhythm.
const BLOCK_WINDOWS: i64 = 4;
/// What is chosen at a time depends on samples no farther from it than this, in ms: a window on
/// the blocks that it is part of, and on what the windows beside it choose.
pub const REACH_MS: i64 = (BLOCK_WINDOWS + 1) * WINDOW_MS;
