//! A block is shipped once, whole, with the meta that Thanos expects.

use bucket::{Error, layout, upload};
use model::Labels;
use objstore::{ObjectStore, md5_hex};
use tsdb_core::block::Meta;

use crate::vanishing::Vanishing;
use crate::{Clock, NOW_MS, block, id, labels, local_block, stamp};

#[tokio::test]
async fn a_block_is_uploaded_with_thanos_section() {
    let (scratch, store) = (tempfile::tempdir().unwrap(), Clock::at(NOW_MS).store());
    let directory = local_block(&scratch, id(1));
    let labels = labels();
    let uploaded = upload::upload(&*store, block(&directory), stamp(&labels)).await.unwrap();
    assert!(uploaded.is_new);
    let contents = store.contents();
    let keys: Vec<&str> = contents.keys().map(|it| it.split_once('/').unwrap().1).collect();
    assert_eq!(keys, ["chunks/000001", "chunks/000002", "index", "meta.json"]);
    for (key, body) in &contents {
        let file = std::fs::read(scratch.path().join(key)).unwrap();
        assert!(key.ends_with("meta.json") || *body == file, "{key}");
    }
    let meta = Meta::decode(&contents[&format!("{}/meta.json", id(1))]).unwrap();
    assert_eq!(meta, uploaded.meta);
    let thanos = &meta.thanos;
    assert_eq!(
        thanos.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["replica=a", "tenant_id=t"]
    );
    assert_eq!((thanos.source.as_str(), thanos.downsample.resolution_ms), ("receive", 0));
    assert_eq!(thanos.segment_files, ["000001", "000002"]);
    let files: Vec<_> = thanos.files.iter().map(|it| (&*it.rel_path, it.size_bytes)).collect();
    let expected =
        [("chunks/000001", 3_000), ("chunks/000002", 500), ("index", 700), ("meta.json", 0)];
    assert_eq!(files, expected);
    assert_eq!(thanos.upload_time, "2026-11-24T00:00:00.001Z");
    assert_eq!(
        (thanos.index_stats.series_max_bytes, thanos.index_stats.chunk_max_bytes),
        (64, 300)
    );
    assert_eq!(meta.stats.num_samples, 100);
    let local = Meta::decode(&std::fs::read(directory.join("meta.json")).unwrap()).unwrap();
    assert_eq!(local.thanos.upload_time, "0001-01-01T00:00:00Z", "the local meta stays as it was");
}

#[tokio::test]
async fn a_visible_block_is_left_alone() {
    let (scratch, store) = (tempfile::tempdir().unwrap(), Clock::at(NOW_MS).store());
    let (directory, labels) = (local_block(&scratch, id(1)), labels());
    let first = upload::upload(&*store, block(&directory), stamp(&labels)).await.unwrap();
    let before = store.contents();
    std::fs::write(directory.join("index"), "changed").unwrap();
    let second = upload::upload(&*store, block(&directory), stamp(&labels)).await.unwrap();
    assert!(!second.is_new);
    assert_eq!((second.meta, store.contents()), (first.meta, before));
}

#[tokio::test]
async fn what_an_earlier_try_left_is_used_or_replaced() {
    let clock = Clock::at(1_000);
    let (scratch, store) = (tempfile::tempdir().unwrap(), clock.store());
    let (directory, labels) = (local_block(&scratch, id(1)), labels());
    let key = |path: &str| format!("{}/{path}", id(1));
    store.put(&key("chunks/000001"), vec![1; 3_000].into()).await.unwrap();
    store.put(&key("chunks/000002"), vec![9; 500].into()).await.unwrap();
    store.put(&key("index"), vec![3; 10].into()).await.unwrap();
    clock.set(2_000);
    upload::upload(&*store, block(&directory), stamp(&labels)).await.unwrap();
    let modified = async |path: &str| store.head(&key(path)).await.unwrap().modified_ms;
    assert_eq!(modified("chunks/000001").await, 1_000, "equal, so not sent again");
    assert_eq!(modified("chunks/000002").await, 2_000, "same size, other bytes");
    assert_eq!(modified("index").await, 2_000, "other size");
    assert_eq!(store.head(&key("index")).await.unwrap().etag, Some(md5_hex(&[3; 700])));
}

#[tokio::test]
async fn a_damaged_meta_in_the_bucket_is_replaced_by_the_whole_block() {
    let (scratch, store) = (tempfile::tempdir().unwrap(), Clock::at(NOW_MS).store());
    let (directory, labels) = (local_block(&scratch, id(1)), labels());
    store.put(&format!("{}/meta.json", id(1)), "{\"ulid\": ".into()).await.unwrap();
    let uploaded = upload::upload(&*store, block(&directory), stamp(&labels)).await.unwrap();
    assert!(uploaded.is_new);
    assert_eq!(upload::verify(&*store, id(1)).await.unwrap(), Some(uploaded.meta));
}

#[tokio::test]
async fn verification_names_what_is_missing() {
    let (scratch, store) = (tempfile::tempdir().unwrap(), Clock::at(NOW_MS).store());
    let (directory, labels) = (local_block(&scratch, id(1)), labels());
    assert_eq!(upload::verify(&*store, id(1)).await.unwrap(), None);
    upload::upload(&*store, block(&directory), stamp(&labels)).await.unwrap();
    store.delete(&format!("{}/index", id(1))).await.unwrap();
    store.put(&format!("{}/chunks/000002", id(1)), "short".into()).await.unwrap();
    let error = upload::verify(&*store, id(1)).await.unwrap_err();
    let Error::Incomplete { missing, .. } = &error else { panic!("{error:?}") };
    assert_eq!(missing[..], ["chunks/000002 (5 of 500 bytes)", "index"]);
}

#[tokio::test]
async fn a_verified_upload_is_whole_in_the_bucket_by_the_files_that_are_here() {
    let (scratch, store) = (tempfile::tempdir().unwrap(), Clock::at(NOW_MS).store());
    let (directory, labels) = (local_block(&scratch, id(1)), labels());
    let ship = async || upload::upload_verified(&*store, block(&directory), stamp(&labels)).await;
    let first = ship().await.unwrap();
    assert!(first.is_new);
    let second = ship().await.unwrap();
    assert_eq!((second.is_new, &second.meta), (false, &first.meta));

    let chunk = format!("{}/chunks/000002", id(1));
    store.delete(&chunk).await.unwrap();
    let missing = async || match ship().await.unwrap_err() {
        Error::Incomplete { missing, .. } => missing,
        error => panic!("{error:?}"),
    };
    assert_eq!(missing().await, ["chunks/000002"]);
    // A meta that names no files, as Prometheus writes it, hides nothing either.
    let mut meta = first.meta;
    meta.thanos.files.clear();
    store.put(&layout::meta_key(id(1)), meta.encode().into()).await.unwrap();
    assert!(upload::verify(&*store, id(1)).await.unwrap().is_some());
    assert_eq!(missing().await, ["chunks/000002"]);
    store.put(&chunk, "short".into()).await.unwrap();
    assert_eq!(missing().await, ["chunks/000002 (5 bytes, 500 on the disk)"]);
    store.put(&chunk, vec![2; 500].into()).await.unwrap();
    assert!(!ship().await.unwrap().is_new);
}

#[tokio::test]
async fn a_block_that_is_gone_behind_its_upload_is_not_verified() {
    let (scratch, memory) = (tempfile::tempdir().unwrap(), Clock::at(NOW_MS).store());
    let (directory, labels) = (local_block(&scratch, id(1)), labels());
    let store = Vanishing::new(memory);
    let error = upload::upload_verified(&store, block(&directory), stamp(&labels)).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::Unverified { key, .. } if *key == layout::meta_key(id(1))));
    assert!(error.is_transient(), "the next round uploads again");
}

#[tokio::test]
async fn what_cannot_be_shipped_is_refused_and_nothing_is_sent() {
    let (scratch, store) = (tempfile::tempdir().unwrap(), Clock::at(NOW_MS).store());
    let (directory, labels) = (local_block(&scratch, id(1)), labels());
    let none = Labels::empty();
    let error = upload::upload(&*store, block(&directory), stamp(&none)).await.unwrap_err();
    assert!(matches!(error, Error::Unfit { .. }), "{error}");
    std::fs::remove_file(directory.join("index")).unwrap();
    let error = upload::upload(&*store, block(&directory), stamp(&labels)).await.unwrap_err();
    assert!(matches!(error, Error::Local(_)) && error.to_string().contains("index"), "{error}");
    assert!(store.contents().is_empty());
}
