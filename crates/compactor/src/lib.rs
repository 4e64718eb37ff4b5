//! The compactor: retention, deletion marks, delayed deletion, clean-up of given-up uploads.
//!
//! Rules are functions of values (`retention`, `selection`); carrying them out is apart
//! (`pass`), and when is another matter (`rounds`). Nothing that it finds makes it halt: what
//! is damaged is named and left alone, what fails is tried again.

mod config;
mod metrics;
mod pass;
mod retention;
mod rounds;
mod selection;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{ArgMatches, Command};
use daemon::{Context, Service};
use objstore::Environment;
use tracing::{info, warn};

pub use crate::config::Config;
use crate::metrics::Metrics;
use crate::pass::Pass;
use crate::rounds::Rounds;

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
        info!(
            "compaction and downsampling come in a later version: this one does retention, \
             deletion and the clean-up of partial uploads"
        );
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
        let http_address = daemon::http::serve(&context, &config.http, axum::Router::new()).await?;
        let view = bucket::View::new(config.sync_concurrency);
        let rounds = Rounds {
            pass: Pass::new(store, view, config.rules, metrics, Arc::clone(&context.clock)),
            bucket: config.objstore.describe(),
            wait: config.wait,
            wait_interval: config.wait_interval,
            cleanup_interval: config.cleanup_interval,
            context: context.clone(),
        };
        context.tasks.spawn_vital("compact", rounds.run());
        Ok(Compactor { http_address })
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}
