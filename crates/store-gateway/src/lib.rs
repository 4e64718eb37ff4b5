//! The store gateway: answers from the blocks of a bucket, by ranged reads.
//!
//! Little of a block is in memory (`index_header`); everything else is read when it is asked for,
//! through one cache of pages (`remote`). A call selects the series of every block that is
//! concerned (`select`), puts them into the order of the labels that are sent, and streams their
//! chunks as slices of what was read (`chunks`). `sync` keeps up with the bucket.

mod block;
mod blocks;
mod chunks;
mod config;
mod error;
mod http;
mod index_header;
mod limits;
mod metrics;
mod page_cache;
mod remote;
mod resolution;
mod select;
mod store;
mod sync;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the local files")]
mod tests;
mod texts;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{ArgMatches, Command};
use daemon::{Context, Service};
use objstore::{Environment, SharedStore};
use storeapi::Store;
use storeapi::server::CallBudget;
use tokio::sync::Semaphore;
use tracing::{info, warn};
use tsdb_core::fs::SharedFs;
use tsdb_core::fs::disk::Disk;

use crate::blocks::Blocks;
pub use crate::config::Config;
use crate::index_header::IndexHeaders;
use crate::metrics::Metrics;
use crate::page_cache::PageCache;
use crate::remote::Remote;
use crate::store::BucketStore;
use crate::sync::{Rules, Sync};

/// The cache takes at most this share of the memory of the process.
const CACHE_SHARE: usize = 4;
/// All calls together take at most this share of the memory of the process.
const CALLS_SHARE: usize = 2;

/// The store gateway daemon.
#[derive(Debug)]
pub struct StoreGateway {
    http_address: SocketAddr,
    grpc_address: SocketAddr,
    store: Arc<dyn Store>,
}

impl StoreGateway {
    /// Where the HTTP server listens.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where the gRPC server listens.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// The store itself, for whoever lives in the same process.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
}

impl Service for StoreGateway {
    const NAME: &'static str = "store";
    type Config = Config;

    fn flags(command: Command) -> Command {
        config::flags(command)
    }

    fn config(flags: &ArgMatches) -> anyhow::Result<Config> {
        Config::from_flags(flags)
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<StoreGateway> {
        for note in &config.objstore.notes {
            warn!("--objstore.config: {note}");
        }
        context.readiness.set_not_ready("the bucket was not read yet");
        let (mut store_metrics, mut metrics) =
            (objstore::Metrics::unregistered(), Metrics::default());
        context.metrics.register(|registry| {
            store_metrics = objstore::Metrics::register(registry);
            metrics = Metrics::register(registry);
        });
        let bucket = config
            .objstore
            .open(&environment(&context), &store_metrics)
            .await
            .with_context(|| format!("open the bucket: {}", config.objstore.describe()))?;
        let fs: SharedFs = Arc::new(Disk);
        fs.make_directory(&config.data_dir).with_context(|| {
            let path = config.data_dir.display();
            format!("--data-dir={path}: cannot be made, choose a directory that can be written")
        })?;
        let parts = Parts::new(&config, &context, bucket, fs, metrics)?;
        let store: Arc<dyn Store> = Arc::clone(&parts.store) as Arc<dyn Store>;
        let (routes, health) = storeapi::server::routes(Arc::clone(&store), parts.calls).await?;
        let grpc_address = daemon::grpc::serve(&context, &config.grpc, routes).await?;
        let router = http::routes(Arc::clone(&parts.store.blocks), config.web_label.clone());
        let http_address = daemon::http::serve(&context, &config.http, router).await?;
        info!(bucket = config.objstore.describe(), "serving the blocks of the bucket");
        context
            .tasks
            .spawn_vital("sync blocks", parts.sync.run(config.sync_interval, context.clone()));
        let (readiness, tasks) = (context.readiness.clone(), context.tasks.clone());
        context.tasks.spawn_vital("mirror health", async move {
            let mut is_ready = false;
            loop {
                is_ready = tokio::select! {
                    is_ready = readiness.part_changed(is_ready) => is_ready,
                    () = tasks.stopping() => return Ok(()),
                };
                health.set_ready(is_ready).await;
            }
        });
        Ok(StoreGateway { http_address, grpc_address, store })
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}

fn environment(context: &Context) -> Environment {
    let (clock, monotonic) = (Arc::clone(&context.clock), Arc::clone(&context.clock));
    let random = Arc::clone(&context.random);
    Environment::new(
        move || clock.now_ms(),
        move || monotonic.monotonic(),
        move || random.next_u64(),
    )
}

/// The gateway without servers.
struct Parts {
    store: Arc<BucketStore>,
    sync: Sync,
    calls: CallBudget,
}

impl Parts {
    fn new(
        config: &Config,
        context: &Context,
        bucket: SharedStore,
        fs: SharedFs,
        metrics: Metrics,
    ) -> anyhow::Result<Parts> {
        let memory = context.memory;
        let process = &context.budget;
        let share = |wanted: usize, share: usize, flag: &str| {
            let most = memory.limit_bytes / share;
            if wanted > most {
                info!("--{flag}={wanted}: cut to {most} bytes, 1/{share} of the memory there is");
            }
            wanted.min(most)
        };
        let cache_bytes = share(config.cache_bytes, CACHE_SHARE, "index-cache-size");
        let cache = PageCache::new(cache_bytes, &process.child("page cache", usize::MAX))
            .context("--index-cache-size")?;
        let calls_bytes = share(config.calls_bytes, CALLS_SHARE, "chunk-pool-size");
        let calls = CallBudget {
            budget: process.child("store calls", calls_bytes),
            call_bytes_max: calls_bytes,
        };
        let remote = Arc::new(Remote::new(bucket, cache, metrics.clone()));
        let blocks = Arc::new(Blocks::default());
        let store = BucketStore {
            name: format!("store gateway of {}", config.objstore.describe()),
            blocks: Arc::clone(&blocks),
            remote: Arc::clone(&remote),
            tasks: context.tasks.clone(),
            metrics: metrics.clone(),
            limits: config.limits,
            gate: Arc::new(Semaphore::new(config.series_concurrency)),
        };
        let headers = IndexHeaders {
            fs,
            data_dir: config.data_dir.clone(),
            sample_rate: config.sample_rate,
            tasks: context.tasks.clone(),
            metrics: metrics.clone(),
        };
        let sync = Sync {
            view: bucket::View::new(config.meta_concurrency),
            rules: Rules {
                min_time: config.min_time,
                max_time: config.max_time,
                consistency_delay: config.consistency_delay,
                ignore_deletion_marks_delay: config.ignore_deletion_marks_delay,
            },
            remote,
            headers,
            blocks,
            budget: process.child("index headers", usize::MAX),
            metrics,
            load_concurrency: config.load_concurrency,
            told: BTreeSet::new(),
        };
        Ok(Parts { store: Arc::new(store), sync, calls })
    }
}
