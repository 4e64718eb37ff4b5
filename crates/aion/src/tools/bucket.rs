//! The tools that look at a bucket.

mod cleanup;
mod downsample;
mod inspect;
mod ls;
mod mark;
mod retention;
mod upload;
mod verify;

use clap::Command;
use daemon::flags;
use model::{BlockId, TimeBound};

use super::table::Column;
use super::{Outcome, Tool, Work, progress, session, table, text};

/// All of them, in the order of the help.
pub(super) const TOOLS: [Tool; 8] = [
    Tool { name: "ls", about: "Lists the blocks.", flags: ls::flags, run: ls::run },
    Tool {
        name: "inspect",
        about: "Shows what the blocks are in a table.",
        flags: inspect::flags,
        run: inspect::run,
    },
    Tool {
        name: "verify",
        about: "Reads whole blocks and names everything that is wrong.",
        flags: verify::flags,
        run: verify::run,
    },
    Tool {
        name: "mark",
        about: "Marks blocks for deletion, or against compaction or downsampling.",
        flags: mark::flags,
        run: mark::run,
    },
    Tool {
        name: "cleanup",
        about: "Deletes marked blocks and uploads that were given up; says what by default.",
        flags: cleanup::flags,
        run: cleanup::run,
    },
    Tool {
        name: "retention",
        about: "Marks blocks that outlived their retention; says which by default.",
        flags: retention::flags,
        run: retention::run,
    },
    Tool {
        name: "downsample",
        about: "Makes the 5m and 1h versions that blocks lack.",
        flags: downsample::flags,
        run: downsample::run,
    },
    Tool {
        name: "upload-blocks",
        about: "Uploads the blocks of a local directory.",
        flags: upload::flags,
        run: upload::run,
    },
];

/// Said after a dry run that found something to do.
const DRY_RUN: &str = "dry run: nothing was changed; --no-dry-run does it";

/// `--output` with these formats.
fn output(command: Command, help: &'static str, formats: &'static [&'static str]) -> Command {
    command.arg(
        flags::value("output", help)
            .short('o')
            .default_value(formats[0])
            .value_parser(clap::builder::PossibleValuesParser::new(formats.iter().copied())),
    )
}

/// `--dry-run`, on unless `--no-dry-run` is given.
fn dry_run(command: Command) -> Command {
    flags::bool_pair(command, "dry-run", true, "Only say what would be done; --no-dry-run does it.")
}

/// `--timeout`.
fn timeout(command: Command) -> Command {
    command.arg(flags::duration("timeout", "5m", "Time that reading the metas may take."))
}

/// `--id`, once or more.
fn ids(command: Command, help: &'static str) -> Command {
    command.arg(flags::values("id", help).value_parser(parse_id))
}

/// `--min-time` and `--max-time`.
fn times(command: Command) -> Command {
    command
        .arg(
            flags::value("min-time", "Leave out blocks that end before; RFC 3339 or -30d.")
                .default_value("0000-01-01T00:00:00Z")
                .value_parser(TimeBound::parse),
        )
        .arg(
            flags::value("max-time", "Leave out blocks that begin after; RFC 3339 or -30d.")
                .default_value("9999-12-31T23:59:59Z")
                .value_parser(TimeBound::parse),
        )
}

/// The selection by relabelling, which no tool has yet.
fn no_relabelling(command: Command) -> Command {
    let reason = "the selection of blocks by relabelling is not there yet";
    let command = flags::refused(command, "selector.relabel-config", "", reason);
    flags::refused(command, "selector.relabel-config-file", "", reason)
}

fn parse_id(text: &str) -> Result<BlockId, String> {
    let parsed = text.to_ascii_uppercase().parse();
    parsed.map_err(|_| "is no ULID of a block, such as 01M83S0FBCY141G7C3CQJ72YNQ".to_owned())
}

const fn column(header: &'static str, key: &'static str) -> Column {
    Column { header, key }
}
