//! What can go wrong with a block in a bucket, cut by what the caller does next.

use model::BlockId;
use tsdb_core::error::Damage;

/// A failure with a block in a bucket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket failed.
    #[error(transparent)]
    Store(#[from] objstore::Error),
    /// The local block cannot be read.
    #[error(transparent)]
    Local(#[from] tsdb_core::error::Error),
    /// A small object of the bucket holds damaged bytes: keep away from it, go on with the rest.
    #[error("corrupt object {key}: {damage}")]
    Corrupt {
        /// The object.
        key: String,
        /// What is damaged, and where.
        damage: Damage,
    },
    /// A mark of a version that this program does not know; whoever wrote it meant something.
    #[error("object {key}: version {version} of the mark, 1 expected")]
    MarkVersion {
        /// The object.
        key: String,
        /// Its version.
        version: u32,
    },
    /// What is in the bucket is not what was sent, so that the block stays invisible; another
    /// upload replaces it.
    #[error("object {key} was not stored as it was sent: {reason}")]
    Unverified {
        /// The object.
        key: String,
        /// What differs.
        reason: String,
    },
    /// A visible block lacks files that its meta names.
    #[error("block {id} is not complete in the bucket: {}", missing.join(", "))]
    Incomplete {
        /// The block.
        id: BlockId,
        /// The files that are missing or have another size.
        missing: Vec<String>,
    },
    /// Not all of the bucket could be read this time, so that what was not found may be there.
    #[error("block {id} was not found, but not all of the bucket could be read: {trouble}")]
    Unsure {
        /// The block.
        id: BlockId,
        /// The first thing that could not be read.
        trouble: String,
    },
    /// The local block is not fit for a bucket.
    #[error("block {id}: {reason}")]
    Unfit {
        /// The block.
        id: BlockId,
        /// Why.
        reason: String,
    },
}

/// The result of most calls.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether the same call may succeed later: the only oracle for retries.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Store(error) => error.is_transient(),
            Error::Local(error) => error.is_transient(),
            Error::Unverified { .. } | Error::Unsure { .. } => true,
            Error::Corrupt { .. }
            | Error::MarkVersion { .. }
            | Error::Incomplete { .. }
            | Error::Unfit { .. } => false,
        }
    }
}
