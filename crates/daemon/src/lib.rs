//! The life of a process: read flags, start, serve, drain, close, exit.
//!
//! A daemon is a [`Service`]; everything a process needs besides its own work lives here, once.
//! This crate knows nothing about series or blocks. The order of a life is: flags are read and
//! checked, logs and traces begin, [`Service::start`] binds and spawns, the process serves until a
//! signal or the death of a vital task, servers drain, tasks end, [`Service::close`] runs.

mod clock;
mod command_line;
mod context;
pub mod flags;
pub mod grpc;
pub mod http;
mod logs;
mod memory;
mod metrics;
mod observed;
mod one_line;
mod random;
mod readiness;
mod run;
mod running;
mod settings;
mod tasks;
mod traces;

use std::fmt;
use std::future::Future;

pub use crate::clock::{Clock, SystemClock};
pub use crate::command_line::{CommandLine, command, config_of, parse_command};
pub use crate::context::Context;
pub use crate::memory::Memory;
pub use crate::metrics::Metrics;
pub use crate::one_line::one_line;
pub use crate::random::{Random, SeededRandom};
pub use crate::readiness::Readiness;
pub use crate::run::{check, run, run_with};
pub use crate::running::Running;
pub use crate::tasks::Tasks;

/// One daemon.
///
/// A service that listens also says where, since port 0 is a free one: `http_address()`,
/// `grpc_address()`, `remote_write_address()`, each giving the `SocketAddr` that
/// [`http::serve`] or [`grpc::serve`] gave.
pub trait Service: Sized + Send {
    /// The name on the command line, in logs and in metrics, as Thanos spells it.
    const NAME: &'static str;
    /// The checked configuration.
    type Config: Send + fmt::Debug;

    /// Adds the service's flags to the command.
    fn flags(command: clap::Command) -> clap::Command;

    /// Checks the flags. Touches nothing outside but the files that flags name.
    ///
    /// # Errors
    /// One line: which flag, what is wrong, what to do. The process exits with 2.
    fn config(flags: &clap::ArgMatches) -> anyhow::Result<Self::Config>;

    /// Binds and opens everything, spawns its tasks, and returns.
    ///
    /// Calls `context.readiness.set_ready()` when it can serve: here, or in a task later on.
    fn start(
        config: Self::Config,
        context: Context,
    ) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Runs once every task has ended: flush and close what `start` opened.
    fn close(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}
