//! The remote-write listener: `POST /api/v1/receive`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use daemon::Readiness;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, StatusCode};
use model::Tenant;
use tracing::warn;

use crate::config::Tenancy;
use crate::ingest::{Ingest, Size};
use crate::media;
use crate::status::WriteError;

/// Most bytes that a request may unpack to, as in Prometheus' receiver.
pub(crate) const REQUEST_BYTES_MAX: u64 = 32 << 20;
/// Most bytes of a body as it is sent: snappy makes incompressible bytes a little longer.
const BODY_BYTES_MAX: usize = (32 << 20) + (32 << 20) / 6 + 32;

/// Time between two failed writes that are logged.
const COMPLAINT_INTERVAL_MS: u64 = 10_000;
/// How long the body of a request may take to come.
const BODY_PATIENCE: Duration = Duration::from_mins(1);

/// What the handler needs.
#[derive(Clone, Debug)]
pub(crate) struct Receive {
    pub(crate) ingest: Ingest,
    pub(crate) tenancy: Arc<Tenancy>,
    pub(crate) readiness: Readiness,
    pub(crate) complaints: Arc<Complaints>,
}

/// Bounds what is logged of writes that fail: one in a while, with the number of the others.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    next_ms: AtomicU64,
    unsaid: AtomicU64,
}

/// The routes of the listener.
pub(crate) fn routes(receive: Receive) -> Router {
    Router::new().route("/api/v1/receive", post(handle)).with_state(receive)
}

async fn handle(State(receive): State<Receive>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let mut size = Size::default();
    let tenant = receive.tenant(&parts.headers);
    let name = tenant.as_ref().map_or("", Tenant::as_str).to_owned();
    let written = receive.write(tenant, &parts.headers, body, &mut size).await;
    let response = match &written {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.response(),
    };
    let code = response.status().as_u16();
    if !matches!(written, Err(WriteError::Tenant(_))) {
        // A name that was refused is not worth a metric of its own.
        receive.ingest.metrics.wrote(code, &name, size.series, size.samples);
    }
    if let Err(error) = &written {
        receive.complain(&name, code, error);
    }
    response
}

impl Receive {
    async fn write(
        &self,
        tenant: Result<Tenant, WriteError>,
        headers: &HeaderMap,
        body: Body,
        size: &mut Size,
    ) -> Result<(), WriteError> {
        if !self.readiness.is_part_ready() {
            let text = "the receiver is not ready, see /-/ready";
            return Err(WriteError::Unavailable(text.to_owned()));
        }
        let tenant = tenant?;
        media::check(headers).map_err(WriteError::Unsupported)?;
        let declared = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
        // Held while the body is read; without a declared length the bound is held.
        let expected: usize = declared.unwrap_or(BODY_BYTES_MAX);
        if expected > BODY_BYTES_MAX {
            return Err(too_large());
        }
        let _held = self.ingest.budget.reserve(expected)?;
        let read = tokio::time::timeout(BODY_PATIENCE, axum::body::to_bytes(body, BODY_BYTES_MAX));
        let read = read.await.map_err(|_| WriteError::Slow(BODY_PATIENCE.as_secs()))?;
        let body = read.map_err(|error| {
            let is_too_large =
                std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |it| {
                    it.source()
                })
                .any(|it| it.is::<http_body_util::LengthLimitError>());
            if is_too_large { too_large() } else { WriteError::Body(error.to_string()) }
        })?;
        self.ingest.write(&tenant, &body, size).await
    }

    /// Logs a write that failed, unless another one was logged a moment ago.
    fn complain(&self, tenant: &str, code: u16, error: &WriteError) {
        let now = self.ingest.clock.monotonic().as_millis();
        let now_ms = u64::try_from(now).unwrap_or(u64::MAX);
        let complaints = &self.complaints;
        let next_ms = complaints.next_ms.load(Ordering::Relaxed);
        let later_ms = now_ms.saturating_add(COMPLAINT_INTERVAL_MS);
        let is_mine = now_ms >= next_ms
            && complaints
                .next_ms
                .compare_exchange(next_ms, later_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_mine {
            complaints.unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let unsaid = complaints.unsaid.swap(0, Ordering::Relaxed);
        let text = first_lines(error);
        warn!(tenant, code, others = unsaid, "a write was not taken whole: {text}");
    }

    /// The tenant that a request names, or the default one.
    fn tenant(&self, headers: &HeaderMap) -> Result<Tenant, WriteError> {
        let Some(value) = headers.get(&self.tenancy.header) else {
            return Ok(self.tenancy.default.clone());
        };
        let text = String::from_utf8_lossy(value.as_bytes());
        if text.is_empty() {
            return Ok(self.tenancy.default.clone());
        }
        Ok(Tenant::new(&text)?)
    }
}

fn too_large() -> WriteError {
    WriteError::TooLarge(format!(
        "the body is longer than {BODY_BYTES_MAX} bytes; send fewer samples at a time"
    ))
}

/// The first lines of an error, for the log.
fn first_lines(error: &WriteError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().take(2).collect();
    lines.join(" ")
}
