//! Numbers and durations as Prometheus reads and prints them.

use promql::ast::{DurationArg, Expr};
use promql::duration::{format_ms, parse_ns};
use promql::parser::{Options, parse};
use serde_json::Value;
use testkit::golden;

fn rows(kind: &str, count_min: usize) -> Vec<Value> {
    let Some(shared) = golden::shared_or_skip() else { return Vec::new() };
    let mut rows = golden::read_jsonl_gz(&shared.join("golden/floats/format.jsonl.gz"));
    rows.retain(|row| row["kind"] == kind);
    assert!(rows.len() >= count_min, "{} rows of {kind}", rows.len());
    rows
}

/// As the parser that made these rows was set.
fn options() -> Options {
    Options { duration_expressions: false, ..Options::stable() }
}

#[test]
fn number_literals_have_the_bits_that_prometheus_reads() {
    for row in rows("promql_number", 100) {
        let text = row["text"].as_str().unwrap();
        match (parse(text, &options()), row["error"].as_str()) {
            (Err(error), wanted) => assert_eq!(Some(error.to_string().as_str()), wanted, "{row}"),
            (Ok(expr), wanted) => {
                assert_eq!(wanted, None, "{row}");
                assert_eq!(expr.to_string(), row["expr"].as_str().unwrap(), "{row}");
                assert_eq!(expr.value_type().as_str(), row["type"].as_str().unwrap(), "{row}");
                if let Some(bits) = row["bits"].as_str() {
                    let Expr::Number(literal) = &expr else { panic!("{row} is {expr:?}") };
                    let wanted = golden::bits(bits);
                    let same = literal.value.to_bits() == wanted.to_bits()
                        || (literal.value.is_nan() && wanted.is_nan());
                    assert!(same, "{row} is {}", literal.value);
                    assert_eq!(Value::Bool(literal.duration), row["duration_literal"], "{row}");
                }
            }
        }
    }
}

#[test]
fn durations_of_selectors_are_those_of_prometheus() {
    for row in rows("promql_duration", 30) {
        let query = row["query"].as_str().unwrap();
        if query == "x offset NaN" {
            // Prometheus takes it for the least integer of its processor and prints what it cannot
            // read again; here it is out of range like every other duration without a length.
            let error = parse(query, &options()).unwrap_err();
            assert_eq!(error.to_string(), "1:10: parse error: duration out of range");
            continue;
        }
        let expr = match (parse(query, &options()), row["error"].as_str()) {
            (Ok(expr), None) => expr,
            (Err(error), wanted) => {
                assert_eq!(Some(error.to_string().as_str()), wanted, "{row}");
                continue;
            }
            (Ok(expr), Some(_)) => panic!("{row} parses to {expr}"),
        };
        assert_eq!(expr.to_string(), row["expr"].as_str().unwrap(), "{row}");
        let none = DurationArg::Fixed(0);
        let (range, step, offset) = match &expr {
            Expr::Vector(it) => (&none, &none, &it.offset),
            Expr::Matrix(it) => (&it.range, &none, &it.selector.offset),
            Expr::Subquery(it) => (&it.range, &it.step, &it.offset),
            other => panic!("{row} is {other:?}"),
        };
        for (key, value) in [("range_ms", range), ("step_ms", step), ("offset_ms", offset)] {
            if let Some(wanted) = row[key].as_i64() {
                assert_eq!(value.fixed_ms(), Some(wanted), "{key} of {row}");
            }
        }
    }
}

#[test]
fn durations_are_read_and_printed_as_in_configurations() {
    for row in rows("duration", 50) {
        let text = row["text"].as_str().unwrap();
        match parse_ns(text) {
            Err(error) => assert_eq!(Some(error.to_string().as_str()), row["error"].as_str()),
            Ok(ns) => {
                assert_eq!(Some(ns), row["ns"].as_i64(), "{row}");
                assert_eq!(format_ms(ns / 1_000_000), row["string"].as_str().unwrap(), "{row}");
            }
        }
    }
    for row in rows("duration_string", 20) {
        let ms = row["ms"].as_i64().unwrap();
        if ms >= 0 {
            assert_eq!(format_ms(ms), row["string"].as_str().unwrap(), "{row}");
        }
    }
}
