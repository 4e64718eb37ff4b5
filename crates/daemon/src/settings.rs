//! Settings in layers: defaults, then a file, then the environment, then the command line.
//!
//! Lower layers are laid under the flags as their defaults, so that all layers are checked by the
//! same rules, and a flag never has two sources: the highest layer that names it decides alone,
//! also for flags that may repeat.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use clap::{Arg, ArgAction, Command};
use config::{Environment, File, FileFormat, Map, Source as _, Value, ValueKind};
use model::nearest;

/// Environment variables that set flags begin so: `AION_TSDB_PATH` sets `--tsdb.path`.
const PREFIX: &str = "aion";
/// Tables within tables in the file; dotted names have fewer parts.
const DEPTH_MAX: usize = 8;

/// What lower layers say about flags.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    by_flag: BTreeMap<String, Setting>,
    /// What is odd but no mistake, to be logged.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug)]
struct Setting {
    values: Vec<String>,
    /// Where it comes from, for people.
    origin: String,
}

impl Settings {
    /// Adds what a file says: YAML whose keys are the names of flags, flat (`tsdb.path: x`) or as
    /// tables (`tsdb: {path: x}`).
    pub(crate) fn add_file(&mut self, command: &Command, path: &Path) -> anyhow::Result<()> {
        let text = read(path).with_context(|| format!("read {}", path.display()))?;
        self.add_yaml(command, &text, &path.display().to_string())
    }

    fn add_yaml(&mut self, command: &Command, text: &str, origin: &str) -> anyhow::Result<()> {
        let parsed = File::from_str(text, FileFormat::Yaml).collect();
        let table = parsed.map_err(|error| anyhow!("{origin}: {error}"))?;
        let mut flat = BTreeMap::new();
        flatten(String::new(), table, DEPTH_MAX, &mut flat).with_context(|| origin.to_owned())?;
        for (name, values) in flat {
            if find(command, &name).is_none() {
                bail!("{origin}: {}", unknown_key(command, &name));
            }
            self.set(name, values, origin.to_owned());
        }
        Ok(())
    }

    /// Adds what the environment says; a flag that may repeat takes one value a line.
    ///
    /// A variable that names no flag is only noted: orchestrators set variables of their own.
    pub(crate) fn add_environment(
        &mut self,
        command: &Command,
        variables: Map<String, String>,
    ) -> anyhow::Result<()> {
        let source = Environment::with_prefix(PREFIX).prefix_separator("_").source(Some(variables));
        let variables = source.keep_prefix(false).ignore_empty(true).collect()?;
        let names: BTreeMap<String, &Arg> =
            arguments(command).map(|it| (variable(it.get_id().as_str()), it)).collect();
        for (key, value) in variables {
            let shown = format!("{PREFIX}_{key}").to_ascii_uppercase();
            let Some(arg) = names.get(&key) else {
                self.notes.push(format!("the environment variable {shown} names no flag"));
                continue;
            };
            let text = value.into_string()?;
            let values = match arg.get_action() {
                ArgAction::Append => text.lines().map(str::to_owned).collect(),
                _ => vec![text],
            };
            self.set(arg.get_id().to_string(), values, format!("environment variable {shown}"));
        }
        Ok(())
    }

    /// Forgets what the command line decides in another way: of `X.config` and `X.config-file`
    /// the higher layer's alone counts.
    pub(crate) fn forget_twins_of<'a>(&mut self, given: impl Iterator<Item = &'a str>) {
        for name in given {
            if let Some(twin) = twin(name) {
                self.by_flag.remove(&twin);
            }
        }
    }

    /// Lays the settings under the flags of a command.
    pub(crate) fn under(&self, command: Command) -> Command {
        let settings = self.by_flag.iter();
        settings.fold(command, |command, (name, setting)| {
            let values = setting.values.clone();
            command.mut_arg(name, |it| it.default_values(values).required(false))
        })
    }

    /// Where the value of a flag comes from, if a lower layer has one.
    pub(crate) fn origin(&self, name: &str) -> Option<&str> {
        self.by_flag.get(name).map(|it| it.origin.as_str())
    }

    fn set(&mut self, name: String, values: Vec<String>, origin: String) {
        if let Some(twin) = twin(&name)
            && self.by_flag.get(&twin).is_some_and(|it| it.origin != origin)
        {
            self.by_flag.remove(&twin);
        }
        self.by_flag.insert(name, Setting { values, origin });
    }
}

/// The flags that can be set from below the command line.
fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|it| {
        let is_setting =
            matches!(it.get_action(), ArgAction::Set | ArgAction::Append | ArgAction::SetTrue);
        is_setting && !it.get_id().as_str().starts_with("no-") && it.get_id() != "config.file"
    })
}

fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    arguments(command).find(|it| it.get_id() == name)
}

fn unknown_key(command: &Command, name: &str) -> String {
    if let Some((flag, _)) = name.split_once(".config.")
        && find(command, &format!("{flag}.config")).is_some()
    {
        return format!("{flag}.config holds text: write it as a block, `{flag}.config: |`");
    }
    match nearest(name, arguments(command).map(|it| it.get_id().as_str())) {
        Some(meant) => format!("unknown key {name}, did you mean {meant}?"),
        None => format!("unknown key {name}; keys are the names of flags"),
    }
}

fn flatten(
    prefix: String,
    table: Map<String, Value>,
    depth: usize,
    flat: &mut BTreeMap<String, Vec<String>>,
) -> anyhow::Result<()> {
    let depth = depth.checked_sub(1).with_context(|| format!("{prefix}: too many levels"))?;
    for (key, value) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let values = match value.kind {
            ValueKind::Table(table) => {
                flatten(name, table, depth, flat)?;
                continue;
            }
            ValueKind::Array(items) => {
                let texts = items.into_iter().map(Value::into_string).collect::<Result<_, _>>();
                texts.with_context(|| format!("{name}: a list holds plain values"))?
            }
            ValueKind::Nil => bail!("{name} has no value"),
            _ => vec![value.into_string().with_context(|| name.clone())?],
        };
        if flat.insert(name.clone(), values).is_some() {
            bail!("{name} is given twice");
        }
    }
    Ok(())
}

/// The part of an environment variable after the prefix that sets a flag.
fn variable(flag: &str) -> String {
    flag.replace(['.', '-'], "_").to_ascii_lowercase()
}

fn twin(name: &str) -> Option<String> {
    if let Some(stem) = name.strip_suffix(".config-file") {
        return Some(format!("{stem}.config"));
    }
    name.ends_with(".config").then(|| format!("{name}-file"))
}

#[expect(clippy::disallowed_methods, reason = "reads the one file that --config.file names")]
fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    fn command() -> Command {
        let command = Command::new("x")
            .arg(flags::value("tsdb.path", "").default_value("./data"))
            .arg(flags::values("label", ""))
            .arg(flags::duration("tsdb.retention", "15d", ""));
        let command = flags::bool_pair(command, "tsdb.wal-compression", true, "");
        flags::config_pair(command, "objstore", "")
    }

    fn read(yaml: &str) -> anyhow::Result<Settings> {
        let mut settings = Settings::default();
        settings.add_yaml(&command(), yaml, "x.yaml").map(|()| settings)
    }

    #[test]
    fn keys_are_names_of_flags_flat_or_nested() {
        for yaml in ["tsdb.path: /a\nlabel: [a=b, c=d]", "tsdb: {path: /a}\nlabel: [a=b, c=d]"] {
            let matches = read(yaml).unwrap().under(command()).try_get_matches_from(["x"]).unwrap();
            assert_eq!(flags::text_of(&matches, "tsdb.path"), "/a");
            let labels: Vec<&String> = matches.get_many("label").unwrap().collect();
            assert_eq!(labels, ["a=b", "c=d"]);
        }
    }

    #[test]
    fn the_command_line_is_above_the_environment_above_the_file() {
        let mut settings = read("tsdb.path: /file\ntsdb.retention: 1d\nlabel: [a=b]").unwrap();
        let variables = [
            ("AION_TSDB_PATH".to_owned(), "/environment".to_owned()),
            ("AION_LABEL".to_owned(), "c=d\ne=f".to_owned()),
            ("AION_TSDB_WAL_COMPRESSION".to_owned(), "false".to_owned()),
            ("AION_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned()),
        ];
        settings.add_environment(&command(), variables.into_iter().collect()).unwrap();
        assert_eq!(settings.notes.len(), 1, "{:?}", settings.notes);
        let with = |arguments: &[&str]| {
            let all = ["x"].iter().chain(arguments);
            settings.under(command()).try_get_matches_from(all).unwrap()
        };
        let matches = with(&[]);
        assert_eq!(flags::text_of(&matches, "tsdb.path"), "/environment");
        assert_eq!(matches.get_many::<String>("label").unwrap().count(), 2);
        assert_eq!(flags::duration_of(&matches, "tsdb.retention").as_secs(), 86_400);
        assert!(!flags::is_on(&matches, "tsdb.wal-compression"));
        let matches = with(&["--tsdb.path=/flag", "--label", "g=h", "--tsdb.wal-compression"]);
        assert_eq!(flags::text_of(&matches, "tsdb.path"), "/flag");
        assert_eq!(matches.get_many::<String>("label").unwrap().count(), 1);
        assert!(flags::is_on(&matches, "tsdb.wal-compression"));
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        let message = |yaml| format!("{:#}", read(yaml).unwrap_err());
        assert_eq!(
            message("tsdb.paht: x"),
            "x.yaml: unknown key tsdb.paht, did you mean tsdb.path?"
        );
        assert_eq!(
            message("objstore.config: {type: S3}"),
            "x.yaml: objstore.config holds text: write it as a block, `objstore.config: |`"
        );
        assert!(message("no-tsdb.wal-compression: true").contains("unknown key"));
        assert!(message("tsdb: {path: a}\ntsdb.path: b").contains("twice"));
        assert!(message("tsdb.path:").contains("no value"));
        assert!(message("tsdb.path: a\ntsdb.path: b").starts_with("x.yaml: "));
        assert!(message("a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}").contains("levels"));
    }

    #[test]
    fn of_a_pair_the_higher_layer_counts_alone() {
        let mut settings = read("objstore.config: from-file").unwrap();
        let variables = [("AION_OBJSTORE_CONFIG_FILE".to_owned(), "/x".to_owned())];
        settings.add_environment(&command(), variables.into_iter().collect()).unwrap();
        assert!(settings.origin("objstore.config").is_none());
        settings.forget_twins_of(["objstore.config"].into_iter());
        assert!(settings.origin("objstore.config-file").is_none());
    }
}
