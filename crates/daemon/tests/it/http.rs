//! What every daemon answers over HTTP.

use crate::child::{get, start};

#[test]
fn every_daemon_tells_its_health_and_its_metrics() {
    let mut daemon = start(&[]);
    let address = daemon.http_address();
    daemon.wait_for("msg=started");
    assert!(get(&address, "/-/healthy", "").ends_with("\r\n\r\nOK"));
    assert!(get(&address, "/-/ready", "").ends_with("\r\n\r\nOK"));
    assert!(get(&address, "/nowhere", "").starts_with("HTTP/1.1 404 "));
    assert!(get(&address, "/panic", "").starts_with("HTTP/1.1 500 "));
    assert!(get(&address, "/api/v1/label/a/values", "").ends_with("[]"));
    assert!(get(&address, "/api/v1/label/b/values", "").ends_with("[]"));

    let text = get(&address, "/metrics", "");
    assert!(text.contains("text/plain; version=0.0.4"));
    let check = |expected: &str| assert!(text.contains(expected), "{expected} is not in {text}");
    check("\n# TYPE http_requests_total counter\n");
    check("\nhttp_requests_total{code=\"200\",handler=\"label_values\",method=\"get\"} 2\n");
    check("\nhttp_requests_total{code=\"404\",handler=\"unmatched\",method=\"get\"} 1\n");
    check("\nhttp_requests_total{code=\"500\",handler=\"panic\",method=\"get\"} 1\n");
    check("\nhttp_request_duration_seconds_count{code=\"200\",handler=\"ready\",method=\"get\"} 1");
    check("\nhttp_inflight_requests{handler=\"metrics\",method=\"get\"} 1\n");
    check("\nthanos_status{component=\"probe\",check=\"ready\"} 1\n");
    check("\n# TYPE process_cpu_seconds_total counter\n");
    check("\nprocess_resident_memory_bytes ");
    let allocated = text.lines().find_map(|it| it.strip_prefix("aion_memory_allocated_bytes "));
    assert!(allocated.unwrap().parse::<f64>().unwrap() > 0.0);

    let text = get(&address, "/metrics", "accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(text.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(text.contains("\n# TYPE http_requests counter\n") && text.ends_with("# EOF\n"));
    daemon.signal("TERM");
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn a_part_that_is_not_ready_makes_the_process_not_ready() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let context = daemon::Context::of_this_machine("standalone").unwrap();
    let address = runtime.block_on(async {
        let config = daemon::http::Config {
            name: "http",
            flag: "--http-address",
            address: "127.0.0.1:0".to_owned(),
            grace_period: std::time::Duration::from_secs(1),
            has_admin_routes: true,
        };
        daemon::http::serve(&context, &config, axum::Router::new()).await.unwrap()
    });
    let address = address.to_string();
    let store = context.part("store");
    context.readiness.set_ready();
    store.readiness.set_not_ready("the bucket does not answer");
    let answer = get(&address, "/-/ready", "");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("NOT OK\nstore: the bucket does not answer\n"), "{answer}");
    store.readiness.set_ready();
    assert!(get(&address, "/-/ready", "").starts_with("HTTP/1.1 200 "));
    runtime.block_on(context.tasks.drain(std::time::Duration::from_secs(5)));
}
