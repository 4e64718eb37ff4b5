//! The real disk: the only place of the engine that calls `std::fs`.
#![expect(clippy::disallowed_methods, reason = "this file is the door that the others go through")]

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{Entry, EntryKind, File, Fs, Lock};

/// The local file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

#[derive(Debug)]
struct DiskFile {
    file: fs::File,
}

#[derive(Debug)]
struct DiskLock {
    _file: fs::File,
}

impl Fs for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        open(path, OpenOptions::new().read(true).append(true).create_new(true))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        open(path, OpenOptions::new().read(true))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn File>> {
        open(path, OpenOptions::new().read(true).append(true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        named(from, fs::rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        named(path, fs::remove_file(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in named(directory, fs::read_dir(directory))? {
            let entry = named(directory, entry)?;
            let kind = entry.file_type()?;
            let kind = match (kind.is_file(), kind.is_dir()) {
                (true, _) => EntryKind::File,
                (_, true) => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            // A name that is not UTF-8 is none of ours; nothing is lost by not listing it.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry { name, kind });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        named(path, fs::create_dir_all(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        named(path, fs::remove_dir_all(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        named(path, fs::File::open(path).and_then(|it| it.sync_all()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let options = OpenOptions::new().read(true).write(true).create(true).clone();
        let file = named(path, options.open(path))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(DiskLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => {
                let text = format!("{}: locked by another process", path.display());
                Err(io::Error::new(io::ErrorKind::WouldBlock, text))
            }
            Err(fs::TryLockError::Error(error)) => named(path, Err(error)),
        }
    }
}

impl File for DiskFile {
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)
    }

    fn truncate(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Lock for DiskLock {}

fn open(path: &Path, options: &OpenOptions) -> io::Result<Box<dyn File>> {
    Ok(Box::new(DiskFile { file: named(path, options.open(path))? }))
}

/// Puts the path into an error's text; the operating system leaves it out.
fn named<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
