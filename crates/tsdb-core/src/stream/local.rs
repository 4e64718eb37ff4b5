//! Blocks in directories of the local disk, as sources and as sinks.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::block::segments::file_name;
use crate::block::tombstones::Tombstones;
use crate::block::{CHUNKS_DIRECTORY, INDEX_FILE, META_FILE, Meta, TOMBSTONES_FILE};
use crate::error::{Damage, Error, Result};
use crate::fs::{self, EntryKind, Fs, SharedFs};
use crate::read_ahead::SealedFile;
use crate::stream::{Ranged, Sink, SinkFile, Source};

/// A file of the local disk.
pub struct LocalFile {
    file: SealedFile,
    name: String,
}

impl LocalFile {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<LocalFile> {
        let file = SealedFile::open(fs, path)?;
        Ok(LocalFile { file, name: path.display().to_string() })
    }
}

impl fmt::Debug for LocalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl Ranged for LocalFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end.saturating_sub(range.start);
        let length = usize::try_from(wanted).unwrap_or(usize::MAX);
        let bytes = self.file.read(range.start, length)?;
        if bytes.len() as u64 != wanted {
            let text = format!("{wanted} bytes wanted, the file has {}", self.file.size_bytes());
            return Err(self.file.damaged()(Damage::new("file", range.start, text)));
        }
        Ok(Bytes::from(bytes))
    }
}

/// Opens the block in a directory as a source.
///
/// # Errors
/// When the disk fails, a segment is missing, or meta or tombstones are damaged.
pub fn open_source(fs: &dyn Fs, block: &Path) -> Result<Source> {
    let meta = Meta::read(fs, &block.join(META_FILE))?;
    let chunks = block.join(CHUNKS_DIRECTORY);
    let entries = fs.list(&chunks).map_err(Error::io("list", &chunks))?;
    let mut segments: Vec<Arc<dyn Ranged>> = Vec::new();
    for entry in entries.iter().filter(|it| it.kind == EntryKind::File) {
        if !entry.name.bytes().all(|it| it.is_ascii_digit()) {
            continue;
        }
        let path = chunks.join(&entry.name);
        if entry.name != file_name(segments.len()) {
            let text = format!("segment {} is missing before it", file_name(segments.len()));
            return Err(Damage::new("segment", 0, text).within(&path));
        }
        segments.push(Arc::new(LocalFile::open(fs, &path)?));
    }
    Ok(Source {
        meta,
        index: Arc::new(LocalFile::open(fs, &block.join(INDEX_FILE))?),
        segments,
        tombstones: Tombstones::open(fs, &block.join(TOMBSTONES_FILE))?,
    })
}

/// A block's directory that files are written to. Directories are made as files need them; whoever
/// makes the block makes its names durable when all files are there.
#[derive(Clone, Debug)]
pub struct DirectorySink {
    fs: SharedFs,
    directory: PathBuf,
}

impl DirectorySink {
    /// A sink that writes below `directory`.
    pub fn new(fs: SharedFs, directory: impl Into<PathBuf>) -> DirectorySink {
        DirectorySink { fs, directory: directory.into() }
    }

    /// Makes the names of all files durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<()> {
        let chunks = self.directory.join(CHUNKS_DIRECTORY);
        for directory in [chunks.as_path(), &self.directory] {
            match self.fs.sync_directory(directory).map_err(Error::io("sync", directory)) {
                // A block without chunks has no directory for them.
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Sink for DirectorySink {
    fn create(&self, path: &str) -> Result<Box<dyn SinkFile>> {
        let directory = self.directory.clone();
        FilesSink { fs: &*self.fs, directory }.create(path)
    }
}

/// A [`DirectorySink`] over a file system that is borrowed.
#[derive(Debug)]
pub(crate) struct FilesSink<'a> {
    pub(crate) fs: &'a dyn Fs,
    pub(crate) directory: PathBuf,
}

impl Sink for FilesSink<'_> {
    fn create(&self, path: &str) -> Result<Box<dyn SinkFile>> {
        let path = self.directory.join(path);
        if let Some(parent) = path.parent() {
            self.fs.make_directory(parent).map_err(Error::io("make", parent))?;
        }
        let file = self.fs.create(&path).map_err(Error::io("create", &path))?;
        Ok(Box::new(LocalSinkFile { file, path }))
    }
}

#[derive(Debug)]
struct LocalSinkFile {
    file: Box<dyn fs::File>,
    path: PathBuf,
}

impl SinkFile for LocalSinkFile {
    fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.file.append(&bytes).map_err(Error::io("write", &self.path))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}
