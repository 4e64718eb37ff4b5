//! Runs a script against the engine.

use std::collections::BTreeMap;

use model::time::METRIC_NAME;
use model::{Columns, FloatHistogram, Labels, TimeRange};
use promql::ast::{At, Expr, VectorSelector};
use promql::engine::Series;
use promql::parser::{Options, parse};
use promql::{Answer, Engine, QueryResult};

use super::histogram::{Classic, as_stored, same};
use super::near;
use super::parse::{Action, Command, Eval, Kind, SeriesLine, Value, When};
use crate::memory::{Memory, session};

/// What came of a script.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failures: Vec<String>,
}

/// Runs every command.
pub(crate) fn run(script: &[Command]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut data = Data::new();
    for command in script {
        match &command.action {
            Action::Clear => data.clear(),
            Action::Load { step_ms, with_histograms, series } => {
                load(&mut data, *step_ms, series);
                if *with_histograms {
                    load_histograms(&mut data, *step_ms, series);
                }
            }
            Action::Eval(eval) => match evaluate(eval, &store(&data)) {
                Ok(()) => outcome.passed += 1,
                Err(why) => {
                    outcome.failures.push(format!("{}: {}: {why}", command.line, eval.expr));
                }
            },
        }
    }
    outcome
}

/// Series as they are loaded: values by their times, a histogram in place of a float.
type Data = Vec<(Labels, Columns)>;

fn load(data: &mut Data, step_ms: i64, series: &[SeriesLine]) {
    for (place, line) in series.iter().enumerate() {
        // Within one command the last line about a series is the one that counts.
        if series[place + 1..].iter().any(|later| later.labels == line.labels) {
            continue;
        }
        let mut columns = Columns::default();
        let has_starts = !line.starts.is_empty();
        for (index, value) in line.values.iter().enumerate() {
            let at = i64::try_from(index).unwrap() * step_ms;
            let start = line.starts.get(index).copied().flatten().map_or(0, |it| at + it);
            match value {
                Value::Omitted => {}
                Value::Float(value) => {
                    columns.timestamps_ms.push(at);
                    columns.values.push(*value);
                    if has_starts {
                        columns.start_timestamps_ms.push(start);
                    }
                }
                Value::Histogram(histogram, _) => {
                    columns.histogram_timestamps_ms.push(at);
                    columns.histograms.push((**histogram).clone());
                    if has_starts {
                        columns.histogram_start_timestamps_ms.push(start);
                    }
                }
            }
        }
        data.push((line.labels.clone(), columns));
    }
}

/// The storage that holds what was loaded.
fn store(data: &Data) -> Memory {
    let mut data = data.clone();
    for (_, columns) in &mut data {
        let (floats, times) = (&columns.timestamps_ms, &columns.histogram_timestamps_ms);
        let float_before = |at: usize| {
            let between = |it: &i64| at > 0 && *it > times[at - 1] && *it < times[at];
            floats.iter().any(between)
        };
        as_stored(&mut columns.histograms, float_before);
    }
    Memory::new(data)
}

/// Adds the native histograms that stand for classic ones.
fn load_histograms(data: &mut Data, step_ms: i64, series: &[SeriesLine]) {
    let mut histograms: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for line in series {
        let name = line.labels.metric_name();
        let suffix = ["_bucket", "_count", "_sum"].into_iter().find(|it| name.ends_with(it));
        let Some(suffix) = suffix else { continue };
        let upper = line.labels.get("le").and_then(|it| it.parse::<f64>().ok());
        if suffix == "_bucket" && upper.is_none_or(f64::is_nan) {
            continue;
        }
        let mut builder = line.labels.to_builder();
        let base = &name[..name.len() - suffix.len()];
        let labels = builder.set(METRIC_NAME, base).remove("le").build();
        let of_series = histograms.entry(labels).or_default();
        for (index, value) in line.values.iter().enumerate() {
            let Value::Float(value) = value else { continue };
            let histogram = of_series.entry(i64::try_from(index).unwrap() * step_ms).or_default();
            match suffix {
                "_bucket" => histogram.set_bucket(upper.unwrap(), *value),
                "_count" => histogram.set_count(*value),
                _ => histogram.set_sum(*value),
            }
        }
    }
    for (labels, of_series) in histograms {
        let columns = Columns {
            histogram_timestamps_ms: of_series.keys().copied().collect(),
            histograms: of_series.values().map(Classic::to_native).collect(),
            ..Columns::default()
        };
        data.push((labels, columns));
    }
}

/// An engine with the options with which Prometheus runs its scripts.
fn engine() -> Engine {
    Engine::new(promql::Options {
        delayed_name_removal: true,
        use_start_timestamps: true,
        ..promql::Options::default()
    })
}

fn evaluate(eval: &Eval, storage: &Memory) -> Result<(), String> {
    match eval.when {
        When::Range { start_ms, end_ms, step_ms } => {
            let expr = read(eval)?;
            let range = TimeRange::new(start_ms, end_ms);
            let answer = engine().range(&expr, range, step_ms, &session(storage.clone()));
            let Some(answer) = check_outcome(eval, answer)? else { return Ok(()) };
            compare(eval, &answer.result, start_ms, step_ms)
        }
        When::Instant(at_ms) => {
            let expr = read(eval)?;
            instant(eval, &expr, at_ms, storage)?;
            // What is pinned to a time is the same whenever it is asked.
            let mut pinned = expr.clone();
            if !pin(&mut pinned, at_ms) {
                return Ok(());
            }
            let times = if at_ms == 0 {
                vec![-1000, 0, 1000]
            } else {
                vec![-10 * at_ms, 0, at_ms / 5, at_ms, 10 * at_ms]
            };
            for time in times {
                instant(eval, &pinned, time, storage)
                    .map_err(|why| format!("pinned to {at_ms}, asked at {time}: {why}"))?;
            }
            Ok(())
        }
    }
}

fn read(eval: &Eval) -> Result<Expr, String> {
    parse(&eval.expr, &Options::all()).map_err(|error| error.to_string())
}

fn instant(eval: &Eval, expr: &Expr, at_ms: i64, storage: &Memory) -> Result<(), String> {
    let session = session(storage.clone());
    let answer = engine().instant(expr, at_ms, &session);
    let Some(answer) = check_outcome(eval, answer)? else { return Ok(()) };
    let (start_ms, step_ms) = eval.expected.range.unwrap_or((at_ms, 1));
    compare(eval, &answer.result, start_ms, step_ms)?;
    let of_query = ["start()", "end()", "range()", "step()"];
    if eval.expected.range.is_some()
        || eval.expected.string.is_some()
        || of_query.iter().any(|it| eval.expr.contains(it))
    {
        return Ok(());
    }
    // The middle of a range query is the same as an instant query.
    let range = TimeRange::new(at_ms - 60_000, at_ms + 60_000);
    let answer = engine().range(expr, range, 60_000, &session);
    let answer = answer.map_err(|error| format!("as a range query: {error}"))?;
    if eval.remarks.iter().any(|(kind, _)| *kind == Kind::Ordered) {
        return Ok(());
    }
    let QueryResult::Matrix(matrix) = answer.result else { return Err("not a matrix".into()) };
    assert!(matrix.is_sorted_by(|a, b| a.labels <= b.labels), "{}", eval.expr);
    let middle = matrix.iter().filter_map(|series| {
        let (_, sample) = samples(series).into_iter().find(|(at, _)| *at == at_ms)?;
        Some((series.labels.clone(), sample))
    });
    let middle: Vec<(Labels, Sample)> = middle.collect();
    let checked = match eval.expected.scalar {
        Some(expected) => match middle.first() {
            Some((_, Sample::Float(value))) if near(*value, expected) => Ok(()),
            other => Err(format!("{other:?} instead of {expected}")),
        },
        None => compare_vector(eval, &middle),
    };
    checked.map_err(|why| format!("as a range query: {why}"))
}

/// Checks failure and remarks; the answer if there is more to check.
fn check_outcome(
    eval: &Eval,
    answer: Result<Answer, promql::Error>,
) -> Result<Option<Answer>, String> {
    let failure = eval.remarks.iter().find(|(kind, _)| *kind == Kind::Fail);
    let answer = match (answer, failure) {
        (Ok(_), Some(_)) => return Err("succeeded".into()),
        (Err(error), Some((_, expected))) => {
            let text = error.to_string();
            return if expected.fits(&text) {
                Ok(None)
            } else {
                Err(format!("failed with {text}"))
            };
        }
        (Err(error), None) => return Err(error.to_string()),
        (Ok(answer), None) => answer,
    };
    let warnings = answer.annotations.warnings(&eval.expr);
    let infos = answer.annotations.infos(&eval.expr);
    check_remarks(eval, (Kind::Warn, Kind::NoWarn), &warnings)?;
    check_remarks(eval, (Kind::Info, Kind::NoInfo), &infos)?;
    Ok(Some(answer))
}

fn check_remarks(eval: &Eval, (some, none): (Kind, Kind), texts: &[String]) -> Result<(), String> {
    let expected: Vec<_> =
        eval.remarks.iter().filter(|(kind, _)| *kind == some).map(|(_, text)| text).collect();
    let missing = expected.iter().any(|it| !texts.iter().any(|text| it.fits(text)));
    let unexpected =
        !expected.is_empty() && texts.iter().any(|text| !expected.iter().any(|it| it.fits(text)));
    let unwanted = eval.remarks.iter().any(|(kind, _)| *kind == none) && !texts.is_empty();
    if missing || unexpected || unwanted {
        return Err(format!("remarks {texts:?}"));
    }
    Ok(())
}

fn compare(eval: &Eval, result: &QueryResult, start_ms: i64, step_ms: i64) -> Result<(), String> {
    match result {
        QueryResult::Scalar(value) => match eval.expected.scalar {
            Some(expected) if near(*value, expected) => Ok(()),
            expected => Err(format!("scalar {value} instead of {expected:?}")),
        },
        QueryResult::String(text) => match &eval.expected.string {
            Some(expected) if expected == text => Ok(()),
            expected => Err(format!("string {text:?} instead of {expected:?}")),
        },
        QueryResult::Vector(samples) => {
            let samples: Vec<_> = samples
                .iter()
                .map(|it| {
                    let sample = match &it.histogram {
                        Some(histogram) => Sample::Histogram((**histogram).clone()),
                        None => Sample::Float(it.value),
                    };
                    (it.labels.clone(), sample)
                })
                .collect();
            compare_vector(eval, &samples)
        }
        QueryResult::Matrix(matrix) => {
            if eval.expected.scalar.is_some() {
                return Err("a matrix instead of a scalar".into());
            }
            let expected = &eval.expected.series;
            if let Some(extra) = matrix.iter().find(|it| find(expected, &it.labels).is_none()) {
                let points = samples(extra);
                return Err(format!("unexpected {}: {points:?}", extra.labels));
            }
            for line in expected {
                let series = matrix.iter().find(|it| it.labels == line.labels);
                if let Some(series) = series {
                    // Only the last of several lines about one series counts.
                    if find(expected, &series.labels).is_some_and(|it| !std::ptr::eq(it, line)) {
                        continue;
                    }
                }
                let got: Vec<_> = series.into_iter().flat_map(samples).collect();
                let wanted = points(line, start_ms, step_ms);
                let same = got.len() == wanted.len()
                    && got.iter().zip(&wanted).all(|(a, b)| a.0 == b.0 && b.1.fits(&a.1));
                if !same {
                    return Err(format!("{} has {got:?}, not {wanted:?}", line.labels));
                }
            }
            Ok(())
        }
    }
}

fn find<'a>(expected: &'a [SeriesLine], labels: &Labels) -> Option<&'a SeriesLine> {
    // A later line about the same series replaces an earlier one.
    expected.iter().rev().find(|it| it.labels == *labels)
}

/// A sample of a result.
#[derive(Clone, Debug)]
enum Sample {
    Float(f64),
    Histogram(FloatHistogram),
}

impl Value {
    /// Whether this value is expected where that one stands.
    fn fits(&self, sample: &Sample) -> bool {
        match (self, sample) {
            (Value::Float(wanted), Sample::Float(value)) => near(*value, *wanted),
            (Value::Histogram(wanted, with_hint), Sample::Histogram(histogram)) => {
                same(wanted, histogram, *with_hint)
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Omitted => f.write_str("nothing"),
            Value::Float(value) => write!(f, "{value}"),
            Value::Histogram(it, _) => write!(f, "{it:?}"),
        }
    }
}

/// Floats and histograms of a series in order of time.
fn samples(series: &Series) -> Vec<(i64, Sample)> {
    let floats = series.points().map(|(at, value)| (at, Sample::Float(value)));
    let histograms = series.histograms().map(|(at, it)| (at, Sample::Histogram(it.clone())));
    let mut all: Vec<_> = floats.chain(histograms).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

fn points(line: &SeriesLine, start_ms: i64, step_ms: i64) -> Vec<(i64, &Value)> {
    let values = line.values.iter().enumerate();
    let given = values.filter(|(_, value)| !matches!(value, Value::Omitted));
    given.map(|(index, it)| (start_ms + i64::try_from(index).unwrap() * step_ms, it)).collect()
}

fn compare_vector(eval: &Eval, samples: &[(Labels, Sample)]) -> Result<(), String> {
    if eval.expected.scalar.is_some() {
        return Err("a vector instead of a scalar".into());
    }
    let expected = &eval.expected.series;
    let ordered = eval.remarks.iter().any(|(kind, _)| *kind == Kind::Ordered);
    for (index, (labels, sample)) in samples.iter().enumerate() {
        let Some(line) = find(expected, labels) else {
            return Err(format!("unexpected {labels} {sample:?}"));
        };
        if ordered && expected[index].labels != *labels {
            return Err(format!("{labels} at position {index}"));
        }
        match line.values.first() {
            Some(wanted) if wanted.fits(sample) => {}
            Some(wanted) => return Err(format!("{labels} has {sample:?}, not {wanted}")),
            None => return Err(format!("{labels} has {sample:?}, not nothing")),
        }
    }
    match expected.iter().find(|line| samples.iter().all(|(labels, _)| *labels != line.labels)) {
        Some(missing) => Err(format!("{} is missing in {samples:?}", missing.labels)),
        None => Ok(()),
    }
}

/// Pins every selector to a time that has none yet; false where the result moves with time anyway.
fn pin(expr: &mut Expr, at_ms: i64) -> bool {
    const MOVES: [&str; 15] = [
        "days_in_month",
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "end",
        "hour",
        "minute",
        "month",
        "year",
        "predict_linear",
        "range",
        "start",
        "step",
        "time",
        "timestamp",
    ];
    let at = |selector: &mut VectorSelector| {
        selector.at.get_or_insert(At::Time(at_ms));
    };
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(selector) => {
            at(selector);
            true
        }
        Expr::Matrix(matrix) => {
            at(&mut matrix.selector);
            true
        }
        Expr::Subquery(subquery) => {
            subquery.at.get_or_insert(At::Time(at_ms));
            true
        }
        Expr::Call(call) => {
            !MOVES.contains(&call.function.name) && call.args.iter_mut().all(|it| pin(it, at_ms))
        }
        Expr::Aggregate(it) => {
            pin(&mut it.expr, at_ms) && it.param.as_mut().is_none_or(|it| pin(it, at_ms))
        }
        Expr::Binary(it) => pin(&mut it.lhs, at_ms) && pin(&mut it.rhs, at_ms),
        Expr::Unary(it) => pin(&mut it.expr, at_ms),
        Expr::Paren(it) => pin(&mut it.expr, at_ms),
    }
}
