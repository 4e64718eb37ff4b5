//! Tests of the engine against golden data, damage and chance.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chunks;
