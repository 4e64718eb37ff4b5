//! `upload-blocks`: brings the blocks of a directory into the bucket.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bucket::upload::{abort_stale_uploads, upload_verified};
use bucket::{LocalBlock, Snapshot, Stamp, State};
use clap::{ArgMatches, Command};
use daemon::flags::{self, is_on, parse_label, text_of};
use futures_util::FutureExt as _;
use model::{BlockId, Labels};
use tsdb_core::block::{META_FILE, Meta};
use tsdb_core::fs::disk::Disk;
use tsdb_core::fs::{EntryKind, Fs as _};

use super::progress::Progress;
use super::session::Session;
use super::table::{Cell, Column, Format, Table};
use super::{Outcome, Work, column, output, text};

const COLUMNS: &[Column] =
    &[column("ULID", "ulid"), column("RESULT", "result"), column("WHY", "why")];
/// What the metas say who uploaded them.
const SOURCE: &str = "bucket.upload";

pub(super) fn flags(command: Command) -> Command {
    let command = command
        .arg(flags::value("path", "Directory with the blocks.").default_value("./data"))
        .arg(
            flags::values("label", "External label of all series, name=\"value\"; at least one.")
                .value_parser(parse_label),
        )
        .arg(
            flags::value("shipper.upload-concurrency", "Files of a block that are sent at once.")
                .default_value("5")
                .value_parser(clap::value_parser!(u16).range(1..=256)),
        );
    let about = "Upload blocks that were compacted, too.";
    let command = flags::bool_pair(command, "shipper.upload-compacted", false, about);
    let command = flags::bool_pair(command, "dry-run", false, "Only say what would be done.");
    output(command, "Format of the list.", &["table", "json"])
}

pub(super) fn run<'a>(flags: &'a ArgMatches, session: &'a Session) -> Work<'a> {
    upload(flags, session).boxed_local()
}

/// A block of the directory, and what is to become of it.
struct Found {
    id: BlockId,
    directory: PathBuf,
    size_bytes: u64,
    /// Why it is left alone, if it is.
    passed_over: Option<String>,
}

async fn upload(flags: &ArgMatches, session: &Session) -> anyhow::Result<Outcome> {
    let labels: Vec<&(String, String)> = flags.get_many("label").into_iter().flatten().collect();
    if labels.is_empty() {
        bail!(
            "--label: give at least one, such as --label='cluster=\"eu1\"': labels tell these \
               series from those of others"
        );
    }
    let labels = Labels::from_pairs(labels.iter().map(|(name, value)| (name, value)));
    let labels = labels.context("--label")?;
    let path = PathBuf::from(text_of(flags, "path"));
    let snapshot = session.snapshot().await?;
    let rules = Rules { compacted: is_on(flags, "shipper.upload-compacted"), labels: &labels };
    let blocks = find(&path, &rules, &snapshot)?;
    let to_send = || blocks.iter().filter(|it| it.passed_over.is_none());
    let (count, bytes) = (to_send().count(), to_send().map(|it| it.size_bytes).sum());
    let is_dry = is_on(flags, "dry-run");
    let parallel =
        flags.get_one::<u16>("shipper.upload-concurrency").map_or(1, |it| usize::from(*it));
    let progress = Progress::new(session.clock(), "blocks uploaded", count, bytes);
    let (mut rows, mut failed) = (Vec::new(), 0);
    for block in &blocks {
        let row = |result: &str, why: &str| {
            let texts = [block.id.to_string(), result.to_owned(), why.to_owned()];
            texts.map(Cell::Text).to_vec()
        };
        if let Some(why) = &block.passed_over {
            rows.push(row("passed over", why));
            continue;
        }
        if is_dry {
            rows.push(row("would be uploaded", ""));
            continue;
        }
        let local = LocalBlock { fs: &Disk, directory: &block.directory };
        let now_ms = session.now_ms();
        let stamp = Stamp { labels: &labels, source: SOURCE, now_ms, parallel };
        match upload_verified(&*session.store, local, stamp).await {
            Ok(_) => rows.push(row("uploaded", "")),
            Err(error) => {
                failed += 1;
                rows.push(row("failed", &error.to_string()));
            }
        }
        progress.add_bytes(block.size_bytes);
        progress.add_item();
    }
    progress.clear();
    if !is_dry {
        let aborted = abort_stale_uploads(&*session.store, session.now_ms()).await;
        aborted.context("abort uploads in parts that were left behind")?;
    }
    let table = Table { columns: COLUMNS, rows };
    session.print(&table.render(Format::parse(&text_of(flags, "output"))))?;
    let what = if is_dry { "would be uploaded" } else { "uploaded" };
    session.note(&format!(
        "{} of {} blocks, {}, {what}; {failed} failed",
        count - failed,
        blocks.len(),
        text::bytes(bytes)
    ));
    Ok(if failed == 0 { Outcome::Good } else { Outcome::Bad })
}

struct Rules<'a> {
    compacted: bool,
    labels: &'a Labels,
}

/// The blocks of a directory, oldest first.
fn find(path: &Path, rules: &Rules<'_>, snapshot: &Snapshot) -> anyhow::Result<Vec<Found>> {
    let entries = Disk.list(path).with_context(|| format!("--path={}", path.display()))?;
    let mut found = Vec::new();
    for entry in entries.iter().filter(|it| it.kind == EntryKind::Directory) {
        let Ok(id) = entry.name.parse::<BlockId>() else { continue };
        let directory = path.join(&entry.name);
        let meta = Meta::read(&Disk, &directory.join(META_FILE));
        let (passed_over, min_time_ms) = match &meta {
            Ok(meta) if meta.ulid != id => (Some(format!("its meta is that of {}", meta.ulid)), 0),
            Ok(meta) => (passed_over(meta, rules, snapshot), meta.min_time_ms),
            Err(error) => (Some(error.to_string()), 0),
        };
        let size_bytes = size_of(&directory);
        found.push((min_time_ms, Found { id, directory, size_bytes, passed_over }));
    }
    found.sort_by_key(|(min_time_ms, it)| (*min_time_ms, it.id));
    Ok(found.into_iter().map(|(_, it)| it).collect())
}

/// Why a block is not uploaded.
fn passed_over(meta: &Meta, rules: &Rules<'_>, snapshot: &Snapshot) -> Option<String> {
    if snapshot.blocks.get(&meta.ulid).is_some_and(|it| it.state.meta().is_some()) {
        return Some("it is in the bucket".to_owned());
    }
    if meta.stats.num_samples == 0 {
        return Some("it has no samples".to_owned());
    }
    let level = meta.compaction.level;
    if level <= 1 {
        return None;
    }
    if !rules.compacted {
        return Some(format!("compacted (level {level}); --shipper.upload-compacted uploads it"));
    }
    // A compacted block beside its parts would bring their samples a second time.
    let overlaps = |other: &Meta| {
        let theirs = other.thanos.labels.iter().map(|(name, value)| (&**name, &**value));
        theirs.eq(rules.labels.iter())
            && other.thanos.downsample.resolution_ms == meta.thanos.downsample.resolution_ms
            && other.min_time_ms < meta.max_time_ms
            && meta.min_time_ms < other.max_time_ms
    };
    let mut others = snapshot.blocks.values().filter_map(|it| match &it.state {
        State::Loaded(other) if it.deletion.mark().is_none() && overlaps(other) => Some(other.ulid),
        _ => None,
    });
    others.next().map(|other| format!("it overlaps block {other} of the same labels"))
}

/// Bytes of index and chunks; 0 for what cannot be read, which the upload says.
fn size_of(directory: &Path) -> u64 {
    let size = |path: &Path| Disk.open(path).and_then(|it| it.size_bytes()).unwrap_or(0);
    let chunks = directory.join(tsdb_core::block::CHUNKS_DIRECTORY);
    let segments = Disk.list(&chunks).unwrap_or_default();
    let segments = segments.iter().map(|it| size(&chunks.join(&it.name))).sum::<u64>();
    segments + size(&directory.join(tsdb_core::block::INDEX_FILE))
}
