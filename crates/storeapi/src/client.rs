//! A store on the other end of a gRPC connection.

use std::fmt;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use model::{Budget, Reservation};
use tokio::sync::watch;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tower::Layer as _;

use crate::convert;
use crate::error::Error;
use crate::frame::SeriesResponse;
use crate::merge::series_bytes;
use crate::pb;
use crate::pb::thanos::info as pb_info;
use crate::request::{LabelsRequest, LabelsResponse, SeriesRequest, StoreInfo};
use crate::server::MESSAGE_BYTES_MAX;
use crate::snappy::{Side, Snappy, SnappyLayer};
use crate::status::{from_status, was_never_taken_up};
use crate::store::{SeriesFrame, SeriesFrames, Store};

/// HTTP/2 window of one call, so that a stream never waits for the round trip. As much of an
/// answer may lie here unread and unaccounted.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// HTTP/2 window of a connection, which many calls share: the largest that there is. What arrived
/// and was not read takes room in it, so that with a smaller one a few calls whose answers wait
/// would stop all others, also that one whose end they wait for.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// How often a connection is asked whether it lives, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach a store.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port`.
    pub address: String,
    /// TLS, where the store wants it.
    pub tls: Option<ClientTlsConfig>,
    /// Whether requests are packed by framed snappy, and so the answers.
    pub compress: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the next message of a stream; none waits as long as the caller does.
    pub response_timeout: Option<Duration>,
}

impl ClientConfig {
    /// A plain connection to `host:port`.
    pub fn new(address: &str) -> ClientConfig {
        ClientConfig {
            address: address.to_owned(),
            tls: None,
            compress: false,
            connect_timeout: Duration::from_secs(5),
            response_timeout: None,
        }
    }
}

/// A store that is reached by gRPC. Connects when it is first called, and again when the
/// connection was lost.
///
/// A server closes connections when they are old and when it stops. A call that meets this and
/// that the server never took up is made once more, at once, over a new connection.
pub struct RemoteStore {
    address: String,
    channel: Snappy<Channel>,
    /// A connection of its own, so that large answers hold up nobody who asks whether the store
    /// is there.
    info_channel: Snappy<Channel>,
    response_timeout: Option<Duration>,
    info: watch::Sender<StoreInfo>,
}

impl RemoteStore {
    /// Prepares the connection; nothing is sent yet. Must be called inside of a tokio runtime.
    ///
    /// # Errors
    /// `InvalidArgument` for an address or TLS settings that make no sense.
    pub fn new(config: ClientConfig) -> Result<RemoteStore, Error> {
        let ClientConfig { address, tls, compress, connect_timeout, response_timeout } = config;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let refused = |error: &dyn fmt::Display| {
            Error::InvalidArgument(format!("store address {address:?}: {error}"))
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| refused(&error))?;
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls).map_err(|error| refused(&error))?;
        }
        let endpoint = endpoint
            .connect_timeout(connect_timeout)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .tcp_nodelay(true);
        let snappy = SnappyLayer::new(Side::Client { compress }, MESSAGE_BYTES_MAX);
        Ok(RemoteStore {
            address,
            channel: snappy.layer(endpoint.connect_lazy()),
            info_channel: snappy.layer(endpoint.connect_lazy()),
            response_timeout,
            info: watch::Sender::new(StoreInfo::default()),
        })
    }

    /// Asks the store what it holds, and remembers the answer for [`Store::info`].
    ///
    /// # Errors
    /// What the store answered, `Unavailable` when it cannot be reached, `DeadlineExceeded`.
    pub async fn refresh(&self, deadline: Duration) -> Result<StoreInfo, Error> {
        let ask = || {
            let mut client = pb_info::info_client::InfoClient::new(self.info_channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            let mut request = Request::new(pb_info::InfoRequest {});
            request.set_timeout(deadline);
            async move { client.info(request).await }
        };
        let answer = self.call(Some(deadline), ask).await?;
        let info = convert::store_info(answer).map_err(|it| it.at(&self.address))?;
        self.info.send_replace(info.clone());
        Ok(info)
    }

    fn client(&self) -> pb::thanos::store_client::StoreClient<Snappy<Channel>> {
        pb::thanos::store_client::StoreClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn too_late(&self, deadline: Duration) -> Error {
        Error::DeadlineExceeded(format!("{}: no answer within {deadline:?}", self.address))
    }

    /// Calls, and once more when the call was never taken up: nothing that a store answers
    /// changes anything in it. Waits for the answer no longer than `deadline`.
    async fn call<T, F>(&self, deadline: Option<Duration>, ask: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = async {
            match ask().await {
                Err(status) if was_never_taken_up(&status) => ask().await,
                answer => answer,
            }
        };
        let answer = match deadline {
            None => answer.await,
            Some(deadline) => {
                tokio::time::timeout(deadline, answer).await.map_err(|_| self.too_late(deadline))?
            }
        };
        let answer = answer.map_err(|status| from_status(&status, &self.address))?;
        Ok(answer.into_inner())
    }
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteStore").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Store for RemoteStore {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn info(&self) -> StoreInfo {
        self.info.borrow().clone()
    }

    fn series(
        &self,
        request: SeriesRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<SeriesFrames, Error>> {
        async move {
            let message = convert::series_request_message(&request);
            let ask = || {
                let (mut client, message) = (self.client(), message.clone());
                async move { client.series(message).await }
            };
            let messages = self.call(self.response_timeout, ask).await?;
            let reader = Reader {
                address: self.address.clone(),
                messages,
                response_timeout: self.response_timeout,
                reservation: budget.reserve(0)?,
                is_over: false,
            };
            Ok(reader.frames())
        }
        .boxed()
    }

    fn label_names(
        &self,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        async move {
            let message = convert::names_request_message(&request);
            let ask = || {
                let (mut client, message) = (self.client(), message.clone());
                async move { client.label_names(message).await }
            };
            let answer = self.call(self.response_timeout, ask).await?;
            affordable(convert::names_response(answer), &budget)
        }
        .boxed()
    }

    fn label_values(
        &self,
        name: String,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        async move {
            let message = convert::values_request_message(name, &request);
            let ask = || {
                let (mut client, message) = (self.client(), message.clone());
                async move { client.label_values(message).await }
            };
            let answer = self.call(self.response_timeout, ask).await?;
            affordable(convert::values_response(answer), &budget)
        }
        .boxed()
    }
}

/// The answer, when the account has room for it; the caller charges what it keeps.
fn affordable(answer: LabelsResponse, budget: &Budget) -> Result<LabelsResponse, Error> {
    budget.reserve(answer.size_bytes())?;
    Ok(answer)
}

/// Reads the messages of one Series call.
struct Reader {
    address: String,
    messages: Streaming<SeriesResponse>,
    response_timeout: Option<Duration>,
    /// What the last batch holds, until the next one is asked for.
    reservation: Reservation,
    is_over: bool,
}

impl Reader {
    fn frames(self) -> SeriesFrames {
        stream::unfold(self, |mut reader| async move {
            let frame = reader.next().await?;
            reader.is_over = frame.is_err();
            Some((frame, reader))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<SeriesFrame, Error>> {
        while !self.is_over {
            match self.message().await {
                Ok(None) => return None,
                Ok(Some(SeriesResponse::Other)) => {}
                Ok(Some(SeriesResponse::Series(series))) => return Some(self.batch(vec![series])),
                Ok(Some(SeriesResponse::Frame(SeriesFrame::Batch(batch)))) => {
                    return Some(self.batch(batch));
                }
                Ok(Some(SeriesResponse::Frame(warning))) => return Some(Ok(warning)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    async fn message(&mut self) -> Result<Option<SeriesResponse>, Error> {
        let message = match self.response_timeout {
            None => self.messages.message().await,
            Some(deadline) => {
                let message = tokio::time::timeout(deadline, self.messages.message()).await;
                message.map_err(|_| {
                    let text = format!("{}: no message within {deadline:?}", self.address);
                    Error::DeadlineExceeded(text)
                })?
            }
        };
        message.map_err(|status| from_status(&status, &self.address))
    }

    fn batch(&mut self, batch: Vec<crate::store::StoreSeries>) -> Result<SeriesFrame, Error> {
        self.reservation.resize(batch.iter().map(series_bytes).sum())?;
        Ok(SeriesFrame::Batch(batch))
    }
}
