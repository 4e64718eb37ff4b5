//! Calls recorded from `thanos store` over its bucket, put to this one.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{Columns, Labels};
use serde_json::Value;
use storeapi::StoreSeries;
use storeapi::frame::SeriesResponse;
use storeapi::request::{Aggregate, StoreInfo};
use storeapi::store::{Chunk, ChunkEncoding, SeriesFrame};
use storeapi::wire::{Fields, Value as Field};
use testkit::golden;
use tsdb_core::chunk::{Encoding, decode};

use crate::gateway::Gateway;

/// Calls that this store answers in another way, and why.
///
/// Hints of requests (matchers on block ids for tools) are ignored, as receivers and queriers of
/// Thanos do; the empty label name has no values, while the recorded index answers with the entry
/// of all series.
const OTHERWISE: [&str; 8] = [
    "series/hints-block-matcher-none",
    "series/hints-block-matcher-label",
    "series/hints-block-matcher-bad-regex",
    "series/hints-wrong-type",
    "series/hints-garbage",
    "label-names/hints-wrong-type",
    "label-values/hints-wrong-type",
    "label-values/empty-label",
];

/// What a series holds of one aggregate: samples, or the bytes of histogram chunks.
#[derive(Debug, Default, PartialEq)]
struct Content {
    samples: Vec<(i64, u64)>,
    histograms: Vec<Vec<u8>>,
}

type Answer = BTreeMap<Labels, BTreeMap<&'static str, Content>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_answers_as_thanos_does() {
    check("store.jsonl.gz", &[], 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_refuse_what_thanos_refuses() {
    let flags = ["--store.limits.request-series=3", "--store.limits.request-samples=400"];
    check("store-limits.jsonl.gz", &flags, 7).await;
}

async fn check(file: &str, flags: &[&str], count_min: usize) {
    let Some(shared) = golden::shared_or_skip() else { return };
    let folder = shared.join("golden/storeapi");
    let gateway = Gateway::start(&folder.join("bucket"), flags).await;
    let (mut count, mut wrong, mut info) = (0, Vec::new(), None);
    for line in golden::read_jsonl_gz(&folder.join(file)) {
        let name = line["name"].as_str().unwrap().to_owned();
        // Defects of the recorded program and calls of services that a store has not.
        if is_left_out(&line) {
            continue;
        }
        count += 1;
        if name == "info" {
            info = Some(line["decoded"][0].clone());
        }
        let request = Bytes::from(from_hex(line["request_hex"].as_str().unwrap()));
        let (messages, code, text) = gateway.call(line["method"].as_str().unwrap(), request).await;
        let wanted_code = line["status"]["code"].as_i64().unwrap();
        if i64::from(i32::from(code)) != wanted_code {
            wrong.push(format!("{name}: {code:?} {text}, code {wanted_code} expected"));
            continue;
        }
        if let Err(difference) = compare(&line, &messages) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    if let Some(info) = info {
        check_info(&gateway.running.service().store().info(), &info);
    }
    gateway.stop().await;
    assert!(count >= count_min, "only {count} calls");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn check_info(info: &StoreInfo, wanted: &Value) {
    let set = |labels: &Labels| {
        Value::from_iter(labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    let store = &wanted["store"];
    assert_eq!(wanted["ComponentType"], info.component);
    assert_eq!(wanted["label_sets"], Value::from_iter(info.label_sets.iter().map(set)));
    assert_eq!(store["min_time"], info.min_time_ms);
    assert_eq!(store["max_time"], info.max_time_ms);
    assert_eq!(store["supports_sharding"], info.supports_sharding);
    assert_eq!(store["supports_without_replica_labels"], info.supports_without_replica_labels);
    let tsdbs = info.tsdbs.iter().map(|it| {
        serde_json::json!({
            "labels": set(&it.labels), "min_time": it.min_time_ms, "max_time": it.max_time_ms,
        })
    });
    assert_eq!(store["tsdb_infos"], Value::from_iter(tsdbs));
}

fn is_left_out(line: &Value) -> bool {
    let method = line["method"].as_str().unwrap();
    let warnings = line["decoded"].as_array().into_iter().flatten();
    let panicked = warnings
        .into_iter()
        .any(|it| it["warning"].as_str().is_some_and(|it| it.contains("runtime error")));
    let name = line["name"].as_str().unwrap();
    panicked || OTHERWISE.contains(&name) || method.contains("grpc.reflection")
}

fn compare(line: &Value, messages: &[Bytes]) -> Result<(), String> {
    let frames = line["frames"].as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted: Vec<Bytes> =
        frames.iter().map(|it| Bytes::from(from_hex(it.as_str().unwrap()))).collect();
    match line["method"].as_str().unwrap() {
        "/thanos.Store/Series" => {
            let range = (time(line, "min_time"), time(line, "max_time"));
            let (got, want) = (answer(messages, range)?, answer(&wanted, range)?);
            if got == want {
                return Ok(());
            }
            let (got_labels, want_labels): (Vec<_>, Vec<_>) =
                (got.keys().collect(), want.keys().collect());
            if got_labels != want_labels {
                return Err(format!("labels {got_labels:?}, expected {want_labels:?}"));
            }
            let differs = got.iter().find(|(labels, it)| want[*labels] != **it).unwrap();
            Err(format!("{}: {:.400?}\nexpected {:.400?}", differs.0, differs.1, want[differs.0]))
        }
        "/thanos.Store/LabelNames" | "/thanos.Store/LabelValues" => {
            let (got, want) = (texts(messages), texts(&wanted));
            if got == want { Ok(()) } else { Err(format!("{got:?}, expected {want:?}")) }
        }
        _ => Ok(()),
    }
}

fn time(line: &Value, name: &str) -> i64 {
    line["request"][name].as_i64().unwrap_or(0)
}

/// The first field of every message: names or values.
fn texts(messages: &[Bytes]) -> Vec<String> {
    let mut texts = Vec::new();
    for message in messages {
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.field().unwrap() {
            if let (1, Field::Bytes(bytes)) = (number, value) {
                texts.push(String::from_utf8(bytes.to_vec()).unwrap());
            }
        }
    }
    texts
}

/// Unpacks and sorts an answer; checks the order on the wire.
fn answer(messages: &[Bytes], range: (i64, i64)) -> Result<Answer, String> {
    let mut answer = Answer::new();
    let mut last: Option<Labels> = None;
    for message in messages {
        let series: Vec<StoreSeries> = match SeriesResponse::decode(message) {
            Ok(SeriesResponse::Series(series)) => vec![series],
            Ok(SeriesResponse::Frame(SeriesFrame::Batch(series))) => series,
            Ok(SeriesResponse::Frame(SeriesFrame::Warning(text))) => return Err(text),
            Ok(other) => return Err(format!("{other:?}")),
            Err(error) => return Err(error.to_string()),
        };
        for series in series {
            if last.as_ref().is_some_and(|it| *it > series.labels) {
                return Err(format!("{} is out of order", series.labels));
            }
            last = Some(series.labels.clone());
            let contents = answer.entry(series.labels).or_default();
            for chunk in series.chunks {
                for (kind, part) in chunk.parts() {
                    let name = match kind {
                        Aggregate::Raw => "raw",
                        Aggregate::Count => "count",
                        Aggregate::Sum => "sum",
                        Aggregate::Min => "min",
                        Aggregate::Max => "max",
                        Aggregate::Counter => "counter",
                    };
                    add(contents.entry(name).or_default(), part, range);
                }
            }
        }
    }
    for content in answer.values_mut().flat_map(BTreeMap::values_mut) {
        content.samples.sort_unstable();
        content.histograms.sort_unstable();
    }
    Ok(answer)
}

fn add(content: &mut Content, chunk: &Chunk, range: (i64, i64)) {
    if chunk.encoding != ChunkEncoding::Xor {
        content.histograms.push(chunk.data.to_vec());
        return;
    }
    let mut columns = Columns::default();
    decode(Encoding::Xor, &chunk.data, &mut columns).unwrap();
    let values = columns.values.iter().map(|it| it.to_bits());
    let samples = columns.timestamps_ms.iter().copied().zip(values);
    content.samples.extend(samples.filter(|it| range.0 <= it.0 && it.0 <= range.1));
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}
