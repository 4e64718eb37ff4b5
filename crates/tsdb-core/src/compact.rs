//! Compaction: several blocks become one.

pub mod balance;
pub mod merge;

pub use crate::compact::balance::Balance;
pub use crate::compact::merge::{Merge, RunChunk, RunError};
