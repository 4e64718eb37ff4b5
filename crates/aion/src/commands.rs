//! The commands of the binary, found by their first word.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use compactor::Compactor;
use daemon::Service;
use model::nearest;
use querier::Querier;
use receiver::Receiver;
use store_gateway::StoreGateway;

use crate::healthcheck;
use crate::standalone::Standalone;
use crate::tools;

const EXIT_USAGE: u8 = 2;

/// One daemon: how it runs, and how its configuration is checked.
struct Daemon {
    name: &'static str,
    about: &'static str,
    run: fn(&str, Vec<OsString>) -> ExitCode,
    check: fn(&str, Vec<OsString>) -> ExitCode,
}

const DAEMONS: [Daemon; 5] = [
    daemon::<Receiver>("takes remote write, keeps it, ships blocks to the bucket"),
    daemon::<StoreGateway>("answers from the blocks in the bucket"),
    daemon::<Compactor>("looks after the blocks in the bucket"),
    daemon::<Querier>("answers PromQL from receivers and store gateways"),
    daemon::<Standalone>("all four in one process, with data in ./data; needs no flags"),
];

const fn daemon<S: Service>(about: &'static str) -> Daemon {
    Daemon { name: S::NAME, about, run: daemon::run_with::<S>, check: daemon::check::<S> }
}

/// Runs what the arguments ask for.
pub(crate) fn dispatch(arguments: Vec<OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let first = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    match first.to_str().unwrap_or_default() {
        "" | "help" | "-h" | "--help" | "--help-long" => tell(&help()),
        "-V" | "--version" | "version" => tell(concat!("aion ", env!("CARGO_PKG_VERSION"), "\n")),
        "check" => check(rest),
        "healthcheck" => healthcheck::run(rest),
        "tools" => tools::run(rest),
        name => match DAEMONS.iter().find(|it| it.name == name) {
            Some(daemon) => (daemon.run)(&format!("aion {name}"), rest),
            None => unknown(name),
        },
    }
}

/// `aion check config receive --flags`; the word `config` may be left out.
fn check(arguments: Vec<OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter().peekable();
    arguments.next_if(|it| it == "config");
    let name = arguments.next().unwrap_or_default();
    let name = name.to_str().unwrap_or_default();
    match DAEMONS.iter().find(|it| it.name == name) {
        Some(daemon) => (daemon.check)(&format!("aion {name}"), arguments.collect()),
        None if name.is_empty() || name.starts_with('-') => {
            usage("check config: name a command: aion check config receive --flags")
        }
        None => unknown(name),
    }
}

fn unknown(name: &str) -> ExitCode {
    let known = DAEMONS.iter().map(|it| it.name).chain(["check", "healthcheck", "tools"]);
    match nearest(name, known) {
        Some(meant) => usage(&format!("unknown command {name}, did you mean {meant}?")),
        None => usage(&format!("unknown command {name}; aion --help lists the commands")),
    }
}

fn help() -> String {
    let mut text = String::from(
        "aion keeps Prometheus' metrics for years, on object storage.\n\nUsage: aion COMMAND \
         [FLAGS]; aion COMMAND --help lists the flags.\n\nCommands:\n",
    );
    for Daemon { name, about, .. } in &DAEMONS {
        text.push_str(&format!("  {name:<13}{about}\n"));
    }
    for (name, about) in [
        ("check", "checks a configuration: aion check config COMMAND [FLAGS]"),
        ("healthcheck", "asks a daemon on this machine whether it is ready"),
        ("tools", "looks at a bucket, and mends it: aion tools bucket TOOL [FLAGS]"),
    ] {
        text.push_str(&format!("  {name:<13}{about}\n"));
    }
    text
}

pub(crate) fn tell(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

pub(crate) fn usage(message: &str) -> ExitCode {
    // Nothing can be done when even stderr is gone.
    let _ = writeln!(std::io::stderr(), "aion: {message}");
    ExitCode::from(EXIT_USAGE)
}
