//! Tests of the receiver as a process sees it: real listeners, real disk, a bucket in a directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests look at files as others would")]

mod bad_requests;
mod bodies;
mod decode;
mod golden_calls;
mod life;
mod serve;
mod world;
