//! `retention`: marks blocks that outlived their retention.

use anyhow::{Context as _, bail};
use bucket::cleanup::{Expired, Retention, expired};
use bucket::marker::{self, DeletionMark};
use clap::{ArgMatches, Command};
use daemon::flags::{self, duration_of, is_on, text_of};
use futures_util::FutureExt as _;

use super::cleanup::check_deletion_is_safe;
use super::progress::Progress;
use super::session::Session;
use super::table::{Cell, Column, Format, Table};
use super::{DRY_RUN, Outcome, Work, column, dry_run, no_relabelling, output, text};

const COLUMNS: &[Column] =
    &[column("ULID", "ulid"), column("SIZE", "sizeBytes"), column("DETAILS", "details")];

pub(super) fn flags(command: Command) -> Command {
    let command = command
        .arg(flags::duration(
            "retention.resolution-raw",
            "0d",
            "How long to keep raw samples; 0d for ever.",
        ))
        .arg(flags::duration(
            "retention.resolution-5m",
            "0d",
            "How long to keep samples of 5 minutes; 0d for ever.",
        ))
        .arg(flags::duration(
            "retention.resolution-1h",
            "0d",
            "How long to keep samples of 1 hour; 0d for ever.",
        ));
    let accepted = [
        ("delete-delay", "blocks are marked only; cleanup or the compactor deletes them"),
        ("consistency-delay", "retention looks at the time of samples, not of uploads"),
        ("block-sync-concurrency", "32 metas are read at once, after one listing of the bucket"),
    ];
    let command =
        accepted.into_iter().fold(command, |it, (name, why)| flags::accepted(it, name, why));
    let command = output(command, "Format of the list.", &["table", "json"]);
    dry_run(no_relabelling(command))
}

pub(super) fn run<'a>(flags: &'a ArgMatches, session: &'a Session) -> Work<'a> {
    retain(flags, session).boxed_local()
}

async fn retain(flags: &ArgMatches, session: &Session) -> anyhow::Result<Outcome> {
    let kept = |name| {
        let kept_ms = i64::try_from(duration_of(flags, name).as_millis()).unwrap_or(i64::MAX);
        (kept_ms > 0).then_some(kept_ms)
    };
    let retention = Retention {
        raw_ms: kept("retention.resolution-raw"),
        five_minutes_ms: kept("retention.resolution-5m"),
        one_hour_ms: kept("retention.resolution-1h"),
    };
    if retention == Retention::default() {
        bail!("--retention.resolution-raw, -5m, -1h: all are 0d, so every block is kept for ever");
    }
    let snapshot = session.snapshot().await?;
    let now_ms = session.now_ms();
    let expired = expired(&snapshot, &retention, now_ms);
    let table = Table { columns: COLUMNS, rows: expired.iter().map(row).collect() };
    session.print(&table.render(Format::parse(&text_of(flags, "output"))))?;
    let bytes = expired.iter().map(|it| it.size_bytes).sum();
    let summary = format!("{} blocks, {}", expired.len(), text::bytes(bytes));
    if is_on(flags, "dry-run") {
        session.note(&format!("{summary} to mark for deletion"));
        session.note(DRY_RUN);
        return Ok(Outcome::Good);
    }
    check_deletion_is_safe(session, &snapshot, now_ms).await?;
    let progress = Progress::new(session.clock(), "blocks marked", expired.len(), 0);
    for block in &expired {
        let mark = DeletionMark::new(block.id, &block.details, now_ms);
        let written = marker::write(&*session.store, &mark).await;
        written.with_context(|| format!("mark {}", block.id))?;
        progress.add_item();
    }
    progress.clear();
    session.note(&format!("{summary} marked for deletion"));
    Ok(Outcome::Good)
}

fn row(expired: &Expired) -> Vec<Cell> {
    vec![
        Cell::Text(expired.id.to_string()),
        Cell::Bytes(expired.size_bytes),
        Cell::Text(expired.details.clone()),
    ]
}
