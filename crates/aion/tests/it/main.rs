//! The binary as a person meets it: commands, standalone, and the files that say how to run it.
#![expect(clippy::unwrap_used, reason = "a broken test should fail loudly")]
#![expect(clippy::disallowed_methods, reason = "tests read and write files, and wait in real time")]

mod commands;
mod deploy;
mod flags_page;
mod mending;
mod standalone;
mod thanos_flags;
mod tools;
