//! What an SDK error means for the caller.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::config::S3Config;
use crate::error::{Cause, Error};

/// An SDK error with a text that says what happened.
#[derive(Debug)]
struct Answer {
    text: String,
    source: Cause,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Answer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

/// Levels of the SDK and its HTTP client that only say that there is a level below them.
const SAYING_NOTHING: [&str; 6] = [
    "dispatch failure",
    "io error",
    "client error (Connect)",
    "client error (SendRequest)",
    "other",
    "response error",
];

/// What a failure means, before it has its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    NotFound,
    AlreadyExists,
    BadRange,
    Denied,
    Unavailable,
    Other,
}

/// No answer within the time that was waited.
pub(super) fn silence(
    operation: &'static str,
    key: &str,
    config: &S3Config,
    waited: Duration,
) -> Error {
    let text = format!("no answer from {} within {waited:?}", config.endpoint_url());
    Error::Unavailable { operation, key: key.to_owned(), cause: text.into() }
}

/// Turns an SDK error into ours.
pub(super) fn describe<E>(
    operation: &'static str,
    key: &str,
    config: &S3Config,
    error: SdkError<E, HttpResponse>,
) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let (meaning, text) = match &error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().unwrap_or_default();
            (meaning(status, code), service_text(status, service.err(), config))
        }
        SdkError::ConstructionFailure(_) => (Meaning::Other, chain(&error)),
        // No answer, or one that was cut: whatever it was, another try may go through.
        _ if lacks_credentials(&error) => (Meaning::Denied, credentials_text()),
        _ => (Meaning::Unavailable, format!("{}: {}", config.endpoint_url(), chain(&error))),
    };
    let key = key.to_owned();
    let cause: Cause = Box::new(Answer { text, source: Box::new(error) });
    match meaning {
        Meaning::NotFound => Error::NotFound { key },
        Meaning::AlreadyExists => Error::AlreadyExists { key },
        Meaning::BadRange => Error::Invalid { key, reason: cause.to_string() },
        Meaning::Denied => Error::Denied { operation, key, cause },
        Meaning::Unavailable => Error::Unavailable { operation, key, cause },
        Meaning::Other => Error::Other { operation, key, cause },
    }
}

/// The code decides where there is one: some servers answer the status of a proxy.
fn meaning(status: u16, code: &str) -> Meaning {
    match code {
        "NoSuchBucket" => Meaning::Other,
        "NoSuchKey" | "NotFound" | "NoSuchUpload" => Meaning::NotFound,
        "PreconditionFailed" => Meaning::AlreadyExists,
        "InvalidRange" => Meaning::BadRange,
        "SlowDown"
        | "RequestTimeout"
        | "InternalError"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "ConditionalRequestConflict"
        | "OperationAborted"
        | "BadDigest" => Meaning::Unavailable,
        _ => match status {
            401 | 403 => Meaning::Denied,
            404 => Meaning::NotFound,
            409 | 429 => Meaning::Unavailable,
            412 => Meaning::AlreadyExists,
            416 => Meaning::BadRange,
            501 => Meaning::Other,
            500.. => Meaning::Unavailable,
            _ => Meaning::Other,
        },
    }
}

/// What the server said, and what to look at.
fn service_text(status: u16, error: &dyn ProvideErrorMetadata, config: &S3Config) -> String {
    let code = error.code().unwrap_or("no code");
    let message = error.message().unwrap_or("no message").trim_end_matches('.');
    let hint = match (code, status) {
        ("NoSuchBucket", _) => {
            format!("; create the bucket {:?} or correct its name", config.bucket)
        }
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch", _) => {
            format!("; check access_key and secret_key ({})", key_source(config))
        }
        ("RequestTimeTooSkewed", _) => {
            "; the clocks of this machine and the store differ".to_owned()
        }
        ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) => {
            format!("; the session token is no longer valid ({})", key_source(config))
        }
        (
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
            _,
        )
        | (_, 301 | 307) => format!("; check the region, now {:?}", config.region),
        (_, 401 | 403) => format!("; check what the keys are allowed ({})", key_source(config)),
        _ => String::new(),
    };
    format!("{} answered {status} {code}: {message}{hint}", config.endpoint_url())
}

fn key_source(config: &S3Config) -> &'static str {
    match config.keys {
        Some(_) => "keys from the configuration",
        None => "keys from the environment, profile or instance",
    }
}

fn credentials_text() -> String {
    "no keys: set access_key and secret_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a \
     role"
        .to_owned()
}

/// Whether the chain of credential sources came to its end without any.
fn lacks_credentials(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|it| it.to_string().contains("no providers in chain provided credentials"))
}

/// An error, what caused it, and so on.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a dyn StdError> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error as &dyn StdError)
    })
}

/// An error and its causes, without the levels that repeat what stands below them.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let level = cause.to_string();
        let says_nothing = SAYING_NOTHING.contains(&&*level);
        if !level.is_empty() && !says_nothing && !text.contains(&level) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&level);
        }
    }
    match text.is_empty() {
        true => error.to_string(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_before_the_status() {
        let check = |status, code, expected| {
            assert_eq!(meaning(status, code), expected, "{status} {code}");
        };
        check(404, "NoSuchBucket", Meaning::Other);
        check(404, "NoSuchKey", Meaning::NotFound);
        check(404, "", Meaning::NotFound);
        check(403, "SignatureDoesNotMatch", Meaning::Denied);
        check(403, "", Meaning::Denied);
        check(400, "RequestTimeout", Meaning::Unavailable);
        check(503, "SlowDown", Meaning::Unavailable);
        check(502, "", Meaning::Unavailable);
        check(429, "", Meaning::Unavailable);
        check(501, "NotImplemented", Meaning::Other);
        check(409, "ConditionalRequestConflict", Meaning::Unavailable);
        check(412, "PreconditionFailed", Meaning::AlreadyExists);
        check(416, "", Meaning::BadRange);
        check(400, "InvalidArgument", Meaning::Other);
        check(301, "PermanentRedirect", Meaning::Other);
    }
}
