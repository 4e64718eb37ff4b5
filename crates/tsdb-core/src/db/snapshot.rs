//! Snapshots: what a start needs to know of the head so that it can skip the log before it.
//!
//! A snapshot holds, of every series, the open chunk and the references to closed ones. The
//! labels are written to the series files of its generation. When it is in place, older
//! segments, series files, snapshots and chunk files that nothing refers to are removed.

use std::collections::BTreeSet;
use std::path::Path;

use parking_lot::RwLockWriteGuard;

use crate::chunk::cut::CutPlan;
use crate::chunk::xor::Appender;
use crate::codec::{Cursor, put_uvarint, put_varint};
use crate::error::{Damage, Error, Result};
use crate::fs::SharedFs;
use crate::head::chunk_log::ClosedChunk;
use crate::head::partition::{Floor, PARTITION_COUNT, Partition};
use crate::wal::frame::{self, FrameHead, Kind};
use crate::wal::record::{PAYLOAD_BYTES_WANTED, put_series};
use crate::wal::{Layout, Log, numbered_files};

use super::Core;

/// The partition number of the frames that are about the whole.
pub(crate) const WHOLE: u16 = u16::MAX;
/// Bytes that a closed chunk takes at least in a snapshot.
const CLOSED_BYTES_MIN: usize = 6;

/// What the first frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHead {
    /// The first segment of the log that is not covered.
    pub(crate) segment: u64,
    /// The first generation of series files that counts.
    pub(crate) generation: u64,
}

/// A series of a snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotSeries {
    pub(crate) reference: u64,
    pub(crate) last_ms: i64,
    pub(crate) last_bits: u64,
    pub(crate) open_start_ms: i64,
    pub(crate) plan: CutPlan,
    pub(crate) open: Appender,
    pub(crate) closed: Vec<ClosedChunk>,
}

impl SnapshotHead {
    fn payload(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uvarint(&mut out, self.segment);
        put_uvarint(&mut out, self.generation);
        out
    }

    pub(crate) fn read(payload: &[u8]) -> std::result::Result<SnapshotHead, Damage> {
        let mut cursor = Cursor::new("snapshot head", payload);
        Ok(SnapshotHead { segment: cursor.uvarint()?, generation: cursor.uvarint()? })
    }
}

/// What the first frame of a partition says; the sequence is the frame's own.
pub(crate) fn read_floor(payload: &[u8], sequence: u64) -> std::result::Result<Floor, Damage> {
    let mut cursor = Cursor::new("snapshot partition", payload);
    let counter = cursor.uvarint()?;
    let file = u32::try_from(cursor.uvarint()?).map_err(|_| cursor.damage("file number"))?;
    Ok(Floor { counter, sequence, file })
}

/// Takes a snapshot of a core. The caller sees to it that only one is taken at a time.
///
/// # Errors
/// The disk's. The engine goes on with what it had; the next snapshot cleans up.
pub(super) fn take(core: &Core, fs: &SharedFs, layout: &Layout, generation: u64) -> Result<()> {
    let covered = core.log.sample_count();
    let segment = core.log.roll()?;
    core.log.begin_series_generation(generation);
    let path = layout.snapshot(generation);
    let temporary = path.with_extension("tmp");
    match fs.unlink(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &temporary)(error));
        }
        _ => {}
    }
    let file = fs.create(&temporary).map_err(Error::io("create", &temporary))?;
    let append = |bytes: &[u8]| file.append(bytes).map_err(Error::io("append to", &temporary));
    let mut frames = Vec::new();
    let head = SnapshotHead { segment, generation };
    frame::put(&mut frames, frame_head(Kind::SnapshotHead, WHOLE, 0), &head.payload())?;
    append(&frames)?;
    let mut kept = Vec::with_capacity(PARTITION_COUNT);
    for (number, partition) in (0..).zip(&core.head.partitions) {
        let mut partition = partition.write();
        let sealed = partition.chunks.seal().inspect_err(|_| core.log.fail())?;
        // Readers go on; writers must wait, so that states and floor are of one moment.
        let partition = RwLockWriteGuard::downgrade(partition);
        let tenant_of = |index| core.head.tenant_at(index).map(|it| it.tenant.to_string());
        let (states, series) = serialise(number, &partition, tenant_of)?;
        kept.push((partition.live_files(), partition.floor().file));
        drop(partition);
        for file in sealed.values() {
            // After a failed sync the kernel may have dropped the bytes and calls the next sync a
            // success: what the file should hold has to be made again from the log.
            file.sync().inspect_err(|_| core.log.fail())?;
        }
        core.head.partitions[usize::from(number)].write().chunks.note_synced(sealed.keys());
        append(&states)?;
        core.log.write_series(number, &series).inspect_err(|_| core.log.fail())?;
    }
    frames.clear();
    frame::put(&mut frames, frame_head(Kind::SnapshotEnd, WHOLE, 0), &[])?;
    append(&frames)?;
    file.sync_data().map_err(Error::io("sync", &temporary))?;
    for directory in [&layout.chunks, &layout.series] {
        fs.sync_directory(directory).map_err(Error::io("sync", directory))?;
    }
    fs.rename(&temporary, &path).map_err(Error::io("rename", &temporary))?;
    fs.sync_directory(&layout.snapshots).map_err(Error::io("sync", &layout.snapshots))?;
    core.log.reset_sample_count(covered);
    *core.covered_files.lock() = kept.iter().map(|(_, next_file)| *next_file).collect();
    remove_covered(fs, layout, head)?;
    retain_chunk_files(core, &kept)
}

/// Removes what a snapshot makes superfluous. What a crash leaves of it, the next one removes.
fn remove_covered(fs: &SharedFs, layout: &Layout, head: SnapshotHead) -> Result<()> {
    let remove = |path: &Path| fs.unlink(path).map_err(Error::io("remove", path));
    for (number, path) in numbered_files(fs, &layout.snapshots, "snapshot")? {
        if number < head.generation {
            remove(&path)?;
        }
    }
    for (number, path) in numbered_files(fs, &layout.log, "log")? {
        if number < head.segment {
            remove(&path)?;
        }
    }
    for (generation, _, path) in series_files(fs, layout)? {
        if generation < head.generation {
            remove(&path)?;
        }
    }
    Ok(())
}

fn retain_chunk_files(core: &Core, kept: &[(BTreeSet<u32>, u32)]) -> Result<()> {
    for (partition, (live, next_file)) in core.head.partitions.iter().zip(kept) {
        partition.write().chunks.retain(live, *next_file)?;
    }
    Ok(())
}

/// The series files that are there: generation, partition and path, ascending.
pub(crate) fn series_files(
    fs: &SharedFs,
    layout: &Layout,
) -> Result<Vec<(u64, u16, std::path::PathBuf)>> {
    let entries = fs.list(&layout.series).map_err(Error::io("list", &layout.series))?;
    let files = entries.into_iter().filter_map(|entry| {
        let (generation, partition) = entry.name.strip_suffix(".series")?.split_once('-')?;
        let path = layout.series.join(&entry.name);
        Some((generation.parse().ok()?, partition.parse().ok()?, path))
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    Ok(files)
}

/// The frames of a partition: states of series for the snapshot, labels for the series file.
fn serialise(
    number: u16,
    partition: &Partition,
    tenant_of: impl Fn(u32) -> Option<String>,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut states, mut series_file) = (Vec::new(), Vec::new());
    let (mut state, mut labels) = (Vec::new(), Vec::new());
    let floor = partition.floor();
    let sequence = floor.sequence;
    put_uvarint(&mut state, floor.counter);
    put_uvarint(&mut state, u64::from(floor.file));
    frame::put(&mut states, frame_head(Kind::SnapshotHead, number, sequence), &state)?;
    state.clear();
    let mut tenants = hashbrown::HashMap::new();
    for series in partition.series.iter().flatten() {
        let tenant = tenants.entry(series.tenant).or_insert_with(|| tenant_of(series.tenant));
        let Some(tenant) = tenant else { continue };
        put_series(&mut labels, series.reference, tenant, partition.pairs(series));
        put_state(&mut state, series);
        if state.len() > PAYLOAD_BYTES_WANTED {
            frame::put(&mut states, frame_head(Kind::SnapshotSeries, number, sequence), &state)?;
            state.clear();
        }
        if labels.len() > PAYLOAD_BYTES_WANTED {
            frame::put(&mut series_file, frame_head(Kind::Series, number, sequence), &labels)?;
            labels.clear();
        }
    }
    if !state.is_empty() {
        frame::put(&mut states, frame_head(Kind::SnapshotSeries, number, sequence), &state)?;
        frame::put(&mut series_file, frame_head(Kind::Series, number, sequence), &labels)?;
    }
    Ok((states, series_file))
}

fn put_state(out: &mut Vec<u8>, series: &crate::head::Series) {
    put_uvarint(out, series.reference);
    put_varint(out, series.last_ms);
    put_uvarint(out, series.last_bits);
    put_varint(out, series.open_start_ms);
    put_varint(out, series.plan.next_at_ms());
    let open = if series.open.is_empty() { Vec::new() } else { series.open.to_bytes() };
    put_uvarint(out, open.len() as u64);
    out.extend_from_slice(&open);
    put_uvarint(out, series.closed.len() as u64);
    for chunk in &series.closed {
        put_varint(out, chunk.start_ms);
        put_uvarint(out, u64::from(chunk.span_ms));
        put_uvarint(out, u64::from(chunk.file));
        put_uvarint(out, u64::from(chunk.offset));
        put_uvarint(out, u64::from(chunk.size_bytes));
        put_uvarint(out, u64::from(chunk.sample_count));
    }
}

/// Calls `each` for the series of a snapshot's frame.
///
/// # Errors
/// When the payload is not what [`take`] writes; the series before that were given.
pub(crate) fn read_states(
    payload: &[u8],
    mut each: impl FnMut(SnapshotSeries),
) -> std::result::Result<(), Damage> {
    let mut cursor = Cursor::new("snapshot series", payload);
    while !cursor.is_empty() {
        let reference = cursor.uvarint()?;
        let last_ms = cursor.varint()?;
        let last_bits = cursor.uvarint()?;
        let open_start_ms = cursor.varint()?;
        let plan = CutPlan::ending_at(cursor.varint()?);
        let open = cursor.sized_bytes()?;
        let open = if open.is_empty() { Appender::new() } else { Appender::rebuild(open)? };
        let count = cursor.length()?;
        if count > cursor.remaining() / CLOSED_BYTES_MIN {
            return Err(cursor.damage("more chunks declared than there are bytes"));
        }
        let mut closed = Vec::with_capacity(count);
        for _ in 0..count {
            closed.push(read_closed(&mut cursor)?);
        }
        each(SnapshotSeries { reference, last_ms, last_bits, open_start_ms, plan, open, closed });
    }
    Ok(())
}

fn read_closed(cursor: &mut Cursor<'_>) -> std::result::Result<ClosedChunk, Damage> {
    let start_ms = cursor.varint()?;
    let mut number = |_: &str| cursor.uvarint();
    let (span, file) = (number("span")?, number("file")?);
    let (offset, size, count) = (number("offset")?, number("size")?, number("count")?);
    let fits = (|| {
        Some(ClosedChunk {
            start_ms,
            span_ms: u32::try_from(span).ok()?,
            file: u32::try_from(file).ok()?,
            offset: u32::try_from(offset).ok()?,
            size_bytes: u16::try_from(size).ok()?,
            sample_count: u16::try_from(count).ok()?,
        })
    })();
    fits.ok_or_else(|| cursor.damage("a number of a chunk does not fit"))
}

fn frame_head(kind: Kind, partition: u16, sequence: u64) -> FrameHead {
    FrameHead { kind, partition, sequence }
}

/// Removes half-written snapshots.
pub(crate) fn remove_temporary(fs: &SharedFs, layout: &Layout) -> Result<()> {
    for (_, path) in numbered_files(fs, &layout.snapshots, "tmp")? {
        fs.unlink(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Whether a snapshot is due: more samples lie in the log than a start should have to replay.
pub(crate) fn is_due(log: &Log) -> bool {
    log.sample_count() >= super::SNAPSHOT_SAMPLES
}
