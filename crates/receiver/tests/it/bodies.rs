//! What real senders sent: decoded to the recorded message, and every float sample stored.

use std::collections::BTreeMap;

use receiver::decode::{ProtobufLabels, declared_bytes, decompress, walk};
use serde_json::Value;
use testkit::golden;
use testkit::remote_write::HEADERS;
use tsdb_core::db::LabelDecoder as _;

use crate::world::World;

fn pairs(series: &Value) -> Vec<(String, String)> {
    let pairs = series["labels"].as_array().unwrap().iter();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn samples(series: &Value) -> Vec<(i64, u64)> {
    let samples = series["samples"].as_array().into_iter().flatten();
    let sample =
        |it: &Value| (it["t"].as_i64().unwrap(), golden::bits(it["v"].as_str().unwrap()).to_bits());
    samples.map(sample).collect()
}

fn check_decoded(body: &[u8], message: &Value, file: &str) {
    let unpacked = decompress(body, declared_bytes(body, 32 << 20).unwrap()).unwrap();
    let mut held = model::Budget::unlimited().reserve(0).unwrap();
    let request = walk(&unpacked, &mut held).unwrap();
    let empty = Vec::new();
    let expected = message["timeseries"].as_array().unwrap_or(&empty);
    assert_eq!(request.series.len(), expected.len(), "{file}");
    for (series, expected) in request.series.iter().zip(expected) {
        let mut found = Vec::new();
        ProtobufLabels.decode(series.raw_labels, &mut found);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let found: Vec<_> = found.iter().map(|(name, value)| (text(name), text(value))).collect();
        assert_eq!(found, pairs(expected), "{file}");
        let start = series.sample_start as usize;
        let found = &request.samples[start..start + series.sample_count as usize];
        let found: Vec<_> = found.iter().map(|it| (it.timestamp_ms, it.value.to_bits())).collect();
        assert_eq!(found, samples(expected), "{file}");
        assert!(series.is_cacheable, "{file}: real senders send labels first and together");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_bodies_are_decoded_and_stored() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let golden_dir = shared.join("golden/remote-write");
    let bodies = golden::read_jsonl_gz(&golden_dir.join("bodies.jsonl.gz"));
    let directory = tempfile::tempdir().unwrap();
    let world = World::start(directory.path(), 0, &[]).await;
    let mut expected: BTreeMap<String, BTreeMap<i64, u64>> = BTreeMap::new();
    let mut body_count = 0;
    for line in bodies.iter().filter(|it| it["message_type"] == "prometheus.WriteRequest") {
        let file = line["file"].as_str().unwrap();
        let body = std::fs::read(golden_dir.join(file)).unwrap();
        let message = &line["message"];
        check_decoded(&body, message, file);
        // A tenant for each run and kind, since all of them scraped the same target.
        let run = file.trim_start_matches("bodies/").rsplit_once('-').unwrap().0;
        world.clock.set(line["received_at_ms"].as_i64().unwrap());
        let mut headers = HEADERS.to_vec();
        headers.push(("THANOS-TENANT", run));
        let answer = world.post(&headers, &body).await;
        let empty = Vec::new();
        let series = message["timeseries"].as_array().unwrap_or(&empty);
        let has_histograms =
            |it: &Value| it["histograms"].as_array().is_some_and(|it| !it.is_empty());
        let code = if series.iter().any(has_histograms) { 400 } else { 204 };
        assert_eq!(answer.status, code, "{file}: {}", answer.text());
        if code == 400 {
            assert!(answer.text().contains("native histograms"), "{file}: {}", answer.text());
            assert!(!answer.text().contains("sample:"), "{file}: {}", answer.text());
        }
        for one in series {
            let mut labels = pairs(one);
            labels.push(("receive".to_owned(), "r0".to_owned()));
            labels.push(("tenant_id".to_owned(), run.to_owned()));
            let labels = model::Labels::from_pairs(labels).unwrap().to_string();
            let samples = samples(one);
            if !samples.is_empty() {
                expected.entry(labels).or_default().extend(samples);
            }
        }
        body_count += 1;
    }
    assert!(body_count > 60, "{body_count} bodies");
    assert_eq!(world.contents().await, expected);
    world.stop().await;
}
