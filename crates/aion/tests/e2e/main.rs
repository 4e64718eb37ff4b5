//! End to end: the real binary between a real Prometheus and a real bucket.
#![expect(clippy::unwrap_used, reason = "a broken test should fail loudly")]
#![expect(clippy::disallowed_methods, reason = "tests start real processes and wait in real time")]

mod blocks;
mod cluster;
mod containers;
mod crash;
mod flow;
mod queries;
