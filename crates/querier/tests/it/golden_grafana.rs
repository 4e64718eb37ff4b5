//! Every call that Grafana's data source makes gets an answer that it can read.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use storeapi::memory::MemoryStore;

use crate::world::{World, labels, series};

/// The recorded calls ask about this time.
const END_MS: i64 = 1_795_423_500_000;

fn store() -> MemoryStore {
    let times = (0..240).map(|it| END_MS - 15_000 * (239 - it));
    let samples: Vec<(i64, f64)> = times.map(|it| (it, 1.0)).collect();
    let counter: Vec<(i64, f64)> =
        samples.iter().enumerate().map(|(index, (at, _))| (*at, index as f64)).collect();
    let of = |name: &str, more: &[(&str, &str)], samples: &[(i64, f64)]| {
        let mut pairs = vec![
            ("__name__", name),
            ("cluster", "c"),
            ("instance", "127.0.0.1:24090"),
            ("job", "prometheus"),
            ("receive_replica", "0"),
        ];
        pairs.extend_from_slice(more);
        series(&pairs, samples)
    };
    let requests = "prometheus_http_requests_total";
    let all = vec![
        of("up", &[], &samples),
        of(requests, &[("code", "200"), ("handler", "/")], &counter),
        of(requests, &[("code", "400"), ("handler", "/x")], &counter),
    ];
    MemoryStore::new("memory", labels(&[("cluster", "c"), ("receive_replica", "0")]), all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_grafana_is_answered() {
    let Some(shared) = testkit::golden::shared_or_skip() else { return };
    let world =
        World::new(&["--query.replica-label=receive_replica"], vec![Arc::new(store())]).await;
    let calls = testkit::golden::read_jsonl_gz(&shared.join("golden/grafana/calls.jsonl.gz"));
    assert_eq!(calls.len(), 74);
    for call in calls {
        let text = |key: &str| call[key].as_str().unwrap_or_default().to_owned();
        let name = format!("{} {} {}", text("method"), text("target"), text("body"));
        let request = Request::builder()
            .method(text("method").as_str())
            .uri(text("target"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT_ENCODING, "gzip")
            .body(Body::from(text("body")));
        let answer = world.send(request.unwrap()).await;
        let expected: serde_json::Value = serde_json::from_str(&text("response"))
            .unwrap_or_else(|_| serde_json::json!({"status": "success"}));
        let ours = answer.json();
        assert_eq!(u64::from(answer.status.as_u16()), call["status"], "{name}: {ours}");
        assert_eq!(answer.header("content-encoding"), "gzip", "{name}");
        assert_eq!(answer.header("content-type"), "application/json", "{name}");
        if answer.status == 400 {
            assert_eq!(ours["errorType"], "bad_data", "{name}");
            let error = ours["error"].as_str().unwrap();
            let is_named = error.contains("parse error") || error.contains("expected type");
            assert!(is_named, "{name}: {error}");
            continue;
        }
        assert_eq!(ours["status"], "success", "{name}");
        assert!(!ours["data"].is_null(), "{name}: {ours}");
        if let Some(kind) = expected["data"]["resultType"].as_str() {
            assert_eq!(ours["data"]["resultType"], kind, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_grafana_shows_is_there() {
    let world =
        World::new(&["--query.replica-label=receive_replica"], vec![Arc::new(store())]).await;
    let answer = world.post("/api/v1/query?max_source_resolution=auto", "query=1%2B1&time=4").await;
    let expected = r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#;
    assert_eq!(answer.text, expected);

    let form = "query=up&start=1795423470&end=1795423485&step=15";
    let answer = world.post("/api/v1/query_range?partial_response=false", form).await;
    let expected = concat!(
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":"#,
        r#"{"__name__":"up","cluster":"c","instance":"127.0.0.1:24090","job":"prometheus"},"#,
        r#""values":[[1795423470,"1"],[1795423485,"1"]]}]}}"#,
    );
    assert_eq!(answer.text, expected);
    assert_eq!(answer.header("x-aion-complete"), "true");

    // The probe that decides whether the switch for exemplars is grey.
    let target = "/api/v1/query_exemplars?query=test&start=1795419897202&end=1795423497202";
    assert_eq!(world.get(target).await.text, r#"{"status":"success","data":[]}"#);
    // The probe for a ruler that can be written to.
    let answer = world.get("/rules/a/b").await;
    assert_eq!((answer.status.as_u16(), answer.text.trim()), (404, "404 page not found"));
    let info = world.get("/api/v1/status/buildinfo").await.json();
    assert!(info["data"]["features"].is_null());
}
