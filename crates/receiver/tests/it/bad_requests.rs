//! The recorded bad requests: the codes of Prometheus' receiver, but for what we do better.

use serde_json::Value;
use testkit::golden;

use crate::world::World;

/// Where we answer otherwise than Prometheus, by name of the case: code and why.
const EXCEPTIONS: &[(&str, u16, &str)] = &[
    ("proto/v2-message-declared-v1", 400, "Prometheus says 204 and stores nothing"),
    ("v1/labels-duplicate-same-value", 400, "Prometheus drops the series in silence"),
    ("v1/labels-duplicate-other-value", 400, "Prometheus drops the series in silence"),
    ("v1/labels-duplicate-unsorted", 400, "Prometheus drops the series in silence"),
    ("v1/labels-none", 400, "Prometheus drops the series in silence"),
    ("v1/labels-empty-label-name", 400, "Prometheus drops the series in silence"),
    ("v1/labels-invalid-utf8-value", 400, "Prometheus drops the series in silence"),
    ("v1/labels-invalid-utf8-name", 400, "Prometheus drops the series in silence"),
    ("v1/labels-invalid-utf8-metric", 400, "Prometheus drops the series in silence"),
    ("v1/labels-one-bad-series-of-two", 400, "Prometheus drops the series in silence"),
    ("v1/sample-duplicate-within-request", 400, "Prometheus drops one of the two in silence"),
    ("v1/sample-out-of-order-within-request", 400, "Prometheus drops one of the two in silence"),
    ("v1/sample-nan-other-payload", 400, "Prometheus drops the other NaN in silence"),
    ("thanos/tenant-with-slash", 400, "Prometheus knows no tenants"),
    ("thanos/tenant-dot-dot", 400, "Prometheus knows no tenants"),
    ("thanos/tenant-dot", 400, "Prometheus knows no tenants"),
    ("thanos/tenant-traversal", 400, "Prometheus knows no tenants"),
    ("thanos/tenant-long", 400, "Prometheus knows no tenants"),
];

/// Requests that remote write 2.0 makes good; it has an issue of its own.
fn is_version_2(case: &Value) -> bool {
    case["headers"].as_array().unwrap().iter().any(|pair| {
        let text = |it: &Value| it.as_str().unwrap().to_ascii_lowercase();
        text(&pair[0]) == "content-type" && text(&pair[1]).contains("v2.request")
    })
}

/// Native histograms are refused until they have their issue: wherever one is good, the whole
/// request is answered with 400.
fn expected_code(case: &Value) -> u16 {
    let name = case["name"].as_str().unwrap();
    if let Some((_, code, _)) = EXCEPTIONS.iter().find(|(it, _, _)| *it == name) {
        return *code;
    }
    if is_version_2(case) {
        return 415;
    }
    if name.starts_with("v1/hist-") || name.starts_with("v1/sample-and-histogram") {
        return 400;
    }
    let code = case["responses"]["prometheus"]["status"].as_u64().unwrap();
    u16::try_from(code).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|it| u8::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_the_recorded_codes() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let cases = golden::read_jsonl_gz(&shared.join("golden/remote-write/bad-requests.jsonl.gz"));
    let directory = tempfile::tempdir().unwrap();
    let world = World::start(directory.path(), 0, &[]).await;
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        if case["method"] != "POST" {
            continue;
        }
        world.clock.set(case["now_ms"].as_i64().unwrap());
        let headers: Vec<(&str, &str)> = case["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        let body = bytes(case["body_hex"].as_str().unwrap());
        let answer = world.post(&headers, &body).await;
        let expected = expected_code(case);
        if answer.status != expected {
            let text = answer.text();
            wrong.push(format!("{name}: {} instead of {expected}: {text}", answer.status));
        }
        let is_silent = answer.status == 204;
        assert_eq!(answer.body.is_empty(), is_silent, "{name}: {}", answer.text());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.stop().await;
}
