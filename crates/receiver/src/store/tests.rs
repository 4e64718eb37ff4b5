//! Tests of the store over an engine of its own.
#![expect(clippy::disallowed_methods, reason = "tests damage files as a disk would")]

use std::path::Path;

use http::HeaderName;
use model::MatchOp;
use model::Sample;
use storeapi::conformance::{Collected, collect};
use storeapi::request::PartialResponse;
use tsdb_core::db::{EngineOptions, WriteBatch, WriteSeries};
use tsdb_core::fs::disk::Disk;

use super::*;
use crate::decode::ProtobufLabels;

pub(crate) const START_MS: i64 = 1_700_000_000_000;
const BLOCK_MS: i64 = 7_200_000;

/// An engine that holds so many series of tenant `t`, with so many samples, a second apart.
pub(crate) fn engine_with(directory: &Path, series_count: usize, sample_count: i64) -> Engine {
    let options = EngineOptions {
        directory: directory.to_owned(),
        block_ms: BLOCK_MS,
        seeds: [1, 2],
        budget: Budget::unlimited(),
    };
    let (engine, _report) = Engine::open(Arc::new(Disk), options).unwrap();
    let samples: Vec<Sample> = (0..sample_count)
        .map(|it| Sample { timestamp_ms: START_MS + 1000 * it, value: 0.5 })
        .collect();
    for index in 0..series_count {
        let mut labels = Vec::new();
        let text = index.to_string();
        testkit::remote_write::encode_labels(&mut labels, [("__name__", "up"), ("n", &*text)]);
        let sample_count = u32::try_from(samples.len()).unwrap();
        let series =
            WriteSeries { raw_labels: &labels, is_cacheable: true, sample_start: 0, sample_count };
        let tenant = Tenant::new("t").unwrap();
        let batch = WriteBatch {
            tenant: &tenant,
            series: &[series],
            samples: &samples,
            decoder: &ProtobufLabels,
            latest_ms: i64::MAX,
        };
        assert_eq!(engine.append(&batch).unwrap().0.accepted, samples.len());
    }
    engine.commit_pending().unwrap();
    engine
}

fn store_over(engine: Engine) -> ReceiveStore {
    let tenancy = Tenancy {
        header: HeaderName::from_static("thanos-tenant"),
        default: Tenant::new("default-tenant").unwrap(),
        label: "tenant_id".to_owned(),
        labels: Labels::from_pairs([("receive", "r0")]).unwrap(),
    };
    let (engine, tenancy) = (Arc::new(engine), Arc::new(tenancy));
    ReceiveStore { engine, tenancy, tasks: Tasks::new(), late_ms: BLOCK_MS / 2 }
}

fn request() -> SeriesRequest {
    let matcher = Matcher::new(MatchOp::Equal, "__name__", "up").unwrap();
    SeriesRequest::new(TimeRange::ALL, vec![matcher])
}

#[tokio::test]
async fn a_batch_is_charged_as_long_as_nobody_asks_for_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_over(engine_with(directory.path(), 3, 100));
    let budget = Budget::unlimited();
    let request = SeriesRequest { batch_size: 2, ..request() };
    let mut frames = store.series(request, budget.clone()).await.unwrap();
    let found_bytes = budget.used_bytes();
    for series_count in [2, 1] {
        let Some(Ok(SeriesFrame::Batch(batch))) = frames.next().await else { panic!("no batch") };
        assert_eq!(batch.len(), series_count);
        let batch_bytes: usize = batch.iter().map(series_bytes).sum();
        assert_eq!(budget.used_bytes(), found_bytes + batch_bytes);
    }
    assert!(frames.next().await.is_none());
    drop(frames);
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn a_damaged_chunk_of_a_block_is_a_warning_and_all_others_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine_with(directory.path(), 3, 300);
    engine.cut_all(START_MS, &mut || 1);
    let tenant = Tenant::new("t").unwrap();
    let id = engine.blocks(&tenant)[0].id();
    let store = store_over(engine);
    let whole = collect(&store, request()).await.unwrap();
    let count = |it: &Collected| it.series.iter().map(|it| it.chunks.len()).collect::<Vec<_>>();
    assert!(count(&whole)[2] >= 3, "{:?}", count(&whole));
    assert_eq!(whole.warnings, Vec::<String>::new());

    // The second byte from the end is in the checksum of the last chunk of the last series.
    let path = directory.path().join(format!("t/{id}/chunks/000001"));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 2;
    bytes[at] ^= 0xff;
    std::fs::write(&path, &bytes).unwrap();
    let damaged = collect(&store, request()).await.unwrap();
    let mut expected = count(&whole);
    expected[2] -= 1;
    assert_eq!(count(&damaged), expected);
    assert_eq!(damaged.series[2].chunks[..], whole.series[2].chunks[..expected[2]]);
    assert_eq!(damaged.warnings.len(), 1, "{:?}", damaged.warnings);
    assert!(damaged.warnings[0].contains(&id.to_string()), "{:?}", damaged.warnings);
    let all_or_nothing = SeriesRequest { partial_response: PartialResponse::Abort, ..request() };
    let error = collect(&store, all_or_nothing).await.unwrap_err();
    assert!(matches!(error, Error::Aborted(_)), "{error}");
    let labels_only = SeriesRequest { skip_chunks: true, ..request() };
    assert_eq!(collect(&store, labels_only).await.unwrap().series.len(), 3);
}

#[tokio::test]
async fn a_damaged_series_of_a_block_is_a_warning_and_all_others_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine_with(directory.path(), 3, 10);
    engine.cut_all(START_MS, &mut || 1);
    let tenant = Tenant::new("t").unwrap();
    let block = engine.blocks(&tenant).remove(0);
    let path = directory.path().join(format!("t/{}/index", block.id()));
    // Every byte is tried until one lies in a series: the file stays open while it changes.
    let store = store_over(engine);
    let whole = std::fs::read(&path).unwrap();
    let mut count = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&path, &bytes).unwrap();
        let collected = collect(&store, request()).await.unwrap();
        let (series_count, warning_count) = (collected.series.len(), collected.warnings.len());
        // Nothing is ever missing in silence; what is damaged alone is missed alone.
        assert_eq!(series_count < 3, warning_count > 0, "byte {at}: {:?}", collected.warnings);
        let labels = LabelsRequest {
            range: TimeRange::ALL,
            matchers: request().matchers,
            partial_response: PartialResponse::Warn,
            without_replica_labels: Vec::new(),
            limit: 0,
        };
        let names = store.label_names(labels, Budget::unlimited()).await.unwrap();
        let numbers = (series_count, warning_count, names.warnings.len());
        count += usize::from(numbers == (2, 1, 1));
    }
    assert!(count >= 3 * 16, "only {count} bytes of series were found");
}

#[test]
fn info_reaches_back_as_far_as_a_late_sample_and_names_no_tenant_without_data() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine_with(directory.path(), 1, 2);
    let tenant = Tenant::new("refused").unwrap();
    let sample = Sample { timestamp_ms: START_MS, value: 1.0 };
    let mut labels = Vec::new();
    testkit::remote_write::encode_labels(&mut labels, [("__name__", "up")]);
    let series =
        WriteSeries { raw_labels: &labels, is_cacheable: true, sample_start: 0, sample_count: 1 };
    let batch = WriteBatch {
        tenant: &tenant,
        series: &[series],
        samples: &[sample],
        decoder: &ProtobufLabels,
        latest_ms: 0,
    };
    assert_eq!(engine.append(&batch).unwrap().0.refused.len(), 1);
    let info = store_over(engine).info();
    let tenants: Vec<_> =
        info.tsdbs.iter().map(|it| (it.labels.get("tenant_id").unwrap(), it.min_time_ms)).collect();
    let late_ms = START_MS + 1000 - BLOCK_MS / 2;
    assert_eq!(tenants, [("t", late_ms), ("default-tenant", i64::MAX)]);
    assert_eq!((info.min_time_ms, info.max_time_ms), (late_ms, i64::MAX));
}
