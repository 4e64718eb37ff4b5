//! The HTTP API: routes, and what all answers have in common.

mod meta;
mod params;
mod query;
mod select;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use crate::app::App;
use crate::json::Remarks;
use crate::status::{ApiError, Kind};

/// Says whether everything that was asked for is in the answer.
const COMPLETE: HeaderName = HeaderName::from_static("x-aion-complete");

/// All routes of the querier, on top of those that every daemon has.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let api = Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/series", get(select::series).post(select::series))
        .route("/labels", get(select::names).post(select::names))
        .route("/label/{name}/values", get(select::values).post(select::values))
        .route("/query_exemplars", get(meta::exemplars).post(meta::exemplars))
        .route("/format_query", get(meta::format_query).post(meta::format_query))
        .route("/metadata", get(meta::metadata))
        .route("/rules", get(meta::rules))
        .route("/alerts", get(meta::alerts))
        .route("/targets", get(meta::targets))
        .route("/stores", get(meta::stores))
        .route("/status/buildinfo", get(meta::build_info))
        .route("/status/runtimeinfo", get(meta::runtime_info))
        .route("/status/flags", get(meta::flags))
        .fallback(nothing_in_the_api)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(app), common))
        .layer(CompressionLayer::new().gzip(true).compress_when(SizeAbove::new(0)))
        .with_state(Arc::clone(app));
    Router::new()
        .route("/", get(meta::index))
        .nest("/api/v1", api)
        // Grafana takes any other answer for a ruler that can be written to.
        .fallback(nothing_here)
        .with_state(Arc::clone(app))
}

/// What Thanos sends with every answer of the API, and the answer to a browser that asks first.
async fn common(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    if app.has_cors {
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "GET, POST, OPTIONS"),
            (
                "access-control-allow-headers",
                "Accept, Accept-Encoding, Authorization, Content-Type, Origin",
            ),
            ("access-control-expose-headers", "Date, X-Aion-Complete"),
        ] {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

async fn nothing_here() -> Response {
    let content_type = (CONTENT_TYPE, "text/plain; charset=utf-8");
    (StatusCode::NOT_FOUND, [content_type], "404 page not found\n").into_response()
}

async fn nothing_in_the_api(request: Request) -> ApiError {
    let path = request.uri().path().to_owned();
    ApiError::new(Kind::NotFound, format!("there is nothing under /api/v1{path}"))
}

async fn wrong_method() -> Response {
    let content_type = (CONTENT_TYPE, "text/plain; charset=utf-8");
    (StatusCode::METHOD_NOT_ALLOWED, [content_type], "Method Not Allowed\n").into_response()
}

/// An answer with a body that is sent as it is.
fn respond(body: Body, is_complete: bool) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let complete = if is_complete { "true" } else { "false" };
    headers.insert(COMPLETE, HeaderValue::from_static(complete));
    if !is_complete {
        // A partial answer must not be kept by anybody.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// An answer from its data, which are JSON already.
fn success(data: &[u8], remarks: &Remarks, is_complete: bool) -> Response {
    let mut body = Vec::with_capacity(data.len() + 64);
    body.extend_from_slice(b"{\"status\":\"success\",\"data\":");
    body.extend_from_slice(data);
    remarks.append_end(&mut body);
    respond(Body::from(body), is_complete)
}
