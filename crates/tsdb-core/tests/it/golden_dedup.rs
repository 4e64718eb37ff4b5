//! Thanos' two rules of deduplication against what it gave itself.

use bytes::Bytes;
use model::histogram::Span;
use model::{Columns, FloatHistogram};
use serde_json::Value;
use testkit::golden;
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::xor::Appender;
use tsdb_core::chunk::{Encoding, aggregate, counted_samples};
use tsdb_core::compact::{Balance, Merge as _, RunChunk};
use tsdb_core::dedup::chain::Chain;
use tsdb_core::dedup::penalty::{Penalty, PenaltyMerge};
use tsdb_core::dedup::{Point, split_overlapping};

use crate::chunks::from_hex;

fn cases(path: &str) -> Option<Vec<Value>> {
    let shared = golden::shared_or_skip()?;
    let mut cases = golden::read_jsonl_gz(&shared.join("golden/dedup/cases.jsonl.gz"));
    cases.retain(|it| it["path"] == path);
    Some(cases)
}

fn floats(value: &Value) -> Vec<f64> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(number).collect()
}

fn number(value: &Value) -> f64 {
    value.as_str().map_or_else(|| value.as_f64().unwrap(), golden::bits)
}

fn spans(value: &Value) -> Vec<Span> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let span = |it: &Value| Span {
        offset: it[0].as_i64().unwrap().try_into().unwrap(),
        length: it[1].as_u64().unwrap().try_into().unwrap(),
    };
    list.iter().map(span).collect()
}

fn histogram(sample: &Value) -> FloatHistogram {
    FloatHistogram {
        schema: sample["schema"].as_i64().unwrap().try_into().unwrap(),
        zero_threshold: number(&sample["zero_threshold"]),
        zero_count: number(&sample["zero_count"]),
        count: number(&sample["count"]),
        sum: number(&sample["sum"]),
        positive_spans: spans(&sample["positive_spans"]),
        negative_spans: spans(&sample["negative_spans"]),
        positive_buckets: floats(&sample["positive"]),
        negative_buckets: floats(&sample["negative"]),
        custom_values: floats(&sample["custom_values"]),
        ..FloatHistogram::default()
    }
}

/// A sample so that it can be compared to the bit: floats by their bits, histograms by all their
/// fields but the hint, which depends on where chunks begin.
fn shown(point: Point<'_>) -> String {
    match point {
        Point::Float(time, value) => format!("{time} {:016x}", value.to_bits()),
        Point::Histogram(time, histogram) => format!(
            "{time} sum {:016x} {:?}",
            histogram.sum.to_bits(),
            FloatHistogram { sum: 0.0, ..histogram.clone() }
        ),
    }
}

fn wanted(sample: &Value) -> String {
    match sample.as_array() {
        Some(pair) => shown(Point::Float(pair[0].as_i64().unwrap(), number(&pair[1]))),
        None => shown(Point::Histogram(sample["t"].as_i64().unwrap(), &histogram(sample))),
    }
}

fn columns(samples: &Value, case: &Value) -> Columns {
    let mut columns = Columns::default();
    let bounds =
        case["mint"].as_i64().unwrap_or(i64::MIN)..=case["maxt"].as_i64().unwrap_or(i64::MAX);
    for sample in samples.as_array().map(Vec::as_slice).unwrap_or_default() {
        let float = sample.as_array();
        let time = float.map_or(&sample["t"], |it| &it[0]).as_i64().unwrap();
        if !bounds.contains(&time) {
            continue;
        }
        if let Some(pair) = float {
            columns.push_float(time, number(&pair[1]));
        } else {
            columns.histogram_timestamps_ms.push(time);
            columns.histograms.push(histogram(sample));
        }
    }
    columns
}

/// Plays a case: all samples, or the answers to its operations.
fn play<'a, I: Iterator<Item = Point<'a>>>(
    case: &Value,
    mut samples: I,
    seek: impl Fn(&mut I, i64) -> Option<Point<'a>>,
) -> Vec<Option<String>> {
    let Some(ops) = case["ops"].as_array() else {
        return samples.map(|it| Some(shown(it))).collect();
    };
    let answer = |op: &Value| match op.as_i64() {
        Some(time) => seek(&mut samples, time),
        None => samples.next(),
    };
    ops.iter().map(answer).map(|it| it.map(shown)).collect()
}

#[test]
fn samples_come_as_from_thanos_querier() {
    let Some(cases) = cases("samples") else { return };
    let mut compared = 0;
    for case in &cases {
        let replicas: Vec<Columns> =
            case["replicas"].as_array().unwrap().iter().map(|it| columns(it, case)).collect();
        let replicas: Vec<&Columns> = replicas.iter().collect();
        let got = match case["algorithm"].as_str().unwrap() {
            "penalty" => {
                let function = case["func"].as_str().unwrap_or_default();
                play(case, Penalty::new(&replicas, function).unwrap(), Penalty::seek)
            }
            "chain" => play(case, Chain::new(&replicas), Chain::seek),
            other => panic!("algorithm {other}"),
        };
        let mut want = case["out"].as_array().cloned().unwrap_or_default();
        if case["id"] == "s201" {
            // Thanos' cut lets a seek pass to one sample behind the end, which no query sees.
            assert!(want.pop().unwrap()[0].as_i64() > case["maxt"].as_i64());
        }
        let want: Vec<_> = want.iter().map(|it| (!it.is_null()).then(|| wanted(it))).collect();
        let place = format!("{} {} {}", case["id"], case["category"], case["note"]);
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got, want, "{place}, sample {at}");
        }
        assert_eq!(got.len(), want.len(), "{place}");
        compared += got.len();
    }
    assert!(cases.len() > 200 && compared > 8_000, "{} cases, {compared} samples", cases.len());
}

#[test]
fn overlapping_chunks_are_split_as_by_thanos() {
    let Some(cases) = cases("overlap-split") else { return };
    for case in &cases {
        let bounds: Option<Vec<(i64, i64)>> =
            serde_json::from_value(case["chunks"].clone()).unwrap();
        let bounds = bounds.unwrap_or_default();
        let want: Vec<Option<Vec<usize>>> = serde_json::from_value(case["out"].clone()).unwrap();
        let want: Vec<Vec<usize>> = want.into_iter().map(Option::unwrap_or_default).collect();
        assert_eq!(split_overlapping(&bounds), want, "{} {}", case["id"], case["note"]);
    }
    assert_eq!(cases.len(), 8);
}

fn xor_chunk(samples: &[Value]) -> Vec<u8> {
    let mut appender = Appender::new();
    for sample in samples {
        assert!(appender.append(sample[0].as_i64().unwrap(), number(&sample[1])));
    }
    appender.to_bytes()
}

fn chunk(value: &Value) -> ChunkData {
    let (encoding, data) = match value["encoding"].as_str().unwrap() {
        "aggr" => {
            let names = ["count", "sum", "min", "max", "counter"];
            let parts = names.map(|it| value["aggregates"][it].as_array().map(|it| xor_chunk(it)));
            let parts = parts.each_ref().map(|it| it.as_deref().map(|it| (Encoding::Xor, it)));
            (Encoding::Aggregate, aggregate::join(parts))
        }
        name => {
            let encoding = match name {
                "XOR" => Encoding::Xor,
                "histogram" => Encoding::Histogram,
                _ => Encoding::FloatHistogram,
            };
            (encoding, from_hex(value["data_hex"].as_str().unwrap()))
        }
    };
    ChunkData {
        encoding,
        min_time_ms: value["min_time"].as_i64().unwrap(),
        max_time_ms: value["max_time"].as_i64().unwrap(),
        data: Bytes::from(data),
    }
}

/// The runs of a case as compaction makes them: sorted, cut where nothing overlaps, equal
/// neighbours once.
fn runs(case: &Value) -> Vec<Vec<RunChunk>> {
    let mut all = Vec::new();
    for (source, chunks) in case["replicas"].as_array().unwrap().iter().enumerate() {
        let chunks = chunks.as_array().unwrap().iter();
        all.extend(chunks.map(|it| RunChunk { source, chunk: chunk(it) }));
    }
    all.sort_by_key(|it| (it.chunk.min_time_ms, it.chunk.max_time_ms, it.source));
    all.dedup_by(|it, before| it.chunk == before.chunk);
    let mut runs: Vec<Vec<RunChunk>> = Vec::new();
    let mut end = i64::MIN;
    for it in all {
        match runs.last_mut() {
            Some(run) if it.chunk.min_time_ms <= end => run.push(it.clone()),
            _ => runs.push(vec![it.clone()]),
        }
        end = end.max(it.chunk.max_time_ms);
    }
    runs
}

fn facts(chunk: &ChunkData) -> (Encoding, i64, i64, String) {
    let hex = chunk.data.iter().map(|it| format!("{it:02x}")).collect();
    (chunk.encoding, chunk.min_time_ms, chunk.max_time_ms, hex)
}

#[test]
fn chunks_come_as_from_thanos_compactor() {
    let Some(mut cases) = cases("chunks") else { return };
    cases.retain(|it| it["algorithm"] == "penalty");
    for case in &cases {
        let mut out = Vec::new();
        let mut merge = PenaltyMerge::new();
        for run in runs(case) {
            if let [only] = run.as_slice() {
                out.push(only.chunk.clone());
                continue;
            }
            let begin = out.len();
            let count = |it: &ChunkData| counted_samples(it.encoding, &it.data).unwrap();
            let in_samples = run.iter().map(|it| count(&it.chunk)).sum();
            let mut balance = Balance { in_samples, ..Balance::default() };
            merge.merge(&run, &mut out, &mut balance).unwrap();
            balance.out_samples = out[begin..].iter().map(count).sum();
            balance.check().unwrap();
        }
        let want: Vec<_> = case["out"].as_array().unwrap().iter().map(chunk).collect();
        let got: Vec<_> = out.iter().map(facts).collect();
        let want: Vec<_> = want.iter().map(facts).collect();
        assert_eq!(got, want, "{} {} {}", case["id"], case["category"], case["note"]);
    }
    assert_eq!(cases.len(), 21);
}
