//! A bucket as a directory of plain files, laid out as Thanos' FILESYSTEM store does.
//!
//! Objects are written under `TEMPORARY` first and moved to their name when they are whole and
//! durable, so that nobody ever reads half of one. The directory is on the same file system as the
//! objects, and no block: Thanos passes over it.
#![expect(clippy::disallowed_methods, reason = "the one file that puts a bucket on a disk")]

mod upload;
mod walk;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use md5::{Digest as _, Md5};

use crate::digest::hex;
use crate::environment::Environment;
use crate::error::Error;
use crate::key::{check_key, check_prefix};
use crate::store::{ListPage, ObjectMeta, ObjectStore, PutOutcome, Result};
use crate::upload::Upload;

/// Where objects are while they are written; no part of the bucket.
const TEMPORARY: &str = ".aion-tmp";
/// Entries in a page of a listing.
const PAGE_ENTRIES_MAX: usize = 10_000;
/// Bytes copied at once.
const STEP_BYTES: usize = 256 * 1024;
/// How often a write makes its directory again when a deletion beside it took the empty one away.
const PLACE_TRIES_MAX: usize = 100;

/// A bucket in a directory. It has no entity tags; writes are durable when they return.
#[derive(Clone, Debug)]
pub struct FilesystemStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    name: String,
    environment: Environment,
    page_entries_max: usize,
}

impl FilesystemStore {
    /// The bucket in `root`, which is made by the first write.
    pub fn new(root: &Path, environment: Environment) -> FilesystemStore {
        let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
        let page_entries_max = PAGE_ENTRIES_MAX;
        let root = root.to_owned();
        FilesystemStore { shared: Arc::new(Shared { root, name, environment, page_entries_max }) }
    }

    /// The same with shorter pages, so that few objects make many of them.
    #[must_use]
    pub fn with_page_entries_max(self, page_entries_max: usize) -> FilesystemStore {
        let Shared { root, name, environment, .. } = &*self.shared;
        let (root, name, environment) = (root.clone(), name.clone(), environment.clone());
        let page_entries_max = page_entries_max.max(1);
        FilesystemStore { shared: Arc::new(Shared { root, name, environment, page_entries_max }) }
    }

    /// Runs blocking work on a key where it may block.
    fn run<'a, T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &'a str,
        work: impl FnOnce(&Shared, &str) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'a, Result<T>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let owned = key.to_owned();
            match tokio::task::spawn_blocking(move || work(&shared, &owned)).await {
                Ok(result) => result,
                Err(error) => {
                    Err(Error::Other { operation, key: key.to_owned(), cause: error.into() })
                }
            }
        })
    }
}

/// Gives an I/O error its object and says what to do with it.
fn failure(operation: &'static str, key: &str, error: io::Error) -> Error {
    let key = key.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound { key },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { key },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::Denied { operation, key, cause: error.into() }
        }
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::Interrupted
        | io::ErrorKind::StaleNetworkFileHandle
        | io::ErrorKind::TimedOut => Error::Unavailable { operation, key, cause: error.into() },
        _ => Error::Other { operation, key, cause: error.into() },
    }
}

fn modified_ms(modified: SystemTime) -> i64 {
    match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |it| -it),
    }
}

impl Shared {
    fn path(&self, key: &str) -> Result<PathBuf> {
        check_key(key)?;
        if key.split('/').next() == Some(TEMPORARY) {
            return Err(Error::invalid(key, format!("{TEMPORARY} is no part of the bucket")));
        }
        Ok(self.root.join(key))
    }

    fn open(&self, operation: &'static str, key: &str) -> Result<(File, fs::Metadata)> {
        let path = self.path(key)?;
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((metadata, file)) if metadata.is_file() => Ok((file, metadata)),
            Ok(_) => Err(Error::NotFound { key: key.to_owned() }),
            // A parent of the key is an object.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(Error::NotFound { key: key.to_owned() })
            }
            Err(error) => Err(failure(operation, key, error)),
        }
    }

    fn get(&self, key: &str, size_max_bytes: u64) -> Result<Bytes> {
        let (file, metadata) = self.open("get", key)?;
        let size = metadata.len();
        if size > size_max_bytes {
            let reason = format!("{size} bytes, at most {size_max_bytes} expected");
            return Err(Error::invalid(key, reason));
        }
        read_at(&file, 0, size).map_err(|error| failure("get", key, error))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let (file, metadata) = self.open("get_range", key)?;
        let size = metadata.len();
        if range.start >= range.end || range.start >= size {
            let reason = format!("no bytes {}..{} in {size}", range.start, range.end);
            return Err(Error::invalid(key, reason));
        }
        let length = range.end.min(size) - range.start;
        let bytes = read_at(&file, range.start, length);
        bytes.map_err(|error| failure("get_range", key, error))
    }

    fn put(&self, key: &str, body: &mut dyn Read, only_if_absent: bool) -> Result<PutOutcome> {
        let path = self.path(key)?;
        let written = self.write_temporary(body).and_then(|(temporary, outcome)| {
            let placed = self.place(&temporary, &path, only_if_absent);
            if placed.is_err() || only_if_absent {
                // Left behind, it would only be cleaned up later.
                let _ = fs::remove_file(&temporary);
            }
            placed.map(|()| outcome)
        });
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists if only_if_absent => failure("upload", key, error),
            // What is missing or in the way is not the object.
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => {
                Error::Other { operation: "upload", key: key.to_owned(), cause: error.into() }
            }
            _ => failure("upload", key, error),
        })
    }

    fn put_file(&self, key: &str, path: &Path) -> Result<PutOutcome> {
        let source = |error: io::Error| Error::Other {
            operation: "upload",
            key: key.to_owned(),
            cause: format!("{}: {error}", path.display()).into(),
        };
        let mut file = File::open(path).map_err(source)?;
        self.put(key, &mut file, false)
    }

    /// Writes the body to a new temporary file and makes it durable.
    fn write_temporary(&self, body: &mut dyn Read) -> io::Result<(PathBuf, PutOutcome)> {
        let directory = self.root.join(TEMPORARY);
        make_directories(&directory)?;
        let (path, mut file) = self.create_temporary(&directory)?;
        let copied = copy(body, &mut file).and_then(|it| file.sync_all().map(|()| it));
        match copied {
            Ok((size_bytes, md5_hex)) => {
                let outcome = PutOutcome { size_bytes, md5_hex, etag: None, etag_is_md5: false };
                Ok((path, outcome))
            }
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn create_temporary(&self, directory: &Path) -> io::Result<(PathBuf, File)> {
        let mut last = None;
        for _ in 0..PLACE_TRIES_MAX {
            let path = directory.join(format!("{:016x}", self.environment.random()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("no free temporary name: {last:?}")))
    }

    /// Gives a finished file its name.
    fn place(&self, temporary: &Path, path: &Path, only_if_absent: bool) -> io::Result<()> {
        let parent = path.parent().unwrap_or(&self.root);
        let mut tries = 0;
        loop {
            let placed = make_directories(parent).and_then(|()| match only_if_absent {
                true => fs::hard_link(temporary, path),
                false => fs::rename(temporary, path),
            });
            tries += 1;
            match placed {
                // A deletion took a directory away, which was empty.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && tries < PLACE_TRIES_MAX => {}
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    let text = "the file system has no hard links, which conditional writes need";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, text));
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        match sync_directory(parent) {
            // The object and its directory were deleted meanwhile: nothing is left to be durable.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        }
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if is_no_file(&error) => return Ok(()),
            // Some systems say EPERM for a directory, which is no object.
            Err(_) if path.is_dir() => return Ok(()),
            Err(error) => return Err(failure("delete", key, error)),
        }
        // Thanos takes directories away that became empty.
        for directory in path.ancestors().skip(1).take_while(|it| *it != self.root) {
            if fs::remove_dir(directory).is_err() {
                return sync_existing(directory).map_err(|error| failure("delete", key, error));
            }
        }
        sync_existing(&self.root).map_err(|error| failure("delete", key, error))
    }

    fn head(&self, key: &str) -> Result<ObjectMeta> {
        let (_, metadata) = self.open("attributes", key)?;
        let modified = metadata.modified().map_err(|error| failure("attributes", key, error))?;
        Ok(ObjectMeta {
            key: key.to_owned(),
            size_bytes: metadata.len(),
            modified_ms: modified_ms(modified),
            etag: None,
        })
    }

    fn list(&self, prefix: &str, delimiter: bool, after: Option<&str>) -> Result<ListPage> {
        check_prefix(prefix)?;
        let listing = walk::Listing {
            root: &self.root,
            prefix,
            delimiter,
            after,
            entries_max: self.page_entries_max,
        };
        listing.run().map_err(|error| failure("iter", prefix, error))
    }

    fn abort_stale(&self, prefix: &str, before_ms: i64) -> Result<usize> {
        check_prefix(prefix)?;
        let done = remove_older(&self.root.join(TEMPORARY), before_ms);
        done.map_err(|error| failure("abort_uploads", prefix, error))
    }
}

/// Removes the temporary files last written before the given time.
fn remove_older(directory: &Path, before_ms: i64) -> io::Result<usize> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_file() && modified_ms(metadata.modified()?) < before_ms {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done.map(|()| removed += 1)?,
            }
        }
    }
    Ok(removed)
}

fn is_no_file(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | IsADirectory | NotADirectory)
}

fn read_at(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}

fn copy(body: &mut dyn Read, file: &mut File) -> io::Result<(u64, String)> {
    let mut buffer = vec![0; STEP_BYTES];
    let (mut size_bytes, mut md5) = (0, Md5::new());
    loop {
        let read = match body.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok((size_bytes, hex(&md5.finalize())));
        }
        let bytes = &buffer[..read];
        md5.update(bytes);
        file.write_all(bytes)?;
        size_bytes += bytes.len() as u64;
    }
}

/// Makes a directory and those above it, each durable in the one that holds it.
fn make_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().filter(|it| !it.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_directories(parent)?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Somebody else made it, or it is an object; a link that leads nowhere is neither.
            if directory.exists() && !directory.is_dir() {
                let text = format!("{} is no directory", directory.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
            }
        }
        made => made?,
    }
    sync_existing(parent.unwrap_or(Path::new(".")))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Syncs a directory that may be gone meanwhile.
fn sync_existing(directory: &Path) -> io::Result<()> {
    match sync_directory(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}

impl ObjectStore for FilesystemStore {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>> {
        self.run("iter", prefix, move |it, prefix| it.list(prefix, delimiter, page.as_deref()))
    }

    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.run("get", key, move |it, key| it.get(key, size_max_bytes))
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        self.run("get_range", key, move |it, key| it.get_range(key, range))
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        self.run("upload", key, move |it, key| it.put(key, &mut &body[..], false))
    }

    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        self.run("upload", key, move |it, key| it.put(key, &mut &body[..], true))
    }

    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>> {
        let path = path.to_owned();
        self.run("upload", key, move |it, key| it.put_file(key, &path))
    }

    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        let shared = Arc::clone(&self.shared);
        self.run("upload", key, move |_, key| {
            let upload: Box<dyn Upload> = Box::new(upload::begin(shared, key)?);
            Ok(upload)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        self.run("delete", key, Shared::delete)
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>> {
        self.run("attributes", key, Shared::head)
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>> {
        self.run("abort_uploads", prefix, move |it, prefix| it.abort_stale(prefix, before_ms))
    }
}
