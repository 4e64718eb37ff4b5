//! The HTTP server of a daemon: listens, adds the routes every daemon has, measures, drains.

mod admin;
mod connections;
mod measure;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::response::{IntoResponse as _, Response};
use clap::{ArgMatches, Command};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::info;

pub(crate) use crate::http::measure::HttpMetrics;
use crate::{Context, flags};

/// Where and how an HTTP server listens.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the listener in logs: `http`, `remote-write`.
    pub name: &'static str,
    /// The flag that an address in use is blamed on, such as `--http-address`.
    pub flag: &'static str,
    /// `host:port`; an empty host is all addresses, port 0 is a free one.
    pub address: String,
    /// How long requests in hand may go on once the process stops.
    pub grace_period: Duration,
    /// Whether `/metrics`, `/-/healthy` and `/-/ready` are answered here.
    pub has_admin_routes: bool,
}

impl Config {
    /// What the flags of [`flags::http`] say.
    ///
    /// # Errors
    /// Names the flag whose value makes no sense.
    pub fn from_flags(flags: &ArgMatches) -> anyhow::Result<Config> {
        let address = flags::text_of(flags, "http-address");
        check_address("--http-address", &address)?;
        Ok(Config {
            name: "http",
            flag: "--http-address",
            address,
            grace_period: flags::duration_of(flags, "http-grace-period"),
            has_admin_routes: true,
        })
    }
}

/// The flags that [`Config::from_flags`] reads.
pub(crate) fn flags(command: Command) -> Command {
    let command = command
        .arg(
            flags::value("http-address", "Listen host:port of the HTTP server.")
                .default_value("0.0.0.0:10902"),
        )
        .arg(flags::duration(
            "http-grace-period",
            "2m",
            "Time that requests may take to end after an interrupt.",
        ));
    let reason = "TLS and passwords on HTTP are not there yet; put a proxy in front";
    flags::refused(command, "http.config", "", reason)
}

/// Binds, then serves `router` in the background until the process stops; gives the address.
///
/// Requests are measured by their matched route, a handler's panic becomes a 500. axum's limit
/// of 2 MiB on bodies is as the router has it.
///
/// # Errors
/// The address cannot be bound; names the flag.
pub async fn serve(
    context: &Context,
    config: &Config,
    router: Router,
) -> anyhow::Result<SocketAddr> {
    let listener = bind(config.flag, &config.address).await?;
    let address = listener.local_addr()?;
    let router = match config.has_admin_routes {
        true => router.merge(admin::routes(context)),
        false => router,
    };
    let router = router.layer(CatchPanicLayer::custom(|_| internal_error()));
    let router = measure::add(context, router);
    let server = connections::Server {
        tasks: context.tasks.clone(),
        name: config.name,
        grace_period: config.grace_period,
        router,
    };
    context.tasks.spawn_server(config.name, server.run(listener));
    info!(listener = config.name, address = %address, "listening for HTTP");
    Ok(address)
}

/// Whether an address may be one to listen on; whether it is one, only listening tells.
///
/// # Errors
/// Names the flag, and says what an address looks like.
pub fn check_address(flag: &str, address: &str) -> anyhow::Result<()> {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    let is_port = port.is_some_and(|it| it.parse::<u16>().is_ok());
    ensure!(is_port, "{flag}={address}: an address is host:port, such as 0.0.0.0:10902");
    Ok(())
}

/// Binds a listener, or says which flag asked for an address that cannot be had.
pub(crate) async fn bind(flag: &str, address: &str) -> anyhow::Result<TcpListener> {
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.into() };
    let bound = TcpListener::bind(&full).await;
    bound.with_context(|| format!("{flag}={address}: cannot listen there, choose another address"))
}

fn internal_error() -> Response {
    let code = http::StatusCode::INTERNAL_SERVER_ERROR;
    (code, "internal error: the handler panicked, see the log\n").into_response()
}
