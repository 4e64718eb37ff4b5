//! The gRPC server of a daemon: listens with wide windows, measures, drains.

mod measure;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::response::{IntoResponse as _, Response};
use clap::{ArgMatches, Command};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{info, warn};

pub(crate) use crate::grpc::measure::GrpcMetrics;
use crate::{Context, flags, http};

/// Bytes that one stream may have under way; a Series answer is long and the line may be too.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes that one connection may have under way: several wide streams share it.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Streams at once on one connection.
const STREAMS_MAX: u32 = 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Where and how a gRPC server listens.
#[derive(Clone, Debug)]
pub struct Config {
    /// The flag that an address in use is blamed on, such as `--grpc-address`.
    pub flag: &'static str,
    /// `host:port`; an empty host is all addresses, port 0 is a free one.
    pub address: String,
    /// How long calls in hand may go on once the process stops.
    pub grace_period: Duration,
    /// Age at which a connection is asked to be made anew; zero is never.
    pub max_connection_age: Duration,
    /// Certificate and key to serve with, and whose clients' certificates must be signed by.
    pub tls: Option<Tls>,
}

/// What TLS needs, all in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The server's certificate and those above it.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
    /// The authority that clients' certificates must come from; none: clients need no certificate.
    pub client_authority: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("asks_clients", &self.client_authority.is_some())
            .finish_non_exhaustive()
    }
}

impl Config {
    /// What the flags of [`flags::grpc`] say; reads the files of TLS.
    ///
    /// # Errors
    /// Names the flag whose value makes no sense, whose file cannot be read, or that is missing.
    pub fn from_flags(flags: &ArgMatches) -> anyhow::Result<Config> {
        let address = flags::text_of(flags, "grpc-address");
        http::check_address("--grpc-address", &address)?;
        Ok(Config {
            flag: "--grpc-address",
            address,
            grace_period: flags::duration_of(flags, "grpc-grace-period"),
            max_connection_age: flags::duration_of(flags, "grpc-server-max-connection-age"),
            tls: tls_from_flags(flags)?,
        })
    }
}

/// The flags that [`Config::from_flags`] reads.
pub(crate) fn flags(command: Command) -> Command {
    let command = command
        .arg(
            flags::value("grpc-address", "Listen host:port of the gRPC server.")
                .default_value("0.0.0.0:10901"),
        )
        .arg(flags::duration(
            "grpc-grace-period",
            "2m",
            "Time that calls may take to end after an interrupt.",
        ))
        .arg(flags::duration(
            "grpc-server-max-connection-age",
            "60m",
            "Age at which clients are asked to connect anew; 0 is never.",
        ))
        .arg(flags::value("grpc-server-tls-cert", "Certificate (PEM) to serve gRPC with."))
        .arg(flags::value("grpc-server-tls-key", "Private key (PEM) of that certificate."))
        .arg(flags::value(
            "grpc-server-tls-client-ca",
            "Authority (PEM) that clients' certificates must come from.",
        ));
    let command = flags::refused(
        command,
        "grpc-server-tls-min-version",
        "1.3",
        "the lowest version cannot be chosen: TLS 1.3 is preferred and 1.2 accepted",
    );
    let command = flags::refused(
        command,
        "grpc-server-tls-ciphers",
        "",
        "ciphers cannot be chosen: only sound ones are offered",
    );
    flags::refused(
        command,
        "grpc-server-tls-curves",
        "",
        "curves cannot be chosen: only sound ones are offered",
    )
}

fn tls_from_flags(flags: &ArgMatches) -> anyhow::Result<Option<Tls>> {
    let [certificate, key, client_authority] =
        ["grpc-server-tls-cert", "grpc-server-tls-key", "grpc-server-tls-client-ca"]
            .map(|name| flags::file_of(flags, name));
    match (certificate?, key?, client_authority?) {
        (Some(certificate), Some(key), client_authority) => {
            Ok(Some(Tls { certificate, key, client_authority }))
        }
        (None, None, None) => Ok(None),
        (None, None, Some(_)) => bail!(
            "--grpc-server-tls-client-ca: needs --grpc-server-tls-cert and --grpc-server-tls-key"
        ),
        _ => bail!("--grpc-server-tls-cert and --grpc-server-tls-key: give both or none"),
    }
}

/// Binds, then serves `routes` in the background until the process stops; gives the address.
///
/// Calls are measured, and a handler's panic becomes `Internal`. Message sizes and compression
/// are for the services in `routes` to set.
///
/// # Errors
/// The address cannot be bound, or TLS does not accept its files; names the flag.
pub async fn serve(
    context: &Context,
    config: &Config,
    routes: Routes,
) -> anyhow::Result<SocketAddr> {
    let listener = http::bind(config.flag, &config.address).await?;
    let address = listener.local_addr()?;
    let mut server = builder(config)?;
    let panics = context.metrics.grpc();
    let router = routes.into_axum_router().layer(CatchPanicLayer::custom(move |_| {
        panics.panicked();
        let status = Status::internal("the handler panicked, see the log of the server");
        let response: Response = status.into_http::<axum::body::Body>().into_response();
        response
    }));
    let router = measure::add(context, router);
    let routes = Routes::from(router);
    let (tasks, grace_period) = (context.tasks.clone(), config.grace_period);
    context.tasks.spawn_server("grpc", async move {
        let draining = tasks.clone();
        let incoming = TcpListenerStream::new(listener);
        let serve = server
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, async move { draining.draining().await });
        let too_late = async {
            tasks.draining().await;
            tokio::time::sleep(grace_period).await;
        };
        tokio::select! {
            result = serve => result.context("serve gRPC"),
            () = too_late => {
                warn!("cutting the gRPC calls that did not end in time");
                Ok(())
            }
        }
    });
    info!(address = %address, tls = config.tls.is_some(), "listening for gRPC");
    Ok(address)
}

fn builder(config: &Config) -> anyhow::Result<Server> {
    let mut server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .tcp_nodelay(true);
    if !config.max_connection_age.is_zero() {
        // Only the age: with a grace beside it tonic sends no GOAWAY but cuts the connection.
        server = server.max_connection_age(config.max_connection_age);
    }
    if let Some(tls) = &config.tls {
        let mut of_server =
            ServerTlsConfig::new().identity(Identity::from_pem(&tls.certificate, &tls.key));
        if let Some(authority) = &tls.client_authority {
            of_server = of_server.client_ca_root(Certificate::from_pem(authority));
        }
        server = server
            .tls_config(of_server)
            .context("--grpc-server-tls-cert and --grpc-server-tls-key: not a pair of PEM files")?;
    }
    Ok(server)
}
