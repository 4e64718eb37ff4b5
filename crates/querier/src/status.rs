//! Failures of a request as HTTP status and Prometheus' error type; the one place that decides.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use crate::json;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request makes no sense: 400.
    BadData,
    /// The query is fine and could not be computed: 422.
    Execution,
    /// The caller went away: 499.
    Canceled,
    /// Time was over: 503.
    Timeout,
    /// The stores or we ourselves failed: 500.
    Internal,
    /// There is nothing under this path: 404.
    NotFound,
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

/// Which call failed: Thanos answers the failure of a store differently for the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `query`.
    Instant,
    /// Everything else.
    Other,
}

impl ApiError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> ApiError {
        ApiError { kind, message: message.into() }
    }

    pub(crate) fn bad_data(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::BadData, message)
    }

    /// A parameter that cannot be used, in Prometheus' words.
    pub(crate) fn parameter(name: &str, why: impl std::fmt::Display) -> ApiError {
        ApiError::bad_data(format!("invalid parameter \"{name}\": {why}"))
    }

    /// Why a query could not be computed.
    pub(crate) fn of_query(error: &promql::Error, call: Call) -> ApiError {
        let kind = match error {
            promql::Error::Canceled => Kind::Canceled,
            promql::Error::Timeout => Kind::Timeout,
            promql::Error::BadQuery(_) => {
                return ApiError::parameter("query", error);
            }
            promql::Error::Budget(_) => {
                let hint = "narrow the matchers, shorten the range or give the process more memory \
                            (--memory.limit-bytes)";
                return ApiError::new(Kind::Execution, format!("{error}; {hint}"));
            }
            promql::Error::TooManySamples { .. } => {
                return ApiError::new(Kind::Execution, format!("{error} (--query.max-samples)"));
            }
            promql::Error::Storage(_) if call == Call::Instant => Kind::Internal,
            _ => Kind::Execution,
        };
        ApiError::new(kind, error.to_string())
    }

    /// Why the stores did not answer.
    pub(crate) fn of_stores(error: &storeapi::Error) -> ApiError {
        let kind = match error {
            storeapi::Error::DeadlineExceeded(_) => Kind::Timeout,
            storeapi::Error::Canceled(_) => Kind::Canceled,
            storeapi::Error::Internal(_) => Kind::Internal,
            _ => Kind::Execution,
        };
        ApiError::new(kind, error.to_string())
    }

    fn code_and_type(&self) -> (StatusCode, &'static str) {
        match self.kind {
            Kind::BadData => (StatusCode::BAD_REQUEST, "bad_data"),
            Kind::Execution => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            // What nginx and Prometheus write for a client that closed its request.
            Kind::Canceled => {
                (StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), "canceled")
            }
            Kind::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (code, error_type) = self.code_and_type();
        let mut body = Vec::with_capacity(64 + self.message.len());
        body.extend_from_slice(b"{\"status\":\"error\",\"errorType\":\"");
        body.extend_from_slice(error_type.as_bytes());
        body.extend_from_slice(b"\",\"error\":");
        json::append_text(&mut body, &self.message);
        body.push(b'}');
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

#[cfg(test)]
mod tests {
    use model::Budget;

    use super::*;

    #[test]
    fn bounds_are_told_with_the_flags_that_move_them() {
        let told = |error: promql::Error| ApiError::of_query(&error, Call::Instant);
        let samples = told(promql::Error::TooManySamples { limit: 7 });
        assert_eq!(samples.kind, Kind::Execution);
        assert!(samples.message.contains("more than 7;"), "{}", samples.message);
        assert!(samples.message.contains("--query.max-samples"), "{}", samples.message);
        let refused = Budget::unlimited().child("query", 1).reserve(2).unwrap_err();
        let memory = told(promql::Error::Budget(refused));
        assert!(memory.message.contains("--memory.limit-bytes"), "{}", memory.message);
        // No flag moves the most steps.
        let steps = told(promql::Error::TooManySteps { limit: 7 });
        assert!(!steps.message.contains("--"), "{}", steps.message);
    }
}
