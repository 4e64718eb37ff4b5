//! The seam between daemons: Thanos' StoreAPI as checked Rust values.

pub mod error;
pub mod request;
pub mod store;

pub use crate::error::Error;
pub use crate::store::{Store, StoreSeries};
