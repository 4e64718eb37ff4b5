//! Integration tests of PromQL.
#![expect(clippy::unwrap_used, reason = "a broken test should fail loudly")]
#![expect(clippy::disallowed_methods, reason = "tests read their data from the disk")]

mod evaluated;
mod limits;
mod memory;
mod parse;
mod parse_limits;
mod parse_numbers;
mod parse_tree;
mod plan;
mod random;
mod script;
mod threads;
mod workers;
