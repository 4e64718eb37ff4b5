//! The StoreAPI from outside: merge, conformance, and the same over a real connection.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod closing;
mod grpc;
mod merging;
mod stores;
mod windows;
