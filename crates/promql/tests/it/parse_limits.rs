//! What the parser does with hostile texts: an error, in bounded time and stack.

use promql::parser::{DEPTH_MAX, Options, parse, parse_selector};
use promql::pretty::pretty;
use proptest::prelude::*;

/// Nests an expression in several ways; each gives a tree of at least that height.
fn nested(levels: usize) -> Vec<String> {
    let around = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    };
    vec![
        around("(", "up", ")"),
        around("sum(", "up", ")"),
        around("abs(", "up", ")"),
        around("-", "up", ""),
        around("1 ^ ", "2", ""),
        around("up + ", "up", ""),
        around("", "up", "[5m:1m]"),
        around("up > (", "up", ")"),
        format!("foo[{}]", around("(", "5m", ")")),
        format!("foo[{}]", around("-", "5m", "")),
        format!("foo[{}]", around("2 ^ ", "5m", "")),
        format!("foo[{}]", around("1s + ", "5m", "")),
        format!("foo[{}]", around("max_of(1m, ", "5m", ")")),
        format!("foo offset {}", around("(", "5m", ")")),
        format!("foo offset {}", around("-", "5m", "")),
    ]
}

#[test]
fn nesting_ends_in_an_error_before_the_stack_ends() {
    // The stack of a test's thread is 2 MiB, as those of tokio's workers.
    for text in nested(50_000) {
        let error = parse(&text, &Options::all()).unwrap_err();
        let known = ["levels deep", "subquery is only allowed", "unexpected", "duration must"];
        assert!(known.iter().any(|it| error.message.contains(it)), "{error}");
    }
    for text in nested(DEPTH_MAX / 2) {
        if let Ok(expr) = parse(&text, &Options::all()) {
            assert_eq!(parse(expr.to_string(), &Options::all()).unwrap().to_string(), {
                expr.to_string()
            });
            pretty(&expr);
            drop(expr.clone());
        }
    }
    let deepest = format!("{}up{}", "(".repeat(DEPTH_MAX - 1), ")".repeat(DEPTH_MAX - 1));
    assert!(parse(deepest, &Options::all()).is_ok());
}

#[test]
fn a_text_over_the_bound_is_refused() {
    let options = Options { text_bytes_max: 10, ..Options::all() };
    let error = parse("up + up + up", &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "1:1: parse error: the expression has 12 bytes, at most 10 are allowed"
    );
    assert!(parse("up", &options).is_ok());
}

/// Words that PromQL is made of, so that random texts get past the first token.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "up", "foo:bar", "sum", "rate", "by", "without", "on", "ignoring", "group_left", "(", ")",
    "[", "]", "{", "}", ",", "5m", "1h30m", "5", "0x1f", "1e3", "inf", "nan", "\"a\"", "'b'",
    "`c`", "\"\\xff\"", "=", "=~", "!~", "!=", "==", ">", "</", ">/", "<=", "+", "-", "*", "/",
    "%", "^", "atan2", "and", "or", "unless", "bool", "offset", "@", "start", "end", "step",
    "range", "min_of", "max_of", "anchored", "smoothed", "fill", "fill_left", ":", "topk",
    "label_replace", "time", "#x\n", "[5m]", "[5m:1m]", "()", "{a=\"b\"}", "up[5m]", " ",
];

fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(WORDS);
    prop::collection::vec(word, 0..30).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, &Options::all());
        let _ = parse_selector(&bytes, &Options::all());
    }

    #[test]
    fn what_parses_prints_to_a_text_that_parses(text in words()) {
        let options = Options::all();
        if let Ok(expr) = parse(&text, &options) {
            let printed = expr.to_string();
            let again = parse(&printed, &options);
            prop_assert!(again.is_ok(), "{printed} from {text}: {again:?}");
            // A sign before a printed sign is the one thing that Prometheus does not keep apart.
            if !printed.contains("Inf") && !printed.contains(['+', '-']) {
                prop_assert_eq!(again.unwrap().to_string(), printed);
            }
            pretty(&expr);
        }
        let _ = parse_selector(&text, &options);
    }

    #[test]
    fn spans_lie_in_the_text(text in words()) {
        match parse(&text, &Options::all()) {
            Ok(expr) => prop_assert!(expr.span().end as usize <= text.len()),
            Err(error) => prop_assert!(error.span.end as usize <= text.len()),
        }
    }
}
