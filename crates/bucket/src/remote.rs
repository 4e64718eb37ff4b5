//! Blocks of a bucket as compaction reads and writes them: forward, in large steps, from threads
//! that may block.
//!
//! [`RemoteFile`] reads an object by ranges. A reader that moves forward finds the next window
//! fetched already, by the runtime, while it worked on the one before. [`RemoteSink`] streams the
//! files of a new block into the bucket in parts. Both are called from blocking threads, never from
//! the runtime's own: they wait for the runtime to do the work.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use model::{BlockId, Budget, Reservation};
use objstore::{ObjectWriter, SharedStore};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tsdb_core::block::tombstones::Tombstones;
use tsdb_core::block::{CHUNKS_DIRECTORY, INDEX_FILE, Meta, TOMBSTONES_FILE};
use tsdb_core::error::Damage;
use tsdb_core::stream::{Ranged, Sink, SinkFile, Source};

use crate::error::{Error, Result};
use crate::layout::{self, StoredFile};
use crate::upload::Sent;

/// Bytes that are fetched at once for a reader that moves forward; two such windows are held by
/// each file that is read.
pub const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// Shortest read: a request costs more than so many bytes.
const READ_BYTES_MIN: u64 = 64 * 1024;
/// Larger tombstones are refused: no deletion needs so many intervals.
const TOMBSTONES_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How objects are read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Does the work while callers wait.
    pub runtime: Handle,
    /// Bytes that are fetched at once for a reader that moves forward, [`WINDOW_BYTES`] by default.
    /// Two windows are held for each file; a job with many sources takes smaller ones.
    pub window_bytes: u64,
    /// Pays for what is held. Without room nothing is fetched ahead.
    pub budget: Budget,
}

impl Reading {
    /// Windows of the usual size.
    pub fn new(runtime: Handle, budget: Budget) -> Reading {
        Reading { runtime, window_bytes: WINDOW_BYTES, budget }
    }
}

/// An object of a block, read by ranges.
pub struct RemoteFile {
    store: SharedStore,
    block: BlockId,
    key: String,
    size_bytes: u64,
    reading: Reading,
    position: Mutex<Position>,
}

/// Where the reader is.
#[derive(Default)]
struct Position {
    /// What was fetched last.
    current: Option<Window>,
    /// What is fetched while the reader works.
    next: Option<Fetch>,
}

/// Bytes of the object.
struct Window {
    start: u64,
    bytes: Bytes,
    _held: Reservation,
}

/// A request that is under way; dropped, it is given up.
struct Fetch {
    range: Range<u64>,
    task: JoinSet<objstore::store::Result<Bytes>>,
    held: Reservation,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The part of a range that is here, from its start on.
    fn part(&self, range: &Range<u64>) -> Option<Bytes> {
        if range.start < self.start || range.start >= self.end() {
            return None;
        }
        let within = |at: u64| usize::try_from(at - self.start).unwrap_or(self.bytes.len());
        Some(self.bytes.slice(within(range.start)..within(range.end.min(self.end()))))
    }
}

impl RemoteFile {
    /// An object whose size is known from a listing; nothing is asked of the store yet.
    pub fn new(
        store: SharedStore,
        block: BlockId,
        file: &StoredFile,
        reading: Reading,
    ) -> RemoteFile {
        let (key, size_bytes) = (layout::key(block, &file.path), file.size_bytes);
        RemoteFile { store, block, key, size_bytes, reading, position: Mutex::default() }
    }

    fn damage(&self, offset: u64, reason: String) -> tsdb_core::error::Error {
        let damage = Damage::new("object", offset, reason);
        tsdb_core::error::Error::BlockDamaged { block: self.block, file: self.key.clone(), damage }
    }

    /// Asks for a range, which lies in the object.
    fn fetch(&self, range: Range<u64>, held: Reservation) -> Fetch {
        let (store, key, wanted) = (Arc::clone(&self.store), self.key.clone(), range.clone());
        let mut task = JoinSet::new();
        // The reader's own task, which ends with it.
        let get = async move { store.get_range(&key, wanted).await };
        task.spawn_on(get, &self.reading.runtime);
        Fetch { range, task, held }
    }

    /// Waits for a request.
    fn wait(&self, mut fetch: Fetch) -> tsdb_core::error::Result<Window> {
        let got = match self.reading.runtime.block_on(fetch.task.join_next()) {
            Some(Ok(got)) => got,
            Some(Err(error)) => return Err(stream_error("read", &self.key, false, error)),
            None => return Err(stream_error("read", &self.key, false, "the read is gone")),
        };
        let Range { start, end } = fetch.range;
        let bytes = match got {
            Err(objstore::Error::Invalid { reason, .. }) => {
                return Err(self.damage(start, format!("{reason}, listed are {}", self.size_bytes)));
            }
            got => got.map_err(|error| store_error("read", &self.key, error))?,
        };
        if bytes.len() as u64 != end - start {
            let there = start + bytes.len() as u64;
            let reason = format!("it ends at {there}, {} bytes are listed", self.size_bytes);
            return Err(self.damage(there, reason));
        }
        Ok(Window { start, bytes, _held: fetch.held })
    }

    /// The window that holds the byte at `at`: the one that is here, the one that is under way, or
    /// a new one, which is as long as `wanted` for a reader that jumps.
    fn advance(
        &self,
        position: &mut Position,
        wanted: &Range<u64>,
    ) -> tsdb_core::error::Result<()> {
        let at = wanted.start;
        let window_bytes = self.reading.window_bytes.max(1);
        if let Some(next) = position.next.take()
            && next.range.contains(&at)
        {
            // The old window goes before another is asked for.
            position.current = None;
            position.current = Some(self.wait(next)?);
        } else {
            let moves_forward = position.current.as_ref().is_some_and(|it| it.end() == at);
            position.current = None;
            let least = if moves_forward { window_bytes } else { READ_BYTES_MIN };
            let length = (wanted.end - at).min(window_bytes).max(least.min(window_bytes));
            let range = at..at.saturating_add(length).min(self.size_bytes);
            let held = self.reading.budget.reserve(size_of(&range))?;
            position.current = Some(self.wait(self.fetch(range, held))?);
            if !moves_forward {
                return Ok(());
            }
        }
        let start = position.current.as_ref().map_or(at, Window::end);
        let range = start..start.saturating_add(window_bytes).min(self.size_bytes);
        if range.start < range.end
            && let Ok(held) = self.reading.budget.reserve(size_of(&range))
        {
            position.next = Some(self.fetch(range, held));
        }
        Ok(())
    }
}

fn size_of(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteFile({}, {} bytes)", self.key, self.size_bytes)
    }
}

impl Ranged for RemoteFile {
    fn name(&self) -> &str {
        &self.key
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, range: Range<u64>) -> tsdb_core::error::Result<Bytes> {
        if range.start >= range.end {
            return Ok(Bytes::new());
        }
        if range.end > self.size_bytes {
            let reason =
                format!("bytes up to {} are wanted, it has {}", range.end, self.size_bytes);
            return Err(self.damage(range.start, reason));
        }
        let mut position = self.position.lock();
        let mut joined = BytesMut::new();
        let mut rest = range;
        loop {
            let Some(part) = position.current.as_ref().and_then(|it| it.part(&rest)) else {
                self.advance(&mut position, &rest)?;
                continue;
            };
            rest.start += part.len() as u64;
            if rest.start == self.size_bytes {
                // A block has many segments, and a reader that has seen the end of one is done
                // with it. What it was given stays as long as it needs it.
                *position = Position::default();
            }
            if rest.is_empty() && joined.is_empty() {
                // A slice of what was fetched: nothing is copied.
                return Ok(part);
            }
            joined.extend_from_slice(&part);
            if rest.is_empty() {
                return Ok(joined.freeze());
            }
        }
    }
}

/// Opens a block as a source, by the files that a listing shows.
///
/// # Errors
/// [`Error::Incomplete`] when the index or a segment is not listed, and what reading tombstones
/// says, which a block has only when it came from a directory as it was.
pub async fn open_source(
    store: &SharedStore,
    meta: &Meta,
    files: &[StoredFile],
    reading: &Reading,
) -> Result<Source> {
    let id = meta.ulid;
    let file = |path: &str| files.iter().find(|it| it.path == path);
    let open = |file: &StoredFile| -> Arc<dyn Ranged> {
        Arc::new(RemoteFile::new(Arc::clone(store), id, file, reading.clone()))
    };
    let missing = |path: String| Error::Incomplete { id, missing: vec![path] };
    let index = file(INDEX_FILE).ok_or_else(|| missing(INDEX_FILE.to_owned()))?;
    let prefix = format!("{CHUNKS_DIRECTORY}/");
    let is_segment = |it: &&StoredFile| {
        let name = it.path.strip_prefix(&prefix);
        name.is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()))
    };
    let segments = files.iter().filter(is_segment).count();
    let segments = (0..segments).map(|number| {
        let path = format!("{prefix}{:06}", number + 1);
        file(&path).map(open).ok_or_else(|| missing(path))
    });
    let segments = segments.collect::<Result<Vec<_>>>()?;
    let tombstones = match file(TOMBSTONES_FILE) {
        None => Tombstones::default(),
        Some(_) => {
            let key = layout::key(id, TOMBSTONES_FILE);
            let bytes = store.get(&key, TOMBSTONES_BYTES_MAX).await?;
            Tombstones::decode(&bytes).map_err(|damage| Error::Corrupt { key, damage })?
        }
    };
    Ok(Source { meta: meta.clone(), index: open(index), segments, tombstones })
}

/// Where the files of a new block go: straight into the bucket. They are not visible before their
/// block has a meta, which [`crate::publish::Draft`] writes.
#[derive(Clone, Debug)]
pub struct RemoteSink {
    store: SharedStore,
    block: BlockId,
    runtime: Handle,
    files: Arc<Mutex<Files>>,
}

/// What became of the files.
#[derive(Debug, Default)]
struct Files {
    created: BTreeSet<String>,
    sent: Vec<Sent>,
}

impl RemoteSink {
    /// A sink for the files of a block; `runtime` does the work while callers wait.
    pub fn new(store: SharedStore, block: BlockId, runtime: Handle) -> RemoteSink {
        RemoteSink { store, block, runtime, files: Arc::default() }
    }

    /// What was finished, in the order of the names.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        let mut sent = self.files.lock().sent.clone();
        sent.sort_by(|a, b| a.name.cmp(&b.name));
        sent
    }

    /// A file that was begun and not finished.
    pub(crate) fn unfinished(&self) -> Option<String> {
        let files = self.files.lock();
        let is_sent = |name: &&String| files.sent.iter().any(|it| it.name == **name);
        files.created.iter().find(|it| !is_sent(it)).cloned()
    }
}

impl Sink for RemoteSink {
    fn create(&self, path: &str) -> tsdb_core::error::Result<Box<dyn SinkFile>> {
        if !self.files.lock().created.insert(path.to_owned()) {
            let key = layout::key(self.block, path);
            return Err(tsdb_core::error::Error::invalid(format!("{key} is written twice")));
        }
        let key = layout::key(self.block, path);
        let writer = ObjectWriter::new(Arc::clone(&self.store), &key);
        let (runtime, files) = (self.runtime.clone(), Arc::clone(&self.files));
        Ok(Box::new(RemoteSinkFile {
            path: path.to_owned(),
            key,
            writer: Some(writer),
            runtime,
            files,
        }))
    }
}

#[derive(Debug)]
struct RemoteSinkFile {
    path: String,
    key: String,
    /// Taken when the file ends.
    writer: Option<ObjectWriter>,
    runtime: Handle,
    files: Arc<Mutex<Files>>,
}

impl SinkFile for RemoteSinkFile {
    fn write(&mut self, bytes: Bytes) -> tsdb_core::error::Result<()> {
        let Some(writer) = &mut self.writer else {
            return Err(tsdb_core::error::Error::invalid(format!("{} has ended", self.key)));
        };
        let written = self.runtime.block_on(writer.write(bytes));
        written.map_err(|error| store_error("write", &self.key, error))
    }

    fn finish(mut self: Box<Self>) -> tsdb_core::error::Result<()> {
        let Some(writer) = self.writer.take() else {
            return Err(tsdb_core::error::Error::invalid(format!("{} has ended", self.key)));
        };
        let outcome = self.runtime.block_on(writer.finish());
        let outcome = outcome.map_err(|error| store_error("write", &self.key, error))?;
        self.files.lock().sent.push(Sent {
            name: std::mem::take(&mut self.path),
            size_bytes: outcome.size_bytes,
            etag: outcome.etag,
        });
        Ok(())
    }
}

impl Drop for RemoteSinkFile {
    fn drop(&mut self) {
        // Parts are given up by the runtime, which this thread need not belong to.
        let _runtime = self.runtime.enter();
        drop(self.writer.take());
    }
}

/// An error of the store, for whoever reads and writes blocks without knowing buckets.
fn store_error(
    operation: &'static str,
    key: &str,
    error: objstore::Error,
) -> tsdb_core::error::Error {
    let is_transient = error.is_transient();
    stream_error(operation, key, is_transient, error)
}

fn stream_error(
    operation: &'static str,
    key: &str,
    is_transient: bool,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> tsdb_core::error::Error {
    let (name, source) = (key.to_owned(), source.into());
    tsdb_core::error::Error::Stream { operation, name, is_transient, source }
}
