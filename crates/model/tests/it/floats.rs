//! Floats and times as text, against what Go and Prometheus print and parse.

use model::float::{
    FloatError, append_f, append_json, format_f, format_json, format_openmetrics,
    format_promql_literal, parse_go,
};
use model::text_time;
use proptest::prelude::any;
use proptest::proptest;
use serde_json::Value;
use testkit::golden::{bits, read_jsonl_gz, shared_or_skip};

/// The golden rows of one kind; none where there is no golden data.
pub(crate) fn rows(kind: &str) -> Option<Vec<Value>> {
    let shared = shared_or_skip()?;
    let rows = read_jsonl_gz(&shared.join("golden/floats/format.jsonl.gz"));
    let rows: Vec<Value> = rows.into_iter().filter(|it| it["kind"] == kind).collect();
    assert!(rows.len() > 20, "{kind}: {} rows", rows.len());
    Some(rows)
}

#[test]
fn formats_as_prometheus() {
    for row in rows("format").unwrap_or_default() {
        let value = bits(row["bits"].as_str().unwrap());
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        assert_eq!(format!("\"{}\"", format_json(value)), text("json"));
        assert_eq!(format_f(value), text("f"));
        assert_eq!(format_openmetrics(value), text("openmetrics"));
        assert_eq!(format_promql_literal(value), text("promql_literal"));
    }
}

#[test]
fn parses_as_go() {
    for row in rows("go_parse_float").unwrap_or_default() {
        let text = row["text"].as_str().unwrap();
        let expected = bits(row["bits"].as_str().unwrap());
        match (parse_go(text), row["error"].as_str()) {
            (Ok(value), None) => assert_eq!(value.to_bits(), expected.to_bits(), "{text:?}"),
            (Err(error), Some(message)) => {
                assert_eq!(error.to_string(), message);
                if let FloatError::Range { value, .. } = error {
                    assert_eq!(value.to_bits(), expected.to_bits(), "{text:?}");
                }
            }
            (parsed, error) => panic!("{text:?}: {parsed:?} and not {error:?}"),
        }
    }
}

#[test]
fn times_in_answers_as_prometheus() {
    for row in rows("timestamp_json").unwrap_or_default() {
        let timestamp_ms = row["ms"].as_i64().unwrap();
        let mut out = Vec::new();
        text_time::append_json(&mut out, timestamp_ms);
        // Prometheus prints garbage for the very smallest.
        let garbled = timestamp_ms == i64::MIN;
        let expected = row["json"].as_str().unwrap();
        let expected = if garbled { "-9223372036854775.808" } else { expected };
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn time_parameters_as_prometheus() {
    for row in rows("http_time").unwrap_or_default() {
        let text = row["text"].as_str().unwrap();
        let accident = ["NaN", "nan", "Inf", "+Inf", "-Inf", "1e20", "-1e20"].contains(&text)
            || text.starts_with("9223372036854775");
        match (text_time::parse_time_ms(text), row["error"].as_str()) {
            (Err(_), None) if accident => {}
            (Ok(ms), None) => assert_eq!(ms, row["ms"].as_i64().unwrap(), "{text:?}"),
            (Err(error), Some(message)) => assert_eq!(error.to_string(), message),
            (parsed, error) => panic!("{text:?}: {parsed:?} and not {error:?}"),
        }
    }
}

#[test]
fn duration_parameters_as_prometheus() {
    for row in rows("http_duration").unwrap_or_default() {
        let text = row["text"].as_str().unwrap();
        match (text_time::parse_duration_ns(text), row["error"].as_str()) {
            // What Go's conversion makes of NaN and of 2^63 is an accident of the processor.
            (Err(_), None) => assert_eq!(row["ns"].as_i64(), Some(i64::MIN), "{text:?}"),
            (Ok(ns), None) => assert_eq!(ns, row["ns"].as_i64().unwrap(), "{text:?}"),
            (Err(error), Some(message)) => assert_eq!(error.to_string(), message),
            (parsed, error) => panic!("{text:?}: {parsed:?} and not {error:?}"),
        }
    }
}

proptest! {
    #[test]
    fn every_form_reads_back(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        for text in [format_json(value), format_f(value), format_promql_literal(value)] {
            assert!(text.len() <= model::float::TEXT_BYTES_MAX);
            let back = parse_go(&text).unwrap();
            assert!(back.to_bits() == bits || (back.is_nan() && value.is_nan()), "{text}");
        }
        let mut out = b"x".to_vec();
        append_json(&mut out, value);
        append_f(&mut out, value);
        assert_eq!(out, format!("x{}{}", format_json(value), format_f(value)).into_bytes());
    }

    #[test]
    fn any_text_is_parsed_or_refused(
        text in any::<String>(),
        odd in "[-+0-9a-fxpPeEinfT:Z_.,]{0,20}",
    ) {
        for text in [text, odd] {
            let _ = parse_go(&text);
            let _ = text_time::parse_time_ms(&text);
            let _ = text_time::parse_duration_ns(&text);
        }
    }
}
