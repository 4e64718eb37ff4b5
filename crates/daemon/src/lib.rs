//! The life of a process: read flags, start, serve, drain, close, exit.
//!
//! A daemon is a [`Service`]; everything a process needs besides its own work lives here, once.
//! This crate knows nothing about series or blocks.

mod tasks;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

pub use crate::tasks::Tasks;

/// One daemon.
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
    fn start(
        config: Self::Config,
        context: Context,
    ) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Runs once every task has ended: flush and close what `start` opened.
    fn close(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What time it is; the only source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> std::time::Duration;
}

/// The only source of randomness.
pub trait Random: Send + Sync + fmt::Debug {
    /// The next 64 random bits.
    fn next_u64(&self) -> u64;
}

/// What the process lends to a service.
#[derive(Clone, Debug)]
pub struct Context {
    /// Spawns tasks, and tells them when to stop.
    pub tasks: Tasks,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}
