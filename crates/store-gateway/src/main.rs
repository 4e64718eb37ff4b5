//! The store gateway daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::run::<store_gateway::StoreGateway>()
}
