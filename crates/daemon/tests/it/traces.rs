//! Spans of requests reach an OTLP collector.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use axum::routing::post;
use daemon::{Context, grpc};
use tokio::sync::mpsc;

use crate::child::{get, start};

/// The id of the trace that the request says it belongs to.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn a_request_becomes_a_span_below_its_sender() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let context = Context::of_this_machine("collector").unwrap();
    let (sender, mut received) = mpsc::channel(16);
    let export = async move |headers: HeaderMap, body: Bytes| {
        sender.send((headers, body)).await.unwrap();
        // An empty message, then the status.
        let mut answer = [0_u8; 5].as_slice().into_response();
        answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        answer.headers_mut().insert("grpc-status", "0".parse().unwrap());
        answer
    };
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let config = grpc::Config {
        flag: "--grpc-address",
        address: "127.0.0.1:0".to_owned(),
        grace_period: Duration::ZERO,
        max_connection_age: Duration::ZERO,
        tls: None,
    };
    let routes = Router::new().route(path, post(export)).into();
    let collector = runtime.block_on(grpc::serve(&context, &config, routes)).unwrap();

    let tracing = format!(
        "--tracing.config={{type: OTLP, config: {{endpoint: \"{collector}\", insecure: true, \
         service_name: watched, headers: {{x-scope: one}}}}}}"
    );
    let mut daemon = start(&[&tracing]);
    let address = daemon.http_address();
    daemon.wait_for("msg=started");
    let parent = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
    get(&address, "/slow", &parent);
    daemon.signal("TERM");
    let (code, lines) = daemon.ended();
    assert_eq!(code, Some(0), "{lines:#?}");

    let trace: Vec<u8> = (0..16)
        .map(|index| u8::from_str_radix(&TRACE[2 * index..2 * index + 2], 16).unwrap())
        .collect();
    let is_found = runtime.block_on(async {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(5), received.recv());
            let Ok(Some((headers, body))) = next.await else { return false };
            assert_eq!(headers["x-scope"], "one");
            let holds = |part: &[u8]| body.windows(part.len()).any(|it| it == part);
            if holds(&trace) && holds(b"slow") && holds(b"watched") {
                return true;
            }
        }
    });
    assert!(is_found, "no span of the request: {lines:#?}");
}
