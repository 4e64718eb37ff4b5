//! Metrics of gRPC calls, under the names that Thanos' dashboards and alerts look for.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::HeaderMap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::Instrument as _;

use crate::observed::{Observed, Witness};
use crate::{Clock, Context, traces};

/// Upper bounds of the buckets of durations in seconds, as Thanos has them.
const DURATION_BUCKETS: [f64; 14] =
    [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0];

/// Names of gRPC's status codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const CANCELED: &str = CODES[1];
const UNKNOWN: &str = CODES[2];
const UNIMPLEMENTED: &str = CODES[12];

/// Services whose calls all answer with a stream; in others only the named methods do.
const STREAMING: &[(&str, &str)] = &[
    ("thanos.Store", "Series"),
    ("thanos.Query", "Query"),
    ("thanos.Query", "QueryRange"),
    ("thanos.Rules", "Rules"),
    ("thanos.Targets", "Targets"),
    ("thanos.Metadata", "MetricMetadata"),
    ("thanos.Exemplars", "Exemplars"),
    ("grpc.health.v1.Health", "Watch"),
];

/// The metrics of all gRPC servers of one part of the process.
#[derive(Clone, Debug)]
pub(crate) struct GrpcMetrics {
    started: Family<Call, Counter>,
    handled: Family<Handled, Counter>,
    durations: Family<Call, Histogram, fn() -> Histogram>,
    panics: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    grpc_type: &'static str,
    grpc_service: String,
    grpc_method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_code: &'static str,
    grpc_type: &'static str,
    grpc_service: String,
    grpc_method: String,
}

#[derive(Clone)]
struct Measure {
    metrics: GrpcMetrics,
    clock: Arc<dyn Clock>,
}

/// One call from its head to the last byte of its answer, or until the client goes away.
struct Measured {
    measure: Measure,
    call: Call,
    code: &'static str,
    started: Duration,
}

impl GrpcMetrics {
    pub(crate) fn register(registry: &mut Registry) -> GrpcMetrics {
        let metrics = GrpcMetrics {
            started: Family::default(),
            handled: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            panics: Counter::default(),
        };
        registry.register("grpc_server_started", "gRPC calls begun", metrics.started.clone());
        registry.register("grpc_server_handled", "gRPC calls ended", metrics.handled.clone());
        registry.register(
            "grpc_server_handling_seconds",
            "Time from a call's head to the end of its answer",
            metrics.durations.clone(),
        );
        registry.register(
            "grpc_req_panics_recovered",
            "gRPC calls whose handler panicked",
            metrics.panics.clone(),
        );
        metrics
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }
}

/// Measures every call that the router answers.
pub(crate) fn add(context: &Context, router: Router) -> Router {
    let measure = Measure { metrics: context.metrics.grpc(), clock: Arc::clone(&context.clock) };
    router.layer(from_fn_with_state(measure, observe))
}

async fn observe(State(measure): State<Measure>, request: Request, next: Next) -> Response {
    let mut path = request.uri().path().trim_start_matches('/').splitn(2, '/');
    let service = path.next().unwrap_or_default().to_owned();
    let method = path.next().unwrap_or_default().to_owned();
    let started = measure.clock.monotonic();
    let span = traces::of_request(request.headers(), "grpc", request.uri().path());
    let call =
        Call { grpc_type: kind(&service, &method), grpc_service: service, grpc_method: method };
    let mut measured = Measured { measure, call, code: CANCELED, started };
    let response = next.run(request).instrument(span).await;
    // A call that fails before it answers has its status among the headers.
    if let Some(code) = code(response.headers()) {
        measured.code = code;
    }
    if measured.code == UNIMPLEMENTED {
        // Clients may invent names; they must not become label values.
        measured.call = Call {
            grpc_type: "unary",
            grpc_service: "unknown".to_owned(),
            grpc_method: "unknown".to_owned(),
        };
    }
    measured.measure.metrics.started.get_or_create(&measured.call).inc();
    response.map(|body| Observed::wrap(body, measured))
}

impl Witness for Measured {
    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code = code(trailers).unwrap_or(UNKNOWN);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let Measure { metrics, clock } = &self.measure;
        let duration = clock.monotonic().saturating_sub(self.started);
        metrics.durations.get_or_create(&self.call).observe(duration.as_secs_f64());
        let Call { grpc_type, grpc_service, grpc_method } = self.call.clone();
        let handled = Handled { grpc_code: self.code, grpc_type, grpc_service, grpc_method };
        metrics.handled.get_or_create(&handled).inc();
    }
}

fn code(headers: &HeaderMap) -> Option<&'static str> {
    let number: usize = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    Some(CODES.get(number).copied().unwrap_or(UNKNOWN))
}

fn kind(service: &str, method: &str) -> &'static str {
    if service.starts_with("grpc.reflection.") {
        "bidi_stream"
    } else if STREAMING.contains(&(service, method)) {
        "server_stream"
    } else {
        "unary"
    }
}
