//! XOR chunks against the bytes that Prometheus wrote, and against damage.

use model::Columns;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};
use serde_json::Value;
use testkit::golden;
use tsdb_core::chunk::{Encoding, cut, decode, xor};

#[test]
fn appending_gives_the_golden_bytes_and_decoding_the_samples() {
    let Some(vectors) = vectors() else { return };
    let mut count = 0;
    for vector in vectors.iter().filter(|it| it["kind"] == "append" && it["enc"] == "xor") {
        let id = &vector["id"];
        let bytes = from_hex(vector["bytes"].as_str().unwrap());
        let samples = samples(&vector["samples"]);
        assert_eq!(decoded(&bytes).0, samples, "{id}");
        let plain = match vector["bytes_without_reopening"].as_str() {
            None | Some("same") => bytes,
            Some(other) => from_hex(other),
        };
        assert_eq!(decoded(&plain).0, samples, "{id}");
        assert_eq!(encoded(&samples), plain, "{id}");
        assert_eq!(xor::Appender::rebuild(&plain).unwrap().to_bytes(), plain, "{id}");
        count += 1;
    }
    assert!(count > 50, "only {count} vectors");
}

#[test]
fn a_merge_cuts_at_120_samples_with_the_golden_bytes() {
    let Some(vectors) = vectors() else { return };
    let mut count = 0;
    for vector in vectors.iter().filter(|it| it["kind"] == "series_to_chunks") {
        for chunk in vector["chunks"].as_array().unwrap() {
            if chunk["enc"] != "xor" {
                continue;
            }
            let bytes = from_hex(chunk["bytes"].as_str().unwrap());
            assert_eq!(encoded(&decoded(&bytes).0), bytes, "{}", vector["id"]);
            count += 1;
        }
    }
    assert!(count > 5, "only {count} chunks");
}

#[test]
fn a_damaged_chunk_gives_a_prefix_of_its_samples_and_an_error() {
    let Some(vectors) = vectors() else { return };
    let mut count = 0;
    for vector in vectors.iter().filter(|it| it["kind"] == "damaged" && it["enc"] == "xor") {
        let (id, note) = (&vector["id"], vector["note"].as_str().unwrap());
        let (got, error) = decoded(&from_hex(vector["bytes"].as_str().unwrap()));
        let want = samples(&vector["samples"]);
        assert!(want.starts_with(&got), "{id} {note}: {got:?}");
        let reference_failed = vector["error"].as_str().is_some_and(|it| !it.is_empty());
        let must_fail = note.starts_with("truncated") || note.starts_with("count says");
        if must_fail || reference_failed || vector.get("panic").is_some() {
            assert!(error.is_some(), "{id} {note}");
        }
        count += 1;
    }
    assert!(count > 20, "only {count} vectors");
}

#[test]
fn a_full_chunk_refuses_another_sample_and_stays_whole() {
    let mut chunk = xor::Appender::new();
    for at in 0..i64::from(xor::SAMPLES_MAX) {
        assert!(chunk.append(at, 1.0));
    }
    let before = chunk.to_bytes();
    assert!(!chunk.append(i64::MAX, 2.0));
    assert_eq!(chunk.to_bytes(), before);
    assert_eq!(chunk.size_bytes(), before.len());
}

proptest! {
    #[test]
    fn any_samples_come_back(
        samples in prop::collection::vec((any::<i64>(), any::<u64>()), 0..40),
    ) {
        let bytes = encoded(&samples);
        let (got, error) = decoded(&bytes);
        prop_assert_eq!(error, None);
        prop_assert_eq!(&got, &samples);
        // Cut anywhere, it gives a prefix and says so.
        for end in 0..bytes.len() {
            let (got, error) = decoded(&bytes[..end]);
            assert!(samples.starts_with(&got));
            assert!(error.is_some());
        }
    }

    #[test]
    fn smooth_samples_come_back(
        start in -1_000_000..2_000_000_000_000_i64,
        steps in prop::collection::vec((0..40_000_i64, 0..4_u8), 1..500),
    ) {
        let mut at = start;
        let samples: Vec<(i64, u64)> = steps.iter().map(|&(step, kind)| {
            at += if kind == 0 { step } else { 15_000 };
            (at, (f64::from(u8::from(kind > 2)) * 1.5).to_bits())
        }).collect();
        let (got, error) = decoded(&encoded(&samples));
        prop_assert_eq!(error, None);
        prop_assert_eq!(got, samples);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (got, _) = decoded(&bytes);
        assert!(got.len() <= 4 * bytes.len());
    }
}

#[test]
fn the_cut_rule_gives_the_chunks_of_the_head() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let lines = golden::read_jsonl_gz(&shared.join("golden/blocks/prom-floats.expected.jsonl.gz"));
    for series in &lines[1..] {
        let chunks = series["chunks"].as_array().unwrap();
        let all: Vec<(i64, u64)> = chunks.iter().flat_map(|it| samples(&it["samples"])).collect();
        let lengths: Vec<u64> = chunks.iter().map(|it| it["len"].as_u64().unwrap()).collect();
        let got: Vec<u64> = cut_chunks(&all).iter().map(|it| it.len() as u64).collect();
        assert_eq!(got, lengths, "{}", series["labels"]);
    }
}

fn cut_chunks(samples: &[(i64, u64)]) -> Vec<Vec<u8>> {
    let mut done = Vec::new();
    let mut chunk = xor::Appender::new();
    let mut plan = cut::CutPlan::begin(0, 7_200_000);
    let mut start_ms = 0;
    for &(timestamp_ms, bits) in samples {
        let open = cut::OpenChunk {
            start_ms,
            last_ms: chunk.last_timestamp_ms(),
            sample_count: u32::from(chunk.sample_count()),
            size_bytes: chunk.size_bytes(),
        };
        if !chunk.is_empty() && plan.cut_before(open, timestamp_ms) {
            done.push(std::mem::take(&mut chunk).to_bytes());
        }
        if chunk.is_empty() {
            start_ms = timestamp_ms;
            plan = cut::CutPlan::begin(start_ms, 7_200_000);
        }
        assert!(chunk.append(timestamp_ms, f64::from_bits(bits)));
    }
    done.push(chunk.to_bytes());
    done
}

fn vectors() -> Option<Vec<Value>> {
    let shared = golden::shared_or_skip()?;
    Some(golden::read_jsonl_gz(&shared.join("golden/chunks/vectors.jsonl.gz")))
}

fn samples(value: &Value) -> Vec<(i64, u64)> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let pair = |it: &Value| (it[0].as_i64().unwrap(), golden::bits(it[1].as_str().unwrap()));
    list.iter().map(pair).map(|(at, value)| (at, value.to_bits())).collect()
}

fn encoded(samples: &[(i64, u64)]) -> Vec<u8> {
    let mut chunk = xor::Appender::new();
    for &(timestamp_ms, bits) in samples {
        assert!(chunk.append(timestamp_ms, f64::from_bits(bits)));
    }
    assert_eq!(chunk.to_bytes().len(), chunk.size_bytes());
    chunk.to_bytes()
}

fn decoded(bytes: &[u8]) -> (Vec<(i64, u64)>, Option<String>) {
    let mut columns = Columns::default();
    let error = decode(Encoding::Xor, bytes, &mut columns).err();
    let values = columns.values.iter().map(|it| it.to_bits());
    (columns.timestamps_ms.iter().copied().zip(values).collect(), error.map(|it| it.to_string()))
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|it| u8::try_from(it.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks(2).map(|it| it[0] << 4 | it[1]).collect()
}
