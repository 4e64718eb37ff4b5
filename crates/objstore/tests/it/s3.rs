//! The S3 store against a real server, and against none.

use std::sync::Arc;
use std::time::Duration;

use objstore::config::{Backend, S3Config};
use objstore::conformance::{self, Scale};
use objstore::{
    Config, Environment, Error, Metrics, ObjectStore, ObjectWriter, RetryPolicy, S3Store,
    SharedStore,
};
use testkit::weed::Weed;

use crate::environment;

/// More objects than a listing's page, and a file of several parts, the last one short.
const SCALE: Scale =
    Scale { listed_objects: 1_005, large_bytes: 11_000_001, part_bytes: Some(5 * 1024 * 1024) };

fn s3(yaml: &str) -> S3Config {
    match Config::parse(yaml).unwrap().backend {
        Backend::S3(config) => *config,
        Backend::Filesystem { .. } => panic!("not S3"),
    }
}

async fn bare(yaml: &str) -> S3Store {
    let (policy, metrics) = (RetryPolicy::with_tries(1), Metrics::unregistered());
    S3Store::open(&s3(yaml), policy, environment(), &metrics).await.unwrap()
}

async fn shared(yaml: &str) -> SharedStore {
    Arc::new(bare(yaml).await)
}

async fn decorated(yaml: &str, environment: &Environment) -> SharedStore {
    let config = Config::parse(yaml).unwrap();
    config.open(environment, &Metrics::unregistered()).await.unwrap()
}

#[tokio::test]
async fn a_real_server_conforms() {
    let weed = Weed::start("conformance");
    let scratch = tempfile::tempdir().unwrap();
    let yaml = weed.objstore_yaml();
    let small_parts = format!("{yaml}  part_size: 5242880\n");
    conformance::run(&shared(&small_parts).await, scratch.path(), SCALE).await;
    what_a_configuration_opens_works(&format!("{small_parts}prefix: deep/down\n")).await;
    let old_listing = format!(
        "{yaml}  list_objects_version: v1\n  send_content_md5: false\n  disable_multipart: true\n"
    );
    let no_parts = Scale { part_bytes: None, ..SCALE };
    conformance::run(&shared(&old_listing).await, scratch.path(), no_parts).await;

    wrong_keys_are_denied(&yaml).await;
    a_missing_bucket_is_named(&yaml).await;
    a_failed_upload_in_parts_leaves_nothing(&small_parts).await;
    an_interrupted_upload_in_parts_is_aborted_when_it_is_old(&small_parts).await;
    a_dropped_streaming_upload_is_aborted(&small_parts).await;
}

async fn what_a_configuration_opens_works(yaml: &str) {
    let store = decorated(yaml, &environment()).await;
    store.put("a/b", "x".into()).await.unwrap();
    assert!(store.put_if_absent("a/b", "y".into()).await.unwrap_err().is_already_exists());
    let page = store.list("a/", true, None).await.unwrap();
    assert_eq!(page.objects[0].key, "a/b");
    let inside = bare(yaml).await.get("deep/down/a/b", 1).await.unwrap();
    assert_eq!(inside, "x", "the prefix is part of the key in the bucket");
}

async fn wrong_keys_are_denied(yaml: &str) {
    let store = bare(&yaml.replace("aion-test-secret", "wrong")).await;
    let error = store.list("", true, None).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("SignatureDoesNotMatch"), "{text}");
    assert!(text.contains("check access_key and secret_key"), "{text}");
    let error = store.put("a", "x".into()).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
}

async fn a_missing_bucket_is_named(yaml: &str) {
    let store = bare(&yaml.replace("bucket: conformance", "bucket: elsewhere")).await;
    let error = store.list("", true, None).await.unwrap_err();
    assert!(!error.is_transient() && !error.is_not_found(), "{error:?}");
    assert!(error.to_string().contains("create the bucket \"elsewhere\""), "{error}");
}

/// The file shrinks between the parts: the upload fails and is taken back.
async fn a_failed_upload_in_parts_leaves_nothing(yaml: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("shrinking");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(200 << 20).unwrap();
    let store = bare(yaml).await;
    let upload = store.put_file("stale/file", &path);
    let shrink = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        file.set_len(1 << 20).unwrap();
    };
    let (uploaded, ()) = futures_util::future::join(upload, shrink).await;
    let error = uploaded.unwrap_err();
    // Our read finds the file too short, or the client finds the body of a part too short.
    let text = error.to_string();
    assert!(text.contains("shrinking") || text.contains("early end"), "{text}");
    assert!(store.head("stale/file").await.unwrap_err().is_not_found());
    let later_ms = environment().now_ms() + 3_600_000;
    let left = store.abort_stale_uploads("stale/", later_ms).await.unwrap();
    assert_eq!(left, 0, "the failed upload was aborted");
}

/// A process that died has aborted nothing.
async fn an_interrupted_upload_in_parts_is_aborted_when_it_is_old(yaml: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("large");
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let store = bare(yaml).await;
    let begin_ms = environment().now_ms();
    let upload = store.put_file("interrupted/file", &path);
    let interrupted = tokio::time::timeout(Duration::from_millis(500), upload).await;
    assert!(interrupted.is_err(), "a gibibyte is sent in more than half a second");
    // The server's times are in whole seconds.
    let (earlier_ms, later_ms) = (begin_ms - 5_000, begin_ms + 60_000);
    assert_eq!(store.abort_stale_uploads("interrupted/", earlier_ms).await.unwrap(), 0);
    assert_eq!(store.abort_stale_uploads("other/", later_ms).await.unwrap(), 0);
    assert_eq!(store.abort_stale_uploads("interrupted/", later_ms).await.unwrap(), 1);
    assert_eq!(store.abort_stale_uploads("interrupted/", later_ms).await.unwrap(), 0);
}

/// A writer that goes away takes its parts with it, a little later.
async fn a_dropped_streaming_upload_is_aborted(yaml: &str) {
    let store = shared(yaml).await;
    let mut writer = ObjectWriter::new(Arc::clone(&store), "dropped/file");
    for _ in 0..5 {
        writer.write(vec![1; 8 << 20].into()).await.unwrap();
    }
    drop(writer);
    let later_ms = environment().now_ms() + 60_000;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(store.abort_stale_uploads("dropped/", later_ms).await.unwrap(), 0);
    assert!(store.head("dropped/file").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn an_unreachable_server_is_transient_and_named() {
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let yaml = format!(
        "type: S3\nconfig: {{bucket: b, endpoint: '127.0.0.1:{port}', insecure: true, \
         access_key: a, secret_key: s}}"
    );
    let error = bare(&yaml).await.list("", true, None).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("http://127.0.0.1:{port}")), "{text}");
    assert!(text.to_lowercase().contains("connection refused"), "{text}");
    assert!(!text.contains("dispatch failure"), "{text}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let yaml = format!(
        "type: S3\nconfig: {{bucket: b, endpoint: '{}', insecure: true, access_key: a, \
         secret_key: s, http_config: {{response_header_timeout: 200ms}}}}",
        listener.local_addr().unwrap()
    );
    let error = bare(&yaml).await.get("a", 10).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("within 200ms"), "{error}");
}
