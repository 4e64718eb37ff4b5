//! What only a bucket in a directory has to get right.

use std::sync::Arc;

use futures_util::future::join_all;
use objstore::{FilesystemStore, ObjectStore};

use crate::environment;

#[tokio::test]
async fn foreign_files_are_no_objects() {
    let root = tempfile::tempdir().unwrap();
    let store = FilesystemStore::new(root.path(), environment());
    std::fs::create_dir_all(root.path().join("empty/also/empty")).unwrap();
    std::fs::create_dir_all(root.path().join("block")).unwrap();
    std::fs::write(root.path().join("block/index"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", root.path().join("linked")).unwrap();
    store.put("block/meta.json", "{}".into()).await.unwrap();
    let page = store.list("", true, None).await.unwrap();
    assert_eq!((page.objects, page.prefixes), (vec![], vec!["block/".to_owned()]));
    let page = store.list("", false, None).await.unwrap();
    let keys: Vec<_> = page.objects.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, ["block/index", "block/meta.json"]);
    for key in [".aion-tmp/x", ".aion-tmp"] {
        assert!(store.put(key, "x".into()).await.is_err(), "{key}");
    }
    assert!(store.get("block", 10).await.unwrap_err().is_not_found());
    assert!(store.get("block/index/below", 10).await.unwrap_err().is_not_found());
    store.delete("block").await.unwrap();
    assert_eq!(store.get("block/index", 10).await.unwrap(), "x");
}

#[tokio::test]
async fn an_absent_directory_is_an_empty_bucket() {
    let root = tempfile::tempdir().unwrap();
    let store = FilesystemStore::new(&root.path().join("none"), environment());
    assert_eq!(store.list("", false, None).await.unwrap().objects, []);
    assert!(store.head("a").await.unwrap_err().is_not_found());
    assert!(!root.path().join("none").exists(), "reading makes nothing");
}

#[tokio::test]
async fn what_was_left_half_written_is_cleaned_up_when_it_is_old() {
    let root = tempfile::tempdir().unwrap();
    let store = FilesystemStore::new(root.path(), environment());
    store.put("a", "1".into()).await.unwrap();
    let left = root.path().join(".aion-tmp/0123456789abcdef");
    std::fs::write(&left, "half").unwrap();
    let now_ms = environment().now_ms();
    assert_eq!(store.abort_stale_uploads("", now_ms - 60_000).await.unwrap(), 0);
    assert!(left.exists());
    assert_eq!(store.abort_stale_uploads("", now_ms + 60_000).await.unwrap(), 1);
    assert!(!left.exists());
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_denied_or_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let store = FilesystemStore::new(&file, environment());
    let error = store.put("a", "1".into()).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().starts_with("upload \"a\": "), "{error}");
}

/// Writers make directories that deletions take away when they are empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_beside_deletions_in_one_directory_succeed() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(FilesystemStore::new(root.path(), environment()));
    let writer = |number: usize| {
        let store = Arc::clone(&store);
        async move {
            for _ in 0..50 {
                let key = format!("shared/deep/{number}");
                store.put(&key, "x".into()).await.unwrap();
                store.delete(&key).await.unwrap();
            }
        }
    };
    let tasks = (0..4).map(|it| tokio::spawn(writer(it)));
    join_all(tasks).await.into_iter().for_each(|it| it.unwrap());
    assert_eq!(store.list("", false, None).await.unwrap().objects, []);
}
