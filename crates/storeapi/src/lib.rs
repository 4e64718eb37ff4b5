//! The seam between daemons: Thanos' StoreAPI as checked Rust values.

pub mod client;
mod codec;
pub mod conformance;
mod convert;
pub mod error;
pub mod frame;
mod framing;
mod loser_tree;
pub mod memory;
pub mod merge;
mod pb;
pub mod request;
pub mod resort;
pub mod server;
pub mod snappy;
pub mod status;
pub mod store;
pub mod wire;

pub use crate::client::{ClientConfig, RemoteStore};
pub use crate::error::Error;
pub use crate::merge::merge;
pub use crate::store::{Store, StoreSeries};
