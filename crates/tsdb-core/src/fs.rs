//! The one door to the disk.
//!
//! Everything in this crate goes through [`Fs`], so that a simulation can put faults behind it.
//! [`disk`] holds the real one, the only file that may call `std::fs`.

pub mod disk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else; never opened, never removed.
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without the directory.
    pub name: String,
    /// What it names.
    pub kind: EntryKind,
}

/// A file system. Errors carry the path in their text.
///
/// Nothing is durable before `sync_data` (contents) and `sync_directory` (names) have returned.
pub trait Fs: Send + Sync + fmt::Debug {
    /// Creates a file for reading and appending, failing when the name exists.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Opens an existing file for reading only.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Opens an existing file for reading and appending.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>>;
    /// Makes a directory and the ones above it; one that exists already is a success.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all that is in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Takes an advisory lock on a file, made when absent, without waiting; `WouldBlock` when
    /// another process holds it. The lock ends when the value is dropped.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Whether a file or directory has this name.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        let Some(name) = path.file_name().and_then(|it| it.to_str()) else { return Ok(true) };
        let directory = path.parent().unwrap_or(Path::new("."));
        match self.list(directory) {
            Ok(entries) => Ok(entries.iter().any(|it| it.name == name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// An open file. Shared between threads: reads take an offset and move nothing.
pub trait File: Send + Sync + fmt::Debug {
    /// Fills `into` from `offset`; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all bytes at the end of the file.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `size_bytes`.
    fn truncate(&self, size_bytes: u64) -> io::Result<()>;
    /// Current size in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
    /// Makes the contents durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
}

/// A held advisory lock.
pub trait Lock: Send + Sync + fmt::Debug {}

/// A shared file system, the form in which components keep it.
pub type SharedFs = Arc<dyn Fs>;

/// Reads a whole file, refusing one larger than `size_max_bytes`.
pub fn read_whole(fs: &dyn Fs, path: &Path, size_max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = fs.open(path)?;
    let size_bytes = file.size_bytes()?;
    if size_bytes > size_max_bytes {
        let text =
            format!("{}: {size_bytes} bytes, at most {size_max_bytes} expected", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let mut bytes = vec![0; usize::try_from(size_bytes).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Writes a whole file so that the name never shows half of it: temporary name, contents, sync,
/// rename, sync of the directory.
pub fn write_atomic(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary: PathBuf = path.to_owned();
    temporary.as_mut_os_string().push(".tmp");
    match fs.unlink(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = fs.create(&temporary)?;
    file.append(bytes)?;
    file.sync_data()?;
    fs.rename(&temporary, path)?;
    fs.sync_directory(path.parent().unwrap_or(Path::new(".")))
}
