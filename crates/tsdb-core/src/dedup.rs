//! Deduplication: one series out of what several replicas recorded of it.
//!
//! Two rules are Thanos', [`penalty`] and [`chain`]; ours and the default is [`phases`]. What each
//! of them means is defined in `docs/deduplication.md`. Queries use them on decoded columns,
//! compaction on the chunks of a run through [`crate::compact::Merge`].

pub mod chain;
mod cursor;
mod overlap;
pub mod penalty;
pub mod phases;

pub use crate::dedup::cursor::Point;
pub use crate::dedup::overlap::split_overlapping;
