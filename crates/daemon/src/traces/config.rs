//! The YAML of `--tracing.config`, with Thanos' keys.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{anyhow, bail};
use model::duration::parse_flag;
use opentelemetry_sdk::trace::Sampler;
use serde::Deserialize;

/// What is sent when nothing else is said, as the OpenTelemetry collector listens.
const DEFAULT_ENDPOINT: &str = "localhost:4317";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where traces go over OTLP.
#[derive(Debug)]
pub(crate) struct Otlp {
    pub(crate) service_name: String,
    pub(crate) resource_attributes: BTreeMap<String, String>,
    /// `host:port`, or a URL.
    pub(crate) endpoint: String,
    /// Without TLS.
    pub(crate) insecure: bool,
    pub(crate) timeout: Duration,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) sampler: Sampler,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTracing {
    #[serde(rename = "type", default)]
    _kind: serde::de::IgnoredAny,
    #[serde(default)]
    config: Option<RawOtlp>,
}

/// Only the kind, to refuse others before their keys are found unknown.
#[derive(Deserialize)]
struct RawKind {
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawOtlp {
    client_type: String,
    service_name: String,
    resource_attributes: BTreeMap<String, String>,
    /// Accepted: a broken connection is made anew by itself.
    #[serde(rename = "reconnection_period")]
    _reconnection_period: serde::de::IgnoredAny,
    compression: String,
    insecure: bool,
    endpoint: String,
    url_path: String,
    timeout: String,
    /// Accepted: a batch that cannot be sent is tried again by the exporter's own rules.
    #[serde(rename = "retry_config")]
    _retry_config: serde::de::IgnoredAny,
    headers: BTreeMap<String, String>,
    tls_config: Option<serde::de::IgnoredAny>,
    sampler_type: String,
    sampler_param: String,
}

impl Otlp {
    /// Reads the YAML; none when it names no type.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Option<Otlp>> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let of_kind: RawKind = read(text)?;
        match of_kind.kind.to_ascii_uppercase().as_str() {
            "" => return Ok(None),
            "OTLP" => {}
            "JAEGER" | "GOOGLE_CLOUD" | "STACKDRIVER" | "ELASTIC_APM" | "LIGHTSTEP" => bail!(
                "type {}: traces are sent over OTLP only, which its collectors take too: use type \
                 OTLP",
                of_kind.kind
            ),
            _ => bail!("type {}: is not known, use type OTLP", of_kind.kind),
        }
        let raw: RawTracing = read(text)?;
        raw.config.unwrap_or_default().checked().map(Some)
    }
}

impl RawOtlp {
    fn checked(self) -> anyhow::Result<Otlp> {
        match self.client_type.as_str() {
            "" | "grpc" => {}
            "http" => {
                bail!("client_type http: traces are sent over gRPC only, use client_type grpc")
            }
            other => bail!("client_type {other}: is not known, use grpc"),
        }
        match self.compression.as_str() {
            "" | "none" => {}
            other => bail!("compression {other}: traces are sent uncompressed, leave it out"),
        }
        if !self.url_path.is_empty() {
            bail!("url_path: belongs to client_type http, leave it out");
        }
        if self.tls_config.is_some() {
            bail!("tls_config: the system's authorities are used, leave it out");
        }
        let timeout = match self.timeout.as_str() {
            "" => DEFAULT_TIMEOUT,
            text => parse_flag(text).map_err(|error| anyhow!("timeout: {error}"))?,
        };
        let endpoint = match self.endpoint.as_str() {
            "" => DEFAULT_ENDPOINT.to_owned(),
            _ => self.endpoint,
        };
        Ok(Otlp {
            sampler: sampler(&self.sampler_type, &self.sampler_param)?,
            service_name: self.service_name,
            resource_attributes: self.resource_attributes,
            endpoint,
            insecure: self.insecure,
            timeout,
            headers: self.headers,
        })
    }
}

fn sampler(kind: &str, parameter: &str) -> anyhow::Result<Sampler> {
    let ratio = || match parameter.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Sampler::TraceIdRatioBased(ratio)),
        _ => Err(anyhow!("sampler_param {parameter:?}: must be a number from 0 to 1")),
    };
    let below_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
    Ok(match kind.to_ascii_lowercase().as_str() {
        "" | "parentbasedalwayssample" => below_parent(Sampler::AlwaysOn),
        "alwayssample" => Sampler::AlwaysOn,
        "neversample" => Sampler::AlwaysOff,
        "parentbasedneversample" => below_parent(Sampler::AlwaysOff),
        "traceidratiobased" | "probabilistic" => ratio()?,
        "parentbasedtraceidratio" | "parentbasedprobabilistic" => below_parent(ratio()?),
        _ => bail!(
            "sampler_type {kind}: is not known, use alwayssample, neversample, traceidratiobased, \
             or one of them after parentbased"
        ),
    })
}

/// YAML errors come with a picture of the place; the first line says it all.
fn read<T: serde::de::DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    serde_saphyr::from_str(text).map_err(|error| {
        let whole = error.to_string();
        anyhow!("{}", whole.lines().next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(yaml: &str, expected: &str) {
        let error = format!("{:#}", Otlp::parse(yaml).unwrap_err());
        assert!(error.contains(expected), "{yaml}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn thanos_keys_are_read() {
        let yaml = "type: OTLP\nconfig:\n  client_type: grpc\n  service_name: me\n  \
            resource_attributes: {zone: a}\n  reconnection_period: 1s\n  insecure: true\n  \
            endpoint: tempo:4317\n  timeout: 3s\n  retry_config: {retry_enabled: true}\n  \
            headers: {X-Scope: one}\n  sampler_type: traceidratiobased\n  sampler_param: \"0.5\"\n";
        let otlp = Otlp::parse(yaml).unwrap().unwrap();
        assert_eq!((&*otlp.service_name, &*otlp.endpoint), ("me", "tempo:4317"));
        assert!(otlp.insecure);
        assert_eq!(otlp.timeout.as_secs(), 3);
        assert_eq!(otlp.headers["X-Scope"], "one");
        assert_eq!(otlp.resource_attributes["zone"], "a");
        assert!(matches!(otlp.sampler, Sampler::TraceIdRatioBased(it) if it == 0.5));
        assert!(Otlp::parse("").unwrap().is_none());
        let otlp = Otlp::parse("type: otlp").unwrap().unwrap();
        assert_eq!(otlp.endpoint, DEFAULT_ENDPOINT);
        assert!(matches!(otlp.sampler, Sampler::ParentBased(_)));
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        refused("type: JAEGER\nconfig: {agent_host: x}", "use type OTLP");
        refused("type: zipkin", "is not known");
        refused("type: OTLP\nconfig: {endpont: x}", "endpont");
        refused("type: OTLP\nconfig: {client_type: http}", "gRPC only");
        refused("type: OTLP\nconfig: {compression: gzip}", "uncompressed");
        refused("type: OTLP\nconfig: {timeout: soon}", "timeout");
        refused("type: OTLP\nconfig: {sampler_type: x}", "sampler_type");
        let yaml = "type: OTLP\nconfig: {sampler_type: probabilistic, sampler_param: \"2\"}";
        refused(yaml, "from 0 to 1");
        refused("type: [", "line");
    }
}
