//! Blocks that need not lie on a disk: read by ranges, written from front to back.
//!
//! Whatever makes new blocks out of old ones (compaction, downsampling, rewriting) reads a
//! [`Source`] and writes to a [`Sink`]. [`local`] has both over a directory; a bucket brings its
//! own. Everything here blocks the calling thread.

pub mod check;
pub mod cursor;
pub mod frames;
pub mod local;
pub mod symbols;
mod window;
pub mod writer;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::Meta;
use crate::block::tombstones::Tombstones;
use crate::error::Result;
pub use crate::stream::cursor::SeriesCursor;
pub use crate::stream::frames::Frame;
pub use crate::stream::symbols::SymbolMap;
pub use crate::stream::writer::{BlockWriter, Scratch, Written};

/// Bytes that no longer change and can be read from anywhere: a file or an object.
pub trait Ranged: Send + Sync + fmt::Debug {
    /// The name that errors give it, with the block: `01M8…/chunks/000001`.
    fn name(&self) -> &str;

    /// Its size in bytes.
    fn size_bytes(&self) -> u64;

    /// The bytes of a range, all of them.
    ///
    /// Readers move forward in large steps and say what they need; reading ahead of them is the
    /// business of the implementation.
    ///
    /// # Errors
    /// When any byte of the range is not there or cannot be had.
    fn read(&self, range: Range<u64>) -> Result<Bytes>;
}

/// A block to read from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its meta.
    pub meta: Meta,
    /// Its index.
    pub index: Arc<dyn Ranged>,
    /// Its chunk segments in their order, none missing.
    pub segments: Vec<Arc<dyn Ranged>>,
    /// What of it is deleted.
    pub tombstones: Tombstones,
}

impl Source {
    /// Size of index and chunks in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.index.size_bytes() + self.segments.iter().map(|it| it.size_bytes()).sum::<u64>()
    }
}

/// Where a new block goes.
pub trait Sink: Send + Sync + fmt::Debug {
    /// Begins a file of the block, named by its path below the block: `index`, `chunks/000001`.
    ///
    /// # Errors
    /// When it exists already or cannot be made.
    fn create(&self, path: &str) -> Result<Box<dyn SinkFile>>;
}

/// A file of a new block. Dropped without [`SinkFile::finish`], it is given up: whatever was
/// written of it need not exist.
pub trait SinkFile: Send + fmt::Debug {
    /// Writes bytes behind those that were written before; writers bring them in large pieces.
    ///
    /// # Errors
    /// When they cannot be written.
    fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Ends the file; once this returns it is durable.
    ///
    /// # Errors
    /// When that cannot be done.
    fn finish(self: Box<Self>) -> Result<()>;
}
