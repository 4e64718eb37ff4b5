//! Failures of a store call, cut by the gRPC code that they become.

/// A failed store call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense: InvalidArgument.
    #[error("{0}")]
    InvalidArgument(String),
    /// A bound of series or samples was passed, or the peer's memory bound: ResourceExhausted.
    #[error("{0}")]
    ResourceExhausted(String),
    /// The memory that this call may take in our own process is used up: ResourceExhausted.
    ///
    /// Never a mere warning: to go on without the data would only spend more.
    #[error(transparent)]
    BudgetExceeded(#[from] model::BudgetExceeded),
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

    /// The same failure with the place in front of its text, where it does not stand there yet.
    #[must_use]
    pub fn at(self, place: &str) -> Error {
        let name = |text: String| {
            if text.starts_with(place) { text } else { format!("{place}: {text}") }
        };
        match self {
            Error::InvalidArgument(text) => Error::InvalidArgument(name(text)),
            Error::ResourceExhausted(text) => Error::ResourceExhausted(name(text)),
            Error::Unavailable(text) => Error::Unavailable(name(text)),
            Error::DeadlineExceeded(text) => Error::DeadlineExceeded(name(text)),
            Error::Canceled(text) => Error::Canceled(name(text)),
            Error::Aborted(text) => Error::Aborted(name(text)),
            Error::Unimplemented(text) => Error::Unimplemented(name(text)),
            Error::Internal(text) => Error::Internal(name(text)),
            Error::BudgetExceeded(error) => Error::BudgetExceeded(error),
        }
    }
}
