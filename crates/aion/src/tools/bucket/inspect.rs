//! `inspect`: the blocks in a table.

use bucket::State;
use clap::{ArgMatches, Command};
use daemon::flags::{self, duration_of, parse_label, text_of};
use futures_util::FutureExt as _;
use tsdb_core::block::Meta;

use super::session::Session;
use super::table::{Cell, Column, Format, Table};
use super::{Outcome, Work, column, output, text, timeout};

const COLUMNS: &[Column] = &[
    column("ULID", "ulid"),
    column("FROM", "from"),
    column("UNTIL", "until"),
    column("RANGE", "rangeMs"),
    column("UNTIL-DOWN", "untilDownsamplingMs"),
    column("#SERIES", "series"),
    column("#SAMPLES", "samples"),
    column("#CHUNKS", "chunks"),
    column("COMP-LEVEL", "compactionLevel"),
    column("COMP-FAILED", "compactionFailed"),
    column("LABELS", "labels"),
    column("RESOLUTION", "resolution"),
    column("SOURCE", "source"),
];
/// A raw block of this range is downsampled to 5m.
const FIVE_MINUTES_RANGE_MS: i64 = 40 * 3_600_000;
/// A block of 5m of this range is downsampled to 1h.
const ONE_HOUR_RANGE_MS: i64 = 10 * 24 * 3_600_000;

pub(super) fn flags(command: Command) -> Command {
    let headers = COLUMNS.iter().map(|it| it.header);
    let command = command
        .arg(
            flags::values("selector", "Only blocks with this label, name=\"value\"; all of them.")
                .short('l')
                .value_parser(parse_label),
        )
        .arg(
            flags::values("sort-by", "Column to sort by, the first one first.")
                .default_values(["FROM", "UNTIL"])
                .value_parser(clap::builder::PossibleValuesParser::new(headers)),
        );
    let command = output(command, "Format of the table.", &["table", "tsv", "csv", "json"]);
    timeout(command)
}

pub(super) fn run<'a>(flags: &'a ArgMatches, session: &'a Session) -> Work<'a> {
    inspect(flags, session).boxed_local()
}

async fn inspect(flags: &ArgMatches, session: &Session) -> anyhow::Result<Outcome> {
    let selector: Vec<&(String, String)> =
        flags.get_many("selector").into_iter().flatten().collect();
    let snapshot = session.snapshot_within(duration_of(flags, "timeout")).await?;
    let metas = snapshot.blocks.values().filter_map(|block| match &block.state {
        State::Loaded(meta) | State::Incomplete { meta, .. } => Some(meta),
        _ => None,
    });
    let is_selected =
        |it: &Meta| selector.iter().all(|(name, value)| it.thanos.labels.get(name) == Some(value));
    let rows = metas.filter(|it| is_selected(it)).map(|it| row(it)).collect();
    let mut table = Table { columns: COLUMNS, rows };
    let sort_by = flags.get_many::<String>("sort-by").into_iter().flatten();
    let sort_by = sort_by.filter_map(|it| COLUMNS.iter().position(|column| column.header == *it));
    table.sort_by(&sort_by.collect::<Vec<_>>());
    session.print(&table.render(Format::parse(&text_of(flags, "output"))))?;
    for trouble in &snapshot.troubles {
        session.note(&format!("note: {}", trouble.text));
    }
    Ok(if snapshot.is_complete() { Outcome::Good } else { Outcome::Bad })
}

fn row(meta: &Meta) -> Vec<Cell> {
    let range_ms = meta.max_time_ms.saturating_sub(meta.min_time_ms);
    let resolution_ms = meta.thanos.downsample.resolution_ms;
    let next_ms = match resolution_ms {
        0 => Some(FIVE_MINUTES_RANGE_MS),
        300_000 => Some(ONE_HOUR_RANGE_MS),
        _ => None,
    };
    let labels = meta.thanos.labels.iter().map(|(name, value)| format!("{name}={value}"));
    vec![
        Cell::Text(meta.ulid.to_string()),
        Cell::Time(meta.min_time_ms),
        Cell::Time(meta.max_time_ms),
        Cell::Span(Some(range_ms)),
        Cell::Span(next_ms.map(|it| it.saturating_sub(range_ms))),
        Cell::Count(meta.stats.num_series),
        Cell::Count(meta.stats.num_samples),
        Cell::Count(meta.stats.num_chunks),
        Cell::Count(u64::from(meta.compaction.level)),
        Cell::Flag(meta.compaction.failed),
        Cell::Text(labels.collect::<Vec<_>>().join(",")),
        Cell::Text(text::span(resolution_ms)),
        Cell::Text(meta.thanos.source.clone()),
    ]
}
