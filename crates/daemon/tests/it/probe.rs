//! A service that does what its flags tell it, so that a life can be watched from outside.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{anyhow, bail};
use axum::Router;
use axum::routing::get;
use clap::{ArgMatches, Command};
use daemon::{Context, Service, flags, grpc, http};
use tracing::info;

pub(crate) struct Probe {
    http_address: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Config {
    http: http::Config,
    grpc: grpc::Config,
    mode: String,
    labels: Vec<String>,
    compression: bool,
    objstore: Option<String>,
}

impl Service for Probe {
    const NAME: &'static str = "probe";
    type Config = Config;

    fn flags(command: Command) -> Command {
        let command = flags::grpc(flags::http(command))
            .arg(flags::value("mode", "What to do.").default_value("serve"))
            .arg(flags::values("label", "External labels."))
            .arg(flags::duration("tsdb.retention", "15d", "How long."));
        let command = flags::bool_pair(command, "tsdb.wal-compression", true, "Compress.");
        let command = flags::config_pair(command, "objstore", "Bucket.");
        let command = flags::accepted(command, "receive.old", "it was always useless");
        flags::refused(command, "receive.replication-factor", "1", "there is one copy")
    }

    fn config(flags: &ArgMatches) -> anyhow::Result<Config> {
        let labels = flags.get_many::<String>("label").into_iter().flatten();
        Ok(Config {
            http: http::Config::from_flags(flags)?,
            grpc: grpc::Config::from_flags(flags)?,
            mode: flags::text_of(flags, "mode"),
            labels: labels.cloned().collect(),
            compression: flags::is_on(flags, "tsdb.wal-compression"),
            objstore: flags::config_text(flags, "objstore")?,
        })
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<Probe> {
        if config.mode == "show" {
            let Config { labels, compression, objstore, .. } = &config;
            let objstore = objstore.as_deref().unwrap_or_default();
            info!("shown {labels:?} {compression} {objstore:?}");
        }
        let http_address = http::serve(&context, &config.http, router()).await?;
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let routes = tonic::service::Routes::new(health_service);
        grpc::serve(&context, &config.grpc, routes).await?;
        spawn(&context, &config.mode)?;
        context.readiness.set_ready();
        Ok(Probe { http_address })
    }

    async fn close(self) -> anyhow::Result<()> {
        info!(address = %self.http_address, "closing the probe");
        Ok(())
    }
}

fn router() -> Router {
    let slow = async || {
        info!("asked");
        tokio::time::sleep(Duration::from_millis(600)).await;
        "slow but sure"
    };
    let forever = async || {
        info!("asked");
        std::future::pending::<&'static str>().await
    };
    let panics = async || -> &'static str { panic!("as the test asks") };
    Router::new()
        .route("/slow", get(slow))
        .route("/forever", get(forever))
        .route("/panic", get(panics))
        .route("/api/v1/label/{name}/values", get(async || "[]"))
}

fn spawn(context: &Context, mode: &str) -> anyhow::Result<()> {
    let tasks = context.tasks.clone();
    let soon = Duration::from_millis(100);
    match mode {
        "fail-at-start" => bail!("the data directory is\nnot writable"),
        "vital-fails" => {
            context.tasks.spawn_vital("committer", async move {
                tokio::time::sleep(soon).await;
                Err(anyhow!("disk full").context("write the log"))
            });
        }
        "vital-ends" => {
            context.tasks.spawn_vital("committer", async move {
                tokio::time::sleep(soon).await;
                Ok(())
            });
        }
        "finishes" => {
            context.tasks.spawn_vital("one pass", async move {
                tokio::time::sleep(soon).await;
                tasks.finish();
                tasks.stopping().await;
                Ok(())
            });
        }
        "vital-panics" => {
            context.tasks.spawn_vital("committer", async move {
                tokio::time::sleep(soon).await;
                panic!("an invariant is broken")
            });
        }
        "thread-panics" => context.tasks.thread("engine", move || {
            std::thread::sleep(soon);
            panic!("an invariant is broken")
        })?,
        "part-dies" => {
            let part = context.part("inner");
            part.readiness.set_ready();
            part.tasks.spawn_vital("inner loop", async move { Err(anyhow!("lost")) });
        }
        _ => {
            context.tasks.spawn("failing", async move { Err(anyhow!("one pass failed")) });
            context.tasks.spawn("panicking", async move { panic!("one pass panicked") });
            let thread = context.tasks.clone();
            context.tasks.thread("engine", move || {
                while !thread.is_stopping() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                info!("the engine ended");
                Ok(())
            })?;
            context.tasks.spawn_vital("worker", async move {
                tasks.stopping().await;
                info!("the worker ended");
                Ok(())
            });
        }
    }
    Ok(())
}
