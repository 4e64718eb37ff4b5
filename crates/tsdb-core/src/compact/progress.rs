//! How far a job is, and whether it is to go on.

use std::fmt;
use std::ops::ControlFlow;

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Samples of the chunks that were read.
    pub samples: u64,
    /// Bytes of indices and chunks that were passed.
    pub read_bytes: u64,
    /// What `read_bytes` comes to at the end, nearly.
    pub total_bytes: u64,
    /// Bytes that were written, scratch space included.
    pub written_bytes: u64,
}

/// Is told, again and again, how far a job is.
pub trait Progress: Send + Sync + fmt::Debug {
    /// Takes note; a break ends the job with [`Error::Cancelled`](crate::Error::Cancelled).
    fn advance(&self, done: Done) -> ControlFlow<()>;
}

/// Takes note of nothing and ends no job.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignored;

impl Progress for Ignored {
    fn advance(&self, _done: Done) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
