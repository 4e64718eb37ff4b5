//! The conformance suite on everything that needs no server.

use std::path::Path;
use std::sync::Arc;

use objstore::conformance::{self, Scale};
use objstore::{
    Config, Faulty, FilesystemStore, MemoryStore, Metered, Metrics, ObjectStore, Prefixed, Retry,
    RetryPolicy, SharedStore,
};

use crate::environment;

const SCALE: Scale = Scale { listed_objects: 40, large_bytes: 3_000_000, part_bytes: Some(70_000) };

async fn check(store: impl ObjectStore + 'static) {
    let scratch = tempfile::tempdir().unwrap();
    conformance::run(&shared(store), scratch.path(), SCALE).await;
}

fn memory() -> MemoryStore {
    MemoryStore::new("memory", environment()).with_page_entries_max(7)
}

fn filesystem(root: &Path) -> FilesystemStore {
    FilesystemStore::new(root, environment()).with_page_entries_max(7)
}

fn shared(store: impl ObjectStore + 'static) -> SharedStore {
    Arc::new(store)
}

#[tokio::test]
async fn memory_conforms() {
    check(memory()).await;
}

#[tokio::test]
async fn filesystem_conforms() {
    let root = tempfile::tempdir().unwrap();
    check(filesystem(&root.path().join("made/by/the/first/write"))).await;
    let left: Vec<_> = std::fs::read_dir(root.path().join("made/by/the/first/write"))
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(left, [".aion-tmp"], "deletions take empty directories away");
}

#[tokio::test]
async fn decorators_conform() {
    let metrics = Metrics::unregistered();
    check(Retry::new(shared(memory()), RetryPolicy::with_tries(3), environment(), &metrics)).await;
    check(Metered::new(shared(memory()), environment(), &metrics)).await;
    check(Faulty::new(shared(memory()), 1)).await;
    let root = tempfile::tempdir().unwrap();
    for inner in [shared(memory()), shared(filesystem(root.path()))] {
        let prefixed = Prefixed::wrap(inner, "/deep/down/").unwrap();
        let scratch = tempfile::tempdir().unwrap();
        conformance::run(&prefixed, scratch.path(), SCALE).await;
    }
}

#[tokio::test]
async fn a_configuration_opens_a_bucket_in_thanos_layout() {
    let root = tempfile::tempdir().unwrap();
    let text = format!(
        "type: FILESYSTEM\nconfig: {{directory: {:?}}}\nprefix: some/where\n",
        root.path().join("bucket")
    );
    let config = Config::parse(&text).unwrap();
    let store = config.open(&environment(), &Metrics::unregistered()).await.unwrap();
    store.put("key", "value".into()).await.unwrap();
    let on_disk = std::fs::read(root.path().join("bucket/some/where/key")).unwrap();
    assert_eq!(on_disk, b"value");
}
