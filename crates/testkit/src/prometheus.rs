//! A real Prometheus (Debian's 2.42) that scrapes itself and remote-writes what it finds.
#![expect(clippy::disallowed_methods, reason = "tests start real processes")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::peer::{Peer, free_address, program};
use crate::query_api;

/// How long it may take until it answers, on a machine that is busy.
const START_MAX: Duration = Duration::from_secs(60);
/// The metric of each of its queues that tells how far it was acked.
const SENT_UP_TO: &str = "prometheus_remote_storage_queue_highest_sent_timestamp_seconds{";

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    peer: Peer,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts it in `dir`. It scrapes itself every `scrape_interval_s` seconds and sends everything
    /// to each of `remote_write_urls` in order.
    ///
    /// # Panics
    /// When it is missing or does not start.
    pub fn start(dir: &Path, remote_write_urls: &[String], scrape_interval_s: u32) -> Prometheus {
        let program = program("prometheus");
        let address = free_address();
        let config = dir.join("prometheus.yml");
        let remote_write: String = remote_write_urls.iter().map(|url| remote_write(url)).collect();
        let text = format!(
            "global:\n  scrape_interval: {scrape_interval_s}s\n  scrape_timeout: \
             {scrape_interval_s}s\nscrape_configs:\n- job_name: prometheus\n  static_configs:\n  \
             - targets: ['{address}']\nremote_write:\n{remote_write}"
        );
        fs::write(&config, text).unwrap_or_else(|error| panic!("{}: {error}", config.display()));
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-lifecycle");
        let mut peer = Peer::start("prometheus", &mut command, dir);
        peer.wait_until("it is ready", START_MAX, || {
            query_api::status(address, "/-/ready") == Some(200)
        });
        Prometheus { peer, address }
    }

    /// Where its HTTP API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The newest timestamp in ms for which it has an ack from everyone that it writes to; with it
    /// everything before.
    pub fn acked_up_to_ms(&self) -> Option<i64> {
        let sent = query_api::metrics(self.address, SENT_UP_TO);
        let seconds = sent.into_iter().reduce(f64::min)?;
        let ms = (seconds * 1000.0).round();
        // Timestamps of this century fit; a metric that is still 0 gives 0.
        format!("{ms:.0}").parse().ok()
    }

    /// How many samples it gave up on: refused, or dropped for other reasons than its own rules.
    pub fn lost_samples(&self) -> f64 {
        let lines = [
            "prometheus_remote_storage_samples_failed_total{",
            "prometheus_remote_storage_samples_dropped_total{",
        ];
        lines.iter().flat_map(|line| query_api::metrics(self.address, line)).sum()
    }

    /// Waits until everything before `time_ms` is acked.
    ///
    /// # Panics
    /// When that does not happen within `limit`.
    pub fn wait_acked(&mut self, time_ms: i64, limit: Duration) {
        let address = self.address;
        self.peer.wait_until(&format!("acked up to {time_ms}"), limit, || {
            let sent = query_api::metrics(address, SENT_UP_TO).into_iter().reduce(f64::min);
            sent.unwrap_or_default() * 1000.0 > time_ms as f64
        });
    }

    /// The process.
    pub fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

/// The part of the configuration for one that it writes to. One shard sends in the order of the
/// log, so that "sent up to here" means everything.
fn remote_write(url: &str) -> String {
    format!(
        "- url: {url}\n  queue_config:\n    min_shards: 1\n    max_shards: 1\n    \
         max_samples_per_send: 500\n    batch_send_deadline: 1s\n    min_backoff: 50ms\n    \
         max_backoff: 500ms\n  metadata_config:\n    send: false\n"
    )
}
