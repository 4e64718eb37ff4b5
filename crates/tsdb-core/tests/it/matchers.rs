//! Selects, label names and label values with matchers, as Prometheus answers them.

use std::collections::HashMap;

use model::{Budget, MatchOp, Matcher};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use testkit::golden;
use tsdb_core::block;

use crate::golden_blocks::open;

fn matcher(value: &Value) -> Option<Matcher> {
    let text = |at: usize| value[at].as_str().unwrap();
    let op = match text(1) {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Regex,
        _ => MatchOp::NotRegex,
    };
    Matcher::new(op, text(0), text(2)).ok()
}

#[test]
fn matchers_select_what_prometheus_selects() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let vectors = golden::read_jsonl_gz(&shared.join("golden/matchers/vectors.jsonl.gz"));
    let mut blocks: HashMap<String, block::Reader> = HashMap::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for vector in &vectors {
        let list = vector["matchers"].as_array().map(Vec::as_slice).unwrap_or_default();
        // The entry of all series lies under the empty name, which no caller may ask for.
        if list.iter().any(|it| it[0] == "") {
            continue;
        }
        count += 1;
        let name = vector["block"].as_str().unwrap();
        let block = blocks.entry(name.to_owned()).or_insert_with(|| open(&shared, name));
        let matchers: Option<Vec<Matcher>> = list.iter().map(matcher).collect();
        let refused = matchers.is_none();
        if refused || vector["error"].is_string() {
            if refused != vector["error"].is_string() {
                wrong.push(format!("{} {}: refused {refused}", vector["id"], vector["selector"]));
            }
            continue;
        }
        if !check(block, vector, &matchers.unwrap()) {
            wrong.push(format!("{} {}", vector["id"], vector["matchers"]));
        }
    }
    assert!(count > 3500, "only {count} vectors");
    assert!(
        wrong.is_empty(),
        "{} of {count} differ: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
}

fn check(block: &block::Reader, vector: &Value, matchers: &[Matcher]) -> bool {
    let budget = Budget::unlimited();
    match vector["kind"].as_str().unwrap() {
        "select" => {
            let got = block.index().select(matchers, &budget).unwrap();
            let count = got.len() as u64 == vector["count"].as_u64().unwrap();
            count
                && match (vector["refs"].as_array(), vector["refs_sha256"].as_str()) {
                    (Some(refs), _) => {
                        *refs == got.iter().map(|it| Value::from(*it)).collect::<Vec<_>>()
                    }
                    (None, Some(hash)) => {
                        let texts: Vec<String> = got.iter().map(u32::to_string).collect();
                        let digest = Sha256::digest(texts.join("\n"));
                        hash == digest.iter().map(|it| format!("{it:02x}")).collect::<String>()
                    }
                    (None, None) => got.is_empty(),
                }
        }
        "label_values" => {
            // The empty name, of which only the index itself knows, is left out of the vector.
            let Some(label) = vector["label"].as_str() else { return true };
            let got = block.label_values(label, matchers, &budget).unwrap();
            vector["values"].as_array().map_or(got.is_empty(), |it| *it == got)
        }
        "label_names" => {
            let got = block.label_names(matchers, &budget).unwrap();
            vector["values"].as_array().map_or(got.is_empty(), |it| *it == got)
        }
        other => panic!("{other}"),
    }
}
