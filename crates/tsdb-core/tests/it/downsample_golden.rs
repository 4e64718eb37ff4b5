//! Downsampling against the chunks that Thanos made of the same samples.

use std::path::Path;

use serde_json::Value;
use testkit::golden;
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::{Encoding, aggregate, decode_values};
use tsdb_core::downsample::{Counts, Downsampled, Downsampler, Targets};

use crate::chunks::from_hex;
use crate::downsample::{checked, part_samples};

pub(crate) const FIVE: Targets = Targets { five_minutes: true, one_hour: false };
pub(crate) const HOUR: Targets = Targets { five_minutes: false, one_hour: true };
pub(crate) const BOTH: Targets = Targets { five_minutes: true, one_hour: true };

/// Vectors whose counters lose windows in Thanos' hours: a window with nothing but NaN.
const LOST_COUNTERS: [&str; 3] = ["aggr-0124", "aggr-0126", "aggr-0130"];
/// Thanos loses two of four sums, or panics.
const LOST_HISTOGRAMS: [&str; 2] = ["aggr-0187", "aggr-0189"];

#[test]
fn single_series_become_the_golden_chunks() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let vectors = golden::read_jsonl_gz(&shared.join("golden/chunks/aggr.jsonl.gz"));
    let (mut raw, mut windows) = (0, 0);
    for vector in &vectors {
        let id = vector["id"].as_str().unwrap();
        let got = match vector["kind"].as_str().unwrap() {
            "downsample_raw" => {
                raw += 1;
                downsample(FIVE, &inputs(vector)).0.five_minutes
            }
            "downsample_aggr" => {
                windows += 1;
                downsample(HOUR, &inputs(vector)).0.one_hour
            }
            _ => continue,
        };
        if LOST_HISTOGRAMS.contains(&id) {
            continue;
        }
        let want = expected(&vector["output"]);
        if LOST_COUNTERS.contains(&id) {
            all_but_counters_are_equal(&got, &want, id);
        } else {
            assert_eq!(got, want, "{id} {}", vector["note"]);
        }
    }
    assert!(raw > 50 && windows > 50, "{raw} and {windows} vectors");
}

/// All samples of the input, and the chunks that come out; the balance is checked.
pub(crate) fn downsample(targets: Targets, chunks: &[ChunkData]) -> (Downsampled, Counts) {
    let mut downsampler = Downsampler::new(targets);
    let mut out = Downsampled::default();
    let is_raw = chunks.first().is_none_or(|it| it.encoding != Encoding::Aggregate);
    match is_raw {
        true => downsampler.raw(chunks, &mut out).unwrap(),
        false => downsampler.aggregates(chunks, &mut out).unwrap(),
    }
    (out, checked(targets, downsampler.counts()))
}

fn all_but_counters_are_equal(got: &[ChunkData], want: &[ChunkData], place: &str) {
    assert_eq!(got.len(), want.len(), "{place}");
    for (got, want) in got.iter().zip(want) {
        let times = |it: &ChunkData| (it.min_time_ms, it.max_time_ms);
        assert_eq!(times(got), times(want), "{place}");
        let (got_parts, want_parts) =
            (aggregate::split(&got.data).unwrap(), aggregate::split(&want.data).unwrap());
        for part in 0..4 {
            let bytes = |chunk: &ChunkData, parts: &aggregate::Parts| {
                parts.in_order()[part].map(|it| chunk.data.slice(it.range.clone()))
            };
            assert_eq!(bytes(got, &got_parts), bytes(want, &want_parts), "{place} {part}");
        }
        counters_have_every_window(got, want, place);
    }
}

/// Ours has what theirs has, and a NaN in every window that theirs lacks.
pub(crate) fn counters_have_every_window(got: &ChunkData, want: &ChunkData, place: &str) {
    let (ours, theirs) = (part_samples(got, 4), part_samples(want, 4));
    let windows: Vec<i64> = part_samples(got, 0).iter().map(|it| it.0).collect();
    let times: Vec<i64> = ours.iter().map(|it| it.0).collect();
    assert_eq!(times[1..times.len() - 1], windows, "{place}");
    let bits = |it: &&(i64, f64)| (it.0, it.1.to_bits());
    let mut left: Vec<_> = theirs.iter().map(|it| bits(&it)).collect();
    for sample in &ours {
        match left.first() == Some(&bits(&sample)) {
            true => drop(left.remove(0)),
            false => assert!(sample.1.is_nan(), "{place} {sample:?}"),
        }
    }
    assert_eq!(left, [], "{place}");
}

#[test]
fn blocks_become_the_golden_chunks_series_by_series() {
    let Some(shared) = golden::shared_or_skip() else { return };
    for (raw, five, hour) in [
        ("thanos-raw-48h", "thanos-5m", "thanos-1h"),
        ("thanos-raw-12d", "thanos-12d-5m", "thanos-12d-1h"),
    ] {
        let (fives, hours) = (series(&shared, five), series(&shared, hour));
        let mut compared = 0;
        for (labels, chunks) in series(&shared, raw) {
            let place = format!("{raw} {labels}");
            let found = |all: &[(String, Vec<ChunkData>)]| {
                let found = all.iter().find(|it| it.0 == labels);
                found.map(|it| it.1.clone()).unwrap_or_default()
            };
            let (both, _) = downsample(BOTH, &chunks);
            let (alone, _) = downsample(FIVE, &chunks);
            assert_eq!(alone.five_minutes, both.five_minutes, "{place}");
            let (later, _) = downsample(HOUR, &both.five_minutes);
            assert_eq!(later.one_hour, both.one_hour, "{place}: two passes");
            compared += usize::from(!both.five_minutes.is_empty());
            if labels.contains("nh_stale_and_zero_threshold") {
                continue;
            }
            assert!(both.five_minutes == found(&fives), "{place} {five}");
            match labels.contains("inf_windows") {
                true => all_but_counters_are_equal(&both.one_hour, &found(&hours), &place),
                false => assert!(both.one_hour == found(&hours), "{place} {hour}"),
            }
        }
        assert_eq!((compared, compared), (fives.len(), hours.len()), "{raw}");
    }
}

/// The series of a golden block with the bytes of their chunks.
pub(crate) fn series(shared: &Path, block: &str) -> Vec<(String, Vec<ChunkData>)> {
    let block = crate::golden_blocks::open(shared, block);
    let all = block.all(model::TimeRange::ALL, &model::Budget::unlimited()).unwrap();
    let all = all.map(|it| it.unwrap());
    all.map(|it| (it.labels.to_string(), block.chunks(&it).unwrap())).collect()
}

pub(crate) fn inputs(vector: &Value) -> Vec<ChunkData> {
    vector["input"].as_array().unwrap().iter().map(input).collect()
}

fn input(value: &Value) -> ChunkData {
    let encoding = match value["enc"].as_str().unwrap() {
        "xor" => Encoding::Xor,
        "histogram" => Encoding::Histogram,
        "floathistogram" => Encoding::FloatHistogram,
        "aggr" => Encoding::Aggregate,
        other => panic!("{other}"),
    };
    let data = bytes::Bytes::from(from_hex(value["bytes"].as_str().unwrap()));
    let mut chunk = ChunkData { encoding, min_time_ms: 0, max_time_ms: 0, data };
    if encoding == Encoding::Aggregate {
        let windows = part_samples(&chunk, 0);
        chunk.min_time_ms = windows.first().unwrap().0;
        chunk.max_time_ms = windows.last().unwrap().0;
    } else {
        let mut samples = Vec::new();
        decode_values(chunk.encoding, &chunk.data, &mut samples).unwrap();
        let times = || samples.iter().map(|it| it.timestamp_ms);
        chunk.min_time_ms = times().min().unwrap_or_default();
        chunk.max_time_ms = times().max().unwrap_or_default();
    }
    chunk
}

fn expected(output: &Value) -> Vec<ChunkData> {
    let chunk = |it: &Value| ChunkData {
        encoding: Encoding::Aggregate,
        min_time_ms: it["mint"].as_i64().unwrap(),
        max_time_ms: it["maxt"].as_i64().unwrap(),
        data: from_hex(it["bytes"].as_str().unwrap()).into(),
    };
    output.as_array().map(|all| all.iter().map(chunk).collect()).unwrap_or_default()
}
