//! A receiver in this process, and what tests ask of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daemon::{Clock, Context, Running, SeededRandom, SystemClock, config_of};
use model::{Columns, MatchOp, Matcher, TimeRange};
use receiver::Receiver;
use storeapi::client::{ClientConfig, RemoteStore};
use storeapi::conformance::{Collected, collect};
use storeapi::request::SeriesRequest;
use testkit::http::{Answer, Client};
use testkit::remote_write::{HEADERS, TimeSeries, compress, encode};
use tsdb_core::chunk::xor;

const PATIENCE: Duration = Duration::from_secs(20);

/// A clock whose date the test sets; its monotonic time is real, so that threads wait.
#[derive(Debug)]
pub(crate) struct SetClock {
    now_ms: AtomicI64,
    real: SystemClock,
}

impl SetClock {
    pub(crate) fn set(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }
}

/// A running receiver.
pub(crate) struct World {
    pub(crate) running: Running<Receiver>,
    pub(crate) context: Context,
    pub(crate) clock: Arc<SetClock>,
}

impl World {
    /// Starts a receiver on a directory, at a date, with more flags.
    pub(crate) async fn start(directory: &Path, now_ms: i64, flags: &[&str]) -> World {
        World::try_start(directory, now_ms, flags).await.unwrap()
    }

    pub(crate) async fn try_start(
        directory: &Path,
        now_ms: i64,
        flags: &[&str],
    ) -> anyhow::Result<World> {
        let mut labelled = vec!["--label=receive=\"r0\""];
        labelled.extend(flags);
        World::try_start_labelled(directory, now_ms, &labelled).await
    }

    /// Starts a receiver whose external labels are among the flags.
    pub(crate) async fn start_labelled(directory: &Path, now_ms: i64, flags: &[&str]) -> World {
        World::try_start_labelled(directory, now_ms, flags).await.unwrap()
    }

    async fn try_start_labelled(
        directory: &Path,
        now_ms: i64,
        flags: &[&str],
    ) -> anyhow::Result<World> {
        let mut arguments = vec![
            "--http-address=127.0.0.1:0".to_owned(),
            "--grpc-address=127.0.0.1:0".to_owned(),
            "--remote-write.address=127.0.0.1:0".to_owned(),
            format!("--tsdb.path={}", directory.display()),
        ];
        arguments.extend(flags.iter().map(|it| (*it).to_owned()));
        let config = config_of::<Receiver>(&arguments)?;
        let clock = Arc::new(SetClock { now_ms: AtomicI64::new(now_ms), real: SystemClock::new() });
        let random = Arc::new(SeededRandom::new(now_ms.cast_unsigned()));
        let shared: Arc<dyn Clock> = Arc::<SetClock>::clone(&clock);
        let context = Context::new("receive", shared, random);
        let running = Running::start(config, context.clone()).await?;
        Ok(World { running, context, clock })
    }

    /// Sends a request with a body as it is.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let address = self.running.service().remote_write_address();
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let body = body.to_vec();
        let sent = tokio::task::spawn_blocking(move || {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            Client::new(address, PATIENCE).post("/api/v1/receive", &headers, &body)
        });
        sent.await.unwrap().unwrap()
    }

    /// Writes series for a tenant.
    pub(crate) async fn write(&self, tenant: &str, series: &[TimeSeries]) -> Answer {
        let mut headers = HEADERS.to_vec();
        headers.push(("THANOS-TENANT", tenant));
        self.post(&headers, &compress(&encode(series))).await
    }

    /// What `/metrics` says.
    pub(crate) async fn metrics(&self) -> String {
        let address = self.running.service().http_address();
        let get = move || Client::new(address, PATIENCE).get("/metrics").unwrap().text();
        tokio::task::spawn_blocking(get).await.unwrap()
    }

    /// The store, over gRPC.
    pub(crate) fn store(&self) -> RemoteStore {
        let address = self.running.service().grpc_address();
        RemoteStore::new(ClientConfig::new(&address.to_string())).unwrap()
    }

    /// Everything that the store serves.
    pub(crate) async fn collect(&self) -> Collected {
        let matcher = Matcher::new(MatchOp::NotEqual, "__no_such_label__", "x").unwrap();
        let request = SeriesRequest::new(TimeRange::ALL, vec![matcher]);
        collect(&self.store(), request).await.unwrap()
    }

    /// Everything that the store serves: labels to time to bits.
    pub(crate) async fn contents(&self) -> BTreeMap<String, BTreeMap<i64, u64>> {
        let mut contents = BTreeMap::new();
        for series in self.collect().await.series {
            let samples: &mut BTreeMap<i64, u64> =
                contents.entry(series.labels.to_string()).or_default();
            for chunk in series.chunks {
                let mut columns = Columns::default();
                xor::decode(&chunk.raw.unwrap().data, &mut columns).unwrap();
                for (time_ms, value) in columns.timestamps_ms.iter().zip(&columns.values) {
                    let before = samples.insert(*time_ms, value.to_bits());
                    assert_eq!(before, None, "{} at {time_ms} is there twice", series.labels);
                }
            }
        }
        contents
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) {
        self.running.stop().await.unwrap();
    }
}

/// A series with `__name__` and one more label.
pub(crate) fn series(name: &str, label: (&str, &str), samples: &[(i64, f64)]) -> TimeSeries {
    TimeSeries::new(&[("__name__", name), label], samples)
}
