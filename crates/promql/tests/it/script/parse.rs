//! Reads the test script language: `load`, `clear`, `eval` and what is expected.

use model::{FloatHistogram, Labels, MatchOp, STALE_NAN_BITS};
use promql::duration;
use promql::parser::{Options, parse_selector};
use regex_automata::meta::Regex;

use super::histogram::literal;

/// A command and the line it stands on.
pub(crate) struct Command {
    pub(crate) line: usize,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    Clear,
    Load { step_ms: i64, with_histograms: bool, series: Vec<SeriesLine> },
    Eval(Box<Eval>),
}

/// A series and its values, one per step.
#[derive(Clone)]
pub(crate) struct SeriesLine {
    pub(crate) labels: Labels,
    pub(crate) values: Vec<Value>,
    /// Distance from each sample back to its start in ms, where that is given.
    pub(crate) starts: Vec<Option<i64>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Omitted,
    Float(f64),
    /// True beside it if a counter reset hint was given.
    Histogram(Box<FloatHistogram>, bool),
}

/// When an expression is evaluated.
#[derive(Clone, Copy)]
pub(crate) enum When {
    Instant(i64),
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

#[derive(Clone)]
pub(crate) struct Eval {
    pub(crate) when: When,
    pub(crate) expr: String,
    pub(crate) expected: Expected,
    pub(crate) remarks: Vec<(Kind, Text)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ordered,
    Fail,
    Warn,
    NoWarn,
    Info,
    NoInfo,
}

/// What a text must look like.
#[derive(Clone)]
pub(crate) enum Text {
    Any,
    Exactly(String),
    Matching(Regex),
}

impl Text {
    pub(crate) fn fits(&self, text: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Exactly(it) => it == text,
            Text::Matching(it) => it.is_match(text),
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Expected {
    pub(crate) series: Vec<SeriesLine>,
    pub(crate) scalar: Option<f64>,
    pub(crate) string: Option<String>,
    /// Start and step of an expected range vector.
    pub(crate) range: Option<(i64, i64)>,
}

/// Every command of a script.
pub(crate) fn script(text: &str) -> Vec<Command> {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim())
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = at + 1;
        let head = lines[at];
        at += 1;
        if head.is_empty() {
            continue;
        }
        let begin = at;
        if !head.starts_with("clear") {
            while at < lines.len() && !lines[at].is_empty() {
                at += 1;
            }
        }
        let body = &lines[begin..at];
        let action = if head.starts_with("clear") {
            Action::Clear
        } else if head.starts_with("load") {
            load(head, body)
        } else {
            let (eval, used) = eval(head, body);
            at = begin + used;
            Action::Eval(Box::new(eval))
        };
        commands.push(Command { line, action });
    }
    commands
}

fn load(head: &str, body: &[&str]) -> Action {
    let (command, step) = head.split_once(char::is_whitespace).unwrap();
    let mut lines = Vec::new();
    let mut starts = Vec::new();
    for line in body {
        if let Some((labels, text)) = line.split_once("@st") {
            assert!(!labels.contains(char::is_whitespace), "{line}");
            starts = text.split_whitespace().flat_map(start_item).collect();
            continue;
        }
        let line = SeriesLine { starts: std::mem::take(&mut starts), ..series(line) };
        assert!(line.starts.is_empty() || line.starts.len() == line.values.len());
        lines.push(line);
    }
    Action::Load {
        step_ms: millis(step.trim()),
        with_histograms: command == "load_with_nhcb",
        series: lines,
    }
}

/// `_`, `_x3`, `-1m`, `-1mx3` or `-30s-1mx2`.
fn start_item(text: &str) -> Vec<Option<i64>> {
    if text == "_" {
        return vec![None];
    }
    if let Some(times) = text.strip_prefix("_x") {
        return vec![None; times.parse().unwrap()];
    }
    let (text, times) = match text.rsplit_once('x') {
        Some((text, times)) => (text, times.parse::<i64>().unwrap()),
        None => (text, 0),
    };
    let split = text.get(1..).and_then(|it| it.find(['+', '-'])).map(|at| at + 1);
    let (first, step) = split.map_or((text, "0"), |at| text.split_at(at));
    let (first, step) = (signed_millis(first), signed_millis(step));
    (0..=times).map(|it| Some(first + it * step)).collect()
}

fn signed_millis(text: &str) -> i64 {
    match text.strip_prefix('-') {
        Some(text) => -millis(text),
        None => millis(text.strip_prefix('+').unwrap_or(text)),
    }
}

fn eval(head: &str, body: &[&str]) -> (Eval, usize) {
    let (command, rest) = head.split_once(char::is_whitespace).unwrap();
    let mut remarks = Vec::new();
    match command.strip_prefix("eval_") {
        Some("fail") => remarks.push((Kind::Fail, Text::Any)),
        Some("ordered") => remarks.push((Kind::Ordered, Text::Any)),
        Some("warn") => remarks.push((Kind::Warn, Text::Any)),
        Some("info") => remarks.push((Kind::Info, Text::Any)),
        _ => {}
    }
    let (mode, rest) = word(rest);
    let (when, expr) = if mode == "instant" {
        match word(rest) {
            ("at", rest) => {
                let (at, expr) = word(rest);
                (When::Instant(millis(at)), expr)
            }
            _ => (When::Instant(0), rest),
        }
    } else {
        let (from, rest) = word(word(rest).1);
        let (to, rest) = word(word(rest).1);
        let (step, expr) = word(word(rest).1);
        let (start_ms, end_ms) = (millis(from), millis(to));
        (When::Range { start_ms, end_ms, step_ms: millis(step) }, expr)
    };
    let mut eval = Eval { when, expr: expr.to_owned(), expected: Expected::default(), remarks };
    for (index, line) in body.iter().enumerate() {
        if expectation(line, &mut eval) {
            return (eval, index + 1);
        }
    }
    (eval, body.len())
}

/// Reads one line below an `eval`; true after the one that is always the last.
fn expectation(line: &str, eval: &mut Eval) -> bool {
    if let Some(rest) = line.strip_prefix("expect range vector") {
        let parts: Vec<&str> = rest.split_whitespace().collect();
        eval.expected.range = Some((millis(parts[1]), millis(parts[5])));
        return false;
    }
    if let Some(text) = line.strip_prefix("expect string") {
        eval.expected.string = Some(unquote(text.trim()));
        return false;
    }
    if let Some(rest) = line.strip_prefix("expect ") {
        eval.remarks.push(remark(rest));
        return false;
    }
    for prefix in ["expected_fail_message", "expected_fail_regexp"] {
        if let Some(text) = line.strip_prefix(prefix) {
            let text = text.trim();
            let text = if prefix.ends_with("regexp") {
                Text::Matching(Regex::new(text).unwrap())
            } else {
                Text::Exactly(text.to_owned())
            };
            eval.remarks = vec![(Kind::Fail, text)];
            return true;
        }
    }
    if let Some(number) = number(line) {
        eval.expected.scalar = Some(number);
        return true;
    }
    eval.expected.series.push(series(line));
    false
}

fn remark(rest: &str) -> (Kind, Text) {
    let (kind, rest) = word(rest);
    let kind = match kind {
        "ordered" => Kind::Ordered,
        "fail" => Kind::Fail,
        "warn" => Kind::Warn,
        "no_warn" => Kind::NoWarn,
        "info" => Kind::Info,
        "no_info" => Kind::NoInfo,
        other => panic!("unknown expectation {other:?}"),
    };
    let text = if let Some(text) = rest.strip_prefix("msg:") {
        Text::Exactly(text.trim().to_owned())
    } else if let Some(text) = rest.strip_prefix("regex:") {
        Text::Matching(Regex::new(text.trim()).unwrap())
    } else {
        Text::Any
    };
    (kind, text)
}

/// The first word and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

fn unquote(text: &str) -> String {
    match promql::parser::parse(text, &Options::all()) {
        Ok(promql::ast::Expr::String(text)) => text.value.to_str_lossy().into_owned(),
        other => panic!("not a string: {text:?}: {other:?}"),
    }
}

fn millis(text: &str) -> i64 {
    if text == "0" {
        return 0;
    }
    duration::parse_ns(text).unwrap_or_else(|error| panic!("{text:?}: {error:?}")) / 1_000_000
}

fn series(line: &str) -> SeriesLine {
    let end = end_of_selector(line);
    let matchers = parse_selector(line[..end].trim(), &Options::all())
        .unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let pairs = matchers.iter().map(|it| {
        assert_eq!(it.op, MatchOp::Equal, "{line}");
        (it.name.to_str_lossy(), it.value.to_str_lossy())
    });
    let labels = Labels::from_pairs(pairs.collect::<Vec<_>>()).unwrap();
    SeriesLine { labels, values: values(line[end..].trim()), starts: Vec::new() }
}

/// Where the labels end: at the first space outside braces and quotes.
fn end_of_selector(line: &str) -> usize {
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for (at, it) in line.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(mark) if it == '\\' && mark != '`' => escaped = true,
            Some(mark) if it == mark => quote = None,
            Some(_) => {}
            None => match it {
                '"' | '\'' | '`' => quote = Some(it),
                '{' => depth += 1,
                '}' => depth -= 1,
                _ if depth == 0 && it.is_whitespace() => return at,
                _ => {}
            },
        }
    }
    line.len()
}

fn values(text: &str) -> Vec<Value> {
    let mut values = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = if rest.starts_with("{{") {
            // A histogram, perhaps one that grows by another one.
            let mut end = rest.find("}}").unwrap() + 2;
            while rest[end..].starts_with("+{{") || rest[end..].starts_with("-{{") {
                end += rest[end..].find("}}").unwrap() + 2;
            }
            end + rest[end..].find(char::is_whitespace).unwrap_or(rest.len() - end)
        } else {
            rest.find(char::is_whitespace).unwrap_or(rest.len())
        };
        item(&rest[..end], &mut values);
        rest = rest[end..].trim_start();
    }
    values
}

fn item(text: &str, values: &mut Vec<Value>) {
    if text.starts_with("{{") {
        histograms(text, values);
        return;
    }
    if let Some(times) = text.strip_prefix("_x") {
        let times: usize = times.parse().unwrap();
        values.extend((0..times).map(|_| Value::Omitted));
        return;
    }
    if text == "_" {
        values.push(Value::Omitted);
        return;
    }
    let (text, times) = match text.rsplit_once('x') {
        Some((text, times)) => (text, times.parse().unwrap()),
        None => (text, 0_usize),
    };
    let (start, increment) = split_increment(text);
    let mut value = value_of(start);
    let increment = increment.map_or(0.0, value_of);
    for _ in 0..=times {
        values.push(Value::Float(value));
        if increment != 0.0 {
            value += increment;
        }
    }
}

/// `{{…}}`, `{{…}}x3`, `{{…}}+{{…}}x3` or `{{…}}-{{…}}x3`.
fn histograms(text: &str, values: &mut Vec<Value>) {
    let (text, times) = match text.rsplit_once("}}x") {
        Some((_, times)) => (&text[..text.len() - times.len() - 1], times.parse().unwrap()),
        None => (text, 0_usize),
    };
    let inner = |text: &str| literal(text.trim_start_matches("{{").trim_end_matches("}}"));
    let split = text.find("}}").map(|at| text.split_at(at + 2));
    let (first, change) = split.unwrap_or((text, ""));
    let (mut it, mut hint_given) = inner(first);
    let sign = change.chars().next();
    let change = sign.map(|_| inner(&change[1..]));
    if let Some((_, given)) = &change {
        hint_given = *given;
    }
    for _ in 0..=times {
        values.push(Value::Histogram(Box::new(it.clone()), hint_given));
        match &change {
            Some((change, _)) if sign == Some('-') => {
                it.sub(change).unwrap();
            }
            Some((change, _)) => {
                it.add(change).unwrap();
            }
            None => {}
        }
    }
}

/// Splits `1+2` and `-1e-3-2e5` at the sign of the increment.
fn split_increment(text: &str) -> (&str, Option<&str>) {
    let bytes = text.as_bytes();
    for at in 1..bytes.len() {
        let exponent = matches!(bytes[at - 1], b'e' | b'E')
            && bytes[at - 1..].len() > 1
            && at > 1
            && bytes[at - 2].is_ascii_digit();
        if matches!(bytes[at], b'+' | b'-') && !exponent {
            return (&text[..at], Some(&text[at..]));
        }
    }
    (text, None)
}

fn value_of(text: &str) -> f64 {
    if text == "stale" {
        return f64::from_bits(STALE_NAN_BITS);
    }
    number(text).unwrap_or_else(|| panic!("not a number: {text:?}"))
}

pub(crate) fn number(text: &str) -> Option<f64> {
    let plain = text.parse::<f64>().ok();
    plain.or_else(|| match promql::parser::parse(text, &Options::all()) {
        Ok(promql::ast::Expr::Number(number)) => Some(number.value),
        _ => None,
    })
}
