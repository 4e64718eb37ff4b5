//! `downsample`: makes the downsampled versions that blocks lack.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use bucket::downsampling::{Owed, owed};
use bucket::{Begun, Draft, Reading, Snapshot, open_source};
use clap::{ArgMatches, Command};
use daemon::flags::{self, is_on, text_of};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use model::Budget;
use tokio::runtime::Handle;
use tsdb_core::block::Meta;
use tsdb_core::compact::{Done, Options, Progress as Advance};
use tsdb_core::downsample::{
    FIVE_MINUTES_MS, Made, ONE_HOUR_MS, Report, Target, downsample, meta_of,
};
use tsdb_core::fs::Fs as _;
use tsdb_core::fs::disk::Disk;
use tsdb_core::stream::writer::SCRATCH_BYTES_MAX;
use tsdb_core::stream::{Scratch, Sink, Source};

use super::progress::Progress;
use super::session::Session;
use super::table::{Cell, Column, Format, Table};
use super::{Outcome, Work, column, ids, output, text};

const COLUMNS: &[Column] = &[
    column("ULID", "ulid"),
    column("TO", "resolution"),
    column("BLOCK", "block"),
    column("RESULT", "result"),
];
/// What the metas say who made the blocks, as in Thanos.
const SOURCE: &str = "compactor";
/// Bytes that are fetched at once for a reader that moves forward.
const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn flags(command: Command) -> Command {
    let command = command
        .arg(flags::value("data-dir", "Directory for scratch files.").default_value("./data"))
        .arg(
            flags::value("downsample.concurrency", "Blocks that are downsampled at once.")
                .default_value("1")
                .value_parser(clap::value_parser!(u16).range(1..=256)),
        );
    let command = ids(command, "Only this block; may be given more than once.");
    let command = flags::bool_pair(command, "dry-run", false, "Only say what would be done.");
    let accepted = [
        ("wait-interval", "what is owed is made once, both resolutions in one pass"),
        ("block-files-concurrency", "files are read and written as streams"),
        ("hash-func", "uploads are verified by size and entity tag"),
        ("http-address", "a tool serves nothing"),
        ("http-grace-period", "a tool serves nothing"),
        ("http.config", "a tool serves nothing"),
    ];
    let command =
        accepted.into_iter().fold(command, |it, (name, why)| flags::accepted(it, name, why));
    output(command, "Format of the list.", &["table", "json"])
}

pub(super) fn run<'a>(flags: &'a ArgMatches, session: &'a Session) -> Work<'a> {
    make(flags, session).boxed_local()
}

async fn make(flags: &ArgMatches, session: &Session) -> anyhow::Result<Outcome> {
    let snapshot = session.snapshot().await?;
    let chosen: Vec<_> = flags.get_many("id").into_iter().flatten().copied().collect();
    let mut owed = owed(&snapshot);
    owed.retain(|it| chosen.is_empty() || chosen.contains(&it.meta.ulid));
    let bytes = owed.iter().map(|it| size_of(&snapshot, &it.meta)).sum();
    if is_on(flags, "dry-run") {
        let rows = owed.iter().flat_map(|it| planned(it, "would be made")).collect();
        let table = Table { columns: COLUMNS, rows };
        session.print(&table.render(Format::parse(&text_of(flags, "output"))))?;
        session.note(&format!("{} blocks, {}, to downsample", owed.len(), text::bytes(bytes)));
        return Ok(Outcome::Good);
    }
    let scratch = PathBuf::from(text_of(flags, "data-dir"));
    Disk.make_directory(&scratch).with_context(|| format!("--data-dir={}", scratch.display()))?;
    let parallel = flags.get_one::<u16>("downsample.concurrency").map_or(1, |it| usize::from(*it));
    let job = Job {
        session,
        snapshot: &snapshot,
        scratch: Arc::from(scratch),
        budget: session.context.budget.child("downsample", session.context.memory.limit_bytes),
        progress: Arc::new(Progress::new(session.clock(), "blocks", owed.len(), bytes)),
    };
    let made = stream::iter(&owed).map(|it| job.run(it).map(move |made| (it, made)));
    let made: Vec<_> = made.buffer_unordered(parallel).collect().await;
    job.progress.clear();
    let (mut rows, mut failed) = (Vec::new(), 0);
    for (owed, result) in made {
        match result {
            Ok(made) => rows.extend(made),
            Err(error) => {
                failed += 1;
                rows.extend(planned(owed, &format!("failed: {error:#}")));
            }
        }
    }
    let mut table = Table { columns: COLUMNS, rows };
    table.sort_by(&[]);
    session.print(&table.render(Format::parse(&text_of(flags, "output"))))?;
    session.note(&format!("{} of {} blocks downsampled", owed.len() - failed, owed.len()));
    Ok(if failed == 0 { Outcome::Good } else { Outcome::Bad })
}

/// A row for each version that is owed.
fn planned(owed: &Owed, result: &str) -> Vec<Vec<Cell>> {
    let wanted = [(owed.five_minutes, FIVE_MINUTES_MS), (owed.one_hour, ONE_HOUR_MS)];
    let wanted = wanted.iter().filter(|it| it.0);
    wanted.map(|(_, resolution_ms)| row(&owed.meta, *resolution_ms, None, result)).collect()
}

fn row(source: &Meta, resolution_ms: i64, made: Option<&Meta>, result: &str) -> Vec<Cell> {
    let block = made.map(|it| it.ulid.to_string()).unwrap_or_default();
    let texts = [source.ulid.to_string(), text::span(resolution_ms), block, result.to_owned()];
    texts.map(Cell::Text).to_vec()
}

fn size_of(snapshot: &Snapshot, meta: &Meta) -> u64 {
    let files = snapshot.blocks.get(&meta.ulid).map_or(&[][..], |it| &it.files);
    files.iter().map(|it| it.size_bytes).sum()
}

/// What every block's job works with.
struct Job<'a> {
    session: &'a Session,
    snapshot: &'a Snapshot,
    scratch: Arc<Path>,
    budget: Budget,
    progress: Arc<Progress>,
}

/// A version that is being made; none when it is there or not owed.
struct Version {
    resolution_ms: i64,
    draft: Option<Draft>,
}

impl Job<'_> {
    /// Downsamples one block; answers what became of it.
    async fn run(&self, owed: &Owed) -> anyhow::Result<Vec<Vec<Cell>>> {
        let mut versions = Vec::new();
        for (is_owed, resolution_ms) in
            [(owed.five_minutes, FIVE_MINUTES_MS), (owed.one_hour, ONE_HOUR_MS)]
        {
            let draft = match is_owed {
                true => self.begin(&owed.meta, resolution_ms).await?,
                false => None,
            };
            versions.push(Version { resolution_ms, draft });
        }
        let report = self.downsample(&owed.meta, &versions).await;
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                for draft in versions.into_iter().filter_map(|it| it.draft) {
                    // What stays goes as an upload that was given up.
                    let _ = draft.discard().await;
                }
                return Err(error);
            }
        };
        let mut rows = Vec::new();
        for (version, made) in versions.into_iter().zip([report.five_minutes, report.one_hour]) {
            let Version { resolution_ms, draft: Some(draft) } = version else { continue };
            let (made, result) = self.publish(draft, made).await?;
            rows.push(row(&owed.meta, resolution_ms, made.as_ref(), &result));
        }
        self.progress.add_item();
        Ok(rows)
    }

    /// Begins a version, unless it is in the bucket already.
    async fn begin(&self, source: &Meta, resolution_ms: i64) -> anyhow::Result<Option<Draft>> {
        let id = meta_of(source, resolution_ms)?.ulid;
        match Draft::begin(&self.session.store, id, Handle::current()).await? {
            Begun::Draft(draft) => Ok(Some(draft)),
            Begun::Visible(_) => Ok(None),
        }
    }

    async fn downsample(&self, meta: &Meta, versions: &[Version]) -> anyhow::Result<Report> {
        let files = self.snapshot.blocks.get(&meta.ulid).map_or(&[][..], |it| &it.files);
        let mut reading = Reading::new(Handle::current(), self.budget.clone());
        reading.window_bytes = WINDOW_BYTES;
        let source = open_source(&self.session.store, meta, files, &reading).await?;
        let sinks: Vec<Option<Arc<dyn Sink>>> = versions
            .iter()
            .map(|it| it.draft.as_ref().map(|it| Arc::new(it.sink().clone()) as Arc<dyn Sink>))
            .collect();
        let [five_minutes, one_hour] = [0, 1].map(|it| sinks.get(it).cloned().flatten());
        if five_minutes.is_none() && one_hour.is_none() {
            return Ok(Report {
                five_minutes: None,
                one_hour: None,
                read_bytes: 0,
                memory_peak_bytes: 0,
            });
        }
        let (scratch, budget) = (Arc::clone(&self.scratch), self.budget.clone());
        let advance = Advanced { progress: Arc::clone(&self.progress), before: AtomicU64::new(0) };
        let work = self.session.context.tasks.spawn_blocking("downsample", move || {
            run_blocking(&source, [five_minutes, one_hour], &scratch, &budget, &advance)
        });
        Ok(work.await.context("the job of a block ended")??)
    }

    /// Makes a version visible; answers its meta, and what to say.
    async fn publish(
        &self,
        draft: Draft,
        made: Option<Made>,
    ) -> anyhow::Result<(Option<Meta>, String)> {
        let Some(Made { meta: Some(mut meta), balance, .. }) = made else {
            draft.discard().await?;
            return Ok((None, "no sample is left".to_owned()));
        };
        SOURCE.clone_into(&mut meta.thanos.source);
        let meta = draft.publish(meta, self.session.now_ms()).await?;
        Ok((Some(meta), format!("made: {balance}")))
    }
}

fn run_blocking(
    source: &Source,
    [five_minutes, one_hour]: [Option<Arc<dyn Sink>>; 2],
    scratch: &Path,
    budget: &Budget,
    progress: &Advanced,
) -> tsdb_core::Result<Report> {
    let scratch = Scratch { fs: &Disk, directory: scratch, bytes_max: SCRATCH_BYTES_MAX };
    let target = Target { five_minutes, one_hour, scratch, budget, progress };
    downsample(source, &target, &Options::default())
}

/// Hands on how far a job is.
#[derive(Debug)]
struct Advanced {
    progress: Arc<Progress>,
    before: AtomicU64,
}

impl Advance for Advanced {
    fn advance(&self, done: Done) -> ControlFlow<()> {
        let before = self.before.swap(done.read_bytes, Ordering::Relaxed);
        self.progress.add_bytes(done.read_bytes.saturating_sub(before));
        ControlFlow::Continue(())
    }
}
