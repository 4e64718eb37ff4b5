//! The compactor: merges blocks, makes coarser ones, keeps retention, cleans up; it never halts.
//!
//! What is to be done is a function of values (`plan`); carrying it out is apart: marks and
//! deletions (`pass`), jobs (`jobs`) by an `executor`, and when is another matter
//! (`rounds`). What is damaged is named and kept away from (`quarantine`), what fails is tried
//! again, and the others go on. `api` shows all of it.

mod api;
mod board;
mod config;
mod executor;
mod jobs;
mod metrics;
mod pass;
mod plan;
mod quarantine;
mod resolution;
mod retention;
mod rounds;
mod selection;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bucket::Snapshot;
use clap::{ArgMatches, Command};
use daemon::{Context, Service};
use objstore::{Environment, SharedStore};
use tracing::warn;
use tsdb_core::fs::disk::Disk;
use tsdb_core::fs::{EntryKind, SharedFs};

use crate::board::Board;
pub use crate::config::Config;
use crate::executor::blocks::Blocks;
use crate::jobs::{Jobs, Limits, Means};
use crate::metrics::Metrics;
use crate::pass::Pass;
use crate::rounds::Rounds;

/// Directory below the data directory for what jobs keep while they run.
const SCRATCH_DIRECTORY: &str = "compact";
/// Memory that a job has at least, however little there is.
const MEMORY_BYTES_MIN: usize = 64 * 1024 * 1024;

/// The compactor daemon.
#[derive(Debug)]
pub struct Compactor {
    http_address: SocketAddr,
}

impl Compactor {
    /// Where the HTTP server listens.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }
}

impl Service for Compactor {
    const NAME: &'static str = "compact";
    type Config = Config;

    fn flags(command: Command) -> Command {
        config::flags(command)
    }

    fn config(flags: &ArgMatches) -> anyhow::Result<Config> {
        Config::from_flags(flags)
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<Compactor> {
        for note in &config.objstore.notes {
            warn!("--objstore.config: {note}");
        }
        context.readiness.set_not_ready("the bucket was not read yet");
        let (clock, monotonic) = (Arc::clone(&context.clock), Arc::clone(&context.clock));
        let random = Arc::clone(&context.random);
        let environment = Environment::new(
            move || clock.now_ms(),
            move || monotonic.monotonic(),
            move || random.next_u64(),
        );
        let (mut store_metrics, mut metrics) =
            (objstore::Metrics::unregistered(), Metrics::unregistered());
        context.metrics.register(|registry| {
            let rules = &config.rules;
            store_metrics = objstore::Metrics::register(registry);
            metrics = Metrics::register(registry, rules.delete_delay, rules.consistency_delay);
        });
        let store = config
            .objstore
            .open(&environment, &store_metrics)
            .await
            .with_context(|| format!("open the bucket: {}", config.objstore.describe()))?;
        let board = Board::default();
        let routes = api::routes(board.clone(), Arc::clone(&context.clock));
        let http_address = daemon::http::serve(&context, &config.http, routes).await?;
        let means = Means {
            executor: Arc::new(blocks(&config, &context, Arc::clone(&store))?),
            store: Arc::clone(&store),
            clock: Arc::clone(&context.clock),
            tasks: context.tasks.clone(),
            metrics: metrics.clone(),
        };
        let limits = Limits {
            compactions: config.compact_concurrency,
            downsamplings: config.downsample_concurrency,
        };
        let view = bucket::View::new(config.sync_concurrency);
        let bucket = config.objstore.describe();
        let rounds = Rounds {
            pass: Pass::new(store, view, config.rules, metrics, Arc::clone(&context.clock)),
            jobs: Jobs::new(means, limits),
            board,
            bucket,
            wait: config.wait,
            wait_interval: config.wait_interval,
            cleanup_interval: config.cleanup_interval,
            context: context.clone(),
            unread_syncs: 0,
            is_unfinished: false,
            snapshot: Snapshot::default(),
        };
        context.tasks.spawn_vital("compact", rounds.run());
        Ok(Compactor { http_address })
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What carries out jobs, with an empty directory for what it keeps meanwhile.
fn blocks(config: &Config, context: &Context, store: SharedStore) -> anyhow::Result<Blocks> {
    let scratch = config.data_dir.join(SCRATCH_DIRECTORY);
    let fs: SharedFs = Arc::new(Disk);
    let make = || {
        fs.make_directory(&scratch)?;
        // What an earlier process left is of no use.
        for entry in fs.list(&scratch)?.iter().filter(|it| it.kind == EntryKind::File) {
            fs.unlink(&scratch.join(&entry.name))?;
        }
        std::io::Result::Ok(())
    };
    make().with_context(|| {
        format!("--data-dir={}: cannot be used, choose another one", config.data_dir.display())
    })?;
    let jobs = config.compact_concurrency + config.downsample_concurrency;
    // The other half is for what is read ahead, and for the metas of all blocks.
    let share_bytes = context.budget.limit_bytes() / 2 / jobs.max(1);
    Ok(Blocks {
        store,
        tasks: context.tasks.clone(),
        budget: context.budget.child("jobs", context.budget.limit_bytes()),
        fs,
        scratch,
        deduplication: config.deduplication,
        memory_bytes_max: share_bytes.clamp(MEMORY_BYTES_MIN, tsdb_core::compact::MEMORY_BYTES_MAX),
    })
}
