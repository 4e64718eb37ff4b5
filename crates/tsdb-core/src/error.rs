//! What can go wrong in the storage engine, cut by what the caller does next.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use model::BlockId;

use crate::compact::Balance;

/// Bytes that are not what they claim to be; says what was read, where, and what is wrong.
///
/// Decoders work on slices and do not know a file; [`Damage::within`] adds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at offset {offset}: {reason}")]
pub struct Damage {
    /// What was being read.
    pub what: &'static str,
    /// Where it begins or where reading stopped, in bytes from the start of the file or slice.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: Cow<'static, str>,
}

/// A failure of the storage engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file holds damaged bytes: keep away from this part, go on with the rest.
    #[error("corrupt {}: {damage}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is damaged, and where.
        damage: Damage,
    },
    /// A block that is read as a [`Source`](crate::stream::Source) is damaged: leave it alone,
    /// and go on without it.
    #[error("block {block} is damaged: {file}: {damage}")]
    BlockDamaged {
        /// The block.
        block: BlockId,
        /// The file, as [`Ranged::name`](crate::stream::Ranged::name) names it.
        file: String,
        /// What is damaged, and where.
        damage: Damage,
    },
    /// A source could not be read, or a sink not be written, for a reason that is not in the
    /// bytes.
    #[error("{operation} {name}: {source}")]
    Stream {
        /// What was tried.
        operation: &'static str,
        /// The file or object.
        name: String,
        /// Whether the same may succeed later.
        is_transient: bool,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A job read more samples than it wrote or dropped for a reason, or fewer: what it wrote must
    /// not be used.
    #[error("the samples do not add up: {balance}")]
    Unbalanced {
        /// All counts.
        balance: Box<Balance>,
    },
    /// A job would need more scratch space than it may have; it was not begun.
    #[error(
        "{needed_bytes} bytes of scratch space are needed, {limit_bytes} are allowed: allow more, \
         or put fewer blocks together"
    )]
    Scratch {
        /// What the job may need at most.
        needed_bytes: u64,
        /// What it may have.
        limit_bytes: u64,
    },
    /// A job was told to stop.
    #[error("the job was cancelled")]
    Cancelled,
    /// The disk failed or the file is not there.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A memory bound was passed.
    #[error(transparent)]
    Budget(#[from] model::BudgetExceeded),
    /// Written in a form that this version does not know.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Which form it is.
        what: String,
    },
    /// The engine cannot do it now: it is overloaded, or must be rebuilt after a failure.
    #[error("{what}")]
    Unavailable {
        /// Why, and what will change it.
        what: String,
    },
    /// The caller broke the rules of a call, for instance the order of series.
    #[error("{what}")]
    Invalid {
        /// Which rule, and by what.
        what: String,
    },
}

/// The result of most calls.
pub type Result<T> = std::result::Result<T, Error>;

impl Damage {
    /// Damage of `what` at `offset`.
    pub fn new(what: &'static str, offset: u64, reason: impl Into<Cow<'static, str>>) -> Damage {
        Damage { what, offset, reason: reason.into() }
    }

    /// The same damage, counted from the start of something larger that begins `offset` earlier.
    #[must_use]
    pub fn shifted(mut self, offset: u64) -> Damage {
        self.offset = self.offset.saturating_add(offset);
        self
    }

    /// The damage as an error of the file that it was found in.
    pub fn within(self, path: &Path) -> Error {
        Error::Corrupt { path: path.to_owned(), damage: self }
    }
}

impl Error {
    /// An input/output error of `operation` on `path`; for `map_err`.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { operation, path, source }
    }

    /// An [`Error::Invalid`] with this text.
    pub fn invalid(what: impl Into<String>) -> Error {
        Error::Invalid { what: what.into() }
    }

    /// An [`Error::Unavailable`] with this text.
    pub fn unavailable(what: impl Into<String>) -> Error {
        Error::Unavailable { what: what.into() }
    }

    /// Whether the same call may succeed later: the only oracle for retries.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::StorageFull)
            }
            Error::Stream { is_transient, .. } => *is_transient,
            Error::Budget(_) | Error::Unavailable { .. } | Error::Cancelled => true,
            Error::Corrupt { .. }
            | Error::BlockDamaged { .. }
            | Error::Unbalanced { .. }
            | Error::Scratch { .. }
            | Error::Unsupported { .. }
            | Error::Invalid { .. } => false,
        }
    }

    /// The block that must be left out before a job can succeed, where that is what is wrong.
    pub fn damaged_block(&self) -> Option<BlockId> {
        match self {
            Error::BlockDamaged { block, .. } => Some(*block),
            _ => None,
        }
    }

    /// Whether a file or directory is absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
