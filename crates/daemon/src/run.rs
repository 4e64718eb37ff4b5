//! From `main` to the exit code.

use std::backtrace::Backtrace;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ArgMatches;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, error, info, warn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::command_line::{self, CommandLine};
use crate::metrics::process;
use crate::one_line::one_line;
use crate::traces::Otlp;
use crate::{
    Clock, Context, Memory, Running, SeededRandom, Service, SystemClock, Tasks, logs, memory,
    traces,
};

const EXIT_USAGE: u8 = 2;
/// How often the allocator is asked how much it has handed out.
const ALLOCATED_INTERVAL: Duration = Duration::from_millis(100);
/// How long the last traces may take to be sent.
const TRACES_GRACE: Duration = Duration::from_secs(5);

/// Runs a service, as its own binary does: until a signal or the death of a vital task stops it.
///
/// Exits with 0 after a signal, 1 when it cannot start or a vital task died, 2 when the command
/// line is wrong.
pub fn run<S: Service>() -> ExitCode {
    run_with::<S>(S::NAME, std::env::args_os().skip(1).collect())
}

/// Runs a service whose command is called `name`, with the arguments after that name.
pub fn run_with<S: Service>(name: &str, arguments: Vec<OsString>) -> ExitCode {
    match prepare::<S>(name, arguments) {
        Ok(Prepared::Life(life)) => life.run(),
        Ok(Prepared::Text(text)) => print(&text),
        Err(error) => usage(name, &error),
    }
}

/// Checks the flags of a service and all files that they name, and says whether they are right.
///
/// Exits with 0 or 2.
pub fn check<S: Service>(name: &str, arguments: Vec<OsString>) -> ExitCode {
    match prepare::<S>(name, arguments) {
        Ok(Prepared::Life(life)) => {
            let notes: String = life.notes.iter().map(|it| format!("note: {it}\n")).collect();
            print(&format!("{notes}{name}: the configuration is right\n"))
        }
        Ok(Prepared::Text(text)) => print(&text),
        Err(error) => usage(name, &error),
    }
}

enum Prepared<S: Service> {
    Life(Box<Life<S>>),
    Text(String),
}

/// What a process is going to do, checked.
struct Life<S: Service> {
    config: S::Config,
    logs: logs::Settings,
    traces: Option<Otlp>,
    memory: Memory,
    notes: Vec<String>,
}

fn prepare<S: Service>(name: &str, arguments: Vec<OsString>) -> anyhow::Result<Prepared<S>> {
    let command = command_line::command::<S>(name);
    let (flags, notes) = match command_line::parse(&command, arguments)? {
        CommandLine::Flags { flags, notes } => (flags, notes),
        CommandLine::Text(text) => return Ok(Prepared::Text(text)),
    };
    Ok(Prepared::Life(Box::new(Life {
        config: S::config(&flags)?,
        logs: logs::Settings::from_flags(&flags),
        traces: traces::from_flags(&flags)?,
        memory: memory_from_flags(&flags)?,
        notes,
    })))
}

fn memory_from_flags(flags: &ArgMatches) -> anyhow::Result<Memory> {
    match flags.get_one::<u64>("memory.limit-bytes").copied().unwrap_or(0) {
        0 => Ok(Memory::of_this_machine()),
        limit => Ok(Memory::with_limit(usize::try_from(limit).context("--memory.limit-bytes")?)),
    }
}

impl<S: Service> Life<S> {
    fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = match runtime.context("start the runtime") {
            Ok(runtime) => runtime,
            Err(error) => return usage(S::NAME, &error),
        };
        let outcome = runtime.block_on(self.observed());
        // What still runs had its time to end; it must not hold the process.
        runtime.shutdown_background();
        outcome
    }

    /// Lives with logs and traces.
    async fn observed(self) -> ExitCode {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let provider = match observe::<S>(&self, Arc::clone(&clock)) {
            Ok(provider) => provider,
            Err(error) => return usage(S::NAME, &error),
        };
        let exit = match self.live(clock).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error!(service = S::NAME, "{}", one_line(&error));
                ExitCode::FAILURE
            }
        };
        if let Some(provider) = provider {
            let flushed = move || provider.shutdown_with_timeout(TRACES_GRACE);
            match Tasks::new().spawn_blocking("traces", flushed).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(%error, "the last traces were not sent"),
                Err(error) => warn!(%error, "the last traces were not sent"),
            }
        }
        exit
    }

    async fn live(self, clock: Arc<dyn Clock>) -> anyhow::Result<()> {
        let mut signals = Signals::new().context("listen for signals")?;
        for note in &self.notes {
            warn!("{note}");
        }
        let random = SeededRandom::from_system()?;
        debug!(seed = random.seed(), "random numbers start from this seed");
        let context = Context::new(S::NAME, clock, Arc::new(random)).with_memory(self.memory);
        context.metrics.register(|registry| {
            process::register(registry, &context.clock, context.memory, &context.readiness);
        });
        watch_allocator(&context.tasks);
        info!(
            service = S::NAME,
            version = env!("CARGO_PKG_VERSION"),
            memory_limit_bytes = self.memory.limit_bytes,
            "starting"
        );
        debug!(config = ?self.config, "configuration");
        let started = tokio::select! {
            started = Running::<S>::start(self.config, context.clone()) => started,
            signal = signals.recv() => {
                info!(signal, "stopped before it had started");
                return Ok(());
            }
        };
        let running = started?;
        info!(service = S::NAME, "started");
        tokio::select! {
            signal = signals.recv() => info!(signal, "a signal asks to stop"),
            () = context.tasks.died() => {}
        }
        tokio::select! {
            stopped = running.stop() => stopped.context("close")?,
            signal = signals.recv() => {
                warn!(signal, tasks = context.tasks.names(), "a second signal: not waiting");
                anyhow::bail!("stopped without waiting for what was under way");
            }
        }
        match context.tasks.reason_of_death() {
            Some(reason) => Err(anyhow::anyhow!(reason)),
            None => {
                info!(service = S::NAME, "stopped");
                Ok(())
            }
        }
    }
}

/// Begins logs and traces.
fn observe<S: Service>(
    life: &Life<S>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Option<SdkTracerProvider>> {
    let lines = tracing_subscriber::fmt::layer()
        .event_format(life.logs.format(clock))
        .with_writer(std::io::stderr)
        .with_filter(life.logs.filter());
    let traces = life.traces.as_ref().map(|it| traces::start(it, S::NAME)).transpose()?;
    let (provider, tracer) = traces.unzip();
    let spans = tracer.map(|it| {
        let layer = tracing_opentelemetry::layer().with_tracer(it);
        layer.with_filter(EnvFilter::new("info,h2=off,hyper=off,tonic=off,tower=off"))
    });
    let subscriber = tracing_subscriber::registry().with(lines).with(spans);
    subscriber.try_init().context("begin the log")?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload_as_str().unwrap_or("for an untold reason");
        let backtrace = Backtrace::capture();
        error!(place, %backtrace, "panicked: {payload}");
    }));
    Ok(provider)
}

/// Keeps what budgets see of the allocator fresh.
fn watch_allocator(tasks: &Tasks) {
    let until = tasks.clone();
    tasks.spawn("allocator", async move {
        memory::refresh_allocated_bytes();
        while until.sleep(ALLOCATED_INTERVAL).await {
            memory::refresh_allocated_bytes();
        }
        Ok(())
    });
}

fn usage(name: &str, error: &anyhow::Error) -> ExitCode {
    // Nothing can be done when even stderr is gone.
    let _ = writeln!(std::io::stderr(), "{name}: {}", one_line(error));
    ExitCode::from(EXIT_USAGE)
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
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

    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
