//! A [`Store`] as a gRPC service, with what stands beside it on every server: Info, health and
//! reflection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::Stream;
use futures_util::stream::{self, StreamExt as _};
use model::Budget;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::convert;
use crate::error::Error;
use crate::frame::SeriesResponse;
use crate::merge::series_bytes;
use crate::pb;
use crate::pb::thanos::info as pb_info;
use crate::snappy::{Side, SnappyLayer};
use crate::status::to_status;
use crate::store::{SeriesFrame, SeriesFrames, Store, StoreSeries};

/// Most bytes of one message in either direction, as in Thanos.
pub const MESSAGE_BYTES_MAX: usize = 0x7fff_ffff;
/// Most bytes of a request, which is matchers and numbers.
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// A batch is cut when it holds this much, so that a message stays far below what a peer takes.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Series with more chunks than this are sent in several pieces.
const SERIES_CHUNKS_MAX: usize = 16 * 1024;

/// The memory of the calls to a store.
#[derive(Clone, Debug)]
pub struct CallBudget {
    /// The account above all calls.
    pub budget: Budget,
    /// Most bytes that one call may hold.
    pub call_bytes_max: usize,
}

/// Whether the server is ready, for the health service.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Says whether calls are welcome. NOT_SERVING until told otherwise.
    pub async fn set_ready(&self, is_ready: bool) {
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status("", status).await;
    }
}

/// All gRPC services of a daemon that holds series: Store, Info, health, reflection; with framed
/// snappy for those who want it.
///
/// # Errors
/// `Internal` when the descriptors that were compiled in cannot be read.
pub async fn routes(store: Arc<dyn Store>, memory: CallBudget) -> Result<(Routes, Health), Error> {
    let service = StoreService { store, memory, calls: Arc::new(AtomicU64::new(0)) };
    let store = pb::thanos::store_server::StoreServer::new(service.clone())
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let info = pb_info::info_server::InfoServer::new(service);
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health = Health { reporter };
    health.set_ready(false).await;

    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let unreadable = |error| Error::Internal(format!("descriptors of the protocol: {error}"));
    let routes = Routes::new(store)
        .add_service(info)
        .add_service(health_service)
        .add_service(descriptors().build_v1().map_err(unreadable)?)
        .add_service(descriptors().build_v1alpha().map_err(unreadable)?);
    let snappy = SnappyLayer::new(Side::Server, REQUEST_BYTES_MAX);
    Ok((Routes::from(routes.into_axum_router().layer(snappy)), health))
}

/// The service behind the generated server.
#[derive(Clone)]
struct StoreService {
    store: Arc<dyn Store>,
    memory: CallBudget,
    calls: Arc<AtomicU64>,
}

impl StoreService {
    fn call_budget(&self, method: &str) -> Budget {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.memory.budget.child(format!("{method} call {call}"), self.memory.call_bytes_max)
    }
}

impl fmt::Debug for StoreService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreService").field("store", &self.store).finish_non_exhaustive()
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<SeriesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl pb::thanos::store_server::Store for StoreService {
    type SeriesStream = Responses;

    async fn series(
        &self,
        request: Request<pb::thanos::SeriesRequest>,
    ) -> Result<Response<Responses>, Status> {
        let request = convert::series_request(request.into_inner()).map_err(|it| to_status(&it))?;
        let batch_size = request.batch_size;
        let budget = self.call_budget("Series");
        let frames = self.store.series(request, budget).await.map_err(|it| to_status(&it))?;
        Ok(Response::new(responses(frames, batch_size)))
    }

    async fn label_names(
        &self,
        request: Request<pb::thanos::LabelNamesRequest>,
    ) -> Result<Response<pb::thanos::LabelNamesResponse>, Status> {
        let request = convert::names_request(request.into_inner()).map_err(|it| to_status(&it))?;
        let names = self.store.label_names(request, self.call_budget("LabelNames")).await;
        let names = names.map_err(|it| to_status(&it))?;
        Ok(Response::new(convert::names_response_message(names)))
    }

    async fn label_values(
        &self,
        request: Request<pb::thanos::LabelValuesRequest>,
    ) -> Result<Response<pb::thanos::LabelValuesResponse>, Status> {
        let (label, request) =
            convert::values_request(request.into_inner()).map_err(|it| to_status(&it))?;
        let budget = self.call_budget("LabelValues");
        let values = self.store.label_values(label, request, budget).await;
        let values = values.map_err(|it| to_status(&it))?;
        Ok(Response::new(convert::values_response_message(values)))
    }
}

#[tonic::async_trait]
impl pb_info::info_server::Info for StoreService {
    async fn info(
        &self,
        _request: Request<pb_info::InfoRequest>,
    ) -> Result<Response<pb_info::InfoResponse>, Status> {
        Ok(Response::new(convert::store_info_message(self.store.info())))
    }
}

/// The stream as messages: batches of at most `batch_size` series, or one series each for callers
/// that do not know batches.
fn responses(frames: SeriesFrames, batch_size: usize) -> Responses {
    let messages = frames.flat_map(move |frame| {
        stream::iter(match frame {
            Ok(SeriesFrame::Batch(batch)) => cut(batch, batch_size),
            Ok(warning @ SeriesFrame::Warning(_)) => vec![Ok(SeriesResponse::Frame(warning))],
            Err(error) => vec![Err(to_status(&error))],
        })
    });
    Box::pin(messages)
}

fn cut(batch: Vec<StoreSeries>, batch_size: usize) -> Vec<Result<SeriesResponse, Status>> {
    let mut pieces = Vec::with_capacity(batch.len());
    for series in batch {
        cut_series(series, &mut pieces);
    }
    if batch_size == 0 {
        return pieces.into_iter().map(|it| Ok(SeriesResponse::Series(it))).collect();
    }
    let mut messages = Vec::new();
    let (mut open, mut open_bytes) = (Vec::new(), 0);
    for series in pieces {
        open_bytes += series_bytes(&series);
        open.push(series);
        if open.len() == batch_size || open_bytes >= BATCH_BYTES_MAX {
            messages.push(Ok(SeriesResponse::Frame(SeriesFrame::Batch(std::mem::take(&mut open)))));
            open_bytes = 0;
        }
    }
    if !open.is_empty() {
        messages.push(Ok(SeriesResponse::Frame(SeriesFrame::Batch(open))));
    }
    messages
}

/// A series of very many chunks goes as several with the same labels, one after the other.
fn cut_series(mut series: StoreSeries, pieces: &mut Vec<StoreSeries>) {
    while series.chunks.len() > SERIES_CHUNKS_MAX {
        let rest = series.chunks.split_off(SERIES_CHUNKS_MAX);
        let first = std::mem::replace(&mut series.chunks, rest);
        pieces.push(StoreSeries { labels: series.labels.clone(), chunks: first });
    }
    pieces.push(series);
}
