//! The gRPC server: what it measures, how it survives panics, how it drains.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use daemon::{Context, grpc};
use tonic::Code;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const GRACE: Duration = Duration::from_secs(1);

async fn serve(context: &Context, max_connection_age: Duration) -> Channel {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let panics = Router::new()
        .route("/test.Panic/Now", post(async || -> &'static str { panic!("as the test asks") }));
    let routes = Routes::from(Routes::new(service).into_axum_router().merge(panics));
    let config = grpc::Config {
        flag: "--grpc-address",
        address: "127.0.0.1:0".to_owned(),
        grace_period: GRACE,
        max_connection_age,
        tls: None,
    };
    let address = grpc::serve(context, &config, routes).await.unwrap();
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

fn request() -> HealthCheckRequest {
    HealthCheckRequest { service: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_measured_and_panics_survived() {
    let context = Context::of_this_machine("probe").unwrap();
    let channel = serve(&context, Duration::ZERO).await;
    let mut health = HealthClient::new(channel.clone());
    health.check(request()).await.unwrap();
    let missing = HealthCheckRequest { service: "missing".to_owned() };
    assert_eq!(health.check(missing).await.unwrap_err().code(), Code::NotFound);
    let mut watch = health.watch(request()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    drop(watch);

    let call = async |path: &'static str| {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = grpc.unary(tonic::Request::new(request()), path, codec).await;
        answer.unwrap_err().code()
    };
    assert_eq!(call("/test.Panic/Now").await, Code::Internal);
    assert_eq!(call("/made.Up/Name").await, Code::Unimplemented);

    tokio::time::sleep(Duration::from_millis(200)).await;
    let text = context.metrics.prometheus_text();
    let check = |expected: &str| assert!(text.contains(expected), "{expected} is not in {text}");
    let of_health = "grpc_service=\"grpc.health.v1.Health\"";
    check(&format!(
        "grpc_server_started_total{{grpc_type=\"unary\",{of_health},grpc_method=\"Check\"}} 2\n"
    ));
    for (code, kind, method) in [
        ("OK", "unary", "Check"),
        ("NotFound", "unary", "Check"),
        ("Canceled", "server_stream", "Watch"),
    ] {
        check(&format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_type=\"{kind}\",{of_health},\
             grpc_method=\"{method}\"}} 1\n"
        ));
    }
    check(
        "grpc_server_handled_total{grpc_code=\"Internal\",grpc_type=\"unary\",\
         grpc_service=\"test.Panic\"",
    );
    check("grpc_code=\"Unimplemented\",grpc_type=\"unary\",grpc_service=\"unknown\"");
    check("grpc_req_panics_recovered_total 1\n");
    assert!(!text.contains("made.Up"));
    context.tasks.drain(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_connections_are_made_anew_and_no_call_that_was_sent_is_lost() {
    let context = Context::of_this_machine("probe").unwrap();
    let channel = serve(&context, Duration::from_millis(100)).await;
    let mut health = HealthClient::new(channel);
    for _ in 0..20 {
        if let Err(status) = health.check(request()).await {
            // The client had chosen the connection that was just closing: the call was never
            // sent, and may be made again at once. What no call may see is a cut connection.
            let is_goodbye = status.code() == Code::Cancelled
                || format!("{status:?}").contains("GoAway(b\"\", NO_ERROR");
            assert!(is_goodbye, "{status:?}");
            health.check(request()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    context.tasks.drain(GRACE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_never_ends_is_cut_after_the_grace_period() {
    let context = Context::of_this_machine("probe").unwrap();
    let channel = serve(&context, Duration::ZERO).await;
    let mut health = HealthClient::new(channel);
    let mut watch = health.watch(request()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let drained = tokio::time::timeout(GRACE * 5, context.tasks.drain(GRACE));
    drained.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_no_tls_is_told_with_its_flags() {
    let context = Context::of_this_machine("probe").unwrap();
    let text = "no PEM".to_owned();
    let config = grpc::Config {
        flag: "--grpc-address",
        address: "127.0.0.1:0".to_owned(),
        grace_period: GRACE,
        max_connection_age: Duration::ZERO,
        tls: Some(grpc::Tls { certificate: text.clone(), key: text, client_authority: None }),
    };
    let error = grpc::serve(&context, &config, Routes::default()).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.starts_with("--grpc-server-tls-cert and --grpc-server-tls-key: "), "{error}");
}
