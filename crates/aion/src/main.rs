//! aion in one binary: the four daemons under Thanos' names, all of them in one process, and what
//! helps to run them.

mod commands;
mod healthcheck;
mod http_client;
mod self_metrics;
mod standalone;
mod tools;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::dispatch(std::env::args_os().skip(1).collect())
}
