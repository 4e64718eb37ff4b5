//! The engine: log and head of all tenants, and their blocks on the local disk.
//!
//! Everything lies below one directory: the engine's own files in `.aion/`, a tenant's blocks in
//! `<tenant>/<ULID>`. The daemon calls [`Engine::commit_pending`] in a loop of its own, and
//! [`Engine::cut_due`], [`Engine::snapshot_if_due`] and, after a failure, [`Engine::rebuild`]
//! from another.

mod cut;
mod cut_chunks;
mod cuts;
mod load;
mod local;
mod rank;
mod read;
pub(crate) mod scan;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Budget, Tenant};
use parking_lot::{Mutex, RwLock};

use crate::db::cut::Settling;
use crate::db::cuts::Cuts;
use crate::db::load::Floors;
use crate::db::local::LocalBlocks;
use crate::error::{Error, Result};
use crate::fs::{Lock, SharedFs};
use crate::head::append::Progress;
pub use crate::head::batch::{
    LABELS_BYTES_MAX, LabelDecoder, LabelProblem, Refusal, Refused, WriteBatch, WriteOutcome,
    WriteSeries,
};
use crate::head::partition::PartitionOptions;
pub use crate::head::select::{HeadChunk, HeadQuery, HeadSeries, Selection};
use crate::head::{Head, TenantState};
pub use crate::wal::frame::DamagedSpan;
use crate::wal::{Layout, Log};
pub use crate::wal::{Ticket, TicketState};

pub use crate::db::cut::{CutBlock, CutReport};
pub use crate::db::local::LocalBlock;

/// Samples in the log at which a snapshot is taken.
const SNAPSHOT_SAMPLES: u64 = 40_000_000;
/// Longest block: chunks of the head count their span in 32 bits of milliseconds.
const BLOCK_MS_MAX: i64 = 31 * 24 * 3_600_000;

/// What an engine needs to open.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// `--tsdb.path`; made when it is absent.
    pub directory: PathBuf,
    /// Length of a block in ms.
    pub block_ms: i64,
    /// Keys of the hashes; random, new in every process.
    pub seeds: [u64; 2],
    /// What head and blocks are charged to. Two fifths are set aside at the start for cutting the
    /// head and for the blocks, so that a head that is full can always be cut.
    pub budget: Budget,
}

/// What was found on disk, and what was wrong with it.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// Series in the head.
    pub series: usize,
    /// Samples read from the log.
    pub samples_replayed: u64,
    /// Samples of the log whose series is known nowhere: lost.
    pub samples_orphaned: u64,
    /// Series of the snapshot whose labels are known nowhere: lost.
    pub series_orphaned: u64,
    /// Frames of a kind that this version does not read, passed over.
    pub frames_unknown: u64,
    /// Bytes that were no frames; copies are in the quarantine.
    pub damaged: Vec<DamagedSpan>,
    /// Anything else that is wrong, a sentence each.
    pub problems: Vec<String>,
    /// Whole blocks found on disk.
    pub blocks: usize,
}

/// Head and log: what a rebuild replaces.
#[derive(Debug)]
struct Core {
    head: Head,
    log: Log,
    /// Per partition, the first chunk file that the log still has the samples of.
    covered_files: Mutex<Vec<u32>>,
}

/// Whom the engine charges.
#[derive(Clone, Debug)]
struct Accounts {
    /// New series ask here.
    head: Budget,
    /// Set aside for cuts, their indexes, and open blocks.
    upkeep: Budget,
}

impl Accounts {
    fn of(budget: &Budget) -> Result<Accounts> {
        let limit_bytes = budget.limit_bytes();
        if limit_bytes == usize::MAX {
            return Ok(Accounts { head: budget.clone(), upkeep: budget.clone() });
        }
        let aside_bytes = limit_bytes / 5 * 2;
        let upkeep = Budget::set_aside("cuts and local blocks", budget.reserve(aside_bytes)?);
        let head = budget.child("series of the head", limit_bytes - aside_bytes);
        Ok(Accounts { head, upkeep })
    }
}

/// A write that is applied, and what only the disk can tell of it.
#[derive(Debug)]
pub struct Appended {
    core: Arc<Core>,
    tenant: Arc<TenantState>,
    progress: Progress,
}

impl Appended {
    /// Whether [`Engine::finish_append`] will read from the disk.
    pub fn needs_disk(&self) -> bool {
        !self.progress.questions.is_empty()
    }
}

/// The engine of all tenants.
#[derive(Debug)]
pub struct Engine {
    fs: SharedFs,
    options: EngineOptions,
    layout: Layout,
    cuts_path: PathBuf,
    core: RwLock<Arc<Core>>,
    cuts: Mutex<Cuts>,
    blocks: LocalBlocks,
    quiet: Mutex<HashMap<Tenant, Quiet>>,
    /// Held by whoever cuts, snapshots, rebuilds or removes blocks.
    maintenance: Mutex<Generation>,
    /// Tenant and end of the window that was last left to the log to make its chunks again.
    made_again: Mutex<Option<(Tenant, i64)>>,
    accounts: Accounts,
    _lock: Box<dyn Lock>,
}

/// The generation of the newest snapshot or series files.
#[derive(Debug)]
struct Generation(u64);

/// What a tenant's arrivals were when cutting was last thought of, and since when.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    arrivals: u64,
    since_ms: i64,
}

/// Numbers of an engine, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Series in the head, of all tenants.
    pub series: usize,
    /// Samples that a start would replay from the log.
    pub log_samples: u64,
    /// Whether writes are refused until a rebuild.
    pub has_failed: bool,
}

impl Engine {
    /// Opens an engine: takes the lock of its directory, settles what a crash interrupted, and
    /// reads the head back.
    ///
    /// # Errors
    /// `WouldBlock` as an [`Error::Io`] when another process has the directory; the disk's; a
    /// budget without room for the head.
    pub fn open(fs: SharedFs, options: EngineOptions) -> Result<(Engine, OpenReport)> {
        if options.block_ms <= 0 || options.block_ms > BLOCK_MS_MAX {
            let block_ms = options.block_ms;
            return Err(Error::invalid(format!(
                "a block of {block_ms} ms: its length must be between 1 ms and 31 days"
            )));
        }
        let engine_directory = options.directory.join(".aion");
        let layout = Layout::new(&engine_directory);
        make_directories(&fs, &options.directory, &engine_directory, &layout)?;
        let lock_path = engine_directory.join("lock");
        let lock = fs.lock(&lock_path).map_err(Error::io("lock", &lock_path))?;
        let cuts_path = Cuts::path(&engine_directory);
        let accounts = Accounts::of(&options.budget)?;
        let (blocks, mut report) = LocalBlocks::open(&fs, &options.directory, &accounts.upkeep)?;
        let settling = Settling {
            fs: &fs,
            directory: &options.directory,
            quarantine: &layout.quarantine,
            cuts_path: &cuts_path,
            blocks: &blocks,
        };
        let cuts = match Cuts::read(&fs, &cuts_path) {
            Ok(Some(cuts)) => {
                let (cuts, problems) = settling.settle(cuts)?;
                report.problems.extend(problems);
                cuts
            }
            Ok(None) => blocks.cuts(),
            Err(error @ (Error::Corrupt { .. } | Error::Unsupported { .. })) => {
                report.problems.push(error.to_string());
                blocks.cuts()
            }
            Err(error) => return Err(error),
        };
        let options_of_head = partition_options(&fs, &options, &layout, &accounts);
        let floors = Floors::default();
        let (core, loaded) = load::load(&options_of_head, options.seeds, &layout, &cuts, &floors)?;
        let problems = std::mem::take(&mut report.problems);
        let mut report = OpenReport { blocks: report.blocks, ..loaded };
        report.problems.extend(problems);
        let generation = Generation(core.log.generation());
        let engine = Engine {
            fs,
            options,
            layout,
            cuts_path,
            core: RwLock::new(Arc::new(core)),
            cuts: Mutex::new(cuts),
            blocks,
            quiet: Mutex::default(),
            maintenance: Mutex::new(generation),
            made_again: Mutex::default(),
            accounts,
            _lock: lock,
        };
        Ok((engine, report))
    }

    /// Takes a write: judges every sample, applies the good ones and queues them for the log.
    /// The write may be acknowledged once the ticket is durable.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too much waits for the disk or the log has failed;
    /// [`Error::Budget`] when the head has no room for new series; the disk's. Sending the same
    /// again is always safe.
    pub fn append(&self, batch: &WriteBatch<'_>) -> Result<(WriteOutcome, Ticket)> {
        let appended = self.append_from_memory(batch)?;
        self.finish_append(batch, appended)
    }

    /// The first half of [`Engine::append`], which reads nothing from the disk: what it answers
    /// goes to [`Engine::finish_append`] with the same batch. Where [`Appended::needs_disk`] says
    /// so, that must happen where a thread may block.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub fn append_from_memory(&self, batch: &WriteBatch<'_>) -> Result<Appended> {
        let core = self.core();
        if core.log.has_failed() {
            return Err(Error::unavailable("the log has failed and is being read again from disk"));
        }
        if core.log.is_full() {
            return Err(Error::unavailable("too many writes wait for the disk"));
        }
        if batch.tenant.as_str() == local::LOST_AND_FOUND {
            return Err(Error::invalid("lost+found is a directory of the file system, no tenant"));
        }
        let tenant = core.head.tenant(batch.tenant);
        let progress = core.head.append(&core.log, &tenant, batch)?;
        Ok(Appended { core, tenant, progress })
    }

    /// The second half of [`Engine::append`]: answers from the disk, all at once, whether samples
    /// are there that memory could not tell of.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub fn finish_append(
        &self,
        batch: &WriteBatch<'_>,
        appended: Appended,
    ) -> Result<(WriteOutcome, Ticket)> {
        let Appended { core, tenant, mut progress } = appended;
        self.answer(&tenant, batch, &mut progress)?;
        progress.outcome.refused.sort_by_key(|it| (it.series, it.sample));
        // Samples that were equal may still be on their way to the disk with another write: the
        // ticket stands for all that is queued now.
        Ok((progress.outcome, core.log.ticket()))
    }

    /// Writes and syncs what was queued; answers the bytes. For the committer, which calls it
    /// again and again, one call at a time.
    ///
    /// # Errors
    /// The disk's. All writes that were not durable are lost then, and new ones are refused until
    /// [`Engine::rebuild`] succeeds.
    pub fn commit_pending(&self) -> Result<usize> {
        self.core().log.commit_pending()
    }

    /// Whether the log failed, so that a rebuild is needed.
    pub fn has_failed(&self) -> bool {
        self.core().log.has_failed()
    }

    /// Reads the head back from disk after a failure and takes writes again. Readers see the old
    /// head until the new one is there; when the memory does not allow for both, reads fail with
    /// [`Error::Unavailable`] in between.
    ///
    /// # Errors
    /// The disk's; the call may be repeated.
    pub fn rebuild(&self) -> Result<OpenReport> {
        let mut generation = self.maintenance.lock();
        let old = self.core();
        old.log.fail();
        let floors = Floors {
            partitions: old.head.retire(),
            generation: generation.0,
            abandoned: old.log.abandoned_segment(),
        };
        let cuts = self.cuts.lock().clone();
        let settling = Settling {
            fs: &self.fs,
            directory: &self.options.directory,
            quarantine: &self.layout.quarantine,
            cuts_path: &self.cuts_path,
            blocks: &self.blocks,
        };
        let (cuts, problems) = settling.settle(cuts)?;
        let options = partition_options(&self.fs, &self.options, &self.layout, &self.accounts);
        // Two heads side by side must fit; where they do not, readers wait for the new one.
        let head = &self.accounts.head;
        if head.used_bytes() > head.limit_bytes() / 2 {
            old.head.give_up();
        }
        let (core, mut report) =
            load::load(&options, self.options.seeds, &self.layout, &cuts, &floors)?;
        report.problems.extend(problems);
        generation.0 = generation.0.max(core.log.generation());
        *self.cuts.lock() = cuts;
        *self.core.write() = Arc::new(core);
        Ok(report)
    }

    /// Takes a snapshot if more lies in the log than a start should have to replay.
    ///
    /// # Errors
    /// The disk's; the engine goes on with what it had.
    pub fn snapshot_if_due(&self) -> Result<bool> {
        let is_due = snapshot::is_due(&self.core().log);
        if is_due {
            self.snapshot()?;
        }
        Ok(is_due)
    }

    /// Takes a snapshot and removes what it makes superfluous.
    ///
    /// # Errors
    /// The disk's; the engine goes on with what it had.
    pub fn snapshot(&self) -> Result<()> {
        let mut generation = self.maintenance.lock();
        self.snapshot_locked(&mut generation)
    }

    fn snapshot_locked(&self, generation: &mut Generation) -> Result<()> {
        // A snapshot forgets what was cut: the disk must know first that it was.
        {
            let mut cuts = self.cuts.lock();
            if cuts.is_unwritten {
                cuts.write(&self.fs, &self.cuts_path)?;
                cuts.is_unwritten = false;
            }
        }
        generation.0 += 1;
        snapshot::take(&self.core(), &self.fs, &self.layout, generation.0)
    }

    /// Tenants that have samples or blocks here, sorted.
    pub fn tenants(&self) -> Vec<Tenant> {
        let mut tenants: Vec<Tenant> =
            self.core().head.tenants().iter().map(|it| it.tenant.clone()).collect();
        tenants.extend(self.blocks.tenants());
        tenants.sort();
        tenants.dedup();
        tenants
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> EngineStats {
        let core = self.core();
        EngineStats {
            series: core.head.series_count(),
            log_samples: core.log.sample_count(),
            has_failed: core.log.has_failed(),
        }
    }

    /// The directory of a tenant's blocks.
    pub fn tenant_directory(&self, tenant: &Tenant) -> PathBuf {
        self.options.directory.join(tenant.as_str())
    }

    fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core.read())
    }
}

fn partition_options(
    fs: &SharedFs,
    options: &EngineOptions,
    layout: &Layout,
    accounts: &Accounts,
) -> PartitionOptions {
    PartitionOptions {
        fs: Arc::clone(fs),
        chunk_directory: layout.chunks.clone(),
        budget: accounts.head.clone(),
        block_ms: options.block_ms,
        seed: options.seeds[0],
    }
}

/// Makes the directories, and their names durable.
fn make_directories(
    fs: &SharedFs,
    directory: &Path,
    engine_directory: &Path,
    layout: &Layout,
) -> Result<()> {
    let make = |path: &Path| fs.make_directory(path).map_err(Error::io("make", path));
    let sync = |path: &Path| fs.sync_directory(path).map_err(Error::io("sync", path));
    make(directory)?;
    make(engine_directory)?;
    for path in layout.directories() {
        make(path)?;
    }
    sync(engine_directory)?;
    sync(directory)?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => Ok(()),
    }
}
