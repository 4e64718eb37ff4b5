//! A window over a file of a source that is moved forward in large steps.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use model::{BlockId, Budget, Reservation};

use crate::error::{Damage, Error, Result};
use crate::stream::Ranged;

/// What is read after a jump; from there on steps double.
const STEP_MIN_BYTES: usize = 64 * 1024;
/// A gap of so many bytes is no jump.
const GAP_BYTES_MAX: u64 = 64 * 1024;

/// The window. Its memory is charged as long as slices of it may be in use.
pub(crate) struct Window {
    block: BlockId,
    file: Arc<dyn Ranged>,
    start: u64,
    bytes: Bytes,
    /// How much the next move reads.
    step_bytes: usize,
    step_max_bytes: usize,
    /// Bytes of windows before this one of which slices may be in use.
    retired_bytes: usize,
    held: Reservation,
}

impl Window {
    /// An empty window at the start of a file.
    pub(crate) fn new(
        block: BlockId,
        file: Arc<dyn Ranged>,
        step_max_bytes: usize,
        budget: &Budget,
    ) -> Result<Window> {
        Ok(Window {
            block,
            file,
            start: 0,
            bytes: Bytes::new(),
            step_bytes: step_max_bytes,
            step_max_bytes,
            retired_bytes: 0,
            held: budget.reserve(0)?,
        })
    }

    /// Size of the file in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    /// Goes on with another file, from its start.
    pub(crate) fn switch(&mut self, file: Arc<dyn Ranged>) {
        self.file = file;
        self.retired_bytes += self.bytes.len();
        self.bytes = Bytes::new();
        self.start = 0;
        self.step_bytes = self.step_max_bytes;
    }

    /// Tells that no slice from before is in use any more.
    pub(crate) fn forget_slices(&mut self) -> Result<()> {
        if self.retired_bytes > 0 {
            self.retired_bytes = 0;
            self.held.resize(self.bytes.len())?;
        }
        Ok(())
    }

    /// What the window has from `offset` on: `length` bytes or more, fewer only where the file
    /// ends, whose end the caller has checked before it asks for much.
    pub(crate) fn get(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
        let at = self.seek(offset, length)?;
        Ok(self.bytes.get(at..).unwrap_or_default())
    }

    /// As [`Window::get`], exactly `length` bytes that share the window's memory.
    pub(crate) fn slice(&mut self, offset: u64, length: usize) -> Result<Bytes> {
        let at = self.seek(offset, length)?;
        if at + length > self.bytes.len() {
            let text = format!("cut short: {length} bytes wanted, the file ends before");
            return Err(self.damaged(Damage::new("file", offset, text)));
        }
        Ok(self.bytes.slice(at..at + length))
    }

    /// The error of damage in the file.
    pub(crate) fn damaged(&self, damage: Damage) -> Error {
        Error::BlockDamaged { block: self.block, file: self.file.name().to_owned(), damage }
    }

    /// Moves the window when it has to, and answers where `offset` lies in it.
    fn seek(&mut self, offset: u64, length: usize) -> Result<usize> {
        let file_end = self.file.size_bytes();
        let wanted_end = offset.saturating_add(length as u64).min(file_end);
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || wanted_end > end {
            self.read(offset.min(file_end), length)?;
        }
        Ok(usize::try_from(offset - self.start.min(offset)).unwrap_or(usize::MAX))
    }

    fn read(&mut self, offset: u64, length: usize) -> Result<()> {
        let end = self.start + self.bytes.len() as u64;
        let is_forward = (self.start..=end.saturating_add(GAP_BYTES_MAX)).contains(&offset);
        let step_bytes = if is_forward { self.step_bytes } else { STEP_MIN_BYTES };
        let file_end = self.file.size_bytes();
        let read_end = offset.saturating_add(step_bytes.max(length) as u64).min(file_end);
        let count = usize::try_from(read_end - offset).unwrap_or(usize::MAX);
        // The window before may live on in slices.
        self.retired_bytes += self.bytes.len();
        self.held.resize(self.retired_bytes.saturating_add(count))?;
        self.bytes = Bytes::new();
        self.bytes = self.file.read(offset..read_end)?;
        if self.bytes.len() != count {
            let text = format!("{count} bytes asked for, {} read", self.bytes.len());
            return Err(self.damaged(Damage::new("file", offset, text)));
        }
        self.start = offset;
        self.step_bytes = step_bytes.saturating_mul(2).min(self.step_max_bytes);
        Ok(())
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {} of {}", self.bytes.len(), self.start, self.file.name())
    }
}
