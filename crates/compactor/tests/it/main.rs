//! The compactor as a whole: its flags, its life, and what it does to a bucket.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the buckets of these tests are directories")]

mod bucket_dir;
mod end_to_end;
mod flags;
mod life;
mod real_blocks;
