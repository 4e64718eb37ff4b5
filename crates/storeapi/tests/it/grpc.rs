//! A store behind a server, asked through the client, is the same store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use model::{Budget, Matcher, TimeRange};
use storeapi::conformance;
use storeapi::request::{LabelsRequest, LabelsResponse, SeriesRequest, StoreInfo};
use storeapi::server::{self, CallBudget};
use storeapi::store::{SeriesFrame, SeriesFrames};
use storeapi::{ClientConfig, Error, RemoteStore, Store};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use crate::stores::store;

async fn serve(store: Arc<dyn Store>) -> (String, server::Health) {
    serve_by(tonic::transport::Server::builder(), store).await
}

/// Serves a store with the settings of `builder`.
pub(crate) async fn serve_by(
    mut builder: tonic::transport::Server,
    store: Arc<dyn Store>,
) -> (String, server::Health) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let memory = CallBudget { budget: Budget::unlimited(), call_bytes_max: 64 << 20 };
    let (routes, health) = server::routes(store, memory).await.unwrap();
    let server = builder.add_routes(routes);
    #[expect(clippy::disallowed_methods, reason = "the server ends with the test")]
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, health)
}

async fn connect(address: &str, compress: bool) -> RemoteStore {
    let config = ClientConfig {
        compress,
        response_timeout: Some(Duration::from_secs(5)),
        ..ClientConfig::new(address)
    };
    let remote = RemoteStore::new(config).unwrap();
    remote.refresh(Duration::from_secs(5)).await.unwrap();
    remote
}

#[tokio::test]
async fn a_remote_store_passes_the_suite() {
    let (store, held, external) = store();
    let info = store.info();
    let (address, _health) = serve(Arc::new(store)).await;
    let remote = connect(&address, false).await;
    assert_eq!(remote.info(), info);
    conformance::check(&remote, &held, &external).await;
}

#[tokio::test]
async fn and_so_it_does_under_snappy() {
    let (store, held, external) = store();
    let (address, _health) = serve(Arc::new(store)).await;
    conformance::check(&connect(&address, true).await, &held, &external).await;
}

/// Fails in all the ways that there are.
#[derive(Debug)]
struct Failing;

impl Failing {
    fn error(name: &str) -> Error {
        let text = format!("{name} went wrong");
        match name {
            "InvalidArgument" => Error::InvalidArgument(text),
            "ResourceExhausted" => Error::ResourceExhausted(text),
            "Unavailable" => Error::Unavailable(text),
            "DeadlineExceeded" => Error::DeadlineExceeded(text),
            "Canceled" => Error::Canceled(text),
            "Unimplemented" => Error::Unimplemented(text),
            "Internal" => Error::Internal(text),
            _ => Error::Aborted(text),
        }
    }
}

impl Store for Failing {
    fn name(&self) -> String {
        "failing".to_owned()
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::default()
    }

    fn series(
        &self,
        request: SeriesRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<SeriesFrames, Error>> {
        // In the middle of a stream.
        let error = Failing::error(request.matchers[0].value());
        let frames = [Ok(SeriesFrame::Warning("first".to_owned())), Err(error)];
        async move { Ok(stream::iter(frames).boxed()) }.boxed()
    }

    fn label_names(
        &self,
        request: LabelsRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        async move { Err(Failing::error(request.matchers[0].value())) }.boxed()
    }

    fn label_values(
        &self,
        name: String,
        _request: LabelsRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        async move { Err(Failing::error(&name)) }.boxed()
    }
}

#[tokio::test]
async fn errors_keep_their_kind_and_name_the_store() {
    let (address, _health) = serve(Arc::new(Failing)).await;
    for compress in [false, true] {
        let remote = connect(&address, compress).await;
        let kinds = [
            "InvalidArgument",
            "ResourceExhausted",
            "Unavailable",
            "DeadlineExceeded",
            "Canceled",
            "Aborted",
            "Unimplemented",
            "Internal",
        ];
        for kind in kinds {
            let request = SeriesRequest::new(TimeRange::ALL, vec![Matcher::equal("kind", kind)]);
            let labels = LabelsRequest {
                range: TimeRange::ALL,
                matchers: request.matchers.clone(),
                partial_response: request.partial_response,
                without_replica_labels: Vec::new(),
                limit: 0,
            };
            let expected = format!("{kind}({:?})", format!("{address}: {kind} went wrong"));
            let mut frames = remote.series(request, Budget::unlimited()).await.unwrap();
            let first = frames.next().await.unwrap().unwrap();
            assert_eq!(first, SeriesFrame::Warning("first".to_owned()));
            let error = frames.next().await.unwrap().unwrap_err();
            assert_eq!(format!("{error:?}"), expected);
            assert!(frames.next().await.is_none());
            let error = remote.label_names(labels.clone(), Budget::unlimited()).await.unwrap_err();
            assert_eq!(format!("{error:?}"), expected);
            let error = remote
                .label_values(kind.to_owned(), labels, Budget::unlimited())
                .await
                .unwrap_err();
            assert_eq!(format!("{error:?}"), expected);
        }
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let remote = RemoteStore::new(ClientConfig::new("127.0.0.1:1")).unwrap();
    let error = remote.refresh(Duration::from_secs(5)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().starts_with("127.0.0.1:1: "), "{error}");
    assert!(RemoteStore::new(ClientConfig::new("no address")).is_err());
}

#[tokio::test]
async fn a_budget_ends_a_call() {
    let (store, _, _) = store();
    let (address, _health) = serve(Arc::new(store)).await;
    let remote = connect(&address, false).await;
    let matchers = vec![Matcher::equal("__name__", "up")];
    let request = SeriesRequest::new(TimeRange::ALL, matchers);
    let budget = Budget::unlimited().child("query", 1000);
    let mut frames = remote.series(request, budget.clone()).await.unwrap();
    let error = frames.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::BudgetExceeded(_)), "{error:?}");
    drop(frames);
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn health_is_told_for_the_whole_server_alone() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    let (store, _, _) = store();
    let (address, health) = serve(Arc::new(store)).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let mut check = async |service: &str| {
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await;
        answer.map(|it| it.into_inner().status).map_err(|it| it.code())
    };
    assert_eq!(check("").await, Ok(2));
    health.set_ready(true).await;
    assert_eq!(check("").await, Ok(1));
    assert_eq!(check("thanos.Store").await, Err(tonic::Code::NotFound));
}
