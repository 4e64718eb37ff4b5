//! Writes the process' own metrics through its own remote write, as a Prometheus would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use daemon::{Context, Metrics, one_line};
use tracing::warn;

use crate::http_client::{Request, send};
use crate::self_metrics;

const HEADERS: &str = "content-type: application/x-protobuf\r\ncontent-encoding: snappy\r\n\
                       x-prometheus-remote-write-version: 0.1.0\r\nuser-agent: aion\r\n";
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct SelfScrape {
    /// The label `instance`.
    instance: String,
    to: SocketAddr,
    interval: Duration,
}

impl SelfScrape {
    pub(crate) fn new(http: SocketAddr, to: SocketAddr, interval: Duration) -> SelfScrape {
        SelfScrape { instance: format!("localhost:{}", http.port()), to, interval }
    }

    /// Writes now, and then once an interval, until the process stops.
    pub(crate) fn spawn(self, context: &Context) {
        let (tasks, clock) = (context.tasks.clone(), Arc::clone(&context.clock));
        let metrics = context.metrics.clone();
        context.tasks.spawn("self-scrape", async move {
            let mut was_failing = false;
            loop {
                let body = self.body(&metrics, clock.now_ms())?;
                let to = self.to;
                let written = tasks.spawn_blocking("self-scrape", move || write(to, &body));
                // What cannot be written once will be told again next time; one line is enough.
                let is_failing = match written.await? {
                    Ok(()) => false,
                    Err(error) => {
                        if !was_failing {
                            warn!(error = one_line(&error), "cannot write own metrics");
                        }
                        true
                    }
                };
                was_failing = is_failing;
                if !tasks.sleep(self.interval).await {
                    return Ok(());
                }
            }
        });
    }

    fn body(&self, metrics: &Metrics, now_ms: i64) -> anyhow::Result<Vec<u8>> {
        let text = metrics.prometheus_text();
        let request = self_metrics::remote_write(&text, &self.instance, now_ms);
        snap::raw::Encoder::new().compress_vec(&request).context("compress own metrics")
    }
}

fn write(to: SocketAddr, body: &[u8]) -> anyhow::Result<()> {
    let path = "/api/v1/receive";
    let request = Request { method: "POST", path, headers: HEADERS, body, timeout: TIMEOUT };
    let (status, answer) = send(to, &request)?;
    if !(200..300).contains(&status) {
        bail!("status {status}: {}", answer.trim());
    }
    Ok(())
}
