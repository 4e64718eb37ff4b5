//! Tests of the store gateway: recorded calls of the real one, faults, and the store's rules.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests lay out buckets and look at files")]

mod gateway;
mod golden_calls;
mod life;
