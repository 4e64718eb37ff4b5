//! Logs: one line an event, in logfmt or JSON, with Thanos' names for what every line has.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use clap::{ArgMatches, Command};
use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::{Clock, flags};

/// Libraries whose debug lines drown ours; they never speak below info.
const LOUD_LIBRARIES: &[&str] = &[
    "aws_config",
    "aws_runtime",
    "aws_sdk_s3",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "h2",
    "hyper",
    "hyper_util",
    "opentelemetry",
    "opentelemetry_otlp",
    "opentelemetry_sdk",
    "rustls",
    "tonic",
    "tower",
];

/// The flags that [`Settings::from_flags`] reads.
pub(crate) fn flags(command: Command) -> Command {
    command
        .arg(
            flags::value("log.level", "Lowest level that is logged.")
                .default_value("info")
                .value_parser(["error", "warn", "info", "debug"]),
        )
        .arg(
            flags::value("log.format", "Format of the log.")
                .default_value("logfmt")
                .value_parser(["logfmt", "json"]),
        )
}

/// How to log.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    level: String,
    is_json: bool,
}

impl Settings {
    pub(crate) fn from_flags(flags: &ArgMatches) -> Settings {
        Settings {
            level: flags::text_of(flags, "log.level"),
            is_json: flags::text_of(flags, "log.format") == "json",
        }
    }

    /// What is logged at all.
    pub(crate) fn filter(&self) -> EnvFilter {
        let mut directives = self.level.clone();
        if self.level == "debug" {
            for library in LOUD_LIBRARIES {
                directives.push(',');
                directives.push_str(library);
                directives.push_str("=info");
            }
        }
        EnvFilter::new(directives)
    }

    pub(crate) fn format(&self, clock: Arc<dyn Clock>) -> Format {
        Format { is_json: self.is_json, clock }
    }
}

/// Writes events as lines.
pub(crate) struct Format {
    is_json: bool,
    clock: Arc<dyn Clock>,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = self.line(*metadata.level(), metadata.target(), &fields);
        writeln!(writer, "{line}")
    }
}

impl Format {
    fn line(&self, level: Level, target: &str, fields: &Fields) -> String {
        let timestamp = Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default();
        let ts = format!("{timestamp:.3}");
        let level = level.as_str().to_ascii_lowercase();
        let always = [("ts", &*ts), ("level", &*level), ("caller", target)];
        let message = [("msg", &*fields.message)];
        let others = fields.others.iter().map(|(name, value)| (*name, value.as_str()));
        let all = always.into_iter().chain(message).chain(others);
        let mut line = String::with_capacity(256);
        for (name, value) in all {
            let separator = match (line.is_empty(), self.is_json) {
                (true, true) => "{",
                (true, false) => "",
                (false, true) => ",",
                (false, false) => " ",
            };
            line.push_str(separator);
            if self.is_json {
                quote(&mut line, name);
                line.push(':');
                quote(&mut line, value);
            } else {
                line.push_str(name);
                line.push('=');
                match is_bare(value) {
                    true => line.push_str(value),
                    false => quote(&mut line, value),
                }
            }
        }
        if self.is_json {
            line.push('}');
        }
        line
    }
}

/// The fields of an event as text.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name if name.starts_with("log.") => {}
            // Thanos' word for what went wrong.
            "error" => self.others.push(("err", value)),
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.add(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// Whether a value needs no quotes in logfmt.
fn is_bare(value: &str) -> bool {
    !value.is_empty()
        && value.chars().all(|it| it > ' ' && it != '"' && it != '=' && !it.is_control())
}

/// A string in quotes, escaped as JSON wants it, which logfmt readers understand too.
fn quote(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            it if it.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(it));
            }
            it => line.push(it),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Stopped;

    impl Clock for Stopped {
        fn now_ms(&self) -> i64 {
            1_700_000_000_007
        }
        fn monotonic(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }

    fn check(is_json: bool, expected: &str) {
        let format = Format { is_json, clock: Arc::new(Stopped) };
        let fields = Fields {
            message: "a block is gone".to_owned(),
            others: vec![
                ("block", "01X".to_owned()),
                ("err", "no \"such\"\nkey\u{1}".to_owned()),
                ("empty", String::new()),
            ],
        };
        assert_eq!(format.line(Level::WARN, "bucket::view", &fields), expected);
    }

    #[test]
    fn lines_are_logfmt_or_json() {
        check(
            false,
            "ts=2023-11-14T22:13:20.007Z level=warn caller=bucket::view msg=\"a block is gone\" \
             block=01X err=\"no \\\"such\\\"\\nkey\\u0001\" empty=\"\"",
        );
        check(
            true,
            "{\"ts\":\"2023-11-14T22:13:20.007Z\",\"level\":\"warn\",\"caller\":\"bucket::view\",\
             \"msg\":\"a block is gone\",\"block\":\"01X\",\
             \"err\":\"no \\\"such\\\"\\nkey\\u0001\",\"empty\":\"\"}",
        );
    }
}
