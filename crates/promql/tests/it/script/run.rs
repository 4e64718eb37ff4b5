//! Runs a script against the engine.

use std::collections::BTreeMap;

use model::time::METRIC_NAME;
use model::{Columns, FloatHistogram, Labels, TimeRange, is_stale};
use promql::ast::{At, Expr, VectorSelector};
use promql::parser::{Options, parse};
use promql::{Answer, Engine, QueryResult};

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
    let mut data: Vec<(Labels, Columns)> = Vec::new();
    for command in script {
        match &command.action {
            Action::Clear => data.clear(),
            Action::Load { step_ms, with_histograms, series } => {
                load(&mut data, *step_ms, series);
                if *with_histograms {
                    load_histograms(&mut data, *step_ms, series);
                }
            }
            Action::Eval(eval) => match evaluate(eval, &Memory::new(data.clone())) {
                Ok(()) => outcome.passed += 1,
                Err(why) => {
                    outcome.failures.push(format!("{}: {}: {why}", command.line, eval.expr));
                }
            },
        }
    }
    outcome
}

fn load(data: &mut Vec<(Labels, Columns)>, step_ms: i64, series: &[SeriesLine]) {
    for (place, line) in series.iter().enumerate() {
        // Within one command the last line about a series is the one that counts.
        if series[place + 1..].iter().any(|later| later.labels == line.labels) {
            continue;
        }
        let mut columns = Columns::default();
        for (index, value) in line.values.iter().enumerate() {
            let at = i64::try_from(index).unwrap() * step_ms;
            match value {
                Value::Omitted => {}
                Value::Float(value) => columns.push_float(at, *value),
                Value::Histogram(histogram) => {
                    columns.histogram_timestamps_ms.push(at);
                    columns.histograms.push(histogram.clone());
                }
            }
        }
        data.push((line.labels.clone(), columns));
    }
}

/// Adds the native histograms that stand for classic ones; that they are there is all that counts.
fn load_histograms(data: &mut Vec<(Labels, Columns)>, step_ms: i64, series: &[SeriesLine]) {
    let mut times: BTreeMap<Labels, Vec<i64>> = BTreeMap::new();
    for line in series {
        let name = line.labels.metric_name();
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|it| name.strip_suffix(it));
        let Some(base) = base else { continue };
        let mut builder = line.labels.to_builder();
        let labels = builder.set(METRIC_NAME, base).remove("le").build();
        let times = times.entry(labels).or_default();
        let present = line.values.iter().enumerate();
        let present = present.filter(|(_, value)| matches!(value, Value::Float(_)));
        times.extend(present.map(|(index, _)| i64::try_from(index).unwrap() * step_ms));
    }
    for (labels, mut times) in times {
        times.sort_unstable();
        times.dedup();
        let one = FloatHistogram { count: 1.0, ..FloatHistogram::default() };
        let histograms = vec![one; times.len()];
        let columns = Columns { histogram_timestamps_ms: times, histograms, ..Columns::default() };
        data.push((labels, columns));
    }
}

fn evaluate(eval: &Eval, storage: &Memory) -> Result<(), String> {
    match eval.when {
        When::Range { start_ms, end_ms, step_ms } => {
            let expr = read(eval)?;
            let range = TimeRange::new(start_ms, end_ms);
            let answer = Engine::default().range(&expr, range, step_ms, &session(storage.clone()));
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
    let answer = Engine::default().instant(expr, at_ms, &session);
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
    let answer = Engine::default().range(expr, range, 60_000, &session);
    let answer = answer.map_err(|error| format!("as a range query: {error}"))?;
    if eval.remarks.iter().any(|(kind, _)| *kind == Kind::Ordered) {
        return Ok(());
    }
    let QueryResult::Matrix(matrix) = answer.result else { return Err("not a matrix".into()) };
    assert!(matrix.is_sorted_by(|a, b| a.labels <= b.labels), "{}", eval.expr);
    let middle = matrix.iter().filter_map(|series| {
        let (_, value) = series.points().find(|(at, _)| *at == at_ms)?;
        Some((series.labels.clone(), value))
    });
    let middle: Vec<(Labels, f64)> = middle.collect();
    let checked = match eval.expected.scalar {
        Some(expected) => match middle.first() {
            Some((_, value)) if near(*value, expected) => Ok(()),
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
        (Err(promql::Error::Unsupported(text)), _) => return Err(text),
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
            let samples: Vec<_> = samples.iter().map(|it| (it.labels.clone(), it.value)).collect();
            compare_vector(eval, &samples)
        }
        QueryResult::Matrix(matrix) => {
            if eval.expected.scalar.is_some() {
                return Err("a matrix instead of a scalar".into());
            }
            let expected = &eval.expected.series;
            if let Some(extra) = matrix.iter().find(|it| find(expected, &it.labels).is_none()) {
                let points: Vec<_> = extra.points().collect();
                return Err(format!("unexpected {}: {points:?}", extra.labels));
            }
            for line in expected {
                let series = matrix.iter().find(|it| it.labels == line.labels);
                let got: Vec<_> = series.iter().flat_map(|it| it.points()).collect();
                let wanted = points(line, start_ms, step_ms)?;
                let same = got.len() == wanted.len()
                    && got.iter().zip(&wanted).all(|(a, b)| a.0 == b.0 && near(a.1, b.1));
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

fn points(line: &SeriesLine, start_ms: i64, step_ms: i64) -> Result<Vec<(i64, f64)>, String> {
    let mut points = Vec::new();
    for (index, value) in line.values.iter().enumerate() {
        match value {
            Value::Omitted => {}
            Value::Float(value) => {
                points.push((start_ms + i64::try_from(index).unwrap() * step_ms, *value));
            }
            Value::Histogram(_) => return Err("a native histogram is expected".into()),
        }
    }
    Ok(points)
}

fn compare_vector(eval: &Eval, samples: &[(Labels, f64)]) -> Result<(), String> {
    let expected = &eval.expected.series;
    let ordered = eval.remarks.iter().any(|(kind, _)| *kind == Kind::Ordered);
    for (index, (labels, value)) in samples.iter().enumerate() {
        let Some(line) = find(expected, labels) else {
            return Err(format!("unexpected {labels} {value}"));
        };
        if ordered && expected[index].labels != *labels {
            return Err(format!("{labels} at position {index}"));
        }
        match line.values.first() {
            Some(Value::Float(wanted)) if near(*value, *wanted) => {}
            Some(Value::Float(wanted)) => {
                return Err(format!("{labels} has {value}, not {wanted}"));
            }
            _ => return Err(format!("{labels} has {value}, not a histogram")),
        }
    }
    match expected.iter().find(|line| samples.iter().all(|(labels, _)| *labels != line.labels)) {
        Some(missing) => Err(format!("{} is missing in {samples:?}", missing.labels)),
        None => Ok(()),
    }
}

/// Equal up to a millionth of their sum.
fn near(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let sum = a.abs() + b.abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return (a - b).abs() < 1e-6 * f64::MIN_POSITIVE;
    }
    (a - b).abs() / sum.min(f64::MAX) < 1e-6
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
