//! The querier: PromQL and Prometheus' HTTP API over all stores that it knows.

mod api;
mod app;
mod config;
mod decode;
mod endpoints;
mod fanout;
mod json;
mod limits;
mod pool;
mod status;
mod storage;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use clap::{ArgMatches, Command};
use daemon::{Context, Service};
use storeapi::server;
use tracing::warn;

use crate::app::App;
pub use crate::config::Config;
use crate::limits::INFO_INTERVAL;

/// The daemon.
#[derive(Debug)]
pub struct Querier {
    http_address: SocketAddr,
    grpc_address: SocketAddr,
}

impl Querier {
    /// Where the HTTP API listens.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where the StoreAPI listens.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }
}

impl Service for Querier {
    const NAME: &'static str = "query";
    type Config = Config;

    fn flags(command: Command) -> Command {
        config::flags(command)
    }

    fn config(flags: &ArgMatches) -> anyhow::Result<Config> {
        Config::from_flags(flags)
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<Querier> {
        for name in &config.query.unknown_features {
            warn!("--enable-feature={name} does nothing: there is no such feature");
        }
        let app = Arc::new(App::new(&config, &context)?);
        let http_address = daemon::http::serve(&context, &config.http, api::router(&app)).await?;
        let store = Arc::new(app.fanout.clone());
        let (routes, health) = server::routes(store, app.call_budget()).await?;
        let grpc_address = daemon::grpc::serve(&context, &config.grpc, routes).await?;
        watch_endpoints(&context, &app);
        mirror_health(&context, health);
        Ok(Querier { http_address, grpc_address })
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The HTTP API alone, over the stores of `config`, as tests and other processes embed it. Stores
/// that flags name are asked once, before this returns.
///
/// # Errors
/// What [`Service::start`] says about stores and threads.
pub async fn router(config: &Config, context: &Context) -> anyhow::Result<Router> {
    let app = Arc::new(App::new(config, context)?);
    app.endpoints.resolve().await;
    app.endpoints.refresh().await;
    Ok(api::router(&app))
}

/// Keeps looking up names and asking stores what they hold; ready after the first round.
fn watch_endpoints(context: &Context, app: &Arc<App>) {
    let (asking, asked) = (context.clone(), Arc::clone(app));
    let app = Arc::clone(app);
    if app.endpoints.has_names() {
        let (tasks, app) = (context.tasks.clone(), Arc::clone(&app));
        context.tasks.spawn_vital("endpoint-names", async move {
            while tasks.sleep(app.endpoints.dns_interval()).await {
                app.endpoints.resolve().await;
            }
            Ok(())
        });
    }
    context.tasks.spawn_vital("endpoints", async move {
        asked.endpoints.resolve().await;
        loop {
            asked.endpoints.refresh().await;
            asked.metrics.count_endpoints(&asked.endpoints);
            asking.readiness.set_ready();
            if !asking.tasks.sleep(INFO_INTERVAL).await {
                return Ok(());
            }
        }
    });
}

/// Tells gRPC's health service what the readiness of this part is.
fn mirror_health(context: &Context, health: server::Health) {
    let (tasks, readiness) = (context.tasks.clone(), context.readiness.clone());
    context.tasks.spawn_vital("grpc-health", async move {
        let mut is_ready = false;
        loop {
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                changed = readiness.part_changed(is_ready) => is_ready = changed,
            }
            health.set_ready(is_ready).await;
        }
    });
}
