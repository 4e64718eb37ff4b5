//! The daemon as it runs: sockets, readiness, endpoints that come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::{Context, Running};
use model::Budget;
use querier::Querier;
use storeapi::conformance::{self, Held};
use storeapi::memory::MemoryStore;
use storeapi::server::{self, CallBudget};
use storeapi::{ClientConfig, RemoteStore, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{labels, series};

/// What `GET` of a path answers, head and body.
async fn get(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: q\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn until(address: SocketAddr, target: &str, text: &str) -> String {
    let mut answer = String::new();
    for _ in 0..300 {
        answer = get(address, target).await;
        if answer.contains(text) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{target} never said {text:?}: {answer}");
}

fn content() -> (MemoryStore, Vec<Held>) {
    let (mut held, mut all) = (Vec::new(), Vec::new());
    for (index, name) in ["up", "down", "left"].into_iter().enumerate() {
        for instance in ["1", "2", "3", "4"] {
            let pairs =
                [("__name__", name), ("instance", instance), ("replica", "a"), ("zone", "z")];
            let count = if instance == "4" { 3 } else { 4 };
            let start_ms = i64::try_from(index).unwrap() * 100_000;
            let samples: Vec<(i64, f64)> =
                (0..60).map(|it| (start_ms + it * 10_000, it as f64)).collect();
            let series = series(&pairs[..count], &samples);
            let timestamps_ms = samples.iter().map(|it| it.0).collect();
            held.push(Held { labels: series.labels.clone(), timestamps_ms });
            all.push(series);
        }
    }
    (MemoryStore::new("memory", labels(&[("replica", "a")]), all), held)
}

/// A context and a gRPC server with a store on a free port.
async fn serve(store: Arc<dyn Store>, address: &str) -> (Context, SocketAddr) {
    let context = Context::of_this_machine("store").unwrap();
    let memory = CallBudget { budget: Budget::unlimited(), call_bytes_max: 1 << 30 };
    let (routes, health) = server::routes(store, memory).await.unwrap();
    health.set_ready(true).await;
    let config = daemon::grpc::Config {
        flag: "--grpc-address",
        address: address.to_owned(),
        grace_period: Duration::from_secs(1),
        max_connection_age: Duration::ZERO,
        tls: None,
    };
    let address = daemon::grpc::serve(&context, &config, routes).await.unwrap();
    (context, address)
}

async fn start(flags: &[String]) -> (Running<Querier>, SocketAddr) {
    let mut all =
        ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"].map(str::to_owned).to_vec();
    all.extend_from_slice(flags);
    let config = daemon::config_of::<Querier>(&all).unwrap();
    let context = Context::of_this_machine("query").unwrap();
    let running = Running::<Querier>::start(config, context).await.unwrap();
    let address = running.service().http_address();
    (running, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_querier_is_a_store_too() {
    let (store, held) = content();
    let (_context, address) = serve(Arc::new(store), "127.0.0.1:0").await;
    let (running, http) = start(&[format!("--endpoint={address}")]).await;
    until(http, "/-/ready", "200 OK").await;
    until(http, "/api/v1/stores", "\"lastError\":null").await;
    let config = ClientConfig::new(&running.service().grpc_address().to_string());
    let remote = RemoteStore::new(config).unwrap();
    let info = remote.refresh(Duration::from_secs(5)).await.unwrap();
    assert_eq!(info.component, "query");
    conformance::check(&remote, &held, &labels(&[("replica", "a")])).await;
    let answer = get(http, "/api/v1/query?query=count(up)&time=300").await;
    assert!(answer.contains("x-aion-complete: true"), "{answer}");
    assert!(answer.contains(r#"[300,"4"]"#), "{answer}");
    let metrics = get(http, "/metrics").await;
    assert!(metrics.contains("thanos_query_concurrent_gate_queries_max"), "{metrics}");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_comes_later_is_found_and_one_that_goes_is_missed() {
    // A port that is free now, and nobody's.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (running, http) = start(&[format!("--store=dns+localhost:{}", address.port())]).await;
    until(http, "/-/ready", "200 OK").await;
    let query = "/api/v1/query?query=count(up)&time=300";
    until(http, query, "x-aion-complete: false").await;
    let (context, _) = serve(Arc::new(content().0), &address.to_string()).await;
    let answer = until(http, query, "x-aion-complete: true").await;
    assert!(answer.contains(r#"[300,"4"]"#), "{answer}");
    context.tasks.drain(Duration::from_secs(5)).await;
    until(http, query, "x-aion-complete: false").await;
    running.stop().await.unwrap();
}
