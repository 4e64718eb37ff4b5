//! The routes that every daemon answers: metrics, healthy, ready.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use crate::{Context, Metrics, Readiness};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn routes(context: &Context) -> Router {
    Router::new()
        .route("/metrics", get(metrics).with_state(context.metrics.clone()))
        .route("/-/healthy", get(async || "OK"))
        .route("/-/ready", get(ready).with_state(context.readiness.clone()))
}

/// 200 when every part of the process can serve, else 503 with a line for each that cannot.
async fn ready(State(readiness): State<Readiness>) -> Response {
    let obstacles = readiness.obstacles();
    if obstacles.is_empty() {
        return "OK".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("NOT OK\n{}\n", obstacles.join("\n"))).into_response()
}

async fn metrics(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if accept.contains("application/openmetrics-text") {
        return ([(CONTENT_TYPE, OPEN_METRICS)], metrics.open_metrics()).into_response();
    }
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], metrics.prometheus_text()).into_response()
}
