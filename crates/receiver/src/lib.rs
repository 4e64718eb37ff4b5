//! The receiver: takes remote writes, keeps the newest samples, ships blocks to the bucket.
//!
//! The way of a write: `http` reads the body, `ingest` decodes it into the engine and waits for
//! the log's committer, `status` says what became of it. Beside that `upkeep` cuts blocks, `ship`
//! takes them to the bucket, and `store` serves head and local blocks.

mod config;
mod damages;
pub mod decode;
mod http;
mod ingest;
mod media;
mod metrics;
mod ship;
mod status;
mod store;
mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgMatches, Command};
use daemon::{Context, Service};
use model::Budget;
use objstore::{Environment, SharedStore};
use parking_lot::Mutex;
use storeapi::server::{CallBudget, Health};
use tokio::sync::Notify;
use tracing::{info, warn};
use tsdb_core::db::{Engine, EngineOptions};
use tsdb_core::fs::SharedFs;
use tsdb_core::fs::disk::Disk;

pub use crate::config::Config;
use crate::http::Receive;
use crate::metrics::Metrics;
use crate::ship::Shipper;
use crate::store::ReceiveStore;
use crate::upkeep::Upkeep;

/// Parts of the memory that the head, the requests in hand and one StoreAPI call may have.
const HEAD_SHARE: f64 = 0.6;
const REQUESTS_SHARE: usize = 8;
const CALL_SHARE: usize = 4;
/// How long the last shipping may take.
const CLOSING_SHIP_MAX: Duration = Duration::from_mins(2);

/// The receiver daemon.
#[derive(Debug)]
pub struct Receiver {
    http_address: SocketAddr,
    remote_write_address: SocketAddr,
    grpc_address: SocketAddr,
    context: Context,
    upkeep: Upkeep,
    shipper: Arc<Shipper>,
}

impl Receiver {
    /// Where the HTTP server listens.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where remote write listens.
    pub fn remote_write_address(&self) -> SocketAddr {
        self.remote_write_address
    }

    /// Where the StoreAPI listens.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }
}

impl Service for Receiver {
    const NAME: &'static str = "receive";
    type Config = Config;

    fn flags(command: Command) -> Command {
        config::flags(command)
    }

    fn config(flags: &ArgMatches) -> anyhow::Result<Config> {
        Config::from_flags(flags)
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<Receiver> {
        context.readiness.set_not_ready("the log is being read");
        let metrics = Metrics::new();
        context.metrics.register(|registry| metrics.register(registry));
        let budget = context.budget.clone();
        let fs: SharedFs = Arc::new(Disk);
        // Listening first: a probe sees that the process lives while the log is read.
        let http_address = daemon::http::serve(&context, &config.http, axum::Router::new()).await?;
        let engine = open_engine(&config, &context, &fs, &budget, &metrics).await?;
        let store = open_bucket(&config, &context).await?;
        let tenancy = Arc::new(config.tenancy);
        let cut = Arc::new(Notify::new());
        let upkeep = Upkeep {
            engine: Arc::clone(&engine),
            metrics: metrics.clone(),
            clock: Arc::clone(&context.clock),
            random: Arc::clone(&context.random),
            cut: Arc::clone(&cut),
            block_ms: config.tsdb.block_ms,
        };
        let shipper = Arc::new(Shipper {
            engine: Arc::clone(&engine),
            fs,
            store,
            tenancy: Arc::clone(&tenancy),
            metrics: metrics.clone(),
            clock: Arc::clone(&context.clock),
            parallel: config.upload_parallel,
            retention: config.tsdb.retention,
            tasks: context.tasks.clone(),
            verified: Mutex::default(),
        });
        let requests = budget.child("write requests", budget.limit_bytes() / REQUESTS_SHARE);
        let (ingest, committer) =
            ingest::new(&engine, &metrics, &context, requests, config.tsdb.future);
        committer.start()?;
        upkeep.clone().start(&context)?;
        context.tasks.spawn_vital("ship", Arc::clone(&shipper).run(context.clone(), cut));
        let receive = Receive {
            ingest,
            tenancy: Arc::clone(&tenancy),
            readiness: context.readiness.clone(),
            complaints: Arc::default(),
        };
        let remote_write_address =
            daemon::http::serve(&context, &config.remote_write, http::routes(receive)).await?;
        let late_ms = config.tsdb.block_ms / 2;
        let series = ReceiveStore { engine, tenancy, tasks: context.tasks.clone(), late_ms };
        let calls = CallBudget {
            call_bytes_max: budget.limit_bytes() / CALL_SHARE,
            budget: budget.child("store calls", budget.limit_bytes() / 2),
        };
        let (routes, health) = storeapi::server::routes(Arc::new(series), calls).await?;
        let grpc_address = daemon::grpc::serve(&context, &config.grpc, routes).await?;
        context.tasks.spawn("health", mirror_readiness(context.clone(), health));
        context.readiness.set_ready();
        Ok(Receiver { http_address, remote_write_address, grpc_address, context, upkeep, shipper })
    }

    async fn close(self) -> anyhow::Result<()> {
        let upkeep = self.upkeep;
        let cut = self.context.tasks.spawn_blocking("cut the head", move || upkeep.cut_all());
        let report = cut.await.context("cut the head")?;
        // The process must end; what is not shipped by then is after the next start.
        let shipped = tokio::time::timeout(CLOSING_SHIP_MAX, self.shipper.round()).await;
        let is_shipped = shipped.unwrap_or(false);
        if !report.failures.is_empty() || !is_shipped {
            warn!("not all of the head is in the bucket; the next start goes on with it");
        }
        Ok(())
    }
}

/// Opens the engine where it holds up nothing, and says what was found.
async fn open_engine(
    config: &Config,
    context: &Context,
    fs: &SharedFs,
    budget: &Budget,
    metrics: &Metrics,
) -> anyhow::Result<Arc<Engine>> {
    let options = EngineOptions {
        directory: config.tsdb.directory.clone(),
        block_ms: config.tsdb.block_ms,
        seeds: [context.random.next_u64(), context.random.next_u64()],
        budget: budget.child("head", share(budget.limit_bytes(), HEAD_SHARE)),
    };
    let directory = config.tsdb.directory.display().to_string();
    let fs = Arc::clone(fs);
    let start = context.clock.monotonic();
    let opened = context.tasks.spawn_blocking("open the engine", move || Engine::open(fs, options));
    let (engine, report) = opened
        .await
        .context("open the engine")?
        .map_err(|error| open_failure(&directory, error))?;
    ingest::log_report(&report, metrics);
    metrics.head_series.set(i64::try_from(report.series).unwrap_or(i64::MAX));
    let took = context.clock.monotonic().saturating_sub(start);
    info!(
        directory,
        series = report.series,
        samples = report.samples_replayed,
        blocks = report.blocks,
        milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "opened the data directory; every write is synced to disk before it is acknowledged"
    );
    Ok(Arc::new(engine))
}

/// One line for what goes wrong with a data directory, with what to do about it.
fn open_failure(directory: &str, error: tsdb_core::Error) -> anyhow::Error {
    if let tsdb_core::Error::Io { source, .. } = &error {
        let advice = match source.kind() {
            std::io::ErrorKind::WouldBlock => {
                "another process has it; stop that one or choose another directory"
            }
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                "it is not writable; give this user the right or choose another directory"
            }
            std::io::ErrorKind::StorageFull => "the disk is full; make room",
            _ => "",
        };
        if !advice.is_empty() {
            return anyhow::anyhow!("--tsdb.path={directory}: {advice} ({source})");
        }
    }
    anyhow::Error::new(error).context(format!("--tsdb.path={directory}"))
}

async fn open_bucket(config: &Config, context: &Context) -> anyhow::Result<Option<SharedStore>> {
    let Some(objstore) = &config.objstore else {
        warn!("no bucket is configured: nothing is shipped, local blocks go by their age alone");
        return Ok(None);
    };
    for note in &objstore.notes {
        warn!("--objstore.config: {note}");
    }
    let (clock, monotonic) = (Arc::clone(&context.clock), Arc::clone(&context.clock));
    let random = Arc::clone(&context.random);
    let environment = Environment::new(
        move || clock.now_ms(),
        move || monotonic.monotonic(),
        move || random.next_u64(),
    );
    let mut metrics = objstore::Metrics::unregistered();
    context.metrics.register(|registry| metrics = objstore::Metrics::register(registry));
    let store = objstore
        .open(&environment, &metrics)
        .await
        .with_context(|| format!("open the bucket: {}", objstore.describe()))?;
    Ok(Some(store))
}

/// Tells gRPC's health service what the process' readiness says.
async fn mirror_readiness(context: Context, health: Health) -> anyhow::Result<()> {
    let mut is_ready = context.readiness.is_part_ready();
    loop {
        health.set_ready(is_ready).await;
        tokio::select! {
            now = context.readiness.part_changed(is_ready) => is_ready = now,
            () = context.tasks.stopping() => return Ok(()),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of the memory need not be exact"
)]
fn share(bytes: usize, share: f64) -> usize {
    (bytes as f64 * share) as usize
}
