//! Regular expressions: what Prometheus refuses, in which words, and what it matches.

use model::Matcher;
use model::matcher::MatchOp;
use model::regex::Regex;
use serde_json::Value;
use testkit::golden::{read_jsonl_gz, shared_or_skip};

fn texts(values: &Value) -> Vec<Option<&str>> {
    values.as_array().unwrap().iter().map(Value::as_str).collect()
}

#[test]
fn agrees_with_prometheus() {
    let Some(shared) = shared_or_skip() else { return };
    let rows = read_jsonl_gz(&shared.join("golden/regex/vectors.jsonl.gz"));
    let (mut answers, mut refused) = (0, 0);
    for row in &rows {
        // Our texts are UTF-8 by their type: other bytes are refused where they come in.
        let Some(pattern) = row["pattern"].as_str() else { continue };
        let id = row["id"].as_str().unwrap();
        let regex = match (Regex::new(pattern), row["error"].as_str()) {
            (Ok(regex), None) => regex,
            (Err(error), Some(expected)) => {
                refused += 1;
                // Prometheus quotes its own simplified and wrapped spelling here, we the given one.
                let wrapped = expected.contains("nests too deeply: `^(?s:");
                let length = if wrapped {
                    "error parsing regexp: expression nests too deeply".len()
                } else {
                    expected.len()
                };
                assert_eq!(error.to_string()[..length], expected[..length], "{id}");
                continue;
            }
            (Ok(_), Some(expected)) => panic!("{id} {pattern:?} was not refused: {expected}"),
            (Err(error), None) => panic!("{id} {pattern:.200?} was refused: {error:.200}"),
        };
        let expected = row["match"].as_array().unwrap();
        for (subject, expected) in texts(&row["subjects"]).into_iter().zip(expected) {
            let Some(subject) = subject else { continue };
            let matched = regex.is_match(subject);
            assert_eq!(matched, expected.as_bool().unwrap(), "{id} {pattern:.200?} {subject:?}");
            assert!(!matched || subject.starts_with(regex.prefix()), "{id} {pattern:?}");
            if let Some(set) = regex.set_matches() {
                assert_eq!(set.iter().any(|it| it == subject), matched, "{id} {pattern:?}");
            }
            answers += 1;
        }
    }
    assert!(answers > 50_000 && refused > 300, "{answers} answers, {refused} refusals");
}

#[test]
fn finds_the_sets_that_prometheus_finds() {
    let Some(shared) = shared_or_skip() else { return };
    let rows = read_jsonl_gz(&shared.join("golden/regex/vectors.jsonl.gz"));
    let mut found = 0;
    for row in rows.iter().filter(|it| it["set_matches"].is_array()) {
        let Some(pattern) = row["pattern"].as_str() else { continue };
        let mut expected: Vec<&str> = texts(&row["set_matches"]).into_iter().flatten().collect();
        expected.sort_unstable();
        expected.dedup();
        let regex = Regex::new(pattern).unwrap();
        let Some(set) = regex.set_matches() else { continue };
        assert_eq!(set, expected, "{pattern:?}");
        found += 1;
    }
    assert!(found > 200, "{found}");
}

#[test]
fn expressions_are_classified() {
    for (pattern, expected) in [
        ("foo", Some("foo")),
        ("a|b", Some("a|b")),
        ("^(?:b|a|b)$", Some("a|b")),
        ("(foo|bar)baz?", Some("barba|barbaz|fooba|foobaz")),
        ("", Some("")),
        ("a.*", None),
        ("a{0}", Some("")),
        ("[^\\x00-\\x{10ffff}]", None),
    ] {
        let regex = Regex::new(pattern).unwrap();
        let set = regex.set_matches().map(|it| it.join("|"));
        let expected = if pattern.starts_with("[^") { Some("") } else { expected };
        assert_eq!(set.as_deref(), expected, "{pattern}");
    }
    assert!(Regex::new(".*").unwrap().matches_everything());
    assert!(Regex::new("(.*)(.*)").unwrap().matches_everything());
    assert!(Regex::new("^.+$").unwrap().matches_non_empty());
    assert!(!Regex::new("(?-s).*").unwrap().matches_everything());
    for (pattern, prefix) in [
        ("foo.*", "foo"),
        ("foo(bar|baz)[0-9]+", "fooba"),
        ("(ab){2,}x", "abab"),
        ("ab*", "a"),
        ("a|b.*", ""),
        ("(?i)foo.*", ""),
        ("^foo\\b.*", "foo"),
        ("日本.*|日光.*", "日"),
    ] {
        assert_eq!(Regex::new(pattern).unwrap().prefix(), prefix, "{pattern}");
    }
}

#[test]
fn hostile_patterns_are_answered_in_bounded_space() {
    for pattern in [
        "(".repeat(200_000),
        "(?:".repeat(100_000) + &")".repeat(100_000),
        "(?:a".repeat(50_000) + &")".repeat(50_000),
        "(?:".repeat(50_000) + &"a)".repeat(50_000),
        "((((((((((x{2}){2}){2}){2}){2}){2}){2}){2}){2}){100})".to_owned(),
        "[".repeat(10_000),
        "\\pL{1000}".repeat(2_000),
        "(?i)".repeat(100_000),
        "(|)".repeat(100_000),
        "(a|b)".repeat(100_000),
        "|".repeat(100_000),
    ] {
        if let Ok(regex) = Regex::new(&pattern) {
            regex.is_match("aaaaaaaaaaaaaaaaaaaaaaaab");
        }
    }
}

#[test]
fn negation_and_absence() {
    let matcher = |op, value| Matcher::new(op, "a", value).unwrap();
    assert!(matcher(MatchOp::Regex, "x|").matches_empty());
    assert!(!matcher(MatchOp::NotRegex, "x|").matches_empty());
    assert!(matcher(MatchOp::NotRegex, ".+").matches_empty());
    assert!(matcher(MatchOp::NotEqual, "x").matches_empty());
    assert!(!matcher(MatchOp::NotRegex, "x.*").matches("xyz"));
}
