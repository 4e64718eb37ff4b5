//! Cutting the head into blocks: all of it or nothing, wherever a crash comes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::time::align_down;
use model::{BlockId, Labels, Reservation, Tenant};

use crate::block::{ChunkData, META_FILE, Meta, Writer};
use crate::chunk::Encoding;
use crate::db::cuts::{Cuts, PendingCut};
use crate::db::local::LocalBlocks;
use crate::db::{Core, Engine};
use crate::error::{Error, Result};
use crate::fs::SharedFs;
use crate::head::TenantState;
use crate::head::chunk_log::ChunkFile;
use crate::head::partition::CutSeries;

/// What one round of cutting did. A tenant that failed does not stop the others.
#[derive(Debug, Default)]
pub struct CutReport {
    /// Blocks that are there now.
    pub blocks: Vec<CutBlock>,
    /// Tenants whose cut failed; their samples stay in the head and are tried again.
    pub failures: Vec<(Tenant, Error)>,
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

/// A part of the head on its way into a block.
struct Part {
    files: BTreeMap<u32, Arc<ChunkFile>>,
    series: Vec<CutSeries>,
}

impl Engine {
    /// Cuts every window of every tenant that is due: the tenant's newest sample is half a block
    /// past its end, or the clock is one and a half blocks past it. `random` gives 80 bits for
    /// the name of a block.
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
            while let Some((start_ms, end_ms)) = self.window(&core, &state, now_ms, is_all) {
                let timestamp_ms = u64::try_from(now_ms).unwrap_or_default();
                let id = BlockId::from_parts(timestamp_ms, random());
                match self.cut_window(&core, &state, &Meta::of_head(id, start_ms, end_ms)) {
                    Ok(block) => report.blocks.extend(block),
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

    /// The next window of a tenant to cut: its first millisecond and the first one behind it.
    fn window(
        &self,
        core: &Core,
        state: &TenantState,
        now_ms: i64,
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
                || now_ms >= end_ms.saturating_add(block_ms).saturating_add(block_ms / 2)
        };
        let oldest_ms = state.oldest_ms();
        if oldest_ms == i64::MAX || !is_due(window_of(oldest_ms).1) {
            return None;
        }
        // The oldest time is a bound; the series know the exact one.
        let (start_ms, end_ms) = window_of(core.head.first_ms(state)?);
        if !is_due(end_ms) {
            return None;
        }
        let end_ms = if is_all { end_ms.min(newest_ms.saturating_add(1)) } else { end_ms };
        let cut_ms = self.cuts.lock().tenants.get(state.tenant.as_str()).and_then(|it| it.cut_ms);
        // A window that was cut in the middle is continued, so that blocks do not overlap.
        Some((start_ms.max(cut_ms.unwrap_or(i64::MIN)), end_ms))
    }

    fn cut_window(
        &self,
        core: &Core,
        state: &TenantState,
        meta: &Meta,
    ) -> Result<Option<CutBlock>> {
        let end_ms = meta.max_time_ms;
        if core.log.has_failed() {
            return Err(Error::unavailable("the log has failed and is being read again from disk"));
        }
        // From here on no partition takes a sample of the window, whoever locks it first.
        state.raise_low(end_ms);
        let mut parts = Vec::with_capacity(core.head.partitions.len());
        for partition in &core.head.partitions {
            let mut partition = partition.write();
            let series = partition.collect(state.index, end_ms).inspect_err(|_| core.log.fail())?;
            parts.push(Part { files: partition.chunks.files(), series });
        }
        let tenant = &state.tenant;
        let parent = self.tenant_directory(tenant);
        self.fs.make_directory(&parent).map_err(Error::io("make", &parent))?;
        let directory = &self.options.directory;
        self.fs.sync_directory(directory).map_err(Error::io("sync", directory))?;
        let (order, _held) = self.order(&parts)?;
        let (symbols, budget) = (symbols_of(&parts), &self.options.budget);
        let mut writer = Writer::create(&*self.fs, &parent, meta.clone(), symbols, budget)?;
        let mut chunks_lost = Vec::new();
        let mut series_count = 0;
        for (part, index) in order {
            let part = &parts[part];
            let series = &part.series[index];
            let chunks = read_chunks(part, series, &mut chunks_lost)?;
            if !chunks.is_empty() {
                writer.add_series(&series.labels, &chunks)?;
                series_count += 1;
            }
        }
        drop(parts);
        let meta = match series_count {
            0 => None,
            _ => Some(self.publish(core, tenant, meta, writer)?),
        };
        let written = self.finish_cut(tenant, end_ms);
        for partition in &core.head.partitions {
            partition.write().truncate(state.index, end_ms)?;
        }
        state.forget_before(end_ms);
        written?;
        Ok(meta.map(|meta| CutBlock { tenant: tenant.clone(), meta, chunks_lost }))
    }

    /// The series of all parts in the order of their labels, and what the labels weigh.
    fn order(&self, parts: &[Part]) -> Result<(Vec<(usize, usize)>, Reservation)> {
        let all = || parts.iter().flat_map(|it| &it.series);
        let per_series = size_of::<CutSeries>() + 24 + size_of::<(usize, usize)>();
        let weight = |it: &CutSeries| per_series + it.labels.size_bytes() + 24 * it.chunks.len();
        let held = self.options.budget.reserve(all().map(weight).sum())?;
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(all().count());
        for (part, it) in parts.iter().enumerate() {
            order.extend((0..it.series.len()).map(|index| (part, index)));
        }
        let labels =
            |(part, index): &(usize, usize)| -> &Labels { &parts[*part].series[*index].labels };
        order.sort_unstable_by(|a, b| labels(a).cmp(labels(b)));
        Ok((order, held))
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
        cuts.write(&self.fs, &self.cuts_path)
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

/// Decides what became of cuts that were under way: done if their block is there, else undone.
pub(super) fn settle(
    mut cuts: Cuts,
    fs: &SharedFs,
    directory: &Path,
    cuts_path: &Path,
    blocks: &LocalBlocks,
) -> Result<Cuts> {
    let mut is_changed = false;
    for (name, cut) in &mut cuts.tenants {
        let Some(pending) = cut.pending.take() else { continue };
        is_changed = true;
        let parent = directory.join(name);
        let is_there = fs.exists(&parent.join(&pending.block).join(META_FILE));
        if !is_there.map_err(Error::io("list", &parent))? {
            continue;
        }
        fs.sync_directory(&parent).map_err(Error::io("sync", &parent))?;
        cut.cut_ms = Some(pending.cut_ms);
        if let (Ok(tenant), Ok(id)) = (Tenant::new(name), pending.block.parse::<BlockId>()) {
            // A damaged block was named when the blocks were opened.
            let added = blocks.add(fs, &tenant, &parent, id);
            if let Err(error @ (Error::Io { .. } | Error::Budget(_))) = added {
                return Err(error);
            }
        }
    }
    if is_changed {
        cuts.write(fs, cuts_path)?;
    }
    Ok(cuts)
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

/// The chunks of a series with their data; a damaged one is named and left out.
fn read_chunks(part: &Part, series: &CutSeries, lost: &mut Vec<Error>) -> Result<Vec<ChunkData>> {
    let mut chunks = Vec::with_capacity(series.chunks.len());
    for chunk in &series.chunks {
        let read = match part.files.get(&chunk.file) {
            Some(file) => file.read(chunk, series.reference),
            None => Err(Error::invalid(format!("a head-chunk file of {} is gone", series.labels))),
        };
        match read {
            Ok(data) => chunks.push(ChunkData {
                encoding: Encoding::Xor,
                min_time_ms: chunk.start_ms,
                max_time_ms: chunk.end_ms(),
                data: Bytes::from(data),
            }),
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => lost.push(error),
        }
    }
    Ok(chunks)
}
