//! Deduplication: one series out of what several replicas recorded of it.
//!
//! [`penalty`] and [`chain`] are Thanos' rules. Queries use them on decoded columns, compaction on
//! the chunks of a run through [`crate::compact::Merge`].

pub mod chain;
mod cursor;
mod overlap;
pub mod penalty;

pub use crate::dedup::cursor::Point;
pub use crate::dedup::overlap::split_overlapping;
