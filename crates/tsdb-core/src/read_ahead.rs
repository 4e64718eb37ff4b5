//! Reads of one immutable file through a window, for readers that mostly move forward.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Damage, Error, Result};
use crate::fs::{File, Fs};

/// An open file that no longer changes, with its name and size.
#[derive(Clone)]
pub struct SealedFile {
    file: Arc<dyn File>,
    path: Arc<Path>,
    size_bytes: u64,
}

impl SealedFile {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// When it cannot be opened or its size not be told.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<SealedFile> {
        let file: Arc<dyn File> = Arc::from(fs.open(path).map_err(Error::io("open", path))?);
        let size_bytes = file.size_bytes().map_err(Error::io("size of", path))?;
        Ok(SealedFile { file, path: Arc::from(path), size_bytes })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Up to `length` bytes at `offset`, fewer only where the file ends.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let there = self.size_bytes.saturating_sub(offset);
        let length = usize::try_from(there).unwrap_or(usize::MAX).min(length);
        let mut bytes = vec![0; length];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(Error::io("read", &self.path))?;
        Ok(bytes)
    }

    /// The error of damage in this file.
    pub fn damaged(&self) -> impl Fn(Damage) -> Error + use<> {
        let path: PathBuf = self.path.to_path_buf();
        move |damage| damage.within(&path)
    }
}

impl fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.size_bytes)
    }
}

/// A window over a file that is moved when something outside of it is asked for.
#[derive(Debug)]
pub struct ReadAhead {
    file: SealedFile,
    window_bytes: usize,
    start: u64,
    buffer: Vec<u8>,
}

impl ReadAhead {
    /// A window of `window_bytes`, empty at first.
    pub fn new(file: SealedFile, window_bytes: usize) -> ReadAhead {
        ReadAhead { file, window_bytes, start: 0, buffer: Vec::new() }
    }

    /// The file behind it.
    pub fn file(&self) -> &SealedFile {
        &self.file
    }

    /// Up to `length` bytes at `offset`, fewer only where the file ends. More than the window
    /// holds may be asked for; memory follows what the file has, not what was asked.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn get(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
        let file_end = self.file.size_bytes();
        let wanted_end = offset.saturating_add(length as u64).min(file_end);
        let end = self.start + self.buffer.len() as u64;
        if offset < self.start || wanted_end > end {
            self.buffer = self.file.read(offset, length.max(self.window_bytes))?;
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let rest = self.buffer.get(from..).unwrap_or_default();
        Ok(&rest[..rest.len().min(length)])
    }
}
