//! Marks read as Thanos reads them and are written as it writes them.

use bucket::marker::{self, DeletionMark, Found, Mark, NoCompactMark, NoDownsampleMark};
use bucket::{Error, layout};
use objstore::ObjectStore;
use testkit::golden;

use crate::{Clock, NOW_MS, id};

/// Checks one golden mark; answers whether it was one of this kind.
fn check<M: Mark>(line: &serde_json::Value, bytes: &[u8]) {
    let file = line["file"].as_str().unwrap();
    let found = marker::decode::<M>(file, bytes);
    match (&line["parsed"], line["error_kind"].as_str()) {
        (parsed, None) if parsed.is_object() => {
            let Ok(Found::Mark(mark)) = found else { panic!("{file} must be read") };
            let written = marker::encode(&mark);
            assert_eq!(written, bytes, "{file}: written again");
            let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(&written, parsed, "{file}");
        }
        // Callers warn and go on as if there were no mark.
        (_, Some(kind)) if kind.starts_with("unmarshal") => {
            assert!(matches!(found, Ok(Found::Unreadable(_))), "{file}");
        }
        _ => assert!(matches!(found, Err(Error::MarkVersion { .. })), "{file}"),
    }
}

#[test]
fn golden_marks() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let blocks = shared.join("golden/blocks");
    let mut checked = 0;
    for line in golden::read_jsonl_gz(&blocks.join("bucket-markers.expected.jsonl.gz")) {
        let Some(object) = line["object_name"].as_str() else { continue };
        let path = blocks.join("bucket-markers").join(line["file"].as_str().unwrap());
        let bytes = std::fs::read(path).unwrap();
        match object {
            layout::DELETION_MARK => check::<DeletionMark>(&line, &bytes),
            layout::NO_COMPACT_MARK => check::<NoCompactMark>(&line, &bytes),
            layout::NO_DOWNSAMPLE_MARK => check::<NoDownsampleMark>(&line, &bytes),
            other => panic!("{other}"),
        }
        checked += 1;
    }
    assert!(checked >= 10, "{checked}");
}

#[tokio::test]
async fn a_mark_is_written_once() {
    let store = Clock::at(NOW_MS).store();
    assert_eq!(marker::read::<DeletionMark>(&*store, id(1)).await.unwrap(), Found::Absent);
    let first = DeletionMark::new(id(1), "first", NOW_MS + 999);
    assert!(marker::write(&*store, &first).await.unwrap());
    let second = DeletionMark::new(id(1), "second", NOW_MS);
    assert!(!marker::write(&*store, &second).await.unwrap(), "a mark is never overwritten");
    let found = marker::read::<DeletionMark>(&*store, id(1)).await.unwrap();
    assert_eq!(found.mark(), Some(&first));
    assert_eq!(first.deletion_time_s, NOW_MS / 1000);
}

#[tokio::test]
async fn a_deletion_mark_without_a_time_is_none_and_is_named() {
    let store = Clock::at(NOW_MS).store();
    let key = layout::key(id(1), layout::DELETION_MARK);
    let meta = tsdb_core::block::Meta::of_head(id(1), NOW_MS - 1, NOW_MS);
    store.put(&layout::meta_key(id(1)), meta.encode().into()).await.unwrap();
    store.put(&layout::index_key(id(1)), "index".into()).await.unwrap();
    for time in ["", r#","deletion_time":0"#, r#","deletion_time":null"#, r#","deletion_time":-5"#]
    {
        let text = format!(r#"{{"id":"{}","version":1{time}}}"#, id(1));
        store.put(&key, text.clone().into()).await.unwrap();
        let found = marker::read::<DeletionMark>(&*store, id(1)).await.unwrap();
        assert!(matches!(&found, Found::Unreadable(it) if it.contains("deletion_time")), "{text}");
        let snapshot = bucket::View::new(1).sync(&*store).await.unwrap();
        assert!(snapshot.troubles.iter().any(|it| it.text.contains(&key)), "{snapshot:?}");
        let filters = bucket::filter::Filters::after_deletion_marks(86_400_000);
        let served = bucket::filter::apply(&snapshot, &filters, NOW_MS);
        assert!(served.kept.contains_key(&id(1)), "a block is served on: {text}");
    }
    let other = format!(r#"{{"id":"{}","version":2}}"#, id(1));
    let error = marker::decode::<DeletionMark>("k", other.as_bytes()).unwrap_err();
    assert!(matches!(error, Error::MarkVersion { version: 2, .. }), "{error}");
    let other = format!(r#"{{"id":"{}","version":1}}"#, id(1));
    let found = marker::decode::<NoCompactMark>("k", other.as_bytes()).unwrap();
    assert!(found.mark().is_some(), "the other marks have no delay");
}

#[tokio::test]
async fn keys_in_any_case_and_huge_objects() {
    let text = format!(r#"{{"ID":"{}","Version":1,"details":null,"Deletion_Time":5}}"#, id(1));
    let found = marker::decode::<DeletionMark>("k", text.as_bytes()).unwrap();
    assert_eq!(found.mark().map(|it| it.deletion_time_s), Some(5));
    let store = Clock::at(NOW_MS).store();
    let key = layout::key(id(1), layout::DELETION_MARK);
    store.put(&key, vec![b' '; 1 << 20].into()).await.unwrap();
    let found = marker::read::<DeletionMark>(&*store, id(1)).await.unwrap();
    assert!(matches!(found, Found::Unreadable(_)), "{found:?}");
}
