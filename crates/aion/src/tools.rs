//! `aion tools bucket …`: looks at a bucket, and mends it by hand.

mod bucket;
mod progress;
mod session;
mod table;
mod text;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use daemon::{CommandLine, flags, one_line};
use futures_util::future::LocalBoxFuture;
use model::nearest;

use crate::commands::{tell, usage};
use crate::tools::session::Session;

const HELP: &str = "aion tools bucket looks at a bucket, and mends it by hand.\n\n\
                    Usage: aion tools bucket TOOL [FLAGS]; aion tools bucket TOOL --help lists \
                    the flags.\n\nTools:\n";

/// How a tool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything is as it should be.
    Good,
    /// It did its work and found, or left, something that is not: the process exits with 1.
    Bad,
}

/// The work of a tool.
type Work<'a> = LocalBoxFuture<'a, anyhow::Result<Outcome>>;

/// A tool.
struct Tool {
    name: &'static str,
    about: &'static str,
    flags: fn(Command) -> Command,
    run: for<'a> fn(&'a ArgMatches, &'a Session) -> Work<'a>,
}

/// Tools of Thanos that are not there, and what to do instead.
const ABSENT: [(&str, &str); 3] = [
    ("web", "the blocks are shown by `aion tools bucket ls` and `inspect`"),
    ("replicate", "a copy of the bucket by the tools of its store is a whole bucket"),
    ("rewrite", "blocks are left as they are"),
];

/// Runs `aion tools …`.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let group = arguments.next().unwrap_or_default();
    match group.to_str().unwrap_or_default() {
        "bucket" => {}
        "" | "-h" | "--help" | "help" => return tell(&help()),
        "rules-check" => return usage("tools rules-check: there are no rules yet"),
        other => return usage(&format!("tools: unknown tools {other}; did you mean bucket?")),
    }
    let first = arguments.next().unwrap_or_default();
    let name = first.to_str().unwrap_or_default();
    if ["", "-h", "--help", "help"].contains(&name) {
        return tell(&help());
    }
    match bucket::TOOLS.iter().find(|it| it.name == name) {
        Some(tool) => run_tool(tool, arguments.collect()),
        None => unknown(name),
    }
}

fn unknown(name: &str) -> ExitCode {
    if let Some((_, instead)) = ABSENT.iter().find(|(absent, _)| *absent == name) {
        return usage(&format!("tools bucket {name} is not there yet: {instead}"));
    }
    match nearest(name, bucket::TOOLS.iter().map(|it| it.name)) {
        Some(meant) => usage(&format!("tools bucket: unknown tool {name}, did you mean {meant}?")),
        None => usage(&format!("tools bucket: unknown tool {name}; aion tools --help lists them")),
    }
}

fn help() -> String {
    let mut text = HELP.to_owned();
    for Tool { name, about, .. } in &bucket::TOOLS {
        text.push_str(&format!("  {name:<15}{about}\n"));
    }
    text
}

/// The command of a tool, with the flags that every tool has.
fn command(tool: &Tool) -> Command {
    let command = Command::new(format!("aion tools bucket {}", tool.name))
        .about(tool.about)
        .disable_version_flag(true);
    let command = flags::config_pair(command, "objstore", "YAML with the object store.");
    let command = (tool.flags)(command);
    let command = flags::accepted(command, "log.level", "tools write no log");
    flags::accepted(command, "log.format", "tools write no log")
}

fn run_tool(tool: &Tool, arguments: Vec<OsString>) -> ExitCode {
    let name = format!("tools bucket {}", tool.name);
    let flags = match daemon::parse_command(&command(tool), arguments) {
        Ok(CommandLine::Text(text)) => return tell(&text),
        Ok(CommandLine::Flags { flags, notes }) => {
            for note in notes {
                complain(&format!("note: {note}"));
            }
            flags
        }
        Err(error) => return usage(&format!("{name}: {}", one_line(&error))),
    };
    let config = match session::config(&flags) {
        Ok(config) => config,
        Err(error) => return usage(&format!("{name}: {}", one_line(&error))),
    };
    let outcome = session::with(config, async |session| (tool.run)(&flags, &session).await);
    match outcome {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("aion {name}: {}", one_line(&error)));
            ExitCode::FAILURE
        }
    }
}

/// A line for people, beside the answer.
fn complain(line: &str) {
    // Nothing can be done when even stderr is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}
