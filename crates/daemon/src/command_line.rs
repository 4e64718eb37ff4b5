//! From the words of the command line to checked flags, or to one line that says what is wrong.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use model::nearest;

use crate::settings::Settings;
use crate::{Service, flags, logs, traces};

/// Arguments that come out of `@file`s; more are a mistake.
const ARGUMENTS_MAX: usize = 100_000;

/// What the command line asks for.
#[derive(Debug)]
pub enum CommandLine {
    /// To go on with these flags; notes are to be logged.
    Flags {
        /// What was given, with all layers below.
        flags: ArgMatches,
        /// What is odd but no mistake.
        notes: Vec<String>,
    },
    /// To print this text, which is help or the version, and exit.
    Text(String),
}

/// The command of a service, with the flags that every daemon has.
///
/// `name` is what the user typed: the name of the binary, or `aion receive`.
pub fn command<S: Service>(name: impl Into<String>) -> Command {
    let command = Command::new(name.into())
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .arg(
            Arg::new("config.file")
                .long("config.file")
                .value_name("PATH")
                .value_parser(clap::value_parser!(PathBuf))
                .help("YAML file whose keys are names of flags; flags and AION_* go before it."),
        )
        .arg(flags::bytes("memory.limit-bytes", "0", "Memory the process may use; 0 finds out."));
    let command = traces::flags(logs::flags(command));
    let command = flags::accepted_switch(
        command,
        "enable-auto-gomemlimit",
        "there is no Go heap; memory is bounded by --memory.limit-bytes or the control group",
    );
    let command = flags::accepted(
        command,
        "auto-gomemlimit.ratio",
        "there is no Go heap; memory is bounded by --memory.limit-bytes or the control group",
    );
    let command = flags::accepted(command, "debug.name", "nothing uses it");
    S::flags(command)
}

/// The configuration that a service makes of the given flags, without any other layer.
///
/// # Errors
/// One line: which flag, what is wrong, what to do.
pub fn config_of<S: Service>(arguments: &[String]) -> anyhow::Result<S::Config> {
    let command = command::<S>(S::NAME);
    let settings = Settings::default();
    let arguments = arguments.iter().map(OsString::from).collect();
    match parse_with(&command, settings, arguments)? {
        CommandLine::Flags { flags, .. } => S::config(&flags),
        CommandLine::Text(_) => bail!("{} is not started by asking for help", S::NAME),
    }
}

/// Reads the flags of a command that is no service: environment and command line. Variables that
/// name no flag of it are those of services, and not noted.
///
/// # Errors
/// One line: which flag, what is wrong, what to do.
pub fn parse_command(command: &Command, arguments: Vec<OsString>) -> anyhow::Result<CommandLine> {
    let arguments = expand_files(arguments)?;
    let mut settings = Settings::default();
    settings.add_environment(command, variables())?;
    settings.notes.clear();
    parse_with(command, settings, arguments)
}

/// Reads all layers: file, environment, command line.
pub(crate) fn parse(command: &Command, arguments: Vec<OsString>) -> anyhow::Result<CommandLine> {
    let arguments = expand_files(arguments)?;
    let mut settings = Settings::default();
    let file = given_value(&arguments, "config.file");
    if let Some(path) = file.or_else(|| std::env::var_os("AION_CONFIG_FILE")) {
        settings.add_file(command, &PathBuf::from(path)).context("--config.file")?;
    }
    settings.add_environment(command, variables())?;
    parse_with(command, settings, arguments)
}

/// The environment, as far as it can set flags.
fn variables<M: FromIterator<(String, String)>>() -> M {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|it| it != "AION_CONFIG_FILE")?;
        Some((name, value.into_string().ok()?))
    });
    variables.collect()
}

fn parse_with(
    command: &Command,
    mut settings: Settings,
    arguments: Vec<OsString>,
) -> anyhow::Result<CommandLine> {
    let names = arguments.iter().filter_map(|it| it.to_str()?.strip_prefix("--"));
    settings.forget_twins_of(names.map(|it| it.split('=').next().unwrap_or(it)));
    let program = OsString::from(command.get_name());
    let words = std::iter::once(program).chain(arguments);
    let matches = settings.under(command.clone()).try_get_matches_from(words);
    match matches {
        Ok(matches) => {
            let mut notes = std::mem::take(&mut settings.notes);
            notes.extend(flags::check_known(command, &matches, &settings)?);
            Ok(CommandLine::Flags { flags: matches, notes })
        }
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(CommandLine::Text(error.to_string()))
            }
            _ => bail!("{}", explain(command, &settings, &error)),
        },
    }
}

/// Puts the lines of each `@file` in its place, one argument a line; `#` begins a comment.
fn expand_files(arguments: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let mut expanded = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let Some(path) = argument.to_str().and_then(|it| it.strip_prefix('@')) else {
            expanded.push(argument);
            continue;
        };
        let text = read(path).with_context(|| format!("@{path}: read the file of arguments"))?;
        let lines = text.lines().filter(|it| !it.trim().is_empty() && !it.starts_with('#'));
        expanded.extend(lines.map(OsString::from));
        if expanded.len() > ARGUMENTS_MAX {
            bail!("@{path}: more than {ARGUMENTS_MAX} arguments");
        }
    }
    Ok(expanded)
}

/// The value of a flag before clap has seen the words, since it decides what clap is told.
fn given_value(arguments: &[OsString], name: &str) -> Option<OsString> {
    let flag = format!("--{name}");
    for (index, argument) in arguments.iter().enumerate() {
        let argument = argument.to_str().unwrap_or_default();
        if argument == flag {
            return arguments.get(index + 1).cloned();
        }
        if let Some(value) = argument.strip_prefix(&flag).and_then(|it| it.strip_prefix('=')) {
            return Some(OsString::from(value));
        }
    }
    None
}

/// One line out of clap's several: what is wrong, where it comes from, what was meant.
fn explain(command: &Command, settings: &Settings, error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let shown = text(ContextKind::InvalidArg);
    // clap shows a flag with the name of its value: `--tsdb.path <PATH>`.
    let flag = shown.split([' ', '=']).next().unwrap_or_default();
    let value = text(ContextKind::InvalidValue);
    let what = match error.kind() {
        ErrorKind::UnknownArgument => return unknown(command, flag),
        ErrorKind::ArgumentConflict => format!("{flag}: give it only once"),
        ErrorKind::MissingRequiredArgument => format!("{shown}: is required"),
        ErrorKind::ValueValidation => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            format!("{flag}={value}: {why}")
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{flag}: needs a value"),
        ErrorKind::InvalidValue => {
            format!("{flag}={value}: must be one of {}", text(ContextKind::ValidValue))
        }
        _ => {
            let whole = error.to_string();
            let first = whole.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    };
    match settings.origin(flag.trim_start_matches("--")) {
        Some(origin) => format!("{what} (from {origin})"),
        None => what,
    }
}

fn unknown(command: &Command, flag: &str) -> String {
    let help = format!("{} --help lists the flags", command.get_name());
    let Some(name) = flag.strip_prefix("--") else {
        return format!("unexpected argument {flag}; {help}");
    };
    let known = command.get_arguments().filter(|it| !matches!(it.get_action(), ArgAction::Help));
    match nearest(name, known.map(|it| it.get_id().as_str())) {
        Some(meant) => format!("unknown flag {flag}, did you mean --{meant}?"),
        None => format!("unknown flag {flag}; {help}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "reads the files that @file arguments name")]
fn read(path: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}
