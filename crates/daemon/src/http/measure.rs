//! Metrics of HTTP requests, under the names that Thanos' dashboards and alerts look for.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::Method;
use http::header::CONTENT_LENGTH;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::Instrument as _;

use crate::observed::{Observed, Witness};
use crate::{Clock, Context, traces};

/// Upper bounds of the buckets of durations in seconds, as Thanos has them.
const DURATION_BUCKETS: [f64; 17] = [
    0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0,
    720.0,
];
/// Upper bounds of the buckets of sizes in bytes: 1 KiB to 64 MiB.
const SIZE_BUCKETS: [f64; 9] =
    [1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0];

/// The metrics of all HTTP servers of one part of the process.
#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    requests: Family<Answered, Counter>,
    durations: Family<Answered, Histogram, fn() -> Histogram>,
    request_bytes: Family<Answered, Histogram, fn() -> Histogram>,
    inflight: Family<Asked, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    code: u16,
    handler: String,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    handler: String,
    method: &'static str,
}

#[derive(Clone)]
struct Measure {
    metrics: HttpMetrics,
    clock: Arc<dyn Clock>,
}

/// One request from its head to the last byte of its answer, or until the client goes away.
struct Measured {
    measure: Measure,
    asked: Asked,
    code: u16,
    started: Duration,
    request_bytes: u32,
}

impl HttpMetrics {
    pub(crate) fn register(registry: &mut Registry) -> HttpMetrics {
        let metrics = HttpMetrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            request_bytes: Family::new_with_constructor(|| Histogram::new(SIZE_BUCKETS)),
            inflight: Family::default(),
        };
        registry.register("http_requests", "HTTP requests answered", metrics.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's head to the end of its answer",
            metrics.durations.clone(),
        );
        registry.register(
            "http_request_size_bytes",
            "Size of request bodies as declared",
            metrics.request_bytes.clone(),
        );
        registry.register(
            "http_inflight_requests",
            "HTTP requests being answered",
            metrics.inflight.clone(),
        );
        metrics
    }
}

/// Measures every request that the router answers.
pub(crate) fn add(context: &Context, router: Router) -> Router {
    let measure = Measure { metrics: context.metrics.http(), clock: Arc::clone(&context.clock) };
    router.layer(from_fn_with_state(measure, observe))
}

async fn observe(State(measure): State<Measure>, request: Request, next: Next) -> Response {
    let asked = Asked {
        handler: request.extensions().get::<MatchedPath>().map_or("unmatched".into(), handler),
        method: method(request.method()),
    };
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    let request_bytes = declared.and_then(|it| it.parse().ok()).unwrap_or(0);
    measure.metrics.inflight.get_or_create(&asked).inc();
    let started = measure.clock.monotonic();
    // A client that goes away before the answer is what nginx calls 499.
    let mut measured = Measured { measure, asked, code: 499, started, request_bytes };
    let span = traces::of_request(request.headers(), "http", &measured.asked.handler);
    let response = next.run(request).instrument(span).await;
    measured.code = response.status().as_u16();
    response.map(|body| Observed::wrap(body, measured))
}

impl Witness for Measured {}

impl Drop for Measured {
    fn drop(&mut self) {
        let Measure { metrics, clock } = &self.measure;
        metrics.inflight.get_or_create(&self.asked).dec();
        let Asked { handler, method } = self.asked.clone();
        let answered = Answered { code: self.code, handler, method };
        metrics.requests.get_or_create(&answered).inc();
        let duration = clock.monotonic().saturating_sub(self.started);
        metrics.durations.get_or_create(&answered).observe(duration.as_secs_f64());
        metrics.request_bytes.get_or_create(&answered).observe(f64::from(self.request_bytes));
    }
}

/// The name that Thanos gives to a route: `/api/v1/query_range` is `query_range`.
fn handler(path: &MatchedPath) -> String {
    let path = path.as_str();
    let path = path.strip_prefix("/api/v1/").unwrap_or(path);
    match path {
        "labels" => "label_names".to_owned(),
        _ if path.starts_with("label/") => "label_values".to_owned(),
        "query_exemplars" => "exemplars".to_owned(),
        "/" => "root".to_owned(),
        _ => path.trim_matches('/').trim_start_matches("-/").replace('/', "_"),
    }
}

/// The method in lower case; others than these are not told apart, since clients invent them.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::HEAD => "head",
        Method::PUT => "put",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "other",
    }
}
