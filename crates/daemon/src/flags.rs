//! Flags as Thanos spells them, on top of clap.
//!
//! Functions that take a command and give it back add flags; the others read what was given.
//! Flags that aion knows but does not act on are declared too: [`accepted`] ones log a note when
//! used, [`refused`] ones end the process with a reason unless they say what is so anyway.

mod label;
mod size;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

pub use crate::flags::label::parse_label;
pub use crate::flags::size::parse_bytes;
use crate::settings::Settings;

/// Help heading of flags that are accepted without effect.
pub const ACCEPTED: &str = "Accepted without effect";
/// Help heading of flags whose use is refused.
pub const REFUSED: &str = "Refused";

/// `--<name> <value>`, text unless another `value_parser` is set on it.
pub fn value(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).value_name(value_name(name)).allow_hyphen_values(true)
}

/// `--<name> <value>`, once or more; read with `get_many::<String>`.
pub fn values(name: &'static str, help: &'static str) -> Arg {
    value(name, help).action(ArgAction::Append)
}

/// `--<name> <duration>`, read with [`duration_of`]: `2h`, `15d`, `1h30m`, `500ms`, `0`.
pub fn duration(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    value(name, help).default_value(default).value_parser(model::duration::parse_flag)
}

/// `--<name> <size>`, read with `get_one::<u64>`: `250MB`, `2GiB`, `4096`; units of 1024.
pub fn bytes(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    value(name, help).default_value(default).value_parser(parse_bytes)
}

/// `--[no-]<name>`; the last one given counts; read with [`is_on`].
pub fn bool_pair(
    command: Command,
    name: &'static str,
    default: bool,
    help: &'static str,
) -> Command {
    let default = if default { "true" } else { "false" };
    let negative = negative(name);
    let yes = Arg::new(name)
        .long(name)
        .help(help)
        .action(ArgAction::SetTrue)
        .default_value(default)
        .overrides_with_all([name.to_owned(), negative.clone()]);
    let no = Arg::new(negative.clone())
        .long(negative.clone())
        .action(ArgAction::SetTrue)
        .hide(true)
        .overrides_with_all([name.to_owned(), negative]);
    command.arg(yes).arg(no)
}

/// `--<name>.config <yaml>` and `--<name>.config-file <path>`; read with [`config_text`].
pub fn config_pair(command: Command, name: &'static str, help: &'static str) -> Command {
    let [inline, file] = config_names(name);
    let of_file = format!("Path of a file with what --{inline} would hold.");
    command.arg(Arg::new(inline.clone()).long(inline).help(help).value_name("YAML")).arg(
        Arg::new(file.clone())
            .long(file)
            .help(of_file)
            .value_name("PATH")
            .value_parser(clap::value_parser!(PathBuf)),
    )
}

/// The listener of the HTTP server: `--http-address`, `--http-grace-period`, `--http.config`.
pub fn http(command: Command) -> Command {
    crate::http::flags(command)
}

/// The listener of the gRPC server: `--grpc-address`, `--grpc-grace-period`, `--grpc-server-*`.
pub fn grpc(command: Command) -> Command {
    crate::grpc::flags(command)
}

/// A flag with a value that is accepted without effect; `note` says why, and is logged.
pub fn accepted(command: Command, name: &'static str, note: &'static str) -> Command {
    command.arg(values(name, note).help_heading(ACCEPTED))
}

/// As [`accepted`], for a `--[no-]<name>`.
pub fn accepted_switch(command: Command, name: &'static str, note: &'static str) -> Command {
    bool_pair(command, name, false, note).mut_arg(name, |it| it.help_heading(ACCEPTED))
}

/// A flag of Thanos whose use is refused with `reason`, unless its value is `harmless`: what
/// Thanos defaults to, and what is so in aion too.
pub fn refused(
    command: Command,
    name: &'static str,
    harmless: &'static str,
    reason: &'static str,
) -> Command {
    command.arg(values(name, reason).default_value(harmless).help_heading(REFUSED))
}

/// As [`refused`], for a `--[no-]<name>` that is off.
pub fn refused_switch(command: Command, name: &'static str, reason: &'static str) -> Command {
    bool_pair(command, name, false, reason).mut_arg(name, |it| it.help_heading(REFUSED))
}

/// Whether the switch of a [`bool_pair`] is on.
pub fn is_on(flags: &ArgMatches, name: &str) -> bool {
    let is_negated = flags.get_flag(&negative(name));
    flags.get_flag(name) && !is_negated
}

/// The value of a [`duration`] flag; zero when the flag was never declared.
pub fn duration_of(flags: &ArgMatches, name: &str) -> Duration {
    flags.get_one::<Duration>(name).copied().unwrap_or_default()
}

/// The value of a flag with text; empty when it was not given and has no default.
pub fn text_of(flags: &ArgMatches, name: &str) -> String {
    flags.get_one::<String>(name).cloned().unwrap_or_default()
}

/// What was given by `--<name>.config` or read from `--<name>.config-file`, with each `$(VAR)`
/// replaced from the environment. None when neither was given.
///
/// # Errors
/// Both were given, the file cannot be read, or a variable is not set.
pub fn config_text(flags: &ArgMatches, name: &str) -> anyhow::Result<Option<String>> {
    let [inline_name, file_name] = config_names(name);
    let inline = flags.get_one::<String>(&inline_name).filter(|it| !it.is_empty());
    let file = flags.get_one::<PathBuf>(&file_name).filter(|it| !it.as_os_str().is_empty());
    let (text, flag) = match (inline, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => bail!("--{inline_name} and --{file_name}: give only one of the two"),
        (Some(text), None) => (text.clone(), inline_name),
        (None, Some(path)) => {
            let text = read_file(path).with_context(|| format!("--{file_name}"))?;
            (text, file_name)
        }
    };
    let text = expand(&text, |it| std::env::var(it).ok()).with_context(|| format!("--{flag}"))?;
    Ok(Some(text))
}

/// Replaces each `$(NAME)` by what `variable` gives for it.
///
/// # Errors
/// Names the variable that is not set.
pub fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("$(") {
        let (before, from) = rest.split_at(start);
        expanded.push_str(before);
        let name = from[2..].split(')').next().unwrap_or_default();
        let is_name = from.len() > name.len() + 2
            && name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
            && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
        if is_name {
            let value = variable(name).with_context(|| {
                format!("the environment variable {name} that $({name}) asks for is not set")
            })?;
            expanded.push_str(&value);
            rest = &from[name.len() + 3..];
        } else {
            expanded.push_str("$(");
            rest = &from[2..];
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The text of the file that a flag names; none when the flag is absent or empty.
///
/// # Errors
/// Names the flag and the file that cannot be read.
pub fn file_of(flags: &ArgMatches, name: &str) -> anyhow::Result<Option<String>> {
    let path = text_of(flags, name);
    if path.is_empty() {
        return Ok(None);
    }
    read_file(&PathBuf::from(path)).map(Some).with_context(|| format!("--{name}"))
}

/// Notes on [`accepted`] flags that were used.
///
/// # Errors
/// Names the [`refused`] flag that was used, and why it is refused.
pub(crate) fn check_known(
    command: &Command,
    flags: &ArgMatches,
    settings: &Settings,
) -> anyhow::Result<Vec<String>> {
    let mut notes = Vec::new();
    let is_given = |name: &str| {
        flags.value_source(name) == Some(ValueSource::CommandLine)
            || settings.origin(name).is_some()
    };
    for arg in command.get_arguments() {
        let name = arg.get_id().as_str();
        let Some(heading) = arg.get_help_heading() else { continue };
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let is_used = is_given(name) || is_switch && is_given(&negative(name));
        if !is_used {
            continue;
        }
        let why = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if heading == ACCEPTED {
            notes.push(format!("--{name} is accepted without effect: {why}"));
        }
        if heading == REFUSED && !is_harmless(arg, flags) {
            bail!("--{name} is refused: {why}");
        }
    }
    Ok(notes)
}

fn is_harmless(arg: &Arg, flags: &ArgMatches) -> bool {
    let name = arg.get_id().as_str();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return !is_on(flags, name);
    }
    let harmless = arg.get_default_values();
    let mut given = flags.get_raw(name).into_iter().flatten();
    given.all(|it| harmless.iter().any(|harmless| harmless.as_os_str() == it))
}

#[expect(clippy::disallowed_methods, reason = "reads the one file that a flag names")]
fn read_file(path: &PathBuf) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn config_names(name: &str) -> [String; 2] {
    [format!("{name}.config"), format!("{name}.config-file")]
}

fn negative(name: &str) -> String {
    format!("no-{name}")
}

fn value_name(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.replace('-', "_").to_ascii_uppercase()
}
