//! The write-ahead log: one for all tenants and partitions, one sync per group.
//!
//! Whoever applied something queues its frame; the daemon's committer calls
//! [`Log::commit_pending`] again and again, which writes and syncs all that was queued while it
//! was busy before. A [`Ticket`] tells whether what was queued is durable. A failed write or sync
//! ends the log for good: the kernel may have dropped the pages, so nothing behind the last good
//! sync is believed, and the engine is rebuilt from disk.

pub(crate) mod frame;
pub(crate) mod record;

use std::fmt::Debug;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::fs::{EntryKind, File, SharedFs};
use crate::wal::frame::{FrameHead, Kind};

/// Bytes that may wait for the disk before writers are sent away.
pub(crate) const PENDING_BYTES_MAX: usize = 64 << 20;
/// Bytes at which a segment is closed and the next one begun.
const SEGMENT_BYTES_WANTED: u64 = 64 << 20;

/// Where things lie below the engine's directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Segments of the log.
    pub(crate) log: PathBuf,
    /// Series files.
    pub(crate) series: PathBuf,
    /// Head-chunk log.
    pub(crate) chunks: PathBuf,
    /// Snapshots.
    pub(crate) snapshots: PathBuf,
    /// Copies of damaged bytes.
    pub(crate) quarantine: PathBuf,
}

impl Layout {
    pub(crate) fn new(engine_directory: &Path) -> Layout {
        Layout {
            log: engine_directory.join("log"),
            series: engine_directory.join("series"),
            chunks: engine_directory.join("chunks"),
            snapshots: engine_directory.join("snapshots"),
            quarantine: engine_directory.join("quarantine"),
        }
    }

    pub(crate) fn directories(&self) -> [&Path; 5] {
        [&self.log, &self.series, &self.chunks, &self.snapshots, &self.quarantine]
    }

    pub(crate) fn segment(&self, number: u64) -> PathBuf {
        self.log.join(format!("{number:010}.log"))
    }

    pub(crate) fn series_file(&self, generation: u64, partition: u16) -> PathBuf {
        self.series.join(format!("{generation:010}-{partition:02}.series"))
    }

    pub(crate) fn snapshot(&self, generation: u64) -> PathBuf {
        self.snapshots.join(format!("{generation:010}.snapshot"))
    }
}

/// Whether what was queued is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketState {
    /// Not yet.
    Pending,
    /// It is, and survives a power loss.
    Durable,
    /// It never will be: the log failed; the writer must send again.
    Lost,
}

/// Stands for all that was queued up to some moment.
#[derive(Clone, Debug)]
pub struct Ticket {
    status: Arc<Status>,
    position: u64,
}

impl Ticket {
    /// Whether it is durable.
    pub fn state(&self) -> TicketState {
        // Committed first: a log that failed later did not lose what was synced before.
        if self.status.committed.load(Ordering::Acquire) >= self.position {
            TicketState::Durable
        } else if self.status.has_failed.load(Ordering::Acquire) {
            TicketState::Lost
        } else {
            TicketState::Pending
        }
    }
}

#[derive(Debug, Default)]
struct Status {
    committed: AtomicU64,
    has_failed: AtomicBool,
}

/// The log, open for writing.
#[derive(Debug)]
pub(crate) struct Log {
    fs: SharedFs,
    layout: Layout,
    status: Arc<Status>,
    queue: Mutex<Queue>,
    writer: Mutex<Writer>,
}

/// What waits for the committer.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Frames of series, which also go to the file of their partition.
    series: Vec<(u16, Range<usize>)>,
    /// Bytes ever queued.
    position: u64,
    sample_count: u64,
}

#[derive(Debug)]
struct Writer {
    segment: Option<Segment>,
    next_number: u64,
    generation: u64,
    series_files: Vec<Option<Arc<dyn File>>>,
    /// The buffer that went to the disk last, to be filled again.
    spare: Vec<u8>,
    /// Samples in segments that no snapshot covers.
    sample_count: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    file: Box<dyn File>,
    size_bytes: u64,
}

impl Log {
    /// A log that writes to new segments from `next_number` on and to the series files of
    /// `generation`, which are made when they are needed.
    pub(crate) fn new(
        fs: SharedFs,
        layout: Layout,
        next_number: u64,
        generation: u64,
        partition_count: usize,
    ) -> Log {
        let writer = Writer {
            segment: None,
            next_number,
            generation,
            series_files: (0..partition_count).map(|_| None).collect(),
            spare: Vec::new(),
            sample_count: 0,
        };
        Log {
            fs,
            layout,
            status: Arc::default(),
            queue: Mutex::default(),
            writer: Mutex::new(writer),
        }
    }

    /// Queues a frame. The order of calls is the order on disk.
    pub(crate) fn queue(&self, head: FrameHead, payload: &[u8], sample_count: usize) -> Result<()> {
        let mut queue = self.queue.lock();
        let start = queue.bytes.len();
        frame::put(&mut queue.bytes, head, payload)?;
        let end = queue.bytes.len();
        if head.kind == Kind::Series {
            queue.series.push((head.partition, start..end));
        }
        queue.position += (end - start) as u64;
        queue.sample_count += sample_count as u64;
        Ok(())
    }

    /// A ticket for all that is queued now.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { status: Arc::clone(&self.status), position: self.queue.lock().position }
    }

    /// Whether more waits for the disk than may.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.lock().bytes.len() > PENDING_BYTES_MAX
    }

    /// Whether the log failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.status.has_failed.load(Ordering::Acquire)
    }

    /// Ends the log for good; what is not durable is lost.
    pub(crate) fn fail(&self) {
        self.status.has_failed.store(true, Ordering::Release);
    }

    /// Samples that a start would have to replay from the log.
    pub(crate) fn sample_count(&self) -> u64 {
        self.writer.lock().sample_count
    }

    /// The generation of series files that is written to.
    pub(crate) fn generation(&self) -> u64 {
        self.writer.lock().generation
    }

    /// Counts samples that were found in the log when it was opened.
    pub(crate) fn add_samples(&self, sample_count: u64) {
        self.writer.lock().sample_count += sample_count;
    }

    /// Writes and syncs all that is queued; answers how many bytes that was.
    ///
    /// # Errors
    /// The disk's; the log has failed then, and all tickets that were not durable are lost.
    pub(crate) fn commit_pending(&self) -> Result<usize> {
        let mut writer = self.writer.lock();
        self.commit(&mut writer)
    }

    /// Commits, and closes the segment: what is queued from now on goes to the one whose number
    /// is answered, or to a later one.
    pub(crate) fn roll(&self) -> Result<u64> {
        let mut writer = self.writer.lock();
        self.commit(&mut writer)?;
        self.close_segment(&mut writer).inspect_err(|_| self.fail())?;
        Ok(writer.next_number)
    }

    /// Begins a new series file for every partition; series queued from now on go there.
    pub(crate) fn begin_series_generation(&self, generation: u64) {
        let mut writer = self.writer.lock();
        writer.generation = generation;
        writer.series_files.fill_with(|| None);
    }

    /// Appends frames of series to the file of a partition and generation, synced.
    pub(crate) fn write_series(&self, partition: u16, frames: &[u8]) -> Result<()> {
        let (file, path) = {
            let mut writer = self.writer.lock();
            self.append_series(&mut writer, partition, frames)?;
            let path = self.layout.series_file(writer.generation, partition);
            (writer.series_files[usize::from(partition)].clone(), path)
        };
        // Commits go on meanwhile.
        match file {
            Some(file) => file.sync_data().map_err(Error::io("sync", &path)),
            None => Ok(()),
        }
    }

    /// Forgets the samples of segments before a snapshot.
    pub(crate) fn reset_sample_count(&self, covered: u64) {
        let mut writer = self.writer.lock();
        writer.sample_count = writer.sample_count.saturating_sub(covered);
    }

    fn commit(&self, writer: &mut Writer) -> Result<usize> {
        if self.has_failed() {
            return Err(Error::unavailable("the log has failed and is being read again from disk"));
        }
        let (bytes, series, position, sample_count) = {
            let mut queue = self.queue.lock();
            if queue.bytes.is_empty() {
                return Ok(0);
            }
            let spare = std::mem::take(&mut writer.spare);
            let bytes = std::mem::replace(&mut queue.bytes, spare);
            let series = std::mem::take(&mut queue.series);
            (bytes, series, queue.position, std::mem::take(&mut queue.sample_count))
        };
        self.write(writer, &bytes, &series).inspect_err(|_| self.fail())?;
        writer.sample_count += sample_count;
        self.status.committed.store(position, Ordering::Release);
        let length = bytes.len();
        // A buffer that one large group left behind is not kept.
        if bytes.capacity() <= PENDING_BYTES_MAX / 4 {
            writer.spare = bytes;
            writer.spare.clear();
        }
        Ok(length)
    }

    fn write(
        &self,
        writer: &mut Writer,
        bytes: &[u8],
        series: &[(u16, Range<usize>)],
    ) -> Result<()> {
        if writer.segment.as_ref().is_some_and(|it| it.size_bytes >= SEGMENT_BYTES_WANTED) {
            self.close_segment(writer)?;
        }
        if writer.segment.is_none() {
            let path = self.layout.segment(writer.next_number);
            let file = self.fs.create(&path).map_err(Error::io("create", &path))?;
            self.fs
                .sync_directory(&self.layout.log)
                .map_err(Error::io("sync", &self.layout.log))?;
            let number = writer.next_number;
            writer.next_number += 1;
            writer.segment = Some(Segment { number, path, file, size_bytes: 0 });
        }
        if let Some(segment) = &mut writer.segment {
            segment.file.append(bytes).map_err(Error::io("append to", &segment.path))?;
            segment.file.sync_data().map_err(Error::io("sync", &segment.path))?;
            segment.size_bytes += bytes.len() as u64;
        }
        for (partition, range) in series {
            self.append_series(writer, *partition, &bytes[range.clone()])?;
        }
        Ok(())
    }

    fn append_series(&self, writer: &mut Writer, partition: u16, frames: &[u8]) -> Result<()> {
        let path = self.layout.series_file(writer.generation, partition);
        let slot = &mut writer.series_files[usize::from(partition)];
        let file = match slot {
            Some(file) => file,
            None => {
                let opened = match self.fs.open_append(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        self.fs.create(&path)
                    }
                    opened => opened,
                };
                slot.insert(Arc::from(opened.map_err(Error::io("open", &path))?))
            }
        };
        file.append(frames).map_err(Error::io("append to", &path))
    }

    /// Ends a segment. The series files are synced with it, because the segment may be the only
    /// other place of their records.
    fn close_segment(&self, writer: &mut Writer) -> Result<()> {
        if writer.segment.take().is_none() {
            return Ok(());
        }
        for (partition, file) in writer.series_files.iter().enumerate() {
            let Some(file) = file else { continue };
            let partition = u16::try_from(partition).unwrap_or(u16::MAX);
            let path = self.layout.series_file(writer.generation, partition);
            file.sync_data().map_err(Error::io("sync", &path))?;
        }
        self.fs.sync_directory(&self.layout.series).map_err(Error::io("sync", &self.layout.series))
    }

    /// The segment that is open, and how much of it is known to be durable.
    pub(crate) fn abandoned_segment(&self) -> Option<(u64, u64)> {
        let writer = self.writer.lock();
        writer.segment.as_ref().map(|it| (it.number, it.size_bytes))
    }
}

/// Files of a directory that are named by a number, ascending.
pub(crate) fn numbered_files(
    fs: &SharedFs,
    directory: &Path,
    extension: &str,
) -> Result<Vec<(u64, PathBuf)>> {
    let entries = fs.list(directory).map_err(Error::io("list", directory))?;
    let files = entries.into_iter().filter_map(|entry| {
        let number = entry.name.strip_suffix(extension)?.strip_suffix('.')?.parse().ok()?;
        (entry.kind == EntryKind::File).then(|| (number, directory.join(&entry.name)))
    });
    let mut files: Vec<(u64, PathBuf)> = files.collect();
    files.sort();
    Ok(files)
}
