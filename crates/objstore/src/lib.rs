//! Objects in a bucket, and nothing else: no blocks, no series.
//!
//! [`ObjectStore`] is narrow on purpose; S3, a directory and memory implement it, and retry,
//! metering and prefix are decorators of the same trait. One conformance suite runs on all.

pub mod error;
pub mod store;

pub use crate::error::Error;
pub use crate::store::{ListPage, ObjectMeta, ObjectStore, PutOutcome, SharedStore};
