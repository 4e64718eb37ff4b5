//! The one error type of evaluation: what stopped a query, in Prometheus' words where it has some.

use crate::storage::StorageError;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller gave up.
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// The deadline of the query passed.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// More samples were read than one query may read.
    #[error(
        "query processing would load too many samples into memory in query execution: \
         more than {limit}; narrow the matchers, shorten the range or raise the limit"
    )]
    TooManySamples {
        /// The most samples that a query may read.
        limit: u64,
    },
    /// A part of the query has more steps than any query may have.
    #[error(
        "query processing would load too many samples into memory in query execution: \
         more than {limit} steps of one series; shorten the range or lengthen the step"
    )]
    TooManySteps {
        /// The most steps.
        limit: u64,
    },
    /// A memory bound was passed.
    #[error(transparent)]
    Budget(#[from] model::BudgetExceeded),
    /// The storage could not give the samples.
    #[error("expanding series: {0}")]
    Storage(#[source] StorageError),
    /// The query is well formed and its evaluation failed on what it met.
    #[error("{0}")]
    Execution(String),
    /// The query is not one that can be asked in this way; the API's 400.
    #[error("{0}")]
    BadQuery(String),
}

impl Error {
    /// Whether the same query may succeed when it is asked again.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Canceled | Error::Timeout | Error::Budget(_) | Error::Storage(_) => true,
            Error::TooManySamples { .. }
            | Error::TooManySteps { .. }
            | Error::Execution(_)
            | Error::BadQuery(_) => false,
        }
    }

    /// An error of evaluation from its sentence.
    pub(crate) fn execution(text: impl Into<String>) -> Error {
        Error::Execution(text.into())
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Error {
        match error {
            StorageError::Canceled => Error::Canceled,
            StorageError::Timeout => Error::Timeout,
            StorageError::Budget(error) => Error::Budget(error),
            StorageError::Failed(_) => Error::Storage(error),
        }
    }
}
