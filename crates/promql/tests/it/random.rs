//! Random queries with the answers of a real Prometheus.
//!
//! Queries that need what is not evaluated yet are counted apart; all others must agree.

use std::collections::BTreeMap;
use std::path::Path;

use model::float::format_json;
use model::{Columns, FloatHistogram, Labels, STALE_NAN_BITS, TimeRange};
use promql::parser::{Options, parse};
use promql::{Answer, Engine, Error, QueryResult};
use serde_json::Value;
use testkit::golden::{read_jsonl_gz, shared_or_skip};

use crate::memory::{Memory, session};

/// Queries of `queries.jsonl.gz` and `queries-deep.jsonl.gz` that agree, at least.
const EXPECTED: (usize, usize) = (877, 245);

/// Queries whose recorded answer is a defect that is not copied.
const DEFECTS: &[(&str, &str)] = &[(
    "(bottomk(scalar(count(node_load1 @ 1756694021.491 offset 17)), \
     http_request_duration_seconds_sum))",
    "the time of @ in the parameter of an aggregation moves with the step",
)];

#[test]
fn random_queries_agree_with_prometheus() {
    let Some(shared) = shared_or_skip() else { return };
    let dir = shared.join("golden/promql-random");
    let storage = load(&dir);
    let shallow = run(&dir.join("queries.jsonl.gz"), &storage);
    let deep = run(&dir.join("queries-deep.jsonl.gz"), &storage);
    let failures: Vec<&String> = shallow.failures.iter().chain(&deep.failures).collect();
    if std::env::var("PROMQL_SHOW").is_ok() {
        failures.iter().for_each(|it| println!("random: {it}"));
    }
    println!(
        "agree {} and {}, not evaluated {} and {}, differ {}",
        shallow.agree,
        deep.agree,
        shallow.unsupported,
        deep.unsupported,
        failures.len()
    );
    assert!(failures.is_empty(), "{} answers differ: {failures:#?}", failures.len());
    assert!(shallow.agree >= EXPECTED.0 && deep.agree >= EXPECTED.1);
}

#[derive(Default)]
struct Outcome {
    agree: usize,
    unsupported: usize,
    failures: Vec<String>,
}

fn run(path: &Path, storage: &Memory) -> Outcome {
    let mut outcome = Outcome::default();
    for record in read_jsonl_gz(path) {
        if DEFECTS.iter().any(|(query, _)| record["query"] == *query) {
            continue;
        }
        match check(&record, storage) {
            Ok(true) => outcome.agree += 1,
            Ok(false) => outcome.unsupported += 1,
            Err(why) => outcome.failures.push(format!("{}: {why}", record["query"])),
        }
    }
    outcome
}

fn load(dir: &Path) -> Memory {
    let series = read_jsonl_gz(&dir.join("data.jsonl.gz")).into_iter().map(|record| {
        let labels = labels(&record["labels"]);
        let mut columns = Columns::default();
        for sample in record["samples"].as_array().into_iter().flatten() {
            columns.push_float(sample[0].as_i64().unwrap(), value(sample[1].as_str().unwrap()));
        }
        for sample in record["histograms"].as_array().into_iter().flatten() {
            columns.histogram_timestamps_ms.push(sample[0].as_i64().unwrap());
            // Only whether it is a staleness marker matters as long as none is evaluated.
            let is_stale = sample[1]["sum"].as_str() == Some("stale");
            let sum = if is_stale { f64::from_bits(STALE_NAN_BITS) } else { 1.0 };
            columns.histograms.push(FloatHistogram { sum, ..FloatHistogram::default() });
        }
        (labels, columns)
    });
    Memory::new(series.collect())
}

fn labels(pairs: &Value) -> Labels {
    let pairs = pairs.as_object().unwrap().iter();
    Labels::from_pairs(pairs.map(|(name, value)| (name, value.as_str().unwrap()))).unwrap()
}

fn value(text: &str) -> f64 {
    match text {
        "stale" => f64::from_bits(STALE_NAN_BITS),
        "NaN" => f64::from_bits(0x7ff8_0000_0000_0001),
        text => text.parse().unwrap(),
    }
}

/// Whether the answer agrees; false where the query is not evaluated.
fn check(record: &Value, storage: &Memory) -> Result<bool, String> {
    let query = record["query"].as_str().unwrap();
    let expr = match parse(query, &Options::all()) {
        Ok(expr) => expr,
        Err(error) => {
            let text = format!("invalid parameter \"query\": {error}");
            let same = record["error"].as_str() == Some(&text);
            return if same { Ok(true) } else { Err(format!("{text}, not {}", record["error"])) };
        }
    };
    let session = session(storage.clone());
    let engine = Engine::default();
    let answer = if record["kind"] == "instant" {
        engine.instant(&expr, millis(&record["time"]), &session)
    } else {
        let range = TimeRange::new(millis(&record["start"]), millis(&record["end"]));
        engine.range(&expr, range, millis(&record["step"]), &session)
    };
    let answer = match answer {
        Err(Error::Unsupported(_)) => return Ok(false),
        Err(Error::BadQuery(text)) => {
            let same = record["error"] == format!("invalid parameter \"query\": {text}");
            return if same { Ok(true) } else { Err(format!("{text}, not {}", record["error"])) };
        }
        Err(error) if record["status"] == "error" => {
            let expected = record["error"].as_str().unwrap();
            return if same_kind(expected, &error.to_string()) {
                Ok(true)
            } else {
                Err(format!("failed with {error}, not {expected}"))
            };
        }
        Err(error) => return Err(format!("failed with {error}")),
        Ok(_) if record["status"] == "error" => {
            return Err(format!("succeeded, should fail with {}", record["error"]));
        }
        Ok(answer) => answer,
    };
    if record["layout_dependent"] == true || record["nondeterministic"] == true {
        return Ok(true);
    }
    compare(record, query, &answer).map(|()| true)
}

/// Errors of execution agree in their kind: the sentence without labels and numbers.
fn same_kind(expected: &str, actual: &str) -> bool {
    let kind = |text: &str| text.split(['{', '"', ':']).next().unwrap_or_default().to_owned();
    kind(expected) == kind(actual)
}

/// Seconds, perhaps with a fraction, as ms.
fn millis(seconds: &Value) -> i64 {
    let text = seconds.as_str().unwrap();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: i64 = format!("{fraction:0<3}")[..3].parse().unwrap();
    whole.parse::<i64>().unwrap() * 1000 + fraction
}

type Points = Vec<(i64, f64)>;

fn compare(record: &Value, query: &str, answer: &Answer) -> Result<(), String> {
    let (kind, actual) = match &answer.result {
        QueryResult::Scalar(value) => {
            return compare_scalar(record, *value);
        }
        QueryResult::String(text) => {
            let same = record["resultType"] == "string" && record["result"][1] == **text;
            return if same { Ok(()) } else { Err(format!("string {text:?}")) };
        }
        QueryResult::Vector(samples) => {
            let at = record["time"].as_str().map_or(0, |_| millis(&record["time"]));
            let series = samples.iter().map(|it| (it.labels.clone(), vec![(at, it.value)]));
            ("vector", series.collect::<Vec<(Labels, Points)>>())
        }
        QueryResult::Matrix(matrix) => {
            let series = matrix.iter().map(|it| (it.labels.clone(), it.points().collect()));
            ("matrix", series.collect())
        }
    };
    if record["resultType"] != kind {
        return Err(format!("a {kind}, not a {}", record["resultType"]));
    }
    let expected = expected(&record["result"])?;
    let exact = record["exact"] == true;
    if record["ordered"] == true {
        for (index, ((_, a), (_, b))) in actual.iter().zip(&expected).enumerate() {
            same_points(a, b, exact).map_err(|why| format!("at place {index}: {why}"))?;
        }
    }
    let mut by_labels: BTreeMap<Labels, Points> = BTreeMap::new();
    for (labels, points) in actual {
        if by_labels.insert(labels.clone(), points).is_some() {
            return Err(format!("{labels} twice"));
        }
    }
    for (labels, points) in &expected {
        let Some(actual) = by_labels.remove(labels) else {
            return Err(format!("{labels} is missing"));
        };
        same_points(&actual, points, exact).map_err(|why| format!("{labels}: {why}"))?;
    }
    if let Some((labels, points)) = by_labels.first_key_value() {
        return Err(format!("unexpected {labels} {:?}", points.first()));
    }
    same_texts(&record["warnings"], answer.annotations.warnings(query))?;
    same_texts(&record["infos"], answer.annotations.infos(query))
}

fn compare_scalar(record: &Value, value: f64) -> Result<(), String> {
    if record["resultType"] != "scalar" {
        return Err(format!("scalar {value}"));
    }
    let expected = record["result"][1].as_str().unwrap();
    same_value(value, self::value(expected), record["exact"] == true)
}

fn expected(result: &Value) -> Result<Vec<(Labels, Points)>, String> {
    let mut all = Vec::new();
    for series in result.as_array().unwrap() {
        if series.get("histogram").is_some() || series.get("histograms").is_some() {
            return Err("native histograms are expected".into());
        }
        let point = |it: &Value| {
            let at_ms = (it[0].as_f64().unwrap() * 1000.0).round();
            (format!("{at_ms}").parse().unwrap(), value(it[1].as_str().unwrap()))
        };
        let points = match series.get("values") {
            Some(values) => values.as_array().unwrap().iter().map(point).collect(),
            None => vec![point(&series["value"])],
        };
        all.push((labels(&series["metric"]), points));
    }
    Ok(all)
}

fn same_points(actual: &Points, expected: &Points, exact: bool) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} points, not {}", actual.len(), expected.len()));
    }
    for ((at, a), (expected_at, b)) in actual.iter().zip(expected) {
        if at != expected_at {
            return Err(format!("a point at {at}, not at {expected_at}"));
        }
        same_value(*a, *b, exact).map_err(|why| format!("at {at}: {why}"))?;
    }
    Ok(())
}

fn same_value(a: f64, b: f64, exact: bool) -> Result<(), String> {
    let same = if exact {
        format_json(a) == format_json(b)
    } else {
        a == b
            || (a.is_nan() && b.is_nan())
            || (a.abs() < 1e-300 && b.abs() < 1e-300)
            || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) && a.is_finite() == b.is_finite()
    };
    if same { Ok(()) } else { Err(format!("{a}, not {b} (exact: {exact})")) }
}

fn same_texts(expected: &Value, mut actual: Vec<String>) -> Result<(), String> {
    let texts = expected.as_array().into_iter().flatten();
    let mut expected: Vec<String> = texts.map(|it| it.as_str().unwrap().to_owned()).collect();
    // The API serves ten of each and says how many more there were.
    if expected.iter().any(|it| it.ends_with("annotations omitted")) {
        let fits =
            actual.len() > 10 && expected.iter().filter(|it| actual.contains(it)).count() == 10;
        return if fits { Ok(()) } else { Err(format!("remarks {actual:#?}, not {expected:#?}")) };
    }
    for text in actual.iter_mut().chain(&mut expected) {
        *text = without_sample_count(text);
    }
    actual.sort();
    expected.sort();
    if actual == expected { Ok(()) } else { Err(format!("remarks {actual:#?}, not {expected:#?}")) }
}

/// Takes the number of samples out of remarks on monotonicity: Prometheus adds it to itself at
/// every step, so that it grows exponentially.
fn without_sample_count(text: &str) -> String {
    let Some((before, rest)) = text.split_once(", over ") else { return text.to_owned() };
    let Some((_, after)) = rest.split_once(" samples ") else { return text.to_owned() };
    format!("{before}, over some samples {after}")
}
