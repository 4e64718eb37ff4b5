//! Reading the head back from disk: snapshot, series files, log.

use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Labels, Tenant};
use parking_lot::Mutex;

use crate::error::{Damage, Error, Result};
use crate::fs::{EntryKind, SharedFs};
use crate::head::chunk_log;
use crate::head::partition::{Floor, PARTITION_COUNT, PartitionOptions};
use crate::head::{Head, partition_of};
use crate::wal::frame::{DamagedSpan, Frame, Item, Kind, Reader};
use crate::wal::record::{SeriesRecord, read_floats, read_series};
use crate::wal::{Layout, Log, numbered_files};

use super::cuts::Cuts;
use super::scan;
use super::snapshot::{self, SnapshotHead, WHOLE};
use super::{Core, OpenReport};

/// Most bytes of one damaged span that are copied aside.
const QUARANTINE_BYTES_MAX: u64 = 64 << 20;

/// What a failed predecessor in this process used; nothing of it is used again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Floors {
    pub(crate) partitions: [Floor; PARTITION_COUNT],
    pub(crate) generation: u64,
    /// The segment that was open when the log failed, and its durable bytes.
    pub(crate) abandoned: Option<(u64, u64)>,
}

/// Reads the head back. Damage is reported and costs only what it hit.
///
/// # Errors
/// The disk's, and a budget without room for the series.
pub(super) fn load(
    options: &PartitionOptions,
    seeds: [u64; 2],
    layout: &Layout,
    cuts: &Cuts,
    floors: &Floors,
) -> Result<(Core, OpenReport)> {
    let fs = SharedFs::clone(&options.fs);
    snapshot::remove_temporary(&fs, layout)?;
    let head = Head::new(options, seeds, &floors.partitions)?;
    let mut load = Load {
        fs: &fs,
        layout,
        head: &head,
        report: OpenReport::default(),
        slots: vec![HashMap::new(); PARTITION_COUNT],
        applied: [0; PARTITION_COUNT],
        first_uncovered: [None; PARTITION_COUNT],
        has_lost_states: false,
        fatal: None,
    };
    for (name, cut) in &cuts.tenants {
        match Tenant::new(name) {
            Ok(tenant) => {
                let state = load.head.tenant(&tenant);
                state.raise_low(cut.cut_ms.unwrap_or(i64::MIN));
            }
            Err(error) => load.report.problems.push(error.to_string()),
        }
    }
    let snapshots = numbered_files(&fs, &layout.snapshots, "snapshot")?;
    let from = match snapshots.last() {
        Some((number, path)) => Some(load.snapshot_head(*number, path)?),
        None => None,
    };
    let generation = load.series_files(from)?.max(floors.generation);
    match snapshots.last() {
        Some((_, path)) => load.snapshot_series(path)?,
        // The log makes all chunks again, if all of it is there.
        None if load.has_first_segment()? => chunk_log::remove_all(&fs, &layout.chunks)?,
        None => load.has_lost_states = true,
    }
    load.adopt_chunk_files()?;
    if load.has_lost_states {
        load.find_chunks()?;
    }
    let last_segment = load.segments(from, floors.abandoned)?;
    // Names that a killed process made are durable from here on, as the contents are.
    for directory in layout.directories() {
        fs.sync_directory(directory).map_err(Error::io("sync", directory))?;
    }
    load.finish()?;
    let covered_files = load.first_uncovered.map(Option::unwrap_or_default).to_vec();
    let report = std::mem::take(&mut load.report);
    let abandoned = floors.abandoned.map_or(0, |(number, _)| number);
    let next_segment = last_segment.max(abandoned) + 1;
    let log = Log::new(fs, layout.clone(), next_segment, generation, PARTITION_COUNT);
    log.add_samples(report.samples_replayed);
    let covered_files = Mutex::new(covered_files);
    Ok((Core { head, log, covered_files }, report))
}

struct Load<'a> {
    fs: &'a SharedFs,
    layout: &'a Layout,
    head: &'a Head,
    report: OpenReport,
    /// Slot of every reference that the disk names.
    slots: Vec<HashMap<u64, u32>>,
    /// Sequence of the last frame that was applied.
    applied: [u64; PARTITION_COUNT],
    /// Per partition, the first chunk file that the snapshot does not cover: the log makes it.
    first_uncovered: [Option<u32>; PARTITION_COUNT],
    /// Whether states of series that should be in the snapshot are not.
    has_lost_states: bool,
    /// A failure that is not damage: the load cannot go on without losing good data.
    fatal: Option<Error>,
}

impl Load<'_> {
    /// Reads a file frame by frame; damaged spans are reported and copied aside, and a tail that
    /// an interrupted write left is cut off.
    fn frames(
        &mut self,
        path: &Path,
        end: u64,
        mut each: impl FnMut(&mut Self, Frame<'_>) -> std::result::Result<(), Damage>,
    ) -> Result<()> {
        let file = self.fs.open(path).map_err(Error::io("open", path))?;
        let mut reader = Reader::new(&*file, path, end)?;
        let mut damaged = Vec::new();
        while let Some(item) = reader.next()? {
            match item {
                Item::Damaged(span) => damaged.push(span),
                Item::Frame(frame)
                    if usize::from(frame.partition) >= PARTITION_COUNT
                        && frame.partition != WHOLE =>
                {
                    self.report.frames_unknown += 1;
                }
                Item::Frame(frame) => {
                    let offset = frame.offset;
                    if let Err(damage) = each(self, frame) {
                        let damage = damage.shifted(offset).within(path);
                        self.report.problems.push(damage.to_string());
                    }
                    if let Some(error) = self.fatal.take() {
                        return Err(error);
                    }
                }
            }
        }
        for span in damaged {
            self.quarantine(&*file, &span)?;
            if span.is_tail {
                let file = self.fs.open_append(path).map_err(Error::io("open", path))?;
                file.truncate(span.start).map_err(Error::io("truncate", path))?;
            }
            self.report.damaged.push(span);
        }
        // A process that was killed may have left bytes that never reached the disk. What is
        // read here is acknowledged when it is sent again, so it must be durable first.
        let file = self.fs.open_append(path).map_err(Error::io("open", path))?;
        file.sync_data().map_err(Error::io("sync", path))
    }

    /// Keeps a copy of damaged bytes, for someone to look at. A copy that exists is of the same
    /// bytes; one that cannot be written is not worth failing for.
    fn quarantine(&self, file: &dyn crate::fs::File, span: &DamagedSpan) -> Result<()> {
        let length = (span.end - span.start).min(QUARANTINE_BYTES_MAX);
        let name = span.path.file_name().unwrap_or_default().to_string_lossy();
        let path = self.layout.quarantine.join(format!("{name}-{}", span.start));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut bytes, span.start).map_err(Error::io("read", &span.path))?;
        if let Ok(copy) = self.fs.create(&path) {
            match copy.append(&bytes) {
                Ok(()) => {}
                Err(_) => self.fs.unlink(&path).map_err(Error::io("remove", &path))?,
            }
        }
        Ok(())
    }

    /// What the snapshot's first frame says. Where it is damaged, the generation is the number in
    /// the name, and every segment that is there is read: what the snapshot covers of them is
    /// passed over by its sequence.
    fn snapshot_head(&mut self, number: u64, path: &Path) -> Result<SnapshotHead> {
        let file = self.fs.open(path).map_err(Error::io("open", path))?;
        let mut reader = Reader::new(&*file, path, u64::MAX)?;
        if let Some(Item::Frame(frame)) = reader.next()?
            && frame.kind == Kind::SnapshotHead as u8
            && frame.partition == WHOLE
            && let Ok(head) = SnapshotHead::read(frame.payload)
        {
            return Ok(head);
        }
        let text = format!(
            "{}: the snapshot has no readable head; what else it holds is used",
            path.display()
        );
        self.report.problems.push(text);
        self.has_lost_states = true;
        Ok(SnapshotHead { segment: 0, generation: number })
    }

    /// Whether the log goes back to its beginning.
    fn has_first_segment(&self) -> Result<bool> {
        let segments = numbered_files(self.fs, &self.layout.log, "log")?;
        Ok(segments.first().is_some_and(|(number, _)| *number <= 1))
    }

    /// Registers the series of the series files, and answers the newest generation.
    fn series_files(&mut self, from: Option<SnapshotHead>) -> Result<u64> {
        let first = from.map_or(0, |it| it.generation);
        let mut newest = first;
        for (generation, _, path) in snapshot::series_files(self.fs, self.layout)? {
            if generation < first {
                continue;
            }
            newest = newest.max(generation);
            self.frames(&path, u64::MAX, |load, frame| load.series_frame(frame))?;
        }
        Ok(newest)
    }

    fn series_frame(&mut self, frame: Frame<'_>) -> std::result::Result<(), Damage> {
        if frame.kind != Kind::Series as u8 {
            self.report.frames_unknown += 1;
            return Ok(());
        }
        read_series(frame.payload, |record| match self.register(frame.partition, &record) {
            Ok(()) => {}
            Err(Error::Invalid { what }) => self.report.problems.push(what),
            Err(error) => self.fatal = Some(error),
        })
    }

    /// Makes a series known under its reference; one that was removed and made again has two.
    fn register(&mut self, number: u16, record: &SeriesRecord<'_>) -> Result<()> {
        let at = usize::from(number);
        if self.slots[at].contains_key(&record.reference) {
            return Ok(());
        }
        let tenant = Tenant::new(record.tenant).map_err(|it| Error::invalid(it.to_string()))?;
        let labels = Labels::from_pairs(record.labels.iter().copied())
            .map_err(|it| Error::invalid(it.to_string()))?;
        if partition_of(&tenant, &labels) != number {
            return Err(Error::invalid(format!("series {labels} is in the wrong partition")));
        }
        let tenant = self.head.tenant(&tenant);
        let key_hash = self.head.key_hash(tenant.index, &labels);
        let mut partition = self.head.partitions[at].write();
        let slot = match partition.find(tenant.index, key_hash, &labels) {
            Some(slot) => slot,
            None => partition.create(tenant.index, key_hash, &labels, Some(record.reference))?,
        };
        partition.raise(Floor { counter: (record.reference >> 4) + 1, ..Floor::default() });
        self.slots[at].insert(record.reference, slot);
        Ok(())
    }

    fn snapshot_series(&mut self, path: &Path) -> Result<()> {
        let damage_before = self.report.damaged.len() + self.report.problems.len();
        self.frames(path, u64::MAX, |load, frame| match Kind::from_byte(frame.kind) {
            Some(Kind::SnapshotHead) if frame.partition != WHOLE => {
                let floor = snapshot::read_floor(frame.payload, frame.sequence)?;
                let at = usize::from(frame.partition);
                load.applied[at] = frame.sequence;
                load.first_uncovered[at] = Some(floor.file);
                load.head.partitions[at].write().raise(floor);
                Ok(())
            }
            Some(Kind::SnapshotSeries) if frame.partition != WHOLE => {
                // The same number as in the partition's first frame, which may be damaged.
                let at = usize::from(frame.partition);
                load.applied[at] = load.applied[at].max(frame.sequence);
                let number = frame.partition;
                snapshot::read_states(frame.payload, |state| load.restore(number, state))
            }
            Some(Kind::SnapshotHead | Kind::SnapshotEnd) => Ok(()),
            _ => {
                load.report.frames_unknown += 1;
                Ok(())
            }
        })?;
        let damage_after = self.report.damaged.len() + self.report.problems.len();
        self.has_lost_states |= damage_after > damage_before;
        Ok(())
    }

    /// Takes the chunk files that the snapshot may refer to and removes later ones, which the log
    /// makes again. Where it is not known which those are, all of them stay until the next
    /// snapshot. No number that is there is used again.
    fn adopt_chunk_files(&mut self) -> Result<()> {
        let directory = &self.layout.chunks;
        let entries = self.fs.list(directory).map_err(Error::io("list", directory))?;
        for entry in entries.iter().filter(|it| it.kind == EntryKind::File) {
            let parsed = chunk_log::ChunkLog::parse_name(&entry.name);
            let Some((number, file)) = parsed else { continue };
            let Some(partition) = self.head.partitions.get(usize::from(number)) else { continue };
            let mut partition = partition.write();
            partition.chunks.raise_next_file(file.saturating_add(1));
            let done = match self.first_uncovered[usize::from(number)] {
                Some(first) if file >= first => {
                    let path = directory.join(&entry.name);
                    self.fs.unlink(&path).map_err(Error::io("remove", &path))
                }
                _ => partition.chunks.adopt(file),
            };
            if let Err(error) = done {
                self.report.problems.push(error.to_string());
            }
        }
        Ok(())
    }

    /// Finds the chunks of series whose state is lost in the chunk files themselves: the labels
    /// come from the series files, the samples after the last chunk from the log.
    fn find_chunks(&mut self) -> Result<()> {
        for (partition, slots) in self.head.partitions.iter().zip(&self.slots) {
            let mut partition = partition.write();
            let found = scan::find_chunks(&partition, slots, &mut self.report.problems)?;
            for (slot, reference, mut chunks) in found {
                let Some(series) = partition.get(slot) else { continue };
                let Some(tenant) = self.head.tenant_at(series.tenant) else { continue };
                chunks.retain(|it| it.closed.end_ms() >= tenant.low_ms());
                let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { continue };
                tenant.saw(first.closed.start_ms, last.closed.end_ms());
                partition.restore_chunks(slot, reference, &chunks);
            }
        }
        Ok(())
    }

    fn restore(&mut self, number: u16, state: snapshot::SnapshotSeries) {
        let at = usize::from(number);
        let Some(slot) = self.slots[at].get(&state.reference).copied() else {
            self.report.series_orphaned += 1;
            return;
        };
        let mut partition = self.head.partitions[at].write();
        let Some(series) = partition.series.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        series.reference = state.reference;
        series.last_ms = state.last_ms;
        series.last_bits = state.last_bits;
        series.open_start_ms = state.open_start_ms;
        series.plan = state.plan;
        series.open = state.open;
        series.closed = state.closed;
        let (first_ms, tenant) = (series.first_ms(), series.tenant);
        if let (Some(first_ms), Some(tenant)) = (first_ms, self.head.tenant_at(tenant)) {
            tenant.saw(first_ms, state.last_ms);
        }
    }

    /// Replays the segments that no snapshot covers, and answers the number of the last one.
    fn segments(
        &mut self,
        from: Option<SnapshotHead>,
        abandoned: Option<(u64, u64)>,
    ) -> Result<u64> {
        let first = from.map_or(0, |it| it.segment);
        let mut last = first.saturating_sub(1);
        for (number, path) in numbered_files(self.fs, &self.layout.log, "log")? {
            last = last.max(number);
            if number < first {
                continue;
            }
            let end = match abandoned {
                // Nothing behind the last good sync is believed.
                Some((segment, durable)) if segment == number => {
                    let file = self.fs.open_append(&path).map_err(Error::io("open", &path))?;
                    let size = file.size_bytes().map_err(Error::io("size of", &path))?;
                    if size > durable {
                        file.truncate(durable).map_err(Error::io("truncate", &path))?;
                    }
                    durable
                }
                _ => u64::MAX,
            };
            self.frames(&path, end, |load, frame| load.log_frame(frame))?;
        }
        Ok(last)
    }

    fn log_frame(&mut self, frame: Frame<'_>) -> std::result::Result<(), Damage> {
        let kind = Kind::from_byte(frame.kind);
        if frame.partition == WHOLE || !matches!(kind, Some(Kind::Series | Kind::Floats)) {
            self.report.frames_unknown += 1;
            return Ok(());
        }
        let at = usize::from(frame.partition);
        let floor = Floor { sequence: frame.sequence, ..Floor::default() };
        self.head.partitions[at].write().raise(floor);
        if kind == Some(Kind::Series) {
            return self.series_frame(frame);
        }
        if frame.sequence <= self.applied[at] {
            return Ok(());
        }
        self.applied[at] = frame.sequence;
        self.apply_floats(at, frame.payload)
    }

    fn apply_floats(&mut self, at: usize, payload: &[u8]) -> std::result::Result<(), Damage> {
        let mut partition = self.head.partitions[at].write();
        let mut tenant: Option<Arc<crate::head::TenantState>> = None;
        let (slots, report, head) = (&self.slots[at], &mut self.report, self.head);
        let fatal = &mut self.fatal;
        read_floats(payload, |sample| {
            report.samples_replayed += 1;
            let slot = slots.get(&sample.reference).copied();
            let series = slot.and_then(|slot| partition.get(slot));
            let (Some(slot), Some(series)) = (slot, series) else {
                report.samples_orphaned += 1;
                return;
            };
            if tenant.as_ref().is_none_or(|it| it.index != series.tenant) {
                tenant = head.tenant_at(series.tenant);
            }
            let Some(tenant) = &tenant else { return };
            let low_ms = tenant.low_ms();
            let is_newer = sample.timestamp_ms > series.last_ms || !series.has_samples();
            if !is_newer || sample.timestamp_ms < low_ms {
                return;
            }
            match partition.push(slot, sample.timestamp_ms, sample.value, low_ms) {
                Ok(()) => tenant.saw(sample.timestamp_ms, sample.timestamp_ms),
                Err(error) => *fatal = Some(error),
            }
        })
    }

    /// Forgets what was cut since the snapshot, and series that have no samples.
    fn finish(&mut self) -> Result<()> {
        for tenant in self.head.tenants() {
            let low_ms = tenant.low_ms();
            for partition in &self.head.partitions {
                partition.write().truncate(tenant.index, low_ms)?;
            }
            tenant.forget_before(low_ms);
        }
        self.report.series = self.head.series_count();
        Ok(())
    }
}
