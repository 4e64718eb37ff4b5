//! The vocabulary against golden data and properties.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod budget;
mod durations;
mod floats;
mod labels;
mod matchers;
mod regexes;
