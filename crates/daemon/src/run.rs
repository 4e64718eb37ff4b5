//! From `main` to the exit code.

use std::process::ExitCode;

use clap::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

use crate::{Context, Running, Service};

const EXIT_USAGE: u8 = 2;

/// Runs a service until a signal or the death of a vital task stops it.
pub fn run<S: Service>() -> ExitCode {
    tracing_subscriber::fmt().init();
    let flags = S::flags(Command::new(S::NAME)).get_matches();
    let config = match S::config(&flags) {
        Ok(config) => config,
        Err(error) => {
            error!("{error:#}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match serve::<S>(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve<S: Service>(config: S::Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let context = Context::of_this_machine(S::NAME)?;
    let running = tokio::select! {
        running = Running::<S>::start(config, context.clone()) => running?,
        () = signals.recv() => return Ok(()),
    };
    info!(service = S::NAME, "started");
    tokio::select! {
        () = signals.recv() => {}
        () = context.tasks.died() => {}
    }
    running.stop().await?;
    match context.tasks.reason_of_death() {
        Some(reason) => Err(anyhow::anyhow!(reason)),
        None => Ok(()),
    }
}

/// The signals that ask a process to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
