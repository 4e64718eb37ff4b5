//! Matchers: which can be made, and how they print.

use model::Matcher;
use model::matcher::MatchOp;
use testkit::golden::{read_jsonl_gz, shared_or_skip};

#[test]
fn made_and_printed_as_prometheus_does() {
    let Some(shared) = shared_or_skip() else { return };
    let (mut printed, mut refused) = (0, 0);
    for row in read_jsonl_gz(&shared.join("golden/matchers/vectors.jsonl.gz")) {
        let triples: Vec<[String; 3]> =
            serde_json::from_value(row["matchers"].clone()).unwrap_or_default();
        let matchers: Result<Vec<Matcher>, _> = triples
            .iter()
            .map(|[name, op, value]| {
                let op = match op.as_str() {
                    "=" => MatchOp::Equal,
                    "!=" => MatchOp::NotEqual,
                    "=~" => MatchOp::Regex,
                    "!~" => MatchOp::NotRegex,
                    _ => panic!("{op}"),
                };
                Matcher::new(op, name, value)
            })
            .collect();
        match (matchers, row["error"].as_str()) {
            (Err(error), Some(message)) => {
                assert_eq!(error.to_string(), message);
                refused += 1;
            }
            (Ok(matchers), None) => {
                let Some(selector) = row["selector"].as_str() else { continue };
                let texts: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
                assert_eq!(format!("{{{}}}", texts.join(", ")), selector);
                printed += 1;
            }
            (made, error) => panic!("{triples:?}: {made:?} and not {error:?}"),
        }
    }
    assert!(printed > 1000 && refused > 0, "{printed} printed, {refused} refused");
}
