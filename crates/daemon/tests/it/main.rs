//! Whole processes: how they start, what they answer, how they end.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests write files for the processes they start")]

mod child;
mod command_line;
mod grpc;
mod http;
mod life;
mod probe;
mod traces;
