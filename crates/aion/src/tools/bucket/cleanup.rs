//! `cleanup`: deletes what is due to be deleted.

use anyhow::{Context as _, bail};
use bucket::cleanup::{Delays, Due, Reason, due};
use bucket::{Snapshot, clock, delete, partial, upload};
use clap::{ArgMatches, Command};
use daemon::flags::{self, duration_of, is_on, text_of};
use futures_util::FutureExt as _;

use super::progress::Progress;
use super::session::Session;
use super::table::{Cell, Column, Format, Table};
use super::{DRY_RUN, Outcome, Work, column, dry_run, no_relabelling, output, text};

const COLUMNS: &[Column] = &[
    column("ULID", "ulid"),
    column("WHY", "why"),
    column("SINCE", "since"),
    column("#OBJECTS", "objects"),
    column("SIZE", "sizeBytes"),
    column("DETAILS", "details"),
];

pub(super) fn flags(command: Command) -> Command {
    let command = command
        .arg(flags::duration("delete-delay", "48h", "Time between a mark and the deletion."))
        .arg(flags::duration(
            "consistency-delay",
            "30m",
            "Age of uploads that were given up, where it is more than two days.",
        ));
    let command = flags::accepted(
        command,
        "block-sync-concurrency",
        "32 metas are read at once, after one listing of the bucket",
    );
    let command = output(command, "Format of the list.", &["table", "json"]);
    dry_run(no_relabelling(command))
}

pub(super) fn run<'a>(flags: &'a ArgMatches, session: &'a Session) -> Work<'a> {
    clean(flags, session).boxed_local()
}

async fn clean(flags: &ArgMatches, session: &Session) -> anyhow::Result<Outcome> {
    let snapshot = session.snapshot().await?;
    let whole_ms = |name| i64::try_from(duration_of(flags, name).as_millis()).unwrap_or(i64::MAX);
    let delays = Delays {
        delete_ms: whole_ms("delete-delay"),
        consistency_ms: whole_ms("consistency-delay"),
    };
    let now_ms = session.now_ms();
    let due = due(&snapshot, delays, now_ms);
    let table = Table { columns: COLUMNS, rows: due.iter().map(row).collect() };
    session.print(&table.render(Format::parse(&text_of(flags, "output"))))?;
    let bytes = due.iter().map(|it| it.size_bytes).sum();
    let summary = format!("{} blocks, {}", due.len(), text::bytes(bytes));
    if is_on(flags, "dry-run") {
        session.note(&format!("{summary} to delete"));
        session.note(DRY_RUN);
        return Ok(Outcome::Good);
    }
    check_deletion_is_safe(session, &snapshot, now_ms).await?;
    let aborted = upload::abort_stale_uploads(&*session.store, now_ms).await;
    let aborted = aborted.context("abort uploads in parts that were left behind")?;
    let progress = Progress::new(session.clock(), "blocks deleted", due.len(), 0);
    let (mut deleted, mut failed) = (0, 0);
    for block in &due {
        let done = match block.reason {
            Reason::Marked { .. } => delete::delete(&*session.store, block.id).await.map(|_| true),
            Reason::GivenUp { .. } => partial::clean_one(&*session.store, block.id, now_ms).await,
        };
        match done {
            Ok(is_gone) => deleted += usize::from(is_gone),
            Err(error) => {
                failed += 1;
                progress.clear();
                session.note(&format!("{}: {error}", block.id));
            }
        }
        progress.add_item();
    }
    progress.clear();
    session.note(&format!(
        "{deleted} of {summary} deleted, {failed} failed; {aborted} uploads in parts aborted"
    ));
    Ok(if failed == 0 { Outcome::Good } else { Outcome::Bad })
}

fn row(due: &Due) -> Vec<Cell> {
    let (why, since_ms, details) = match &due.reason {
        Reason::Marked { at_s, details } => ("marked", at_s.saturating_mul(1000), details.as_str()),
        Reason::GivenUp { modified_ms } => ("upload given up", *modified_ms, ""),
    };
    vec![
        Cell::Text(due.id.to_string()),
        Cell::Text(why.to_owned()),
        Cell::Time(since_ms),
        Cell::Count(due.objects as u64),
        Cell::Bytes(due.size_bytes),
        Cell::Text(details.to_owned()),
    ]
}

/// Nothing is deleted by a clock that is wrong, or by half a view of the bucket.
pub(super) async fn check_deletion_is_safe(
    session: &Session,
    snapshot: &Snapshot,
    now_ms: i64,
) -> anyhow::Result<()> {
    if !snapshot.is_complete() {
        let troubles = snapshot.troubles.iter().filter(|it| it.is_transient);
        let texts: Vec<&str> = troubles.map(|it| &*it.text).collect();
        bail!("not all of the bucket could be read, so nothing is changed: {}", texts.join("; "));
    }
    let reading = clock::compare(&*session.store, snapshot, now_ms).await;
    let reading = reading.context("compare the clock with the store's")?;
    if !reading.agrees() {
        bail!(
            "the clock of this machine is {} ahead of the store's (by {}), so nothing is changed; \
             set the clock",
            text::span(reading.ahead_ms),
            reading.key
        );
    }
    Ok(())
}
