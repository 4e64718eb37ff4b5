//! What can go wrong with an object, cut by what the caller does next.

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
    #[error("object {key}: {reason}")]
    Invalid {
        /// The object.
        key: String,
        /// What is wrong with the call.
        reason: String,
    },
    /// Credentials or policy say no; trying again does not help.
    #[error("{operation} {key}: access denied: {source}")]
    Denied {
        /// What was tried.
        operation: &'static str,
        /// The object.
        key: String,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store is unreachable, overloaded or answered with a server error; worth another try.
    #[error("{operation} {key}: {source}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// The object.
        key: String,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else; not worth another try.
    #[error("{operation} {key}: {source}")]
    Other {
        /// What was tried.
        operation: &'static str,
        /// The object.
        key: String,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
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
}
