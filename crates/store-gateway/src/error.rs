//! What can go wrong while blocks of a bucket are read, cut by what the caller does next.

use std::sync::Arc;

use model::BudgetExceeded;

/// A failure of the gateway.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The bucket failed or an object is not there.
    #[error(transparent)]
    Bucket(#[from] objstore::Error),
    /// A read of the bucket failed that others may have waited for too.
    #[error("{0}")]
    Read(Arc<objstore::Error>),
    /// The local disk failed, or a file of ours is damaged.
    #[error(transparent)]
    Local(#[from] tsdb_core::Error),
    /// An object holds damaged bytes.
    #[error("corrupt object {key}: {damage}")]
    Damaged {
        /// The object.
        key: String,
        /// What is damaged, and where.
        damage: tsdb_core::Damage,
    },
    /// A memory bound was passed.
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    /// A bound of series or samples was passed.
    #[error("{0}")]
    Limit(String),
    /// Blocking work was dropped because the process stops.
    #[error("the process is stopping")]
    Stopping,
}

/// The result of most calls.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the same call may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Error::Bucket(error) => error.is_transient(),
            Error::Read(error) => error.is_transient(),
            Error::Local(error) => error.is_transient(),
            Error::Budget(_) | Error::Stopping => true,
            Error::Damaged { .. } | Error::Limit(_) => false,
        }
    }

    /// Whether bytes in the bucket or on the disk are damaged.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::Local(tsdb_core::Error::Corrupt { .. }))
    }

    /// The same as the answer to a store call, with the block in front.
    pub(crate) fn of_block(self, block: &str) -> storeapi::Error {
        match self {
            Error::Budget(error) | Error::Local(tsdb_core::Error::Budget(error)) => {
                storeapi::Error::BudgetExceeded(error)
            }
            Error::Limit(text) => storeapi::Error::ResourceExhausted(text),
            Error::Stopping => storeapi::Error::Unavailable(format!("{block}: {self}")),
            other => storeapi::Error::Aborted(format!("{block}: {other}")),
        }
    }
}
