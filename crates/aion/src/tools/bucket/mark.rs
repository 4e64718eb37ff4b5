//! `mark`: sets and removes the marks of blocks.

use anyhow::{Context as _, bail};
use bucket::layout::{self, DELETION_MARK, NO_COMPACT_MARK, NO_DOWNSAMPLE_MARK};
use bucket::marker::{self, DeletionMark, MANUAL, NoCompactMark, NoDownsampleMark};
use clap::{ArgMatches, Command};
use daemon::flags::{self, is_on, text_of};
use futures_util::FutureExt as _;
use model::BlockId;

use super::session::Session;
use super::{DRY_RUN, Outcome, Work, ids};

pub(super) fn flags(command: Command) -> Command {
    let marks = [DELETION_MARK, NO_COMPACT_MARK, NO_DOWNSAMPLE_MARK];
    let command = ids(command, "Block to mark; may be given more than once.")
        .mut_arg("id", |it| it.required(true))
        .arg(
            flags::value("marker", "The mark, by the name of its object.")
                .required(true)
                .value_parser(clap::builder::PossibleValuesParser::new(marks)),
        )
        .arg(flags::value("details", "Why, for people; needed unless --remove is given."));
    let command = flags::bool_pair(command, "remove", false, "Remove the mark.");
    flags::bool_pair(command, "dry-run", false, "Only say what would be done.")
}

pub(super) fn run<'a>(flags: &'a ArgMatches, session: &'a Session) -> Work<'a> {
    mark(flags, session).boxed_local()
}

async fn mark(flags: &ArgMatches, session: &Session) -> anyhow::Result<Outcome> {
    let (file, details) = (text_of(flags, "marker"), text_of(flags, "details"));
    let is_removal = is_on(flags, "remove");
    if !is_removal && details.is_empty() {
        bail!("--details: is required, so that others know why the block is marked");
    }
    let is_dry = is_on(flags, "dry-run");
    let mut outcome = Outcome::Good;
    for id in flags.get_many::<BlockId>("id").into_iter().flatten() {
        let done = match (is_dry, is_removal) {
            (true, _) => exists(session, *id).await.map(|()| "would be changed"),
            (false, true) => remove(session, *id, &file).await,
            (false, false) => set(session, *id, &file, &details).await,
        };
        match done {
            Ok(what) => session.print(&format!("{id} {file}: {what}\n"))?,
            Err(error) => {
                outcome = Outcome::Bad;
                session.note(&format!("{id} {file}: {error:#}"));
            }
        }
    }
    if is_dry {
        session.note(DRY_RUN);
    }
    Ok(outcome)
}

async fn exists(session: &Session, id: BlockId) -> anyhow::Result<()> {
    let files = layout::list_block(&*session.store, id).await.context("look for the block")?;
    if files.is_empty() {
        bail!("there is no such block in {}", session.bucket);
    }
    Ok(())
}

async fn set(
    session: &Session,
    id: BlockId,
    file: &str,
    details: &str,
) -> anyhow::Result<&'static str> {
    exists(session, id).await?;
    let (store, now_ms) = (&*session.store, session.now_ms());
    let is_new = match file {
        DELETION_MARK => marker::write(store, &DeletionMark::new(id, details, now_ms)).await,
        NO_COMPACT_MARK => {
            marker::write(store, &NoCompactMark::new(id, MANUAL, details, now_ms)).await
        }
        _ => marker::write(store, &NoDownsampleMark::new(id, MANUAL, details, now_ms)).await,
    };
    // A mark is never replaced: its age counts.
    Ok(if is_new.context("write the mark")? { "marked" } else { "was marked already" })
}

async fn remove(session: &Session, id: BlockId, file: &str) -> anyhow::Result<&'static str> {
    exists(session, id).await?;
    let was_there = marker::remove(&*session.store, id, file).await.context("remove the mark")?;
    Ok(if was_there { "removed" } else { "was not marked" })
}
