//! The storage engine: chunks, write-ahead log, head, index and blocks, as bytes on a local disk.
//!
//! Sync and deterministic. It starts no thread, knows no network and no wall clock, and touches
//! the disk only through [`fs::Fs`]; the daemon decides when something is committed, cut or
//! snapshotted.

pub mod block;
pub mod chunk;
pub mod codec;
pub mod compact;
pub mod db;
pub mod dedup;
pub mod downsample;
pub mod error;
pub mod fs;
mod head;
pub mod index;
mod loser_tree;
mod output;
pub mod postings;
pub mod read_ahead;
pub mod select;
pub mod stream;
mod wal;

pub use crate::error::{Damage, Error, Result};
