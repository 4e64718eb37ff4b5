//! Failures of a store call, cut by the gRPC code that they become.

/// A failed store call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense: InvalidArgument.
    #[error("{0}")]
    InvalidArgument(String),
    /// A bound of memory, series or samples was passed: ResourceExhausted.
    #[error("{0}")]
    ResourceExhausted(String),
    /// The store is not ready or not reachable; worth another try: Unavailable.
    #[error("{0}")]
    Unavailable(String),
    /// The deadline passed: DeadlineExceeded.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The caller went away: Canceled.
    #[error("{0}")]
    Canceled(String),
    /// Reading failed half-way, or data is damaged: Aborted, as Thanos answers.
    #[error("{0}")]
    Aborted(String),
    /// The peer does not know the call: Unimplemented.
    #[error("{0}")]
    Unimplemented(String),
    /// Our own mistake: Internal.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Whether the same call may succeed later: the only oracle for retries.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_))
    }
}

impl From<model::BudgetExceeded> for Error {
    fn from(error: model::BudgetExceeded) -> Error {
        Error::ResourceExhausted(error.to_string())
    }
}
