//! A new file that is written from front to back, through a buffer.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::{File, Fs};

const BUFFER_BYTES: usize = 256 * 1024;

/// A file being written.
#[derive(Debug)]
pub(crate) struct Output {
    file: Box<dyn File>,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Bytes that went to the file already.
    flushed_bytes: u64,
}

impl Output {
    /// Makes the file, which must not exist.
    pub(crate) fn create(fs: &dyn Fs, path: &Path) -> Result<Output> {
        let file = fs.create(path).map_err(Error::io("create", path))?;
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        Ok(Output { file, path: path.to_owned(), buffer, flushed_bytes: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.flushed_bytes + self.buffer.len() as u64
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
            if bytes.len() > BUFFER_BYTES {
                return self.append(bytes);
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes zeros up to the next multiple of `align`.
    pub(crate) fn pad_to(&mut self, align: u64) -> Result<()> {
        let over = usize::try_from(self.position() % align).unwrap_or(0);
        if over == 0 {
            return Ok(());
        }
        let align = usize::try_from(align).unwrap_or(over);
        self.write(&[0; 64][..(align - over).min(64)])
    }

    /// Hands everything to the operating system.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        self.append(&bytes)?;
        self.buffer = bytes;
        self.buffer.clear();
        Ok(())
    }

    /// Hands everything to the operating system, durable or not, and answers the size in bytes.
    pub(crate) fn finish_scratch(mut self) -> Result<u64> {
        self.flush()?;
        Ok(self.flushed_bytes)
    }

    /// Makes everything durable and answers the size in bytes.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.flush()?;
        self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        Ok(self.flushed_bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.append(bytes).map_err(Error::io("write", &self.path))?;
        self.flushed_bytes += bytes.len() as u64;
        Ok(())
    }
}
