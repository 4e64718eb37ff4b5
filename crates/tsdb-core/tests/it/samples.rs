//! Samples of any kind out of golden data, and texts of them that are equal when all bits are.

use std::fmt::Write as _;

use model::Columns;
use model::histogram::{CounterResetHint, FloatHistogram, Histogram, Span};
use serde_json::Value as Json;
use testkit::golden;
use tsdb_core::chunk::{Timed, Value};

/// The samples under `samples` or `histograms`, or of a mixed list.
pub(crate) fn of(list: &Json) -> Vec<Timed> {
    list.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(sample).collect()
}

/// The samples of a golden chunk.
pub(crate) fn of_chunk(chunk: &Json) -> Vec<Timed> {
    let (floats, histograms) = (of(&chunk["samples"]), of(&chunk["histograms"]));
    if floats.is_empty() { histograms } else { floats }
}

/// Start timestamps of the same list.
pub(crate) fn starts(list: &Json) -> Vec<i64> {
    let start = |it: &Json| it.get("st").or(it.get(2)).map_or(0, |it| it.as_i64().unwrap());
    list.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(start).collect()
}

fn sample(json: &Json) -> Timed {
    if json.is_array() {
        return Timed::float(json[0].as_i64().unwrap(), bits(&json[1]));
    }
    let value = match json["kind"].as_str() {
        Some("int") => Value::Histogram(Box::new(integer(json))),
        Some("float") => Value::FloatHistogram(Box::new(float(json))),
        other => panic!("{other:?} is no kind"),
    };
    Timed { timestamp_ms: json["t"].as_i64().unwrap(), value }
}

fn integer(json: &Json) -> Histogram {
    let deltas = |key: &str| list(json.get(key).unwrap_or(&Json::Null), |it| it.as_i64().unwrap());
    let histogram = Histogram {
        schema: schema(json),
        zero_threshold: bits(&json["zero_threshold"]),
        zero_count: json["zero_count"].as_u64().unwrap(),
        count: json["count"].as_u64().unwrap(),
        sum: bits(&json["sum"]),
        positive_spans: list(&json["positive_spans"], span),
        negative_spans: list(&json["negative_spans"], span),
        positive_deltas: deltas("positive_deltas"),
        negative_deltas: deltas("negative_deltas"),
        custom_values: list(&json["custom_values"], bits),
        counter_reset_hint: hint(json),
    };
    // The absolute buckets that stand beside the deltas check the widening.
    let float = histogram.to_float();
    if !histogram.is_stale() {
        for (got, key) in [
            (float.positive_buckets, "positive_buckets"),
            (float.negative_buckets, "negative_buckets"),
        ] {
            assert_eq!(got, list(&json[key], |it| it.as_f64().unwrap()), "{json}");
        }
    }
    histogram
}

fn float(json: &Json) -> FloatHistogram {
    FloatHistogram {
        schema: schema(json),
        zero_threshold: bits(&json["zero_threshold"]),
        zero_count: bits(&json["zero_count"]),
        count: bits(&json["count"]),
        sum: bits(&json["sum"]),
        positive_spans: list(&json["positive_spans"], span),
        negative_spans: list(&json["negative_spans"], span),
        positive_buckets: list(&json["positive_buckets"], bits),
        negative_buckets: list(&json["negative_buckets"], bits),
        custom_values: list(&json["custom_values"], bits),
        counter_reset_hint: hint(json),
    }
}

fn list<T>(json: &Json, item: impl Fn(&Json) -> T) -> Vec<T> {
    json.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(item).collect()
}

fn bits(json: &Json) -> f64 {
    golden::bits(json.as_str().unwrap())
}

fn schema(json: &Json) -> i32 {
    i32::try_from(json["schema"].as_i64().unwrap()).unwrap()
}

fn span(json: &Json) -> Span {
    Span {
        offset: i32::try_from(json[0].as_i64().unwrap()).unwrap(),
        length: u32::try_from(json[1].as_u64().unwrap()).unwrap(),
    }
}

fn hint(json: &Json) -> CounterResetHint {
    match json["counter_reset_hint"].as_str() {
        Some("unknown") => CounterResetHint::Unknown,
        Some("reset") => CounterResetHint::Reset,
        Some("not_reset") => CounterResetHint::NotReset,
        Some("gauge") => CounterResetHint::Gauge,
        other => panic!("{other:?} is no hint"),
    }
}

/// A text with every bit of each sample.
pub(crate) fn texts(samples: &[Timed]) -> Vec<String> {
    samples.iter().map(|it| text(it.timestamp_ms, &it.value)).collect()
}

/// As [`texts`], of samples whose integer histograms are widened.
pub(crate) fn widened_texts(samples: &[Timed]) -> Vec<String> {
    let widened = samples.iter().map(|it| match &it.value {
        Value::Histogram(histogram) => float_text(it.timestamp_ms, &histogram.to_float()),
        other => text(it.timestamp_ms, other),
    });
    widened.collect()
}

/// As [`widened_texts`], of columns that hold one kind of samples.
pub(crate) fn column_texts(columns: &Columns) -> Vec<String> {
    let floats = columns.timestamps_ms.iter().zip(&columns.values);
    let floats = floats.map(|(at, value)| text(*at, &Value::Float(*value)));
    let histograms = columns.histogram_timestamps_ms.iter().zip(&columns.histograms);
    floats.chain(histograms.map(|(at, it)| float_text(*at, it))).collect()
}

/// Start timestamps of columns that hold one kind of samples, one for each sample.
pub(crate) fn column_starts(columns: &Columns) -> Vec<i64> {
    let mut starts = columns.start_timestamps_ms.clone();
    starts.extend(&columns.histogram_start_timestamps_ms);
    if starts.is_empty() { vec![0; columns.len()] } else { starts }
}

fn text(timestamp_ms: i64, value: &Value) -> String {
    match value {
        Value::Float(value) => format!("{timestamp_ms} {:016x}", value.to_bits()),
        Value::FloatHistogram(it) => float_text(timestamp_ms, it),
        Value::Histogram(it) => {
            let mut text = format!("{timestamp_ms} int {:?} ", it.counter_reset_hint);
            put_layout(&mut text, it.schema, &[it.zero_threshold, it.sum], &it.custom_values);
            write!(text, "{} {} ", it.count, it.zero_count).unwrap();
            write!(text, "{:?} {:?} ", it.positive_spans, it.positive_deltas).unwrap();
            write!(text, "{:?} {:?}", it.negative_spans, it.negative_deltas).unwrap();
            text
        }
    }
}

fn float_text(timestamp_ms: i64, it: &FloatHistogram) -> String {
    let mut text = format!("{timestamp_ms} float {:?} ", it.counter_reset_hint);
    put_layout(&mut text, it.schema, &[it.zero_threshold, it.sum], &it.custom_values);
    put_floats(&mut text, &[it.count, it.zero_count]);
    write!(text, "{:?} {:?} ", it.positive_spans, it.negative_spans).unwrap();
    put_floats(&mut text, &it.positive_buckets);
    put_floats(&mut text, &it.negative_buckets);
    text
}

fn put_layout(text: &mut String, schema: i32, floats: &[f64], custom_values: &[f64]) {
    write!(text, "{schema} ").unwrap();
    put_floats(text, floats);
    put_floats(text, custom_values);
}

fn put_floats(text: &mut String, floats: &[f64]) {
    for float in floats {
        write!(text, "{:016x} ", float.to_bits()).unwrap();
    }
    text.push('|');
}
