//! The parser against what Prometheus' parser made of the same texts.

use std::collections::BTreeMap;

use model::MatchOp;
use promql::ast::{Expr, LabelMatcher, VectorSelector};
use promql::parser::{Options, parse, parse_selector};
use promql::pretty::pretty;
use serde_json::Value;
use testkit::golden;

/// The deepest of the golden texts have 500 levels, which Prometheus' growing stacks allow.
#[test]
fn golden_texts_parse_and_print_as_in_prometheus() {
    const STACK_BYTES: usize = 32 << 20;
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    thread.spawn(compare_with_golden_texts).unwrap().join().unwrap();
}

fn compare_with_golden_texts() {
    let all = Options { depth_max: 1000, ..Options::all() };
    let stable = Options { depth_max: 1000, ..Options::stable() };
    let Some(shared) = golden::shared_or_skip() else { return };
    let rows = golden::read_jsonl_gz(&shared.join("golden/promql-parse/queries.jsonl.gz"));
    assert_eq!(rows.len(), 6640);
    let mut failures = Vec::new();
    for row in &rows {
        let text = text_of(row);
        check(&text, row, &all, &mut failures);
        check(&text, row.get("default").unwrap_or(row), &stable, &mut failures);
    }
    let total = failures.len();
    failures.truncate(30);
    assert!(total == 0, "{total} differences:\n{}", failures.join("\n"));
}

fn check(text: &[u8], expected: &Value, options: &Options, failures: &mut Vec<String>) {
    let shown = String::from_utf8_lossy(text);
    let mut differ = |what: &str, got: &str, wanted: &str| {
        if got != wanted {
            failures.push(format!("{shown}\n  {what} {got}\n  wanted {wanted}"));
        }
    };
    match parse(text, options) {
        Err(error) => {
            let wanted = expected["error"].as_str().unwrap_or("no error");
            differ("error", &format!("invalid parameter \"query\": {error}"), wanted);
        }
        Ok(expr) => {
            if expected["ok"] == false {
                differ("parses to", &expr.to_string(), expected["error"].as_str().unwrap());
                return;
            }
            let canonical = expected["string"].as_str().unwrap();
            differ("string", &expr.to_string(), canonical);
            differ("type", expr.value_type().as_str(), expected["type"].as_str().unwrap());
            if let Some(wanted) = expected["pretty"].as_str() {
                differ("pretty", &pretty(&expr), wanted);
            }
            let selectors = Value::Array(selectors(&expr));
            differ("selectors", &selectors.to_string(), &expected["selectors"].to_string());
            if expected["string_stable"] == true {
                let again = parse(canonical, options).map(|it| it.to_string());
                differ("string again", &format!("{again:?}"), &format!("Ok({canonical:?})"));
            }
        }
    }
}

fn text_of(row: &Value) -> Vec<u8> {
    match row["query"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64(row["query_b64"].as_str().unwrap()),
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for byte in text.bytes().filter(|it| *it != b'=') {
        let digit = DIGITS.iter().position(|it| *it == byte).unwrap();
        bits = bits << 6 | u32::try_from(digit).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

/// The matchers of every vector selector in depth-first order.
fn selectors(expr: &Expr) -> Vec<Value> {
    let mut found = Vec::new();
    visit(expr, &mut |selector| {
        let matchers = selector.matchers.iter().map(matcher).collect();
        found.push(Value::Array(matchers));
    });
    found
}

fn matcher(matcher: &LabelMatcher) -> Value {
    let op = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    serde_json::json!([matcher.name.to_str_lossy(), op, matcher.value.to_str_lossy()])
}

fn visit(expr: &Expr, found: &mut impl FnMut(&VectorSelector)) {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Vector(it) => found(it),
        Expr::Matrix(it) => found(&it.selector),
        Expr::Subquery(it) => visit(&it.expr, found),
        Expr::Call(it) => it.args.iter().for_each(|arg| visit(arg, found)),
        Expr::Aggregate(it) => {
            visit(&it.expr, found);
            it.param.iter().for_each(|param| visit(param, found));
        }
        Expr::Binary(it) => {
            visit(&it.lhs, found);
            visit(&it.rhs, found);
        }
        Expr::Unary(it) => visit(&it.expr, found),
        Expr::Paren(it) => visit(&it.expr, found),
    }
}

#[test]
fn expressions_of_the_conformance_scripts_parse() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut counts = BTreeMap::new();
    let mut failures = Vec::new();
    let scripts = shared.join("conformance/promql");
    for entry in std::fs::read_dir(scripts).unwrap() {
        let path = entry.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        for line in script.lines().filter_map(expression_of) {
            *counts.entry(path.clone()).or_insert(0) += 1;
            if let Err(error) = parse(line, &Options::all()) {
                failures.push(format!("{line}\n  {error}"));
            }
        }
    }
    let total: usize = counts.values().sum();
    assert!(counts.len() >= 21 && total >= 2200, "{} scripts, {total} lines", counts.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The expression of an `eval` line that is meant to parse.
fn expression_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("eval")?;
    let (_, rest) = rest.split_once([' ', '\t'])?;
    let rest = rest.trim_start();
    // Behind the kind stand times: `instant at 5m`, `range from 0 to 10m step 1m`.
    let words = if let Some(rest) = rest.strip_prefix("instant") {
        (rest, 2)
    } else {
        (rest.strip_prefix("range")?, 6)
    };
    let (mut rest, count) = words;
    if count == 2 && !rest.trim_start().starts_with("at ") {
        return Some(rest.trim());
    }
    for _ in 0..count {
        rest = rest.trim_start();
        rest = rest.split_once([' ', '\t'])?.1;
    }
    Some(rest.trim())
}

#[test]
fn selectors_of_match_parameters_are_read() {
    let options = Options::stable();
    let matchers = parse_selector("up{job=~\"a|b\",x!=\"\"}", &options).unwrap();
    let shown: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["job=~\"a|b\"", "x!=\"\"", "__name__=\"up\""]);
    assert!(parse_selector("{}", &options).unwrap().iter().all(|it| it.matches_empty));
    assert!(parse_selector("{x=~\".*\"}", &options).unwrap().iter().all(|it| it.matches_empty));
    for (text, error) in [
        ("up offset 5m", "1:4: parse error: unexpected <offset>"),
        ("", "unknown position: parse error: unexpected end of input"),
        ("rate(up[5m])", "1:5: parse error: unexpected \"(\""),
        ("{a=\"b\"", "1:7: parse error: unexpected end of input inside braces"),
    ] {
        assert_eq!(parse_selector(text, &options).unwrap_err().to_string(), error, "{text}");
    }
}
