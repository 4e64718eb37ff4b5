//! Cutting the head into blocks: all of it or nothing, wherever a crash comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::time::align_down;
use model::{BlockId, Budget, Reservation, Tenant};

use crate::block::{Meta, Writer, writer};
use crate::db::cut_chunks::ChunkReading;
use crate::db::cuts::{Cuts, PendingCut};
use crate::db::local::LocalBlocks;
use crate::db::rank::Ranking;
use crate::db::{Core, Engine, Quiet};
use crate::error::{Error, Result};
use crate::fs::SharedFs;
use crate::head::TenantState;
use crate::head::chunk_log::{ChunkFile, ClosedChunk};
use crate::head::partition::CutSeries;
use crate::head::symbols::SymbolTexts;

/// Bytes of chunks that are read at once, in the order of the files, where memory allows.
const WINDOW_BYTES: usize = 128 << 20;

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

/// A part of the head on its way into a block, by partition.
#[derive(Default)]
struct Parts {
    files: Vec<BTreeMap<u32, Arc<ChunkFile>>>,
    symbols: Vec<SymbolTexts>,
    series: Vec<Vec<CutSeries>>,
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
        let mut parts = Parts::default();
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
            held.grow(partition.symbols.texts_bytes())?;
            parts.files.push(partition.chunks.files());
            parts.symbols.push(partition.symbols.texts());
            parts.series.push(series);
        }
        let tenant = &state.tenant;
        let mut lost = Vec::new();
        let meta = self.write_block(core, (tenant, meta), parts, &mut lost);
        let removed = match &meta {
            // The next cut would remove it too; until then it takes room on the disk.
            Err(_) => self.remove_unfinished(tenant),
            Ok(_) => Ok(()),
        };
        let meta = meta?;
        removed?;
        drop(held);
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
        (tenant, meta): (&Tenant, &Meta),
        parts: Parts,
        lost: &mut Vec<Error>,
    ) -> Result<Option<Meta>> {
        let parent = self.tenant_directory(tenant);
        self.fs.make_directory(&parent).map_err(Error::io("make", &parent))?;
        let directory = &self.options.directory;
        self.fs.sync_directory(directory).map_err(Error::io("sync", directory))?;
        // Whatever an earlier cut could not remove.
        self.remove_unfinished(tenant)?;
        let Parts { files, symbols, mut series } = parts;
        let ranking = Ranking::of(&symbols, &series);
        let order = ranking.sort(&mut series);
        let (texts, budget) = (&ranking.texts, &self.accounts.upkeep);
        let mut writer = Writer::create(&*self.fs, &parent, meta.clone(), texts, budget)?;
        if ranking.texts.first() == Some(&"") {
            return Err(Error::invalid("a series of the head has an empty label"));
        }
        let mut reading = ChunkReading { engine: self, core, tenant, meta, files: &files, lost };
        let mut series_count = 0;
        let series_at =
            |(part, index): &(u32, u32)| (*part as usize, &series[*part as usize][*index as usize]);
        let (window_bytes, _held) = window_of(budget)?;
        let mut from = 0;
        while from < order.len() {
            let mut bytes = 0;
            let fits = |(_, series): &(usize, &CutSeries)| {
                bytes += series.chunks.iter().map(ClosedChunk::record_bytes).sum::<usize>();
                bytes <= window_bytes
            };
            let count = order[from..].iter().map(series_at).take_while(fits).count().max(1);
            let window: Vec<(usize, &CutSeries)> =
                order[from..from + count].iter().map(series_at).collect();
            let mut ahead = reading.read_ahead(&window).into_iter();
            for (part, series) in window {
                let data = ahead.by_ref().take(series.chunks.len());
                let chunks = reading.chunks(part, series, data)?;
                if !chunks.is_empty() {
                    writer.add_ranked(&series.labels, &chunks)?;
                    series_count += 1;
                }
            }
            from += count;
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

/// How many bytes of chunks may be read at once, and what holds the memory for it.
fn window_of(budget: &Budget) -> Result<(usize, Reservation)> {
    let free_bytes = budget.limit_bytes().saturating_sub(budget.used_bytes());
    let window_bytes = WINDOW_BYTES.min(free_bytes / 4);
    Ok((window_bytes, budget.reserve(window_bytes)?))
}
