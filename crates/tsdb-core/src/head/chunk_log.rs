//! The head-chunk log of a partition: closed chunks, appended, read back by offset.
//!
//! A record is the reference of the series (8 bytes), the length of the data (4), the CRC-32C of
//! both and the data (4), and the data; see `docs/format/head-chunks.md`. Chunks gather in memory
//! and go to the file many at a time; nothing needs them before the next snapshot, because until
//! then the log can make them again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{Crc32c, Cursor};
use crate::error::{Damage, Error, Result};
use crate::fs::{File, SharedFs};

const HEADER_BYTES: usize = 16;
const FLUSH_BYTES: usize = 256 << 10;
const FILE_BYTES_WANTED: u32 = 64 << 20;

/// A closed chunk as a series remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClosedChunk {
    /// Time of the first sample in ms.
    pub(crate) start_ms: i64,
    /// Time of the last sample, counted from the first.
    pub(crate) span_ms: u32,
    /// File of the partition's chunk log.
    pub(crate) file: u32,
    /// Where its record begins there.
    pub(crate) offset: u32,
    /// Bytes of its data.
    pub(crate) size_bytes: u16,
    /// Number of its samples.
    pub(crate) sample_count: u16,
}

impl ClosedChunk {
    /// Bytes of its record.
    pub(crate) fn record_bytes(&self) -> usize {
        HEADER_BYTES + usize::from(self.size_bytes)
    }

    /// Time of the last sample in ms.
    pub(crate) fn end_ms(&self) -> i64 {
        self.start_ms.saturating_add(i64::from(self.span_ms))
    }
}

/// One file of the log, shared with readers: it can be read after its name is gone.
#[derive(Debug)]
pub(crate) struct ChunkFile {
    path: PathBuf,
    file: Box<dyn File>,
}

/// Where the data of a chunk is to be had.
#[derive(Clone, Debug)]
pub(crate) enum ChunkSource {
    /// In memory already.
    Memory(Vec<u8>),
    /// In a file.
    File { file: Arc<ChunkFile>, offset: u32, size_bytes: u16, reference: u64 },
    /// In a file that is not there.
    Missing { path: PathBuf },
}

impl ChunkFile {
    /// The data of a chunk in this file.
    ///
    /// # Errors
    /// The disk's, and [`Error::Corrupt`] when the bytes are not the ones written.
    pub(crate) fn read(&self, chunk: &ClosedChunk, reference: u64) -> Result<Vec<u8>> {
        self.read_at(chunk.offset, chunk.size_bytes, reference)
    }

    /// The whole record of a chunk as it lies in this file, not checked.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn read_raw(&self, chunk: &ClosedChunk) -> Result<Vec<u8>> {
        let mut record = vec![0; HEADER_BYTES + usize::from(chunk.size_bytes)];
        self.file
            .read_exact_at(&mut record, u64::from(chunk.offset))
            .map_err(Error::io("read", &self.path))?;
        Ok(record)
    }

    /// Bytes of this file, not checked.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn read_run(&self, offset: u32, into: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(into, u64::from(offset)).map_err(Error::io("read", &self.path))
    }

    /// The file's name, also when it is gone from the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset: u32, size_bytes: u16, reference: u64) -> Result<Vec<u8>> {
        let mut record = vec![0; HEADER_BYTES + usize::from(size_bytes)];
        match self.file.read_exact_at(&mut record, u64::from(offset)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let damage = Damage::new("head chunk", u64::from(offset), "the file ends before");
                return Err(damage.within(&self.path));
            }
            Err(error) => return Err(Error::io("read", &self.path)(error)),
        }
        check_record(&record, offset, reference).map_err(|it| it.within(&self.path))?;
        record.drain(..HEADER_BYTES);
        Ok(record)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}

/// Which chunk of the files of this process a source is: address of the file, and offset.
pub(crate) type ChunkPlace = (usize, u32);

impl ChunkSource {
    /// Tells chunks in files apart, while the file is held.
    pub(crate) fn place(&self) -> Option<ChunkPlace> {
        match self {
            ChunkSource::File { file, offset, .. } => Some((Arc::as_ptr(file).addr(), *offset)),
            _ => None,
        }
    }

    /// The chunk's data.
    ///
    /// # Errors
    /// The disk's, and [`Error::Corrupt`] when the bytes are not the ones written.
    pub(crate) fn read(self) -> Result<Vec<u8>> {
        match self {
            ChunkSource::Memory(data) => Ok(data),
            ChunkSource::Missing { path } => {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(Error::Io { operation: "open", path, source })
            }
            ChunkSource::File { file, offset, size_bytes, reference } => {
                file.read_at(offset, size_bytes, reference)
            }
        }
    }
}

fn check_record(record: &[u8], offset: u32, reference: u64) -> std::result::Result<(), Damage> {
    let mut cursor = Cursor::new_at("head chunk", record, u64::from(offset));
    let head = cursor.rest().get(..12).unwrap_or_default();
    let is_ours =
        cursor.u64()? == reference && cursor.u32()? as usize + HEADER_BYTES == record.len();
    let crc = cursor.u32()?;
    if !is_ours {
        return Err(cursor.damage("the record is of another series or length"));
    }
    if checksum(head, cursor.rest()) != crc {
        return Err(cursor.damage("checksum mismatch"));
    }
    Ok(())
}

/// The data in the record of a chunk; none when it is not whole.
pub(crate) fn data_of(record: &[u8], chunk: &ClosedChunk, reference: u64) -> Option<Vec<u8>> {
    check_record(record, chunk.offset, reference).ok()?;
    Some(record[HEADER_BYTES..].to_vec())
}

fn checksum(head: &[u8], data: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(head);
    crc.update(data);
    crc.value()
}

/// The chunk log of one partition.
#[derive(Debug)]
pub(crate) struct ChunkLog {
    fs: SharedFs,
    directory: PathBuf,
    partition: u16,
    files: BTreeMap<u32, Arc<ChunkFile>>,
    /// The file that is written to: its number and its bytes on disk.
    open: Option<(u32, u32)>,
    next_file: u32,
    pending: Vec<u8>,
    /// Files with bytes that no sync is known to have covered.
    unsynced: BTreeSet<u32>,
}

impl ChunkLog {
    /// A log that begins with a new file, numbered from `next_file`.
    pub(crate) fn new(
        fs: SharedFs,
        directory: PathBuf,
        partition: u16,
        next_file: u32,
    ) -> ChunkLog {
        ChunkLog {
            fs,
            directory,
            partition,
            files: BTreeMap::new(),
            open: None,
            next_file,
            pending: Vec::new(),
            unsynced: BTreeSet::new(),
        }
    }

    /// The name of a file of the log.
    pub(crate) fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{:02}-{number:08}.chunks", self.partition))
    }

    /// Partition and number of a file's name.
    pub(crate) fn parse_name(name: &str) -> Option<(u16, u32)> {
        let (partition, number) = name.strip_suffix(".chunks")?.split_once('-')?;
        Some((partition.parse().ok()?, number.parse().ok()?))
    }

    /// Takes a file of an earlier process for reading.
    pub(crate) fn adopt(&mut self, number: u32) -> Result<()> {
        let path = self.path(number);
        let file = self.fs.open(&path).map_err(Error::io("open", &path))?;
        self.files.insert(number, Arc::new(ChunkFile { path, file }));
        self.next_file = self.next_file.max(number + 1);
        Ok(())
    }

    /// Appends a chunk and answers its file and offset.
    ///
    /// # Errors
    /// The disk's; the log must not be used any more then.
    pub(crate) fn append(&mut self, reference: u64, data: &[u8]) -> Result<(u32, u32)> {
        let (number, flushed) = match self.open {
            Some((number, flushed)) if flushed < FILE_BYTES_WANTED => (number, flushed),
            _ => self.begin_file()?,
        };
        let too_large = |_| Error::invalid("a head chunk does not fit into a file");
        let offset = flushed + u32::try_from(self.pending.len()).map_err(too_large)?;
        let length = u32::try_from(data.len()).map_err(too_large)?;
        let start = self.pending.len();
        self.pending.extend_from_slice(&reference.to_be_bytes());
        self.pending.extend_from_slice(&length.to_be_bytes());
        let crc = checksum(&self.pending[start..], data);
        self.pending.extend_from_slice(&crc.to_be_bytes());
        self.pending.extend_from_slice(data);
        if self.pending.len() >= FLUSH_BYTES {
            self.flush()?;
        }
        Ok((number, offset))
    }

    /// Where a chunk's data is.
    pub(crate) fn source(&self, reference: u64, chunk: &ClosedChunk) -> ChunkSource {
        if let Some((number, flushed)) = self.open
            && number == chunk.file
            && let Some(start) = chunk.offset.checked_sub(flushed)
        {
            let start = start as usize + HEADER_BYTES;
            let data = self.pending.get(start..start + usize::from(chunk.size_bytes));
            if let Some(data) = data {
                return ChunkSource::Memory(data.to_vec());
            }
        }
        match self.files.get(&chunk.file) {
            Some(file) => ChunkSource::File {
                file: Arc::clone(file),
                offset: chunk.offset,
                size_bytes: chunk.size_bytes,
                reference,
            },
            None => ChunkSource::Missing { path: self.path(chunk.file) },
        }
    }

    /// Ends the file; the next chunk begins a new one. Every chunk before it is durable once the
    /// caller has synced all the files that are answered, which needs no lock, and then says so
    /// with [`ChunkLog::note_synced`].
    pub(crate) fn seal(&mut self) -> Result<BTreeMap<u32, Arc<ChunkFile>>> {
        self.flush()?;
        self.open = None;
        let file = |number: &u32| Some((*number, Arc::clone(self.files.get(number)?)));
        Ok(self.unsynced.iter().filter_map(file).collect())
    }

    /// Takes note that files were synced since they were sealed.
    pub(crate) fn note_synced<'a>(&mut self, numbers: impl IntoIterator<Item = &'a u32>) {
        for number in numbers {
            self.unsynced.remove(number);
        }
    }

    /// The files that can be read now, by number.
    pub(crate) fn files(&self) -> BTreeMap<u32, Arc<ChunkFile>> {
        self.files.clone()
    }

    /// Removes the files before `next_file` that `live` does not name.
    pub(crate) fn retain(&mut self, live: &BTreeSet<u32>, next_file: u32) -> Result<()> {
        let is_live = |number: &u32| live.contains(number) || *number >= next_file;
        let dead: Vec<u32> = self.files.keys().filter(|it| !is_live(it)).copied().collect();
        for number in dead {
            let path = self.path(number);
            self.fs.unlink(&path).map_err(Error::io("remove", &path))?;
            self.files.remove(&number);
            self.unsynced.remove(&number);
        }
        Ok(())
    }

    /// The number of the next file.
    pub(crate) fn next_file(&self) -> u32 {
        self.next_file
    }

    /// Numbers the next file from `number` on.
    pub(crate) fn raise_next_file(&mut self, number: u32) {
        self.next_file = self.next_file.max(number);
    }

    fn begin_file(&mut self) -> Result<(u32, u32)> {
        self.flush()?;
        let number = self.next_file;
        let path = self.path(number);
        let file = self.fs.create(&path).map_err(Error::io("create", &path))?;
        self.next_file += 1;
        self.files.insert(number, Arc::new(ChunkFile { path, file }));
        self.open = Some((number, 0));
        self.unsynced.insert(number);
        Ok((number, 0))
    }

    /// Hands what was appended to the operating system; not durable yet.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let Some((number, flushed)) = self.open else { return Ok(()) };
        let Some(file) = self.files.get(&number) else { return Ok(()) };
        if self.pending.is_empty() {
            return Ok(());
        }
        file.file.append(&self.pending).map_err(Error::io("append to", &file.path))?;
        let written = u32::try_from(self.pending.len()).unwrap_or(u32::MAX);
        self.open = Some((number, flushed.saturating_add(written)));
        self.pending.clear();
        Ok(())
    }
}

/// One record of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// The series that it belongs to.
    pub(crate) reference: u64,
    /// Where it begins in the file.
    pub(crate) offset: u32,
    /// Data of the chunk.
    pub(crate) data: &'a [u8],
}

/// Calls `each` for every good record of a file and answers the damage. A record that is damaged
/// is passed over by its length; where that leads nowhere the rest of the file is.
///
/// # Errors
/// The disk's.
pub(crate) fn read_records(
    file: &ChunkFile,
    mut each: impl FnMut(Record<'_>),
) -> Result<Vec<Error>> {
    let size = file.file.size_bytes().map_err(Error::io("size of", &file.path))?;
    let size = usize::try_from(size.min(u64::from(u32::MAX))).unwrap_or_default();
    let mut bytes = vec![0; size];
    file.file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", &file.path))?;
    let mut damage = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let offset = u32::try_from(start).unwrap_or(u32::MAX);
        let mut cursor = Cursor::new_at("head chunk", &bytes[start..], u64::from(offset));
        let reference = cursor.u64();
        let length = cursor.u32().map_or(usize::MAX, |it| it as usize);
        let end = start.saturating_add(HEADER_BYTES).saturating_add(length);
        let (Ok(reference), Some(record)) = (reference, bytes.get(start..end)) else {
            let text = "no record begins here; the rest of the file is passed over";
            damage.push(Damage::new("head chunk", u64::from(offset), text).within(&file.path));
            break;
        };
        match check_record(record, offset, reference) {
            Ok(()) => each(Record { reference, offset, data: &record[HEADER_BYTES..] }),
            Err(it) => damage.push(it.within(&file.path)),
        }
        start = end;
    }
    Ok(damage)
}

/// Removes every file of a directory of chunk logs.
pub(crate) fn remove_all(fs: &SharedFs, directory: &Path) -> Result<()> {
    for entry in fs.list(directory).map_err(Error::io("list", directory))? {
        if ChunkLog::parse_name(&entry.name).is_some() {
            let path = directory.join(&entry.name);
            fs.unlink(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}
