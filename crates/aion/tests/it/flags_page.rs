//! `docs/run/flags.md` is what the daemons declare, and they declare every flag of Thanos.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command};
use compactor::Compactor;
use daemon::{command, flags};
use querier::Querier;
use receiver::Receiver;
use store_gateway::StoreGateway;

use crate::thanos_flags::{COMMON, COMPACT, GRPC, QUERY, RECEIVE, STORE};

/// Set to write the page instead of comparing it.
const WRITE: &str = "AION_WRITE_DOCS";

const HEAD: &str = "# Flags\n\n\
    Every flag of the four daemons; `cargo test -p aion` compares this page with what they \
    declare, and with the flags that Thanos has, and `AION_WRITE_DOCS=1 cargo test -p aion \
    flags_page` writes it anew.\n\n\
    | state | means |\n|---|---|\n\
    | done | does what it does in Thanos |\n\
    | own | Thanos does not have it |\n\
    | accepted | may be given and does nothing here; the log says so, and why |\n\
    | refused | ends the process with the reason, unless it says what is so anyway |\n";

struct Daemon {
    command: Command,
    thanos: Vec<&'static str>,
}

fn daemons() -> [Daemon; 4] {
    let with_grpc = |own: &[&'static str]| [COMMON, GRPC, own].concat();
    // Built, since only then it has the flags that clap adds by itself.
    let built = |mut command: Command| {
        command.build();
        command
    };
    [
        Daemon { command: built(command::<Receiver>("receive")), thanos: with_grpc(RECEIVE) },
        Daemon { command: built(command::<StoreGateway>("store")), thanos: with_grpc(STORE) },
        Daemon { command: built(command::<Querier>("query")), thanos: with_grpc(QUERY) },
        Daemon {
            command: built(command::<Compactor>("compact")),
            thanos: [COMMON, COMPACT].concat(),
        },
    ]
}

fn names(arg: &Arg) -> Vec<String> {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    let own = arg.get_id().to_string();
    std::iter::once(own).chain(aliases.into_iter().map(str::to_owned)).collect()
}

#[test]
fn every_flag_of_thanos_is_known() {
    let mut missing = Vec::new();
    for Daemon { command, thanos } in daemons() {
        let known: BTreeSet<String> = command.get_arguments().flat_map(names).collect();
        let unknown = thanos.iter().filter(|it| !known.contains(**it));
        missing.extend(unknown.map(|it| format!("{} --{it}", command.get_name())));
    }
    assert!(missing.is_empty(), "not declared: {missing:#?}");
}

#[test]
fn no_two_flags_have_the_same_variable() {
    for Daemon { command, .. } in daemons() {
        let mut seen = BTreeSet::new();
        for arg in command.get_arguments() {
            let variable = arg.get_id().as_str().replace(['.', '-'], "_");
            assert!(seen.insert(variable), "{} {}", command.get_name(), arg.get_id());
        }
    }
}

#[test]
fn the_page_is_what_the_daemons_declare() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/run/flags.md");
    let mut page = HEAD.to_owned();
    for Daemon { command, thanos } in daemons() {
        write!(page, "\n## {}\n\n", command.get_name()).unwrap();
        page.push_str("| flag | default | state | |\n|---|---|---|---|\n");
        let mut rows: Vec<String> = command
            .get_arguments()
            .filter(|it| !it.is_hide_set() && it.get_long().is_some())
            .map(|it| row(it, &thanos))
            .collect();
        rows.sort();
        page.extend(rows);
    }
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == page, "docs/run/flags.md is old: write it anew with {WRITE}=1");
}

fn row(arg: &Arg, thanos: &[&str]) -> String {
    let name = arg.get_id().as_str();
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let shown = if is_switch { format!("--[no-]{name}") } else { format!("--{name}") };
    let is_of_thanos = names(arg).iter().any(|it| thanos.contains(&it.as_str()));
    let state = match arg.get_help_heading() {
        Some(flags::ACCEPTED) => "accepted",
        Some(flags::REFUSED) => "refused",
        _ if is_of_thanos => "done",
        _ => "own",
    };
    // What a flag without effect defaults to would only mislead.
    let shows_default = matches!(state, "done" | "own");
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|it| it.to_string_lossy().into_owned()).collect();
    let default = match defaults.join(", ") {
        it if it.is_empty() || !shows_default => String::new(),
        it => format!("`{it}`"),
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.trim_end_matches('.').replace('|', "\\|");
    format!("| `{shown}` | {default} | {state} | {help} |\n")
}
