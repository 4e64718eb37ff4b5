//! `ls`: the blocks one by one.

use anyhow::bail;
use bucket::{Block, State, filter};
use clap::{ArgMatches, Command};
use daemon::flags::{self, duration_of, is_on, text_of};
use futures_util::FutureExt as _;
use model::TimeBound;
use tsdb_core::block::Meta;

use super::session::Session;
use super::{Outcome, Work, no_relabelling, text, timeout, times};

pub(super) fn flags(command: Command) -> Command {
    let command = command.arg(
        flags::value("output", "Ids alone, or one of wide and json.").short('o').default_value(""),
    );
    let about = "Leave out blocks that are marked for deletion.";
    let command = flags::bool_pair(command, "exclude-delete", false, about);
    no_relabelling(timeout(times(command)))
}

pub(super) fn run<'a>(flags: &'a ArgMatches, session: &'a Session) -> Work<'a> {
    list(flags, session).boxed_local()
}

async fn list(flags: &ArgMatches, session: &Session) -> anyhow::Result<Outcome> {
    let show: fn(&Meta) -> String = match &*text_of(flags, "output") {
        "" => |it| format!("{}\n", it.ulid),
        "wide" => wide,
        "json" => |it| String::from_utf8_lossy(&it.encode()).into_owned(),
        other => {
            bail!("--output={other}: Go's templates are not evaluated; take json and give it to jq")
        }
    };
    let snapshot = session.snapshot_within(duration_of(flags, "timeout")).await?;
    let now_ms = session.now_ms();
    let bound = |name| flags.get_one::<TimeBound>(name).map(|it| it.at(now_ms));
    let min_time_ms = bound("min-time").unwrap_or(i64::MIN);
    let max_time_ms = bound("max-time").unwrap_or(i64::MAX);
    let is_excluded =
        |block: &Block| is_on(flags, "exclude-delete") && block.deletion.mark().is_some();
    let mut listed = 0;
    for block in snapshot.blocks.values().filter(|it| !is_excluded(it)) {
        let (State::Loaded(meta) | State::Incomplete { meta, .. }) = &block.state else { continue };
        if filter::in_time(meta, min_time_ms, max_time_ms) {
            session.print(&show(meta))?;
            listed += 1;
        }
    }
    for trouble in &snapshot.troubles {
        session.note(&format!("note: {}", trouble.text));
    }
    session.note(&format!("{listed} blocks"));
    Ok(if snapshot.is_complete() { Outcome::Good } else { Outcome::Bad })
}

/// A block in one line, as Thanos writes it, but with times in UTC.
fn wide(meta: &Meta) -> String {
    let seconds = |time_ms: i64| time_ms.div_euclid(1000);
    let span_ms = seconds(meta.max_time_ms).saturating_sub(seconds(meta.min_time_ms));
    format!(
        "{} -- {} - {} Diff: {}, Compaction: {}, Downsample: {}, Source: {}\n",
        meta.ulid,
        text::time(meta.min_time_ms),
        text::time(meta.max_time_ms),
        text::span(span_ms.saturating_mul(1000)),
        meta.compaction.level,
        meta.thanos.downsample.resolution_ms,
        meta.thanos.source
    )
}
