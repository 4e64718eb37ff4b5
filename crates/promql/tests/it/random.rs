//! Random queries with the answers of a real Prometheus.
//!
//! All must agree but a few whose recorded answer is a defect, which are named.

use std::collections::BTreeMap;
use std::path::Path;

use model::float::format_json;
use model::histogram::{Bucket, CounterResetHint, Span};
use model::{Columns, FloatHistogram, Labels, STALE_NAN_BITS, TimeRange};
use promql::engine::Series;
use promql::parser::{Options, parse};
use promql::{Answer, Engine, Error, QueryResult};
use serde_json::Value;
use testkit::golden::{read_jsonl_gz, shared_or_skip};

use crate::memory::{Memory, session};

/// Queries that agree: all but the defects below.
const AGREE: usize = 2051;

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
    let mut failures = Vec::new();
    let mut records = 0;
    for name in ["queries", "queries-deep", "variants"] {
        for record in read_jsonl_gz(&dir.join(format!("{name}.jsonl.gz"))) {
            if is_defect(&record) {
                continue;
            }
            records += 1;
            if let Err(why) = check(&record, &storage) {
                failures.push(format!("{}: {why}", record["query"]));
            }
        }
    }
    if std::env::var("PROMQL_SHOW").is_ok() {
        failures.iter().for_each(|it| println!("random: {it}"));
    }
    let agree = records - failures.len();
    println!("agree {agree} of {records}");
    assert!(failures.is_empty(), "{} answers differ: {failures:#?}", failures.len());
    assert_eq!(agree, AGREE);
}

/// Whether the recorded answer is not to be copied: it is a panic of Prometheus, or is known.
fn is_defect(record: &Value) -> bool {
    let is_panic = |text: &str| text.starts_with("unexpected error: runtime error");
    record["error"].as_str().is_some_and(is_panic)
        || DEFECTS.iter().any(|(query, _)| record["query"] == *query)
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
            columns.histograms.push(stored_histogram(&sample[1]));
        }
        (labels, columns)
    });
    Memory::new(series.collect())
}

fn labels(pairs: &Value) -> Labels {
    let pairs = pairs.as_object().unwrap().iter();
    Labels::from_pairs(pairs.map(|(name, value)| (name, value.as_str().unwrap()))).unwrap()
}

fn stored_histogram(record: &Value) -> FloatHistogram {
    let number = |name: &str| record[name].as_str().map_or(0.0, value);
    if record["sum"].as_str() == Some("stale") {
        return FloatHistogram { sum: value("stale"), ..FloatHistogram::default() };
    }
    let spans = |name: &str| -> Vec<Span> {
        let spans = record[name].as_array().into_iter().flatten();
        let span = |it: &Value| Span {
            offset: i32::try_from(it[0].as_i64().unwrap()).unwrap(),
            length: u32::try_from(it[1].as_u64().unwrap()).unwrap(),
        };
        spans.map(span).collect()
    };
    let counts = |name: &str| -> Vec<f64> {
        let texts = record[name].as_array().into_iter().flatten();
        let counts = texts.map(|it| value(it.as_str().unwrap()));
        if record["kind"] == "float" {
            return counts.collect();
        }
        // Integer histograms hold the changes from bucket to bucket.
        counts
            .scan(0.0, |count, change| {
                *count += change;
                Some(*count)
            })
            .collect()
    };
    let bounds = record["custom_values"].as_array().into_iter().flatten();
    FloatHistogram {
        schema: i32::try_from(record["schema"].as_i64().unwrap_or_default()).unwrap(),
        zero_threshold: number("zero_threshold"),
        zero_count: number("zero_count"),
        count: number("count"),
        sum: number("sum"),
        positive_spans: spans("pspans"),
        negative_spans: spans("nspans"),
        positive_buckets: counts("pbuckets"),
        negative_buckets: counts("nbuckets"),
        custom_values: bounds.map(|it| value(it.as_str().unwrap())).collect(),
        counter_reset_hint: match record["hint"].as_str() {
            Some("reset") => CounterResetHint::Reset,
            Some("not_reset") => CounterResetHint::NotReset,
            Some("gauge") => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
    }
}

fn value(text: &str) -> f64 {
    match text {
        "stale" => f64::from_bits(STALE_NAN_BITS),
        "NaN" => f64::from_bits(0x7ff8_0000_0000_0001),
        text => text.parse().unwrap(),
    }
}

/// Whether the answer agrees.
fn check(record: &Value, storage: &Memory) -> Result<(), String> {
    let query = record["query"].as_str().unwrap();
    let variant = record["variant"].as_str().unwrap_or_default();
    let options = if variant == "no-experimental" { Options::stable() } else { Options::all() };
    let expr = match parse(query, &options) {
        Ok(expr) => expr,
        Err(error) => {
            let text = format!("invalid parameter \"query\": {error}");
            let same = record["error"].as_str() == Some(&text);
            return if same { Ok(()) } else { Err(format!("{text}, not {}", record["error"])) };
        }
    };
    let session = session(storage.clone());
    let engine = Engine::new(promql::Options {
        delayed_name_removal: variant == "delayed-name-removal",
        ..promql::Options::default()
    });
    let answer = if record["kind"] == "instant" {
        engine.instant(&expr, millis(&record["time"]), &session)
    } else {
        let range = TimeRange::new(millis(&record["start"]), millis(&record["end"]));
        engine.range(&expr, range, millis(&record["step"]), &session)
    };
    let answer = match answer {
        Err(Error::BadQuery(text)) => {
            let same = record["error"] == format!("invalid parameter \"query\": {text}");
            return if same { Ok(()) } else { Err(format!("{text}, not {}", record["error"])) };
        }
        Err(error) if record["status"] == "error" => {
            let expected = record["error"].as_str().unwrap();
            return if same_kind(expected, &error.to_string()) {
                Ok(())
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
        return Ok(());
    }
    compare(record, query, &answer)
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

type Points = Vec<(i64, Sample)>;

/// A sample as the API serves it.
#[derive(Clone, Debug)]
enum Sample {
    Float(f64),
    Histogram(Served),
}

/// A histogram as the API serves it: count, sum, and buckets with the rule of their bounds.
#[derive(Clone, Debug)]
struct Served {
    count: f64,
    sum: f64,
    buckets: Vec<(u64, f64, f64, f64)>,
}

impl Served {
    fn of(it: &FloatHistogram) -> Served {
        let rule = |bucket: &Bucket| match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        };
        let filled = it.all().filter(|it| it.count != 0.0);
        let buckets = filled.map(|it| (rule(&it), it.lower, it.upper, it.count)).collect();
        Served { count: it.count, sum: it.sum, buckets }
    }

    fn read(record: &Value) -> Served {
        let number = |it: &Value| value(it.as_str().unwrap());
        let buckets = record["buckets"].as_array().into_iter().flatten();
        let buckets = buckets
            .map(|it| (it[0].as_u64().unwrap(), number(&it[1]), number(&it[2]), number(&it[3])));
        Served {
            count: number(&record["count"]),
            sum: number(&record["sum"]),
            buckets: buckets.collect(),
        }
    }
}

fn same_sample(a: &Sample, b: &Sample, exact: bool) -> Result<(), String> {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) => same_value(*a, *b, exact),
        (Sample::Histogram(a), Sample::Histogram(b)) => {
            same_value(a.count, b.count, exact).map_err(|why| format!("count {why}"))?;
            same_value(a.sum, b.sum, exact).map_err(|why| format!("sum {why}"))?;
            let bounds = |it: &Served| {
                let bounds = it.buckets.iter();
                bounds.map(|it| (it.0, it.1.to_bits(), it.2.to_bits())).collect::<Vec<_>>()
            };
            if bounds(a) != bounds(b) {
                return Err(format!("{a:?}, not {b:?}"));
            }
            let mut pairs = a.buckets.iter().zip(&b.buckets);
            pairs.try_for_each(|(a, b)| same_value(a.3, b.3, exact))
        }
        _ => Err(format!("{a:?}, not {b:?}")),
    }
}

/// Floats and histograms of a series in order of time.
fn samples(series: &Series) -> Points {
    let floats = series.points().map(|(at, value)| (at, Sample::Float(value)));
    let histograms = series.histograms();
    let histograms = histograms.map(|(at, it)| (at, Sample::Histogram(Served::of(it))));
    let mut all: Points = floats.chain(histograms).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

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
            let series = samples.iter().map(|it| {
                let sample = match &it.histogram {
                    Some(histogram) => Sample::Histogram(Served::of(histogram)),
                    None => Sample::Float(it.value),
                };
                (it.labels.clone(), vec![(at, sample)])
            });
            ("vector", series.collect::<Vec<(Labels, Points)>>())
        }
        QueryResult::Matrix(matrix) => {
            let series = matrix.iter().map(|it| (it.labels.clone(), samples(it)));
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
        let at = |it: &Value| -> i64 {
            let at_ms = (it[0].as_f64().unwrap() * 1000.0).round();
            format!("{at_ms}").parse().unwrap()
        };
        let float = |it: &Value| (at(it), Sample::Float(value(it[1].as_str().unwrap())));
        let histogram = |it: &Value| (at(it), Sample::Histogram(Served::read(&it[1])));
        let mut points: Points = Vec::new();
        let list = |name: &str| series[name].as_array().into_iter().flatten();
        points.extend(list("values").map(float));
        points.extend(series.get("value").map(float));
        points.extend(list("histograms").map(histogram));
        points.extend(series.get("histogram").map(histogram));
        points.sort_by_key(|(at, _)| *at);
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
        same_sample(a, b, exact).map_err(|why| format!("at {at}: {why}"))?;
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
