//! The metrics have Thanos' names and count what happened.

use std::sync::Arc;

use objstore::faulty::{Fault, Trigger};
use objstore::{
    Environment, Faulty, MemoryStore, Metered, Metrics, ObjectStore, Retry, RetryPolicy,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

#[tokio::test(start_paused = true)]
async fn calls_failures_retries_and_bytes_are_counted() {
    let environment = Environment::new(|| 1_500, || std::time::Duration::ZERO, || 7);
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let faulty = Arc::new(Faulty::new(Arc::new(MemoryStore::new("b", environment.clone())), 1));
    let inner = Arc::clone(&faulty);
    let retry = Retry::new(inner, RetryPolicy::with_tries(2), environment.clone(), &metrics);
    let store = Metered::new(Arc::new(retry), environment, &metrics);

    faulty.add(Fault::new(Trigger::Nth(1)));
    store.put("a", vec![0; 1_000].into()).await.unwrap();
    store.get("a", 1_000).await.unwrap();
    store.get("absent", 1).await.unwrap_err();
    faulty.add(Fault::new(Trigger::From(1)));
    store.head("a").await.unwrap_err();

    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for line in [
        r#"thanos_objstore_bucket_operations_total{bucket="b",operation="upload"} 1"#,
        r#"thanos_objstore_bucket_operations_total{bucket="b",operation="get"} 2"#,
        r#"thanos_objstore_bucket_operation_failures_total{bucket="b",operation="get"} 0"#,
        r#"thanos_objstore_bucket_operation_failures_total{bucket="b",operation="attributes"} 1"#,
        r#"thanos_objstore_bucket_operation_duration_seconds_count{bucket="b",operation="get"} 1"#,
        concat!(
            "thanos_objstore_bucket_operation_transferred_bytes_sum",
            r#"{bucket="b",operation="upload"} 1000.0"#
        ),
        r#"thanos_objstore_bucket_last_successful_upload_time{bucket="b"} 1.5"#,
        r#"aion_objstore_bucket_operation_retries_total{bucket="b",operation="upload"} 1"#,
        r#"aion_objstore_bucket_operation_retries_total{bucket="b",operation="attributes"} 1"#,
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
    }
}
