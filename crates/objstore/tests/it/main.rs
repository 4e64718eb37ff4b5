//! What the stores and their decorators do, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail loudly")]
#![expect(clippy::disallowed_methods, reason = "tests prepare files and read the real clock")]

mod conformance;
mod faults;
mod filesystem;
mod metrics;
mod s3;
mod streaming;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use objstore::Environment;

/// The real clock, and random bits that differ between processes.
fn environment() -> Environment {
    let begin = Instant::now();
    let wall_ms = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(now.as_millis()).unwrap()
    };
    let state = AtomicU64::new(u64::from(std::process::id()));
    let random = move || {
        let step = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        (step ^ (step >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    Environment::new(wall_ms, move || begin.elapsed(), random)
}
