//! Calls that meet a connection which the server is closing are made again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::TryStreamExt as _;
use model::{Budget, Matcher, TimeRange};
use storeapi::request::SeriesRequest;
use storeapi::{ClientConfig, Error, RemoteStore, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::grpc::serve_by;
use crate::stores::store;

/// Asks one thing after the other, while connections end under the calls. They live far longer
/// than it takes to connect and be answered, so that the call made again meets a young one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_survive_connections_that_are_too_old() {
    let (store, _, _) = store();
    let age = Duration::from_millis(250);
    let builder = tonic::transport::Server::builder().max_connection_age(age);
    let (address, _health) = serve_by(builder, Arc::new(store)).await;
    let remote = RemoteStore::new(ClientConfig::new(&address)).unwrap();
    let mut calls = 0;
    let asking = async {
        loop {
            let asked = (0..4).map(|_| ask(&remote));
            for answer in futures_util::future::join_all(asked).await {
                answer.unwrap();
                calls += 1;
            }
            remote.refresh(Duration::from_secs(5)).await.unwrap();
        }
    };
    let ended: Result<(), _> = tokio::time::timeout(Duration::from_secs(3), asking).await;
    ended.unwrap_err();
    assert!(calls > 50, "{calls}");
}

async fn ask(remote: &RemoteStore) -> Result<(), Error> {
    let matchers = vec![Matcher::equal("__name__", "up")];
    let request = SeriesRequest::new(TimeRange::ALL, matchers);
    let frames = remote.series(request, Budget::unlimited()).await?;
    frames.try_for_each(async |_| Ok(())).await
}

/// HTTP/2's empty SETTINGS, then a GOAWAY without an error that leaves out all calls.
const FAREWELL: [u8; 26] =
    [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Kind, flags and number of the HEADERS that begin the first call of a connection.
const FIRST_CALL: [u8; 6] = [1, 4, 0, 0, 0, 1];

#[tokio::test]
async fn a_call_is_made_again_only_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = ClientConfig {
        response_timeout: Some(Duration::from_secs(5)),
        ..ClientConfig::new(&address)
    };
    let remote = RemoteStore::new(config).unwrap();
    let mut met = 0;
    let closing = async {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            while !received.windows(FIRST_CALL.len()).any(|it| it == FIRST_CALL) {
                assert!(connection.read_buf(&mut received).await.unwrap() > 0, "no call came");
            }
            met += 1;
            connection.write_all(&FAREWELL).await.unwrap();
            while connection.read_buf(&mut received).await.is_ok_and(|it| it > 0) {}
        }
    };
    let error = tokio::select! {
        () = closing => unreachable!("connections are taken for ever"),
        answer = ask(&remote) => answer.unwrap_err(),
    };
    assert_eq!(met, 2, "{error:?}");
}
