//! Cutting the head into blocks: all of it or nothing, wherever a crash comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::time::align_down;
use model::{BlockId, Columns, Labels, Tenant};

use crate::block::{ChunkData, Meta, Writer, writer};
use crate::chunk::Encoding;
use crate::chunk::xor::{self, Appender};
use crate::db::cuts::{Cuts, PendingCut};
use crate::db::local::LocalBlocks;
use crate::db::{Core, Engine, Quiet};
use crate::error::{Damage, Error, Result};
use crate::fs::SharedFs;
use crate::head::TenantState;
use crate::head::chunk_log::{ChunkFile, ClosedChunk};
use crate::head::partition::CutSeries;

/// What one round of cutting did. A tenant that failed does not stop the others.
#[derive(Debug, Default)]
pub struct CutReport {
    /// Blocks that are there now.
    pub blocks: Vec<CutBlock>,
    /// Tenants whose cut failed; their samples stay in the head and are tried again.
    pub failures: Vec<(Tenant, Error)>,
    /// Chunks that could not be read, of windows of which nothing else was left for a block.
    pub lost: Vec<(Tenant, Error)>,
}

/// A block that was cut.
#[derive(Debug)]
pub struct CutBlock {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its meta, as on the disk.
    pub meta: Meta,
    /// Chunks of the head that could not be read and are missing in it, with the reason.
    pub chunks_lost: Vec<Error>,
}

/// What became of a window: its block, if it has samples, and the chunks that are missing in it.
struct CutWindow {
    meta: Option<Meta>,
    lost: Vec<Error>,
}

/// A part of the head on its way into a block.
struct Part {
    files: BTreeMap<u32, Arc<ChunkFile>>,
    series: Vec<CutSeries>,
}

impl Engine {
    /// Cuts every window of every tenant that is due: the tenant's newest sample is half a block
    /// past its end, or the stream has stopped and the clock is one and a half blocks past it.
    /// `random` gives 80 bits for the name of a block.
    ///
    /// A stream has stopped when half a block passed without a sample, as far as these calls
    /// saw: a sender that catches up after an outage writes into windows that are long past, and
    /// cutting them under its hands would refuse the rest.
    pub fn cut_due(&self, now_ms: i64, random: &mut dyn FnMut() -> u128) -> CutReport {
        self.cut(now_ms, random, false)
    }

    /// Cuts all that is in the head, as at a shutdown.
    pub fn cut_all(&self, now_ms: i64, random: &mut dyn FnMut() -> u128) -> CutReport {
        self.cut(now_ms, random, true)
    }

    fn cut(&self, now_ms: i64, random: &mut dyn FnMut() -> u128, is_all: bool) -> CutReport {
        let mut report = CutReport::default();
        let mut generation = self.maintenance.lock();
        let core = self.core();
        for state in core.head.tenants() {
            let clock_ms = if self.has_stopped(&state, now_ms) { now_ms } else { i64::MIN };
            while let Some((start_ms, end_ms)) = self.window(&core, &state, clock_ms, is_all) {
                let timestamp_ms = u64::try_from(now_ms).unwrap_or_default();
                let id = BlockId::from_parts(timestamp_ms, random());
                match self.cut_window(&core, &state, &Meta::of_head(id, start_ms, end_ms)) {
                    Ok(CutWindow { meta: Some(meta), lost: chunks_lost }) => {
                        let tenant = state.tenant.clone();
                        report.blocks.push(CutBlock { tenant, meta, chunks_lost });
                    }
                    Ok(CutWindow { meta: None, lost }) => {
                        let tenant = || state.tenant.clone();
                        report.lost.extend(lost.into_iter().map(|error| (tenant(), error)));
                    }
                    Err(error) => {
                        report.failures.push((state.tenant.clone(), error));
                        break;
                    }
                }
            }
        }
        // The log of what was cut is superfluous; without this it would be read at the next start.
        if !report.blocks.is_empty()
            && let Err(error) = self.snapshot_locked(&mut generation)
        {
            let tenant = report.blocks[0].tenant.clone();
            report.failures.push((tenant, error));
        }
        report
    }

    /// Whether no sample of a tenant arrived for half a block.
    fn has_stopped(&self, state: &TenantState, now_ms: i64) -> bool {
        let seen = Quiet { arrivals: state.arrivals(), since_ms: now_ms };
        let mut quiet = self.quiet.lock();
        let known = quiet.entry(state.tenant.clone()).or_insert(seen);
        // A clock that was set back begins the wait again.
        if known.arrivals != seen.arrivals || known.since_ms > now_ms {
            *known = seen;
        }
        now_ms.saturating_sub(known.since_ms) >= self.options.block_ms / 2
    }

    /// The next window of a tenant to cut: its first millisecond and the first one behind it.
    fn window(
        &self,
        core: &Core,
        state: &TenantState,
        clock_ms: i64,
        is_all: bool,
    ) -> Option<(i64, i64)> {
        let block_ms = self.options.block_ms;
        let newest_ms = state.newest_ms();
        let window_of = |first_ms| {
            let start_ms = align_down(first_ms, block_ms);
            (start_ms, start_ms.saturating_add(block_ms))
        };
        let is_due = |end_ms: i64| {
            is_all
                || newest_ms >= end_ms.saturating_add(block_ms / 2)
                || clock_ms >= end_ms.saturating_add(block_ms).saturating_add(block_ms / 2)
        };
        let oldest_ms = state.oldest_ms();
        if oldest_ms == i64::MAX || !is_due(window_of(oldest_ms).1) {
            return None;
        }
        // The oldest time is a bound; the series know the exact one.
        let cut_ms = self.cuts.lock().tenants.get(state.tenant.as_str()).and_then(|it| it.cut_ms);
        let cut_ms = cut_ms.unwrap_or(i64::MIN);
        // A chunk that was filled when blocks were longer may begin before the last cut.
        let (start_ms, end_ms) = window_of(core.head.first_ms(state)?.max(cut_ms));
        if !is_due(end_ms) {
            return None;
        }
        let end_ms = if is_all { end_ms.min(newest_ms.saturating_add(1)) } else { end_ms };
        // A window that was cut in the middle is continued, so that blocks do not overlap.
        let start_ms = start_ms.max(cut_ms);
        (start_ms < end_ms).then_some((start_ms, end_ms))
    }

    fn cut_window(&self, core: &Core, state: &TenantState, meta: &Meta) -> Result<CutWindow> {
        let end_ms = meta.max_time_ms;
        if core.log.has_failed() {
            return Err(Error::unavailable("the log has failed and is being read again from disk"));
        }
        // From here on no partition takes a sample of the window, whoever locks it first.
        state.raise_low(end_ms);
        let mut parts = Vec::with_capacity(core.head.partitions.len());
        let mut held = self.accounts.upkeep.reserve(0)?;
        for partition in &core.head.partitions {
            let mut partition = partition.write();
            let series = partition.collect(state.index, end_ms, &mut held);
            let is_of_disk = |it: &Error| !matches!(it, Error::Budget(_));
            let series = series.inspect_err(|error| {
                if is_of_disk(error) {
                    core.log.fail()
                }
            })?;
            parts.push(Part { files: partition.chunks.files(), series });
        }
        let tenant = &state.tenant;
        let mut lost = Vec::new();
        let meta = self.write_block(core, state, meta, &parts, &mut lost);
        if meta.is_err() {
            // The next process would remove it too; until then it takes room on the disk.
            self.remove_unfinished(tenant)?;
        }
        let meta = meta?;
        drop((parts, held));
        let written = self.finish_cut(tenant, end_ms);
        for partition in &core.head.partitions {
            partition.write().truncate(state.index, end_ms)?;
        }
        state.forget_before(end_ms);
        written?;
        Ok(CutWindow { meta, lost })
    }

    fn remove_unfinished(&self, tenant: &Tenant) -> Result<()> {
        let parent = self.tenant_directory(tenant);
        match writer::remove_unfinished(&*self.fs, &parent) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the block of a window; none when no sample is left for it.
    fn write_block(
        &self,
        core: &Core,
        state: &TenantState,
        meta: &Meta,
        parts: &[Part],
        lost: &mut Vec<Error>,
    ) -> Result<Option<Meta>> {
        let tenant = &state.tenant;
        let parent = self.tenant_directory(tenant);
        self.fs.make_directory(&parent).map_err(Error::io("make", &parent))?;
        let directory = &self.options.directory;
        self.fs.sync_directory(directory).map_err(Error::io("sync", directory))?;
        // Whatever an earlier cut could not remove.
        self.remove_unfinished(tenant)?;
        let order = order_of(parts);
        let (symbols, budget) = (symbols_of(parts), &self.accounts.upkeep);
        let mut writer = Writer::create(&*self.fs, &parent, meta.clone(), symbols, budget)?;
        let mut reading = ChunkReading { engine: self, core, tenant, meta, lost };
        let mut series_count = 0;
        for (part, index) in order {
            let series = &parts[part].series[index];
            let chunks = reading.chunks(part, &parts[part], series)?;
            if !chunks.is_empty() {
                writer.add_series(&series.labels, &chunks)?;
                series_count += 1;
            }
        }
        match series_count {
            0 => {
                drop(writer);
                self.remove_unfinished(tenant)?;
                Ok(None)
            }
            _ => Ok(Some(self.publish(core, tenant, meta, writer)?)),
        }
    }

    /// Gives the block its name, with the cut written down before.
    fn publish(
        &self,
        core: &Core,
        tenant: &Tenant,
        meta: &Meta,
        writer: Writer<'_>,
    ) -> Result<Meta> {
        let (id, cut_ms) = (meta.ulid, meta.max_time_ms);
        {
            let mut cuts = self.cuts.lock();
            let cut = cuts.tenants.entry(tenant.to_string()).or_default();
            cut.pending = Some(PendingCut { block: id.to_string(), cut_ms });
            cuts.write(&self.fs, &self.cuts_path)?;
        }
        let parent = self.tenant_directory(tenant);
        let finished = writer.finish();
        match finished {
            Ok(meta) => {
                // A block that was just written and cannot be read back must not replace the
                // samples in the head: the rebuild decides by what is on the disk.
                let added = self.blocks.add(&self.fs, tenant, &parent, id);
                added.inspect_err(|_| core.log.fail())?;
                Ok(meta)
            }
            Err(error) => {
                // It may have got its name all the same; the rebuild looks.
                if self.fs.exists(&parent.join(id.to_string())).unwrap_or(true) {
                    core.log.fail();
                }
                Err(error)
            }
        }
    }

    /// Writes down that a cut is done. When that fails the pending entry on the disk still says
    /// the same, because the block is there.
    fn finish_cut(&self, tenant: &Tenant, cut_ms: i64) -> Result<()> {
        let mut cuts = self.cuts.lock();
        let cut = cuts.tenants.entry(tenant.to_string()).or_default();
        cut.cut_ms = Some(cut_ms);
        cut.pending = None;
        let written = cuts.write(&self.fs, &self.cuts_path);
        cuts.is_unwritten = written.is_err();
        written
    }

    /// Removes a block from the local disk. Whether that is allowed is the caller's to know.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_block(&self, tenant: &Tenant, id: BlockId) -> Result<()> {
        let _alone = self.maintenance.lock();
        self.blocks.remove(&self.fs, tenant, &self.tenant_directory(tenant), id)
    }
}

/// Where the engine keeps what settling needs.
pub(super) struct Settling<'a> {
    pub(super) fs: &'a SharedFs,
    /// Holds the tenants' directories.
    pub(super) directory: &'a Path,
    pub(super) quarantine: &'a Path,
    pub(super) cuts_path: &'a Path,
    pub(super) blocks: &'a LocalBlocks,
}

impl Settling<'_> {
    /// Decides what became of cuts that were under way: done if their block is there and can be
    /// read, else undone. Answers a sentence for every block that cannot be read.
    pub(super) fn settle(&self, mut cuts: Cuts) -> Result<(Cuts, Vec<String>)> {
        let mut problems = Vec::new();
        let mut is_changed = false;
        for (name, cut) in &mut cuts.tenants {
            let Some(pending) = cut.pending.take() else { continue };
            is_changed = true;
            if self.is_done(name, &pending, &mut problems)? {
                cut.cut_ms = Some(pending.cut_ms);
            }
        }
        if is_changed {
            cuts.write(self.fs, self.cuts_path)?;
        }
        Ok((cuts, problems))
    }

    fn is_done(
        &self,
        name: &str,
        pending: &PendingCut,
        problems: &mut Vec<String>,
    ) -> Result<bool> {
        let parent = self.directory.join(name);
        let block = parent.join(&pending.block);
        if !self.fs.exists(&block).map_err(Error::io("list", &parent))? {
            return Ok(false);
        }
        let (Ok(tenant), Ok(id)) = (Tenant::new(name), pending.block.parse::<BlockId>()) else {
            problems.push(format!("a cut of {name:?} into {:?} has no such names", pending.block));
            return Ok(false);
        };
        match self.blocks.add(self.fs, &tenant, &parent, id) {
            Ok(()) => {
                self.fs.sync_directory(&parent).map_err(Error::io("sync", &parent))?;
                Ok(true)
            }
            Err(error @ Error::Budget(_)) => Err(error),
            // Nothing was taken from the head and its log before the block was there to be read:
            // the samples are cut again, and the block is kept aside for someone to look at.
            Err(error) => {
                let to = self.set_aside(name, &block)?;
                problems.push(format!(
                    "block {id} of tenant {tenant} was just cut and cannot be read ({error}); it \
                     is now {}, and its samples are cut again",
                    to.display()
                ));
                Ok(false)
            }
        }
    }

    /// Moves a block's directory to the quarantine, which keeps the newest one of each tenant.
    fn set_aside(&self, name: &str, block: &Path) -> Result<PathBuf> {
        let to = self.quarantine.join(format!("block-of-{name}"));
        match self.fs.remove_directory(&to).map_err(Error::io("remove", &to)) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        self.fs.rename(block, &to).map_err(Error::io("rename", block))?;
        for directory in [block.parent().unwrap_or(self.directory), self.quarantine] {
            self.fs.sync_directory(directory).map_err(Error::io("sync", directory))?;
        }
        Ok(to)
    }
}

/// The series of all parts in the order of their labels.
fn order_of(parts: &[Part]) -> Vec<(usize, usize)> {
    let mut order = Vec::with_capacity(parts.iter().map(|it| it.series.len()).sum());
    for (part, it) in parts.iter().enumerate() {
        order.extend((0..it.series.len()).map(|index| (part, index)));
    }
    let labels =
        |(part, index): &(usize, usize)| -> &Labels { &parts[*part].series[*index].labels };
    order.sort_unstable_by(|a, b| labels(a).cmp(labels(b)));
    order
}

fn symbols_of(parts: &[Part]) -> Vec<&str> {
    let labels = parts.iter().flat_map(|it| &it.series).flat_map(|it| it.labels.iter());
    let mut symbols: hashbrown::HashSet<&str> = hashbrown::HashSet::new();
    for (name, value) in labels {
        symbols.insert(name);
        symbols.insert(value);
    }
    let mut symbols: Vec<&str> = symbols.into_iter().collect();
    symbols.sort_unstable();
    symbols
}

/// Reads the chunks of a window from the head-chunk log.
struct ChunkReading<'a> {
    engine: &'a Engine,
    core: &'a Core,
    tenant: &'a Tenant,
    meta: &'a Meta,
    lost: &'a mut Vec<Error>,
}

impl ChunkReading<'_> {
    /// The chunks of a series, only with samples of the window. One that cannot be read is made
    /// again from the log, or where the log does not reach back to it, named and left out.
    fn chunks(&mut self, number: usize, part: &Part, series: &CutSeries) -> Result<Vec<ChunkData>> {
        let mut chunks = Vec::with_capacity(series.chunks.len());
        for chunk in &series.chunks {
            match self.read(part, series, chunk) {
                Ok(data) => chunks.extend(data),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    self.make_again(number, chunk, &error)?;
                    self.keep_copy(part, chunk);
                    self.lost.push(error);
                }
            }
        }
        Ok(chunks)
    }

    fn read(
        &self,
        part: &Part,
        series: &CutSeries,
        chunk: &ClosedChunk,
    ) -> Result<Option<ChunkData>> {
        let Some(file) = part.files.get(&chunk.file) else {
            let labels = &series.labels;
            let text = format!("head-chunk file {} of {labels} is gone", chunk.file);
            return Err(Error::invalid(text));
        };
        let data = file.read(chunk, series.reference)?;
        let (min_time_ms, max_time_ms) = (chunk.start_ms, chunk.end_ms());
        if self.meta.contains(min_time_ms) && self.meta.contains(max_time_ms) {
            let data = Bytes::from(data);
            return Ok(Some(ChunkData { encoding: Encoding::Xor, min_time_ms, max_time_ms, data }));
        }
        // It was filled when blocks were longer.
        clip(&data, self.meta).map_err(|damage| damage.within(file.path()))
    }

    /// Fails the log when the log can make the chunk again: the rebuild does, and the window is
    /// cut afterwards. Once per window, so that a disk that never gives back what it took does
    /// not hold up the cut for ever.
    fn make_again(&self, number: usize, chunk: &ClosedChunk, error: &Error) -> Result<()> {
        let is_in_log = {
            let covered = self.core.covered_files.lock();
            covered.get(number).is_some_and(|first| chunk.file >= *first)
        };
        let window = Some((self.tenant.clone(), self.meta.max_time_ms));
        if is_in_log
            && std::mem::replace(&mut *self.engine.made_again.lock(), window.clone()) != window
        {
            self.core.log.fail();
            return Err(Error::unavailable(format!("{error}; it is made again from the log")));
        }
        Ok(())
    }

    /// Keeps the bytes of a chunk that is left out, for someone to look at. A copy that cannot be
    /// made is not worth failing for: the loss is reported all the same.
    fn keep_copy(&self, part: &Part, chunk: &ClosedChunk) {
        let Some(file) = part.files.get(&chunk.file) else { return };
        let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let quarantine = &self.engine.layout.quarantine;
        let path = quarantine.join(format!("{name}-{}", chunk.offset));
        let copied = file.read_raw(chunk).and_then(|bytes| {
            let copy = self.engine.fs.create(&path).map_err(Error::io("create", &path))?;
            copy.append(&bytes).map_err(Error::io("append to", &path))
        });
        drop(copied);
    }
}

/// The samples of a chunk that lie in a block, as a chunk; none when none do.
fn clip(data: &[u8], meta: &Meta) -> std::result::Result<Option<ChunkData>, Damage> {
    let mut columns = Columns::default();
    xor::decode(data, &mut columns)?;
    let mut appender = Appender::new();
    let (mut min_time_ms, mut max_time_ms) = (i64::MAX, i64::MIN);
    for (timestamp_ms, value) in columns.timestamps_ms.iter().zip(&columns.values) {
        // No more samples go in than the chunk had, so there is room.
        if meta.contains(*timestamp_ms) && appender.append(*timestamp_ms, *value) {
            min_time_ms = min_time_ms.min(*timestamp_ms);
            max_time_ms = max_time_ms.max(*timestamp_ms);
        }
    }
    Ok((!appender.is_empty()).then(|| ChunkData {
        encoding: Encoding::Xor,
        min_time_ms,
        max_time_ms,
        data: Bytes::from(appender.to_bytes()),
    }))
}
