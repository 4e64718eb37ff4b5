//! Accepts connections and serves them until the process stops.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, warn};

use crate::Tasks;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8192;
/// How long the head of a request may take to come in, so that nobody holds connections for free.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after an accept that failed, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Server {
    pub(crate) tasks: Tasks,
    pub(crate) name: &'static str,
    pub(crate) grace_period: Duration,
    pub(crate) router: Router,
}

impl Server {
    /// Serves until the process drains, then lets requests in hand end within the grace period.
    pub(crate) async fn run(self, listener: TcpListener) -> anyhow::Result<()> {
        let graceful = GracefulShutdown::new();
        // One clock decides: connections with a clock of their own might end right before this
        // one looks, and nobody would say that they were cut.
        let cut = CancellationToken::new();
        let _cut_at_the_end = cut.clone().drop_guard();
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accept_all = async {
            loop {
                let permit = Arc::clone(&connections).acquire_owned().await?;
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        self.spawn(stream, peer, graceful.watcher(), (cut.clone(), permit));
                    }
                    Err(error) => self.refused(&error).await,
                }
            }
        };
        let accepted: anyhow::Result<()> = tokio::select! {
            biased;
            () = self.tasks.draining() => Ok(()),
            result = accept_all => result,
        };
        accepted?;
        drop(listener);
        let count = graceful.count();
        if tokio::time::timeout(self.grace_period, graceful.shutdown()).await.is_err() {
            warn!(listener = self.name, connections = count, "cutting what did not end in time");
        }
        Ok(())
    }

    fn spawn(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
        (cut, permit): (CancellationToken, OwnedSemaphorePermit),
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(peer = %peer, %error, "cannot turn off Nagle's algorithm");
        }
        let router = self.router.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            let mut router = router.clone();
            async move { router.call(request).await.map_err(|error: Infallible| error) }
        });
        self.tasks.spawn_connection(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            builder.http2().timer(TokioTimer::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let connection = watcher.watch(connection.into_owned());
            tokio::select! {
                result = connection => if let Err(error) = result {
                    debug!(peer = %peer, error, "a connection ended early");
                },
                () = cut.cancelled() => {}
            }
            drop(permit);
        });
    }

    async fn refused(&self, error: &io::Error) {
        warn!(listener = self.name, %error, "cannot accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
