//! What a real Prometheus answered to the same requests over the same block.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use model::{Budget, Labels, TimeRange};
use serde_json::Value;
use storeapi::memory::MemoryStore;
use storeapi::store::{AggrChunk, Chunk, ChunkEncoding};
use storeapi::{Store, StoreSeries};
use tsdb_core::block::Reader;
use tsdb_core::chunk::Encoding;
use tsdb_core::fs::disk::Disk;

use crate::world::{Answer, World};

/// Groups of calls that concern what is there.
const GROUPS: &[&str] = &[
    "alerts",
    "annotations",
    "exemplars",
    "format-parse",
    "http",
    "http-headers",
    "label-values",
    "labels",
    "metadata",
    "query",
    "query-err",
    "query-limit",
    "query-lookback",
    "query-stats",
    "query-time",
    "query-timeout",
    "range",
    "range-err",
    "range-params",
    "rules",
    "series",
];

/// Where we answer differently on purpose, by the id of the call.
const ON_PURPOSE: &[(u64, &str)] = &[
    (53, "NaN is no time"),
    (135, "a timeout of a microsecond is answered by timing"),
    (232, "multipart bodies are not read"),
    (240, "HEAD is answered as GET"),
    (258, "paths are taken as they are"),
    (259, "paths are taken as they are"),
    (344, "an empty step is an absent one"),
    (355, "a step below a millisecond is the caller's mistake"),
    (369, "Inf is no time"),
    (370, "NaN is no time"),
    (423, "an inverted range is a mistake"),
    (456, "an inverted range is a mistake"),
    (494, "paths are taken as they are"),
    (495, "a label's name may hold a slash"),
    (512, "an inverted range is a mistake"),
    (524, "Grafana sends POST for label values"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_prometheus() {
    let Some(shared) = testkit::golden::shared_or_skip() else { return };
    let golden = shared.join("golden/http");
    let store = block(&golden.join("bucket/01M83R73PPBQDHCEV30Z2175QW"));
    let store: Arc<dyn Store> = Arc::new(store);
    let plain = World::new(&[], vec![Arc::clone(&store)]).await;
    let experimental = ["--enable-feature=promql-experimental-functions,\
                         promql-extended-range-selectors,promql-binop-fill-modifiers"];
    let experimental = World::new(&experimental, vec![store]).await;
    let on_purpose: BTreeMap<u64, &str> = ON_PURPOSE.iter().copied().collect();
    let (mut equal, mut different) = (0, Vec::new());
    for call in testkit::golden::read_jsonl_gz(&golden.join("calls.jsonl.gz")) {
        let id = call["id"].as_u64().unwrap();
        let responses = &call["responses"];
        let (world, expected) = match &responses["prometheus-plain"] {
            Value::Null => (&experimental, &responses["prometheus"]),
            expected => (&plain, expected),
        };
        let is_ours = GROUPS.contains(&call["group"].as_str().unwrap())
            && !call["target"].as_str().unwrap().starts_with("/api/v1/parse_query");
        if !is_ours || expected.is_null() || on_purpose.contains_key(&id) {
            continue;
        }
        let Some(request) = request(&call) else { continue };
        let answer = world.send(request).await;
        match difference(&answer, expected) {
            None => equal += 1,
            Some(what) => different.push(format!("{id} {}\n    {what}", call["target"])),
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    println!("{equal} equal");
    assert!(equal > 150, "only {equal} calls are equal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_of_thanos_alone_are_refused_as_thanos_refuses_them() {
    let Some(shared) = testkit::golden::shared_or_skip() else { return };
    let world = World::new(&[], Vec::new()).await;
    let (mut equal, mut different) = (0, Vec::new());
    for call in testkit::golden::read_jsonl_gz(&shared.join("golden/http/calls.jsonl.gz")) {
        let id = call["id"].as_u64().unwrap();
        let expected = &call["responses"]["thanos"];
        let is_refused = expected["status"] == 400 && call["group"] == "thanos-params";
        if !is_refused || THANOS_ON_PURPOSE.iter().any(|it| it.0 == id) {
            continue;
        }
        let answer = world.send(request(&call).unwrap()).await;
        match difference(&answer, expected) {
            None => equal += 1,
            Some(what) => different.push(format!("{id} {}\n    {what}", call["target"])),
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    assert!(equal > 5, "only {equal} calls are equal");
}

/// Where we answer differently from Thanos on purpose, by the id of the call.
const THANOS_ON_PURPOSE: &[(u64, &str)] = &[];

fn request(call: &Value) -> Option<Request<Body>> {
    let target = call["target"].as_str()?;
    // What is no URI cannot reach a handler: the server refuses it before.
    let uri: http::Uri = target.parse().ok()?;
    let mut request = Request::builder().method(call["method"].as_str()?).uri(uri);
    for (name, value) in call["headers"].as_object()? {
        request = request.header(name, value.as_str()?);
    }
    let body = call["body"].as_str().unwrap_or_default().to_owned();
    request.body(Body::from(body)).ok()
}

fn difference(answer: &Answer, expected: &Value) -> Option<String> {
    let body = expected["body"].as_str().unwrap_or_default();
    if answer.status.as_u16() != u16::try_from(expected["status"].as_u64()?).ok()? {
        return Some(format!(
            "{} {}\n    {} {}",
            answer.status,
            cut(&answer.text),
            expected["status"],
            cut(body)
        ));
    }
    let Ok(theirs) = serde_json::from_str::<Value>(body) else {
        // Redirects, and texts of the router.
        return None;
    };
    let ours = answer.json();
    for key in ["status", "errorType", "error"] {
        if ours[key] != theirs[key] {
            return Some(format!("{key}: {}\n    {}", ours[key], theirs[key]));
        }
    }
    for key in ["warnings", "infos"] {
        if sorted(&ours[key]) != sorted(&theirs[key]) {
            return Some(format!("{key}: {}\n    {}", ours[key], theirs[key]));
        }
    }
    let (ours, theirs) = (normal(&ours["data"]), normal(&theirs["data"]));
    (!same(&ours, &theirs))
        .then(|| format!("{}\n    {}", cut(&ours.to_string()), cut(&theirs.to_string())))
}

fn cut(text: &str) -> String {
    text.chars().take(400).collect()
}

fn sorted(texts: &Value) -> Vec<String> {
    let mut texts: Vec<String> =
        texts.as_array().into_iter().flatten().map(ToString::to_string).collect();
    texts.sort();
    texts
}

/// Series in the order of their labels, without figures that depend on the machine.
fn normal(data: &Value) -> Value {
    let mut data = data.clone();
    if let Some(object) = data.as_object_mut() {
        object.remove("stats");
    }
    let kind = data["resultType"].as_str().unwrap_or_default().to_owned();
    if (kind == "vector" || kind == "matrix")
        && let Some(rows) = data["result"].as_array_mut()
    {
        rows.sort_by_key(|it| it["metric"].to_string());
    }
    data
}

/// Equal, where numbers in texts may differ in their last digits.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (Value::String(a), Value::String(b)) if a != b => {
            let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else { return false };
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// All series of a block, without its external labels.
fn block(path: &Path) -> MemoryStore {
    let reader = Reader::open(&Disk, path, &Budget::unlimited()).unwrap();
    let mut all = Vec::new();
    for series in reader.all(TimeRange::ALL, &Budget::unlimited()).unwrap() {
        let series = series.unwrap();
        let chunks = reader.chunks(&series).unwrap().into_iter().map(|chunk| {
            let encoding = match chunk.encoding {
                Encoding::Histogram => ChunkEncoding::Histogram,
                Encoding::FloatHistogram => ChunkEncoding::FloatHistogram,
                _ => ChunkEncoding::Xor,
            };
            AggrChunk {
                min_time_ms: chunk.min_time_ms,
                max_time_ms: chunk.max_time_ms,
                raw: Some(Chunk { encoding, data: chunk.data }),
                ..AggrChunk::default()
            }
        });
        all.push(StoreSeries { labels: series.labels.clone(), chunks: chunks.collect() });
    }
    assert!(all.len() > 200, "only {} series", all.len());
    MemoryStore::new("block", Labels::empty(), all)
}
