//! Chunks of every kind against the bytes and the samples of the real encoders.

use std::path::Path;

use model::{Columns, FloatHistogram, Histogram};
use serde_json::Value as Json;
use testkit::golden;
use tsdb_core::chunk::histogram::{Appended, Appender, Kind, ResetHeader, reset_header};
use tsdb_core::chunk::{
    Encoding, SeriesToChunks, Timed, Value, aggregate, decode, decode_values, decoded_bytes_max,
    rewrite_plain, sample_count,
};

use crate::chunks::from_hex;
use crate::samples;

fn vectors(shared: &Path) -> Vec<Json> {
    golden::read_jsonl_gz(&shared.join("golden/chunks/vectors.jsonl.gz"))
}

pub(crate) fn encoding(json: &Json) -> Option<Encoding> {
    Some(match json.as_str()? {
        "xor" => Encoding::Xor,
        "histogram" => Encoding::Histogram,
        "floathistogram" => Encoding::FloatHistogram,
        "xor2" => Encoding::Xor2,
        "histogramst" => Encoding::HistogramStart,
        "floathistogramst" => Encoding::FloatHistogramStart,
        "aggr" => Encoding::Aggregate,
        _ => return None,
    })
}

fn bytes(json: &Json) -> Vec<u8> {
    from_hex(json["bytes"].as_str().unwrap_or_default())
}

/// What a chunk gives: samples as stored and in columns, checked to be the same, and the error.
fn read(encoding: Encoding, bytes: &[u8]) -> (Vec<Timed>, Columns, Option<String>) {
    let (mut columns, mut values) = (Columns::default(), Vec::new());
    let error = decode(encoding, bytes, &mut columns).err().map(|it| it.to_string());
    let same = decode_values(encoding, bytes, &mut values).err().map(|it| it.to_string());
    assert_eq!(error, same);
    assert_eq!(samples::widened_texts(&values), samples::column_texts(&columns));
    (values, columns, error)
}

/// Compares what a chunk gives with what a golden one lists; answers how many samples.
pub(crate) fn check_samples(chunk: &Json, encoding: Encoding, data: &[u8], place: &str) -> usize {
    let (values, columns, error) = read(encoding, data);
    assert!(columns.capacity_bytes() <= 2 * decoded_bytes_max(encoding, data) + 512, "{place}");
    assert_eq!(error, None, "{place}");
    let want = samples::of_chunk(chunk);
    assert_eq!(samples::texts(&values), samples::texts(&want), "{place}");
    let list = chunk.get("samples").unwrap_or(&chunk["histograms"]);
    assert_eq!(samples::column_starts(&columns), samples::starts(list), "{place}");
    let count = u64::from(sample_count(encoding, data).unwrap());
    assert_eq!(count, chunk["n"].as_u64().unwrap(), "{place}");
    if let Some(header) = chunk["counter_reset_header"].as_str() {
        let want = match header {
            "unknown" => ResetHeader::Unknown,
            "reset" => ResetHeader::Reset,
            "not_reset" => ResetHeader::NotReset,
            "gauge" => ResetHeader::Gauge,
            other => panic!("{other} is no header"),
        };
        let has_starts =
            matches!(encoding, Encoding::HistogramStart | Encoding::FloatHistogramStart);
        assert_eq!(reset_header(data, has_starts), Ok(want), "{place}");
    }
    values.len()
}

#[test]
fn every_chunk_is_read_as_its_writer_meant_it() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut counts = [0; 7];
    for vector in vectors(&shared).iter().filter(|it| it["kind"] == "append") {
        let (place, encoding) = (vector["id"].to_string(), encoding(&vector["enc"]).unwrap());
        counts[usize::from(encoding.to_byte())] += 1;
        let whole = std::slice::from_ref(vector);
        for chunk in vector["chunks"].as_array().map_or(whole, Vec::as_slice) {
            check_samples(chunk, encoding, &bytes(chunk), &place);
        }
    }
    assert_eq!(counts, [0, 286, 118, 117, 392, 33, 33]);
}

#[test]
fn histograms_are_written_with_the_golden_bytes() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut count = 0;
    for vector in vectors(&shared).iter().filter(|it| it["kind"] == "append") {
        match encoding(&vector["enc"]) {
            // What a reopened appender writes is a defect of the reference: see the README.
            Some(Encoding::Histogram) => check_appends::<Histogram>(vector, |it| match it {
                Value::Histogram(it) => Some(it),
                _ => None,
            }),
            Some(Encoding::FloatHistogram) => {
                check_appends::<FloatHistogram>(vector, |it| match it {
                    Value::FloatHistogram(it) => Some(it),
                    _ => None,
                })
            }
            _ => continue,
        }
        count += 1;
    }
    assert_eq!(count, 235);
}

fn check_appends<K: Kind>(vector: &Json, histogram: fn(&Value) -> Option<&Box<K>>) {
    let id = &vector["id"];
    let cuts: Vec<u64> = numbers(&vector["cut_at"]);
    let (mut events, mut done) = (Vec::new(), Vec::new());
    let mut open = Appender::<K>::new();
    let mut before: Option<Appender<K>> = None;
    for (index, sample) in (0..).zip(samples::of(&vector["input"])) {
        if cuts.contains(&index) {
            let ended = std::mem::take(&mut open);
            done.push(ended.to_bytes());
            before = Some(ended);
        }
        let input = histogram(&sample.value).unwrap();
        match open.append(before.take().as_ref(), sample.timestamp_ms, input) {
            Appended::InPlace => {}
            Appended::Recoded => events.push((index, "recoded")),
            Appended::NewChunk(next) => {
                events.push((index, "new_chunk"));
                done.push(std::mem::replace(&mut open, *next).to_bytes());
            }
        }
        assert_eq!(open.to_bytes().len(), open.size_bytes(), "{id}");
        assert_eq!(open.last_timestamp_ms(), sample.timestamp_ms, "{id}");
    }
    done.push(open.to_bytes());
    let list = vector["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let want: Vec<_> =
        list.iter().map(|it| (it["i"].as_u64().unwrap(), it["kind"].as_str().unwrap())).collect();
    assert_eq!(events, want, "{id}");
    let chunks = vector["chunks"].as_array().unwrap();
    assert_eq!(done.len(), chunks.len(), "{id}");
    let reopened = !numbers(&vector["reopen_at"]).is_empty();
    for (got, chunk) in done.iter().zip(chunks) {
        if !reopened {
            assert_eq!(got, &bytes(chunk), "{id} {}", chunk["mint"]);
        }
        let mut values = Vec::new();
        decode_values(encoding(&chunk["enc"]).unwrap(), got, &mut values).unwrap();
        let want = samples::of_chunk(chunk);
        assert_eq!(samples::texts(&values), samples::texts(&want), "{id}");
        assert_eq!(&Appender::<K>::rebuild(got).unwrap().to_bytes(), got, "{id}");
    }
}

fn numbers(json: &Json) -> Vec<u64> {
    match json {
        Json::Array(list) => list.iter().map(|it| it.as_u64().unwrap()).collect(),
        other => other.as_u64().into_iter().collect(),
    }
}

#[test]
fn a_merge_writes_the_golden_chunks() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut count = 0;
    let mut encoder = SeriesToChunks::new();
    for vector in vectors(&shared).iter().filter(|it| it["kind"] == "series_to_chunks") {
        for sample in samples::of(&vector["input"]) {
            encoder.push(&sample);
        }
        let mut chunks = Vec::new();
        encoder.finish(&mut chunks);
        let want = vector["chunks"].as_array().unwrap();
        assert_eq!(chunks.len(), want.len(), "{}", vector["id"]);
        for (got, want) in chunks.iter().zip(want) {
            assert_eq!(Some(got.encoding), encoding(&want["enc"]), "{}", vector["id"]);
            assert_eq!(got.min_time_ms, want["mint"].as_i64().unwrap(), "{}", vector["id"]);
            assert_eq!(got.max_time_ms, want["maxt"].as_i64().unwrap(), "{}", vector["id"]);
            assert_eq!(got.data, bytes(want), "{}", vector["id"]);
            check_samples(want, got.encoding, &got.data, &vector["id"].to_string());
        }
        count += 1;
    }
    assert_eq!(count, 35);
}

#[test]
fn a_damaged_chunk_gives_a_prefix_and_an_error() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut count = 0;
    for vector in vectors(&shared).iter().filter(|it| it["kind"] == "damaged") {
        let (id, note) = (&vector["id"], vector["note"].as_str().unwrap());
        let Some(encoding) = encoding(&vector["enc"]) else {
            assert_eq!(note, "unknown encoding");
            count += 1;
            continue;
        };
        let (values, _, error) = read(encoding, &bytes(vector));
        let (got, want) = (samples::texts(&values), samples::texts(&samples::of_chunk(vector)));
        assert!(want.starts_with(&got), "{id} {note}: {got:?}");
        let reference_failed = vector["error"].as_str().is_some_and(|it| !it.is_empty());
        let must_fail = note.starts_with("truncated") || note.starts_with("count says");
        if must_fail || reference_failed || vector.get("panic").is_some() {
            assert!(error.is_some(), "{id} {note}");
        }
        count += 1;
    }
    assert_eq!(count, 101);
}

#[test]
fn start_timestamps_are_dropped_and_counted() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut dropped = 0;
    for vector in vectors(&shared).iter().filter(|it| it["kind"] == "append") {
        let encoding = encoding(&vector["enc"]).unwrap();
        let whole = std::slice::from_ref(vector);
        for chunk in vector["chunks"].as_array().map_or(whole, Vec::as_slice) {
            let Some(plain) = rewrite_plain(encoding, &bytes(chunk)).unwrap() else {
                assert!(encoding.to_byte() < 4);
                continue;
            };
            let list = chunk.get("samples").unwrap_or(&chunk["histograms"]);
            let starts = samples::starts(list).iter().filter(|it| **it != 0).count() as u64;
            assert_eq!(plain.starts_dropped, starts, "{}", vector["id"]);
            dropped += starts;
            let mut values = Vec::new();
            let want = samples::of_chunk(chunk);
            if let Some(it) = &plain.chunk {
                assert_eq!(it.encoding.to_byte(), encoding.to_byte() - 3);
                decode_values(it.encoding, &it.data, &mut values).unwrap();
                let header = reset_header(&bytes(chunk), true);
                if encoding != Encoding::Xor2 {
                    assert_eq!(reset_header(&it.data, false), header, "{}", vector["id"]);
                }
                let times = want.iter().map(|it| it.timestamp_ms);
                assert_eq!(it.min_time_ms, times.clone().min().unwrap());
                assert_eq!(it.max_time_ms, times.max().unwrap());
            }
            assert_eq!(samples::texts(&values), samples::texts(&want), "{}", vector["id"]);
            assert_eq!(plain.sample_count, want.len() as u64, "{}", vector["id"]);
        }
    }
    assert!(dropped > 1000, "only {dropped} start timestamps");
}

fn aggregates(shared: &Path, kind: &str) -> Vec<Json> {
    let all = golden::read_jsonl_gz(&shared.join("golden/chunks/aggr.jsonl.gz"));
    all.into_iter().filter(|it| it["kind"] == kind).collect()
}

#[test]
fn aggregates_are_joined_and_split_as_thanos_does() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let vectors = aggregates(&shared, "encode");
    assert_eq!(vectors.len(), 40);
    for vector in vectors {
        let parts: Vec<_> = vector["parts"].as_array().unwrap().iter().map(part).collect();
        let given = |at: usize| parts[at].as_ref().map(|it| (it.0, it.1.as_slice()));
        let joined = aggregate::join([0, 1, 2, 3, 4].map(given));
        assert_eq!(joined, bytes(&vector), "{}", vector["id"]);
        let split = aggregate::split(&joined).unwrap();
        for (at, name) in
            aggregate::Aggregate::ALL.into_iter().zip(["count", "sum", "min", "max", "counter"])
        {
            let want = &vector["aggregates"][name];
            let mut values = Vec::new();
            let found = split.decode_values(&joined, at, &mut values).unwrap();
            assert_eq!(found, !want.is_null(), "{} {name}", vector["id"]);
            let want = samples::of_chunk(want);
            assert_eq!(samples::texts(&values), samples::texts(&want), "{} {name}", vector["id"]);
        }
    }
}

fn part(json: &Json) -> Option<(Encoding, Vec<u8>)> {
    (!json.is_null()).then(|| (encoding(&json["enc"]).unwrap(), bytes(json)))
}

#[test]
fn damaged_aggregates_are_an_error() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let vectors = aggregates(&shared, "damaged");
    assert_eq!(vectors.len(), 19);
    for vector in vectors {
        let split = aggregate::split(&bytes(&vector));
        // Thanos reads what stands before the damage; a part that is absent is none to it, and so
        // is the last one without its zero byte.
        let errors = vector["errors"].as_object().unwrap();
        let damaged = ["count", "sum", "min"].iter().any(|it| {
            let error = errors[*it].as_str().unwrap();
            error == "invalid size" || error.contains("encoding")
        });
        assert_eq!(split.is_err(), damaged, "{} {split:?}", vector["id"]);
    }
}
