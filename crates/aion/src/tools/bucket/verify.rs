//! `verify`: reads whole blocks and names everything that is wrong with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bucket::{Block, Reading, Snapshot, State, open_source, partial};
use clap::{ArgMatches, Command};
use daemon::flags::{self, text_of};
use futures_util::FutureExt as _;
use model::BlockId;
use tokio::runtime::Handle;
use tsdb_core::block::Meta;
use tsdb_core::stream::check::{Checked, check};

use super::progress::Progress;
use super::session::Session;
use super::table::{Cell, Column, Format, Table};
use super::{Outcome, Work, column, ids, output};

const COLUMNS: &[Column] = &[
    column("ULID", "ulid"),
    column("ISSUE", "issue"),
    column("WHAT", "what"),
    column("TO DO", "toDo"),
];
const DAMAGE: &str = "index_known_issues";
const OVERLAP: &str = "overlapped_blocks";
const DUPLICATE: &str = "duplicated_compaction";
/// Bytes that are read at once of an index and of a segment.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Memory that one block may take while it is read.
const MEMORY_BYTES: usize = 256 * 1024 * 1024;

pub(super) fn flags(command: Command) -> Command {
    let command = command.arg(
        flags::values("issues", "What to look for; may be given more than once.")
            .short('i')
            .default_values([DAMAGE, OVERLAP])
            .value_parser(clap::builder::PossibleValuesParser::new([DAMAGE, OVERLAP, DUPLICATE])),
    );
    let command = ids(command, "Only this block; may be given more than once.");
    let reason = "a damaged block is never rewritten in place: the other blocks go on without it, \
                  and the column TO DO has the command that takes it out of the way";
    let command =
        flags::refused_switch(command, "repair", reason).mut_arg("repair", |it| it.short('r'));
    let command = flags::refused(command, "objstore-backup.config", "", reason);
    let command = flags::refused(command, "objstore-backup.config-file", "", reason);
    let command = flags::accepted(command, "delete-delay", "nothing is deleted");
    output(command, "Format of the list.", &["table", "json"])
}

pub(super) fn run<'a>(flags: &'a ArgMatches, session: &'a Session) -> Work<'a> {
    verify(flags, session).boxed_local()
}

/// Something that is wrong.
struct Issue {
    id: BlockId,
    issue: &'static str,
    what: String,
    to_do: String,
}

async fn verify(flags: &ArgMatches, session: &Session) -> anyhow::Result<Outcome> {
    let snapshot = session.snapshot().await?;
    let chosen: Vec<BlockId> =
        flags.get_many::<BlockId>("id").into_iter().flatten().copied().collect();
    if let Some(absent) = chosen.iter().find(|it| !snapshot.blocks.contains_key(it)) {
        bail!("--id={absent}: there is no such block in {}", session.bucket);
    }
    let wanted: Vec<&String> = flags.get_many::<String>("issues").into_iter().flatten().collect();
    let is_wanted = |issue: &str| wanted.iter().any(|it| *it == issue);
    let blocks: Vec<(BlockId, &Block)> = snapshot
        .blocks
        .iter()
        .filter(|(id, _)| chosen.is_empty() || chosen.contains(id))
        .map(|(id, block)| (*id, block))
        .collect();
    let mut issues = Vec::new();
    if is_wanted(DAMAGE) {
        let bytes = blocks.iter().map(|(_, it)| readable_bytes(it)).sum();
        let progress = Arc::new(Progress::new(session.clock(), "blocks", blocks.len(), bytes));
        for (id, block) in &blocks {
            verify_block(session, *id, block, (&progress, &mut issues)).await?;
            progress.add_item();
        }
        progress.clear();
    }
    let is_chosen = |it: &Issue| chosen.is_empty() || chosen.contains(&it.id);
    if is_wanted(OVERLAP) {
        issues.extend(overlaps(&snapshot).into_iter().filter(is_chosen));
    }
    if is_wanted(DUPLICATE) {
        issues.extend(duplicates(&snapshot).into_iter().filter(is_chosen));
    }
    let rows = issues.iter().map(|it| {
        let texts = [it.id.to_string(), it.issue.to_owned(), it.what.clone(), it.to_do.clone()];
        texts.map(Cell::Text).to_vec()
    });
    let table = Table { columns: COLUMNS, rows: rows.collect() };
    session.print(&table.render(Format::parse(&text_of(flags, "output"))))?;
    let mut bad: Vec<BlockId> = issues.iter().map(|it| it.id).collect();
    bad.sort_unstable();
    bad.dedup();
    let (blocks, issues) = (blocks.len(), issues.len());
    session.note(&format!("{blocks} blocks verified, {issues} issues in {} of them", bad.len()));
    Ok(if issues == 0 { Outcome::Good } else { Outcome::Bad })
}

/// Bytes that are read of a block.
fn readable_bytes(block: &Block) -> u64 {
    match block.state {
        State::Loaded(_) => block.files.iter().map(|it| it.size_bytes).sum(),
        _ => 0,
    }
}

/// What is wrong with one block, its marks included.
async fn verify_block(
    session: &Session,
    id: BlockId,
    block: &Block,
    (progress, issues): (&Arc<Progress>, &mut Vec<Issue>),
) -> anyhow::Result<()> {
    let mut add = |issue: &'static str, what: String, to_do: String| {
        issues.push(Issue { id, issue, what, to_do });
    };
    for reason in unreadable_marks(block) {
        add("unreadable_mark", reason, "delete the object and set the mark again".to_owned());
    }
    match &block.state {
        State::Loaded(meta) => {
            let checked = read(session, meta, block, progress).await;
            match checked.with_context(|| format!("read block {id}"))? {
                Ok(checked) => {
                    for finding in &checked.findings {
                        add(DAMAGE, finding.to_string(), out_of_the_way(id));
                    }
                    if checked.more_findings > 0 {
                        let more = format!("and {} things more", checked.more_findings);
                        add(DAMAGE, more, out_of_the_way(id));
                    }
                }
                Err(what) => add(DAMAGE, what, out_of_the_way(id)),
            }
        }
        State::NoMeta if block.deletion.mark().is_some() => {
            let to_do = "aion tools bucket cleanup --no-dry-run";
            add("partial_deletion", "its deletion did not end".to_owned(), to_do.to_owned());
        }
        State::NoMeta => {
            let (what, to_do) = match partial::is_given_up(block, session.now_ms()) {
                true => ("an upload that was given up", "aion tools bucket cleanup --no-dry-run"),
                false => ("an upload that goes on or was given up", "wait, it may be finished"),
            };
            add("partial_upload", format!("no meta.json: {what}"), to_do.to_owned());
        }
        State::Corrupt(reason) => {
            add("corrupt_meta", format!("{id}/meta.json: {reason}"), out_of_the_way(id));
        }
        State::Incomplete { missing, .. } => {
            add("missing_files", format!("missing: {}", missing.join(", ")), out_of_the_way(id));
        }
        State::Failed(reason) => bail!("read block {id}: {reason}"),
    }
    Ok(())
}

fn unreadable_marks(block: &Block) -> Vec<String> {
    use bucket::marker::Found;
    let mut found = Vec::new();
    if let Found::Unreadable(reason) = &block.deletion {
        found.push(format!("{}: {reason}", bucket::layout::DELETION_MARK));
    }
    if let Found::Unreadable(reason) = &block.no_compact {
        found.push(format!("{}: {reason}", bucket::layout::NO_COMPACT_MARK));
    }
    if let Found::Unreadable(reason) = &block.no_downsample {
        found.push(format!("{}: {reason}", bucket::layout::NO_DOWNSAMPLE_MARK));
    }
    found
}

/// The command after which a damaged block is in nobody's way, and is deleted later.
fn out_of_the_way(id: BlockId) -> String {
    format!(
        "aion tools bucket mark --id={id} --marker=deletion-mark.json --details='damaged', or \
         upload it again"
    )
}

/// Reads a whole block. The inner error is damage that keeps it from being opened.
async fn read(
    session: &Session,
    meta: &Meta,
    block: &Block,
    progress: &Arc<Progress>,
) -> anyhow::Result<Result<Checked, String>> {
    let budget = session.context.budget.child("verify", MEMORY_BYTES);
    let mut reading = Reading::new(Handle::current(), budget.clone());
    reading.window_bytes = WINDOW_BYTES as u64;
    let source = match open_source(&session.store, meta, &block.files, &reading).await {
        Ok(source) => source,
        Err(error @ (bucket::Error::Corrupt { .. } | bucket::Error::Incomplete { .. })) => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    let progress = Arc::clone(progress);
    let work = session.context.tasks.spawn_blocking("verify", move || {
        let mut before = 0;
        check(&source, WINDOW_BYTES, &budget, &mut |passed| {
            progress.add_bytes(passed.saturating_sub(before));
            before = passed;
            true
        })
    });
    Ok(Ok(work.await.context("the check of a block ended")??))
}

/// The blocks of one stream and resolution, by their time.
fn groups(snapshot: &Snapshot) -> BTreeMap<(String, i64), Vec<&Meta>> {
    let mut groups: BTreeMap<(String, i64), Vec<&Meta>> = BTreeMap::new();
    for block in snapshot.blocks.values().filter(|it| it.deletion.mark().is_none()) {
        if let State::Loaded(meta) = &block.state {
            let labels = format!("{:?}", meta.thanos.labels);
            groups.entry((labels, meta.thanos.downsample.resolution_ms)).or_default().push(meta);
        }
    }
    for group in groups.values_mut() {
        group.sort_by_key(|it| (it.min_time_ms, it.max_time_ms, it.ulid));
    }
    groups
}

/// Blocks that begin before one that began earlier has ended.
fn overlaps(snapshot: &Snapshot) -> Vec<Issue> {
    let mut found = Vec::new();
    for group in groups(snapshot).values() {
        let mut longest: Option<&Meta> = None;
        for meta in group {
            if let Some(other) = longest.filter(|it| meta.min_time_ms < it.max_time_ms) {
                found.push(Issue {
                    id: meta.ulid,
                    issue: OVERLAP,
                    what: format!("it overlaps block {} of the same labels", other.ulid),
                    to_do: "nothing: a compaction merges them".to_owned(),
                });
            }
            if longest.is_none_or(|it| it.max_time_ms < meta.max_time_ms) {
                longest = Some(meta);
            }
        }
    }
    found
}

/// Blocks that were made of the same blocks as another one.
fn duplicates(snapshot: &Snapshot) -> Vec<Issue> {
    let mut found = Vec::new();
    for group in groups(snapshot).values() {
        let duplicates = bucket::filter::duplicates(group.iter().copied());
        for meta in group.iter().filter(|it| duplicates.contains(&it.ulid)) {
            found.push(Issue {
                id: meta.ulid,
                issue: DUPLICATE,
                what: "all blocks that it was made of are in another one, too".to_owned(),
                to_do: "nothing: the compactor takes it away".to_owned(),
            });
        }
    }
    found
}
