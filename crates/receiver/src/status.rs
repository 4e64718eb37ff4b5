//! The one place that turns what went wrong with a write into an HTTP answer.

use std::fmt::Write as _;

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::RETRY_AFTER;
use tsdb_core::db::{LabelDecoder as _, WriteOutcome};

use crate::decode::{DecodeError, ProtobufLabels, WriteRequest};

/// Refused samples that an answer names; the rest is counted.
const NAMED_MAX: usize = 20;
/// Seconds after which a sender may try again.
const RETRY_AFTER_SECONDS: &str = "1";
/// Most characters of a series' labels in an answer.
const LABELS_CHARACTERS_MAX: usize = 400;

/// Why a write is not answered with success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The body is announced as something that is not taken.
    #[error("{0}")]
    Unsupported(String),
    /// The body is not what it is announced as.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The tenant of the header cannot be one.
    #[error(transparent)]
    Tenant(#[from] model::tenant::TenantError),
    /// A bound on the request was passed before it was read.
    #[error("{0}")]
    TooLarge(String),
    /// The body did not come in time.
    #[error("the body did not come whole within {0} seconds")]
    Slow(u64),
    /// The body could not be read to its end.
    #[error("the body could not be read: {0}")]
    Body(String),
    /// Nothing is wrong with the request; it must come again.
    #[error("{0}")]
    Unavailable(String),
    /// Some samples were refused; the others are kept.
    #[error("{0}")]
    Refused(String),
}

impl WriteError {
    /// The code of the answer.
    pub(crate) fn code(&self) -> StatusCode {
        match self {
            WriteError::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            WriteError::Decode(DecodeError::TooLarge { .. } | DecodeError::TooManySeries)
            | WriteError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            WriteError::Decode(DecodeError::Memory(_)) | WriteError::Unavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            WriteError::Decode(_)
            | WriteError::Tenant(_)
            | WriteError::Body(_)
            | WriteError::Refused(_) => StatusCode::BAD_REQUEST,
            WriteError::Slow(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response {
        let code = self.code();
        let text = format!("{self}\n");
        if code == StatusCode::SERVICE_UNAVAILABLE {
            return (code, [(RETRY_AFTER, RETRY_AFTER_SECONDS)], text).into_response();
        }
        (code, text).into_response()
    }
}

/// An engine that refuses a write as a whole: nothing is acknowledged, so sending again is safe,
/// and useless where the write itself is wrong.
impl From<tsdb_core::Error> for WriteError {
    fn from(error: tsdb_core::Error) -> WriteError {
        match error {
            tsdb_core::Error::Invalid { what } => WriteError::Refused(what),
            other => WriteError::Unavailable(other.to_string()),
        }
    }
}

impl From<model::BudgetExceeded> for WriteError {
    fn from(error: model::BudgetExceeded) -> WriteError {
        WriteError::Unavailable(error.to_string())
    }
}

/// Names what was refused of a request, if anything was.
pub(crate) fn refused(request: &WriteRequest<'_>, outcome: &WriteOutcome) -> Option<WriteError> {
    let histogram_count: usize = request.histograms.iter().map(|it| it.1 as usize).sum();
    let count = outcome.refused.len() + request.histograms.len();
    if count == 0 {
        return None;
    }
    let kept = outcome.accepted + outcome.duplicates;
    let mut text = format!("{kept} samples are kept, what follows is refused:");
    for refused in outcome.refused.iter().take(NAMED_MAX) {
        let labels = labels_text(request, refused.series);
        let sample = refused.sample.and_then(|it| request.samples.get(it as usize));
        let refusal = &refused.refusal;
        // Writing to a text cannot fail.
        let _ = match sample {
            Some(sample) => write!(text, "\n{labels} at {}: {refusal}", sample.timestamp_ms),
            None => write!(text, "\n{labels}: {refusal}"),
        };
    }
    let left = NAMED_MAX.saturating_sub(outcome.refused.len());
    for (series, histograms) in request.histograms.iter().take(left) {
        let labels = labels_text(request, *series);
        let _ = write!(text, "\n{labels}: {histograms} native histograms, not implemented yet");
    }
    if count > NAMED_MAX {
        let _ = write!(text, "\nand {} more", count - NAMED_MAX);
    }
    if histogram_count > 0 {
        let _ = write!(
            text,
            "\n{histogram_count} native histograms in all; send_native_histograms: false in the \
             sender keeps them away"
        );
    }
    Some(WriteError::Refused(text))
}

fn labels_text(request: &WriteRequest<'_>, series: u32) -> String {
    let Some(series) = request.series.get(series as usize) else { return String::new() };
    let mut pairs = Vec::new();
    ProtobufLabels.decode(series.raw_labels, &mut pairs);
    let mut text = String::from("{");
    for (index, (name, value)) in pairs.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        let _ = write!(text, "{comma}{name}={value:?}");
        if text.len() > LABELS_CHARACTERS_MAX {
            let end = text.char_indices().nth(LABELS_CHARACTERS_MAX).map_or(text.len(), |it| it.0);
            text.truncate(end);
            text.push('…');
            return text;
        }
    }
    text.push('}');
    text
}
