//! Scrapes of twenty thousand series with ten labels each, as remote-write requests.

use std::path::PathBuf;
use std::sync::Arc;

use model::{Budget, Sample, Tenant};
use tsdb_core::db::{Engine, EngineOptions, LabelDecoder, WriteBatch, WriteSeries};
use tsdb_core::fs::disk::Disk;

/// Series of a scrape.
pub(crate) const SERIES: usize = 20_000;
/// Series of a request.
const REQUEST: usize = 2_000;

/// Labels as ten pairs, each text behind its length in one byte.
struct PairDecoder;

impl LabelDecoder for PairDecoder {
    fn decode<'a>(&self, raw: &'a [u8], into: &mut Vec<(&'a [u8], &'a [u8])>) {
        let mut texts = raw;
        let mut take = || {
            let (length, rest) = texts.split_first()?;
            let (text, rest) = rest.split_at_checked(usize::from(*length))?;
            texts = rest;
            Some(text)
        };
        while let (Some(name), Some(value)) = (take(), take()) {
            into.push((name, value));
        }
    }
}

/// The labels of a series as they are sent.
pub(crate) fn raw_labels(series: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut put = |text: &str| {
        raw.push(u8::try_from(text.len()).unwrap());
        raw.extend_from_slice(text.as_bytes());
    };
    put("__name__");
    put("http_request_duration_seconds_bucket");
    for label in ["cluster", "container", "endpoint", "handler", "job", "namespace", "zone"] {
        put(label);
        put(&format!("{label}-value-{}", series % 7));
    }
    put("instance");
    put(&format!("10.0.{}.{}:9100", series / 250, series % 250));
    put("pod");
    put(&format!("api-server-6f7d8c9b5-{series:05}"));
    raw
}

/// An engine on the disk.
pub(crate) fn engine(directory: PathBuf) -> Engine {
    let budget = Budget::unlimited();
    let options = EngineOptions { directory, block_ms: 7_200_000, seeds: [1, 2], budget };
    Engine::open(Arc::new(Disk), options).unwrap().0
}

/// One scrape of all series, in requests; answers what was accepted.
pub(crate) fn scrape(
    engine: &Engine,
    tenant: &Tenant,
    labels: &[Vec<u8>],
    timestamp_ms: i64,
) -> usize {
    let mut accepted = 0;
    for (request, labels) in labels.chunks(REQUEST).enumerate() {
        let value = |index: usize| (timestamp_ms / 1000) as f64 * (index % 17) as f64;
        let sample =
            |index| Sample { timestamp_ms: timestamp_ms + request as i64, value: value(index) };
        let samples: Vec<Sample> = (0..labels.len()).map(sample).collect();
        let series: Vec<WriteSeries<'_>> = labels
            .iter()
            .zip(0..)
            .map(|(raw, index)| WriteSeries {
                raw_labels: raw,
                is_cacheable: true,
                sample_start: index,
                sample_count: 1,
            })
            .collect();
        let batch = WriteBatch {
            tenant,
            series: &series,
            samples: &samples,
            decoder: &PairDecoder,
            latest_ms: i64::MAX,
        };
        accepted += engine.append(&batch).unwrap().0.accepted;
    }
    accepted
}
