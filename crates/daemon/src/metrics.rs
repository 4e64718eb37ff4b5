//! The metrics of a process: registries of its parts, joined when they are scraped.

mod exposition;
pub(crate) mod process;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;
use tracing::error;

use crate::grpc::GrpcMetrics;
use crate::http::HttpMetrics;

/// Where one part of the process registers its metrics; clones register in the same place.
#[derive(Clone)]
pub struct Metrics {
    parts: Arc<Mutex<Vec<Part>>>,
    index: usize,
}

struct Part {
    registry: Registry,
    /// Registered by the first HTTP server of the part, shared by the others.
    http: Option<HttpMetrics>,
    /// As above, for gRPC.
    grpc: Option<GrpcMetrics>,
}

impl Metrics {
    /// The metrics of a process with one part.
    pub fn new() -> Metrics {
        Metrics { parts: Arc::new(Mutex::new(vec![Part::new(Registry::default())])), index: 0 }
    }

    /// The metrics of one more part; all of them carry the label `component="<name>"`.
    pub fn part(&self, name: &'static str) -> Metrics {
        let label = ("component".into(), name.into());
        let mut parts = self.parts.lock();
        parts.push(Part::new(Registry::with_labels([label].into_iter())));
        Metrics { parts: Arc::clone(&self.parts), index: parts.len() - 1 }
    }

    /// Registers metrics: `metrics.register(|registry| registry.register("name", "help", it))`.
    ///
    /// Counters get their `_total` by themselves.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        if let Some(part) = self.parts.lock().get_mut(self.index) {
            register(&mut part.registry);
        }
    }

    /// All metrics of the process as OpenMetrics text.
    pub fn open_metrics(&self) -> String {
        exposition::open_metrics(&self.encoded())
    }

    /// All metrics of the process as Prometheus' older text.
    pub fn prometheus_text(&self) -> String {
        exposition::prometheus_text(&self.encoded())
    }

    pub(crate) fn http(&self) -> HttpMetrics {
        let part = &mut self.parts.lock()[self.index];
        part.http.get_or_insert_with(|| HttpMetrics::register(&mut part.registry)).clone()
    }

    pub(crate) fn grpc(&self) -> GrpcMetrics {
        let part = &mut self.parts.lock()[self.index];
        part.grpc.get_or_insert_with(|| GrpcMetrics::register(&mut part.registry)).clone()
    }

    fn encoded(&self) -> Vec<String> {
        let parts = self.parts.lock();
        let encoded = parts.iter().map(|part| {
            let mut text = String::new();
            if let Err(error) = encode_registry(&mut text, &part.registry) {
                error!(%error, "cannot write metrics as text");
            }
            text
        });
        encoded.collect()
    }
}

impl Part {
    fn new(registry: Registry) -> Part {
        Part { registry, http: None, grpc: None }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("part", &self.index).finish()
    }
}
