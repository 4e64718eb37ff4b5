//! Errors of a store call as gRPC statuses and back; nobody else decides on a code.

use std::error::Error as _;

use tonic::{Code, Status};

use crate::error::Error;

/// The status that the caller of our server sees.
pub fn to_status(error: &Error) -> Status {
    let code = match error {
        Error::InvalidArgument(_) => Code::InvalidArgument,
        Error::ResourceExhausted(_) | Error::BudgetExceeded(_) => Code::ResourceExhausted,
        Error::Unavailable(_) => Code::Unavailable,
        Error::DeadlineExceeded(_) => Code::DeadlineExceeded,
        Error::Canceled(_) => Code::Cancelled,
        Error::Aborted(_) => Code::Aborted,
        Error::Unimplemented(_) => Code::Unimplemented,
        Error::Internal(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}

/// Whether a call failed because its connection was closing, so that the peer never took it up:
/// it was not sent yet, or the peer had said which calls it still answers, and this is none.
pub(crate) fn was_never_taken_up(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return match error.reason() {
                Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
                reason => reason == Some(h2::Reason::REFUSED_STREAM),
            };
        }
        cause = error.source();
    }
    false
}

/// What a status of the peer called `name` means to the one who asked it.
pub fn from_status(status: &Status, name: &str) -> Error {
    let mut text = match status.message() {
        "" => format!("{name}: {}", status.code().description()),
        message => format!("{name}: {message}"),
    };
    // Why a connection failed stands only among the causes.
    let mut cause = status.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => Error::InvalidArgument(text),
        Code::ResourceExhausted => Error::ResourceExhausted(text),
        Code::Unavailable => Error::Unavailable(text),
        Code::DeadlineExceeded => Error::DeadlineExceeded(text),
        Code::Cancelled => Error::Canceled(text),
        Code::Unimplemented => Error::Unimplemented(text),
        Code::Internal => Error::Internal(text),
        _ => Error::Aborted(text),
    }
}
