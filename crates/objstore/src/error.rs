//! What can go wrong with an object, cut by what the caller does next.

use std::fmt;

/// What the store or the operating system said; its text is part of the error's own.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An object-store failure; `key` names the object or prefix.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("object {key} does not exist")]
    NotFound {
        /// The object.
        key: String,
    },
    /// A conditional write met an object.
    #[error("object {key} exists already")]
    AlreadyExists {
        /// The object.
        key: String,
    },
    /// A range or key that no object can have.
    #[error("object {key:?}: {reason}")]
    Invalid {
        /// The object.
        key: String,
        /// What is wrong with the call.
        reason: String,
    },
    /// Credentials or policy say no; trying again does not help.
    #[error("{operation} {key:?}: access denied: {cause}")]
    Denied {
        /// What was tried.
        operation: &'static str,
        /// The object.
        key: String,
        /// What the store said.
        cause: Cause,
    },
    /// The store is unreachable, overloaded or answered with a server error; worth another try.
    #[error("{operation} {key:?}: {cause}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// The object.
        key: String,
        /// What the store said.
        cause: Cause,
    },
    /// Anything else; not worth another try.
    #[error("{operation} {key:?}: {cause}")]
    Other {
        /// What was tried.
        operation: &'static str,
        /// The object.
        key: String,
        /// What the store said.
        cause: Cause,
    },
    /// The configuration cannot be used.
    #[error("object store configuration{}: {reason}", at(*position))]
    Config {
        /// Where in the text, when that is known.
        position: Option<Position>,
        /// What is wrong, and what to write instead.
        reason: String,
    },
}

/// A place in a configuration text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl Error {
    /// Whether the same call may succeed later: the only oracle for retries.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable { .. })
    }

    /// Whether the object is absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    /// Whether a conditional write met an object.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Error::AlreadyExists { .. })
    }

    pub(crate) fn config(reason: impl Into<String>) -> Error {
        Error::Config { position: None, reason: reason.into() }
    }

    pub(crate) fn invalid(key: &str, reason: impl Into<String>) -> Error {
        Error::Invalid { key: key.to_owned(), reason: reason.into() }
    }
}

fn at(position: Option<Position>) -> impl fmt::Display {
    let text = |it: Position| format!(", line {}, column {}", it.line, it.column);
    position.map(text).unwrap_or_default()
}
