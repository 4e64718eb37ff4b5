//! Objects in a bucket, and nothing else: no blocks, no series.
//!
//! [`ObjectStore`] is narrow on purpose; S3, a directory and memory implement it, and retry,
//! metering, prefix and fault injection are decorators of the same trait. One [`conformance`]
//! suite runs on all. [`ObjectWriter`] streams an object into any of them. A daemon reads a
//! [`Config`] and calls [`Config::open`], which puts the pieces together.

pub mod config;
pub mod conformance;
mod digest;
pub mod environment;
pub mod error;
pub mod faulty;
pub mod filesystem;
mod key;
pub mod memory;
pub mod metered;
pub mod operation;
pub mod prefixed;
pub mod retry;
pub mod s3;
pub mod store;
pub mod upload;

pub use crate::config::Config;
pub use crate::digest::{md5_hex, md5_hex_of_file};
pub use crate::environment::Environment;
pub use crate::error::Error;
pub use crate::faulty::Faulty;
pub use crate::filesystem::FilesystemStore;
pub use crate::memory::MemoryStore;
pub use crate::metered::{Metered, Metrics};
pub use crate::operation::Operation;
pub use crate::prefixed::Prefixed;
pub use crate::retry::{Retry, RetryPolicy};
pub use crate::s3::S3Store;
pub use crate::store::{ListPage, ObjectMeta, ObjectStore, PutOutcome, SharedStore};
pub use crate::upload::{ObjectWriter, Upload};
