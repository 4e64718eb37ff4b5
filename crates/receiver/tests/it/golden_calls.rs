//! Calls recorded from `thanos receive` over its head, put to this one with the same writes.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _, Bytes};
use model::{Columns, Labels};
use serde_json::Value;
use storeapi::StoreSeries;
use storeapi::frame::SeriesResponse;
use storeapi::store::SeriesFrame;
use storeapi::wire::{Fields, Value as Field};
use testkit::golden;
use testkit::remote_write::HEADERS;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tsdb_core::chunk::xor;

use crate::world::World;

/// Calls that are answered in another way, and why.
///
/// Matchers on external labels alone select everything of the tenants that they fit, while the
/// recorded program gives a warning for each tenant; a limit cuts the sorted list, while the
/// recorded one takes that many of each tenant before they are sorted.
const OTHERWISE: [&str; 2] = ["series/external-only", "label-values/limit-2"];

/// Samples of each series.
type Answer = BTreeMap<Labels, Vec<(i64, u64)>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_answers_as_thanos_does() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let folder = shared.join("golden/storeapi");
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--label=cluster=\"golden\"", "--label=receive_replica=\"r0\""];
    let world = World::start_labelled(directory.path(), 1_700_190_000_000, &flags).await;
    let writes = std::fs::read(folder.join("receive-writes/writes.json")).unwrap();
    let writes: Value = serde_json::from_slice(&writes).unwrap();
    for write in writes.as_array().unwrap() {
        let file = write["file"].as_str().unwrap();
        let body = std::fs::read(folder.join("receive-writes").join(file)).unwrap();
        let mut headers = HEADERS.to_vec();
        headers.push(("THANOS-TENANT", write["tenant"].as_str().unwrap()));
        let answer = world.post(&headers, &body).await;
        // Native histograms in them are refused until they have their issue.
        assert!([204, 400].contains(&answer.status), "{file}: {}", answer.text());
        assert!(!answer.text().contains("sample:"), "{file}: {}", answer.text());
    }
    let (mut count, mut wrong) = (0, Vec::new());
    for line in golden::read_jsonl_gz(&folder.join("receive.jsonl.gz")) {
        let name = line["name"].as_str().unwrap().to_owned();
        let method = line["method"].as_str().unwrap();
        if !method.starts_with("/thanos.Store/") || is_left_out(&line) {
            continue;
        }
        count += 1;
        let request = Bytes::from(from_hex(line["request_hex"].as_str().unwrap()));
        let (messages, code, text) = call(&world, method, request).await;
        let wanted_code = line["status"]["code"].as_i64().unwrap();
        if i64::from(i32::from(code)) != wanted_code {
            wrong.push(format!("{name}: {code:?} {text}, code {wanted_code} expected"));
            continue;
        }
        if let Err(difference) = compare(&line, &messages) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    world.stop().await;
    assert!(count >= 100, "only {count} calls");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn is_left_out(line: &Value) -> bool {
    let warnings = line["decoded"].as_array().into_iter().flatten();
    let panicked = warnings
        .into_iter()
        .any(|it| it["warning"].as_str().is_some_and(|it| it.contains("runtime error")));
    let name = line["name"].as_str().unwrap();
    panicked || OTHERWISE.contains(&name)
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
            let (got, mut want) = (texts(messages), texts(&wanted));
            want.retain(|it| !is_of_histogram(it) && it != "rpc");
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

/// Unpacks and sorts an answer; checks the order on the wire. Series of native histograms are
/// left out.
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
            if is_of_histogram(series.labels.metric_name()) {
                continue;
            }
            let samples = answer.entry(series.labels).or_default();
            for chunk in series.chunks {
                let Some(raw) = chunk.raw else { return Err("an aggregate".to_owned()) };
                let mut columns = Columns::default();
                xor::decode(&raw.data, &mut columns).map_err(|it| it.to_string())?;
                let values = columns.values.iter().map(|it| it.to_bits());
                let here = columns.timestamps_ms.iter().copied().zip(values);
                samples.extend(here.filter(|it| range.0 <= it.0 && it.0 <= range.1));
            }
        }
    }
    answer.values_mut().for_each(|it| it.sort_unstable());
    Ok(answer)
}

fn is_of_histogram(name: &str) -> bool {
    ["rpc_duration_seconds", "rpc_gauge_histogram", "rpc_custom_buckets"].contains(&name)
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Calls a method with a raw message; answers the raw messages of the answer and its status.
async fn call(world: &World, method: &str, message: Bytes) -> (Vec<Bytes>, Code, String) {
    let address = format!("http://{}", world.running.service().grpc_address());
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
    client.ready().await.unwrap();
    let path: PathAndQuery = method.parse().unwrap();
    let request = tonic::Request::new(message);
    let mut messages = Vec::new();
    let status = match client.server_streaming(request, path, Raw).await {
        Err(status) => status,
        Ok(answer) => {
            let mut stream = answer.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break Status::ok(""),
                    Err(status) => break status,
                }
            }
        }
    };
    (messages, status.code(), status.message().to_owned())
}

/// Messages as they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}
