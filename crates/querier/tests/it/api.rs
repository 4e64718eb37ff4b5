//! Parameters, headers and paths.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request};
use storeapi::memory::MemoryStore;

use crate::world::{World, labels, series};

async fn world() -> World {
    let samples: Vec<(i64, f64)> = (0..100).map(|it| (it * 10_000, 1.0)).collect();
    let all = (0..5)
        .map(|it| {
            let instance = it.to_string();
            series(&[("__name__", "up"), ("instance", &instance), ("http.method", "GET")], &samples)
        })
        .collect();
    World::new(&[], vec![Arc::new(MemoryStore::new("memory", labels(&[]), all))]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn form_and_url_are_merged_form_first() {
    let world = world().await;
    let answer = world.post("/api/v1/query?query=2&time=7", "query=1").await;
    assert!(answer.text.contains(r#"[7,"1"]"#), "{}", answer.text);
    let answer = world.get("/api/v1/query?query=vector(1)%20%2B%201&time=1.5").await;
    assert!(answer.text.contains(r#"[1.500,"2"]"#), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_cut_and_say_so() {
    let world = world().await;
    let truncated = serde_json::json!(["results truncated due to limit"]);
    for target in [
        "/api/v1/query?query=up&time=100&limit=2",
        "/api/v1/query_range?query=up&start=0&end=100&step=10&limit=2",
    ] {
        let answer = world.get(target).await;
        let json = answer.json();
        assert_eq!(json["data"]["result"].as_array().unwrap().len(), 2);
        assert_eq!(json["warnings"], truncated);
        assert_eq!(answer.header("x-aion-complete"), "true");
    }
    for target in [
        "/api/v1/series?match[]=up&limit=2",
        "/api/v1/labels?limit=2",
        "/api/v1/label/instance/values?limit=2",
    ] {
        let json = world.get(target).await.json();
        assert_eq!(json["data"].as_array().unwrap().len(), 2, "{target}");
        assert_eq!(json["warnings"], truncated, "{target}");
    }
    let whole = world.get("/api/v1/label/instance/values?limit=5").await.json();
    assert!(whole["warnings"].is_null());
    let escaped = world.get("/api/v1/label/U__http_2E_method/values").await.json();
    assert_eq!(escaped["data"], serde_json::json!(["GET"]));
    let posted = world.post("/api/v1/label/instance/values?limit=1", "").await;
    assert_eq!(posted.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_may_ask_and_paths_that_are_not_there_say_so() {
    let world = world().await;
    let options =
        Request::builder().method(Method::OPTIONS).uri("/api/v1/query").body(Body::empty());
    let answer = world.send(options.unwrap()).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let answer = world.get("/api/v1/nothing").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["errorType"].clone()),
        (404, "not_found".into())
    );
    let put = Request::builder().method(Method::PUT).uri("/api/v1/query").body(Body::empty());
    assert_eq!(world.send(put.unwrap()).await.status, 405);
    let silent = World::new(&["--web.disable-cors"], Vec::new()).await;
    let answer = silent.get("/api/v1/query?query=1&time=1").await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_not_named_makes_250_steps() {
    let world = world().await;
    let answer = world.get("/api/v1/query_range?query=1&start=0&end=1000").await.json();
    let values = answer["data"]["result"][0]["values"].as_array().unwrap().len();
    assert_eq!(values, 251);
    let answer = world.get("/api/v1/query_range?query=1&start=0&end=10").await.json();
    let values = answer["data"]["result"][0]["values"].as_array().unwrap().len();
    assert_eq!(values, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_flags_are_told_in_one_line() {
    let check = |flag: &str, expected: &str| {
        let error = daemon::config_of::<querier::Querier>(&[flag.to_owned()]).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(expected) && !text.contains('\n'), "{flag}: {text}");
    };
    check("--endpoint=store", "host:port");
    check("--endpoint=dnssrv+_grpc._tcp.store", "SRV");
    check("--store.sd-files=x.yml", "--endpoint");
    check("--query.mode=distributed", "local");
    check("--query.timeout=0s", "longer");
    check("--grpc-client-tls-ca=/nowhere", "/nowhere");
    check("--selector-label=x", "--selector-label");
    let flags = ["--store=a:1", "--endpoint=b:2", "--query.replica-label=r,s"].map(str::to_owned);
    assert!(daemon::config_of::<querier::Querier>(&flags).is_ok());
}
