//! What every tool works with: the bucket, the time, and where its answer goes.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bucket::{Snapshot, View};
use clap::ArgMatches;
use daemon::{Clock, Context, flags};
use objstore::{Config, Environment, Metrics, SharedStore};

use super::Outcome;

/// Small objects that are read at once.
const READS_MAX: usize = 32;

/// What every tool works with.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) store: SharedStore,
    pub(super) context: Context,
    /// The bucket in words.
    pub(super) bucket: String,
}

/// The object store that the flags name.
///
/// # Errors
/// When none is named, or its configuration is wrong.
pub(super) fn config(flags: &ArgMatches) -> anyhow::Result<Config> {
    let text = flags::config_text(flags, "objstore")?;
    let text = text.context("--objstore.config or --objstore.config-file: name the bucket")?;
    Config::parse(&text).context("--objstore.config")
}

/// Opens the bucket and does the work of a tool; a signal ends the process at once, as it should
/// for a tool.
///
/// # Errors
/// When the bucket cannot be opened, and those of the work.
pub(super) fn with(
    config: Config,
    work: impl AsyncFnOnce(Session) -> anyhow::Result<Outcome>,
) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let outcome = runtime.block_on(async {
        let context = Context::of_this_machine("tools")?;
        let (clock, monotonic) = (Arc::clone(&context.clock), Arc::clone(&context.clock));
        let random = Arc::clone(&context.random);
        let environment = Environment::new(
            move || clock.now_ms(),
            move || monotonic.monotonic(),
            move || random.next_u64(),
        );
        let bucket = config.describe();
        let store = config.open(&environment, &Metrics::unregistered()).await;
        let store = store.with_context(|| format!("open the bucket: {bucket}"))?;
        work(Session { store, context, bucket }).await
    });
    // A request that nobody waits for any more must not hold the process.
    runtime.shutdown_background();
    outcome
}

impl Session {
    /// The time in ms since the Unix epoch.
    pub(super) fn now_ms(&self) -> i64 {
        self.context.clock.now_ms()
    }

    /// The clock.
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.context.clock)
    }

    /// Reads the bucket.
    pub(super) async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let snapshot = View::new(READS_MAX).sync(&*self.store).await;
        snapshot.with_context(|| format!("read the blocks of {}", self.bucket))
    }

    /// Reads the bucket, within a time.
    pub(super) async fn snapshot_within(&self, limit: Duration) -> anyhow::Result<Snapshot> {
        match tokio::time::timeout(limit, self.snapshot()).await {
            Ok(snapshot) => snapshot,
            Err(_) => bail!("the metas were not read within --timeout={limit:?}"),
        }
    }

    /// Writes a part of the answer.
    pub(super) fn print(&self, text: &str) -> anyhow::Result<()> {
        std::io::stdout().write_all(text.as_bytes()).context("write the answer")
    }

    /// Says something about the answer.
    pub(super) fn note(&self, line: &str) {
        super::complain(line);
    }
}
