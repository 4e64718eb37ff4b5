//! Traces over OTLP, configured by Thanos' `--tracing.config[-file]`.

mod config;

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::{ArgMatches, Command};
use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::flags;
pub(crate) use crate::traces::config::Otlp;

/// Whether requests get spans; without a receiver of traces they would only cost time.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// The flags that [`from_flags`] reads.
pub(crate) fn flags(command: Command) -> Command {
    flags::config_pair(command, "tracing", "Where traces go, as YAML: type OTLP.")
}

/// What the flags say about traces.
pub(crate) fn from_flags(flags: &ArgMatches) -> anyhow::Result<Option<Otlp>> {
    let Some(text) = flags::config_text(flags, "tracing")? else { return Ok(None) };
    Otlp::parse(&text).context("--tracing.config")
}

/// Begins to send traces; must be called inside the runtime.
pub(crate) fn start(
    settings: &Otlp,
    service: &str,
) -> anyhow::Result<(SdkTracerProvider, SdkTracer)> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(channel(settings)?)
        .with_metadata(metadata(settings)?)
        .build()
        .context("--tracing.config: make an OTLP exporter")?;
    let attributes = settings.resource_attributes.iter();
    let attributes = attributes.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let name = match settings.service_name.as_str() {
        "" => service.to_owned(),
        name => name.to_owned(),
    };
    let resource = Resource::builder().with_attributes(attributes).with_service_name(name).build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(settings.sampler.clone())
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("aion");
    IS_ON.store(true, Ordering::Relaxed);
    Ok((provider, tracer))
}

/// The span of a request that came in, below the span of whoever sent it.
pub(crate) fn of_request(headers: &HeaderMap, kind: &'static str, name: &str) -> Span {
    if !IS_ON.load(Ordering::Relaxed) {
        return Span::none();
    }
    let span = tracing::info_span!("request", otel.name = name, otel.kind = "server", kind);
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    // It fails only where there is no layer for traces, and then nobody misses the parent.
    let _ = span.set_parent(parent);
    span
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

fn channel(settings: &Otlp) -> anyhow::Result<Channel> {
    let endpoint = &settings.endpoint;
    let scheme = if settings.insecure { "http" } else { "https" };
    let url = match endpoint.contains("://") {
        true => endpoint.clone(),
        false => format!("{scheme}://{endpoint}"),
    };
    let mut to = Endpoint::from_shared(url.clone())
        .with_context(|| format!("--tracing.config: endpoint {endpoint:?} is not host:port"))?
        .timeout(settings.timeout);
    if url.starts_with("https:") {
        to = to.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    Ok(to.connect_lazy())
}

fn metadata(settings: &Otlp) -> anyhow::Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    for (name, value) in &settings.headers {
        let wrong = || format!("--tracing.config: header {name:?} is not one that can be sent");
        let key: AsciiMetadataKey = name.to_ascii_lowercase().parse().with_context(wrong)?;
        metadata.insert(key, value.parse().with_context(wrong)?);
    }
    Ok(metadata)
}
