//! The flags of the querier, all that Thanos has, and what they come to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Command};
use daemon::flags::{self, accepted, accepted_switch, bool_pair, refused, refused_switch};
use model::Labels;
use storeapi::Store;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::endpoints::Spec;

/// What a querier is told to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The HTTP API.
    pub http: daemon::http::Config,
    /// The StoreAPI over all stores.
    pub grpc: daemon::grpc::Config,
    /// Stores that live in the same process, besides those that flags name.
    pub local_stores: Vec<Arc<dyn Store>>,
    pub(crate) endpoints: EndpointsConfig,
    pub(crate) query: QueryConfig,
    pub(crate) selector_labels: Labels,
    pub(crate) has_cors: bool,
    /// Flags with their values, as `/api/v1/status/flags` shows them.
    pub(crate) shown_flags: BTreeMap<String, String>,
}

/// Which stores to ask, and how.
#[derive(Clone, Debug)]
pub(crate) struct EndpointsConfig {
    pub(crate) specs: Vec<Spec>,
    pub(crate) dns_interval: Duration,
    pub(crate) info_timeout: Duration,
    pub(crate) unhealthy_timeout: Duration,
    /// Longest wait for a message of a store; none is as long as the query may take.
    pub(crate) response_timeout: Option<Duration>,
    pub(crate) tls: Option<ClientTlsConfig>,
    pub(crate) compress: bool,
}

/// How queries are answered.
#[derive(Clone, Debug)]
pub(crate) struct QueryConfig {
    pub(crate) timeout: Duration,
    pub(crate) concurrent_max: usize,
    pub(crate) lookback: Duration,
    pub(crate) default_evaluation_interval: Duration,
    pub(crate) default_step: Duration,
    pub(crate) samples_max: u64,
    pub(crate) replica_labels: Vec<String>,
    pub(crate) partial_response: bool,
    /// How far back calls for labels and series look that name no start; zero is for ever.
    pub(crate) default_metadata_range: Duration,
    /// Parts of the language that are off by default.
    pub(crate) features: Features,
    /// Names of features that are none, to be told at start.
    pub(crate) unknown_features: Vec<String>,
}

const LATER_UI: &str = "there is no web page yet";
const ONE_ENGINE: &str = "there is one engine, which means what Prometheus means";
const NO_RULES: &str = "rules, targets, metadata and exemplars are not collected yet";
const NO_TENANTS: &str = "queries are not bound to a tenant yet";

pub(crate) fn flags(command: Command) -> Command {
    let command = flags::grpc(flags::http(command));
    let command = endpoint_flags(command);
    let command = query_flags(command);
    let command = client_flags(command);
    tenancy_flags(telemetry_flags(engine_flags(web_flags(command))))
}

fn endpoint_flags(command: Command) -> Command {
    let command = command
        .arg(flags::values(
            "endpoint",
            "Store to ask: host:port, or dns+host:port for all addresses of a name. Repeatable.",
        ))
        .arg(flags::values("store", "The old name of --endpoint."))
        .arg(flags::values("endpoint-strict", "As --endpoint: no endpoint is ever forgotten."))
        .arg(flags::duration("store.sd-dns-interval", "30s", "Between two look-ups of names."))
        .arg(flags::duration(
            "store.unhealthy-timeout",
            "5m",
            "After which an address that its name lost, and that does not answer, is forgotten.",
        ))
        .arg(flags::duration("endpoint.info-timeout", "5s", "Longest wait for Info."))
        .arg(flags::duration(
            "store.response-timeout",
            "0ms",
            "Longest wait for a message of a store; 0 is as long as the query may take.",
        ));
    let by_flag = "name the stores by --endpoint";
    let command = refused(command, "endpoint.sd-config", "", by_flag);
    let command = refused(command, "endpoint.sd-config-file", "", by_flag);
    let command = accepted(command, "endpoint.sd-config-reload-interval", "no file is read");
    let command = refused(command, "store.sd-files", "", by_flag);
    let command = accepted(command, "store.sd-interval", "no file is read");
    let command = accepted(command, "store.sd-dns-resolver", "the system's resolver is asked");
    let group = "groups are not there: name every member by --endpoint, or all by dns+host:port";
    let command = refused(command, "endpoint-group", "", group);
    let command = refused(command, "endpoint-group-strict", "", group);
    let command = refused(command, "rule", "", NO_RULES);
    let command = refused(command, "target", "", NO_RULES);
    let command = refused(command, "metadata", "", NO_RULES);
    refused(command, "exemplar", "", NO_RULES)
}

fn query_flags(command: Command) -> Command {
    let command = command
        .arg(flags::duration("query.timeout", "2m", "Longest time that a query may take."))
        .arg(
            flags::value("query.max-concurrent", "Queries that may run at once.")
                .default_value("20")
                .value_parser(clap::value_parser!(u16).range(1..=1024)),
        )
        .arg(
            flags::value(
                "query.max-samples",
                "Most samples that one query may read, every sample counted once although few are \
                 in memory at a time; 0 is no limit, memory is bounded anyway.",
            )
            .default_value("0")
            .value_parser(clap::value_parser!(u64)),
        )
        .arg(flags::duration(
            "query.lookback-delta",
            "5m",
            "How old the newest sample of a series may be.",
        ))
        .arg(flags::duration(
            "query.default-evaluation-interval",
            "1m",
            "Step of subqueries that name none.",
        ))
        .arg(flags::duration("query.default-step", "1s", "Least step of queries that name none."))
        .arg(flags::values(
            "query.replica-label",
            "Label that tells replicas apart and is taken away. Repeatable, or with commas.",
        ))
        .arg(flags::duration(
            "query.metadata.default-time-range",
            "0s",
            "How far back calls for labels and series look that name no start; 0 is for ever.",
        ))
        .arg(flags::values(
            "enable-feature",
            "Part of PromQL that is off by default: promql-experimental-functions, \
             promql-extended-range-selectors, promql-binop-fill-modifiers, \
             promql-delayed-name-removal, type-and-unit-labels. Repeatable, or with commas.",
        ))
        .arg(flags::values(
            "selector-label",
            "Label that this querier says it has: name=\"value\".",
        ));
    let help = "Answer what there is when a store fails, with a warning.";
    bool_pair(command, "query.partial-response", true, help)
}

fn engine_flags(command: Command) -> Command {
    let command = accepted(command, "query.promql-engine", ONE_ENGINE);
    let command = accepted_switch(command, "query.disable-fallback", ONE_ENGINE);
    let command = refused_switch(command, "query.enable-x-functions", ONE_ENGINE);
    let command = refused(command, "query.mode", "local", "only the mode local is there");
    let command = accepted(
        command,
        "query.max-concurrent-select",
        "the selects of a query run together, bound by its memory",
    );
    let raw = "samples are read as they were taken; downsampled blocks are not read yet";
    let command = accepted_switch(command, "query.auto-downsampling", raw);
    let command = accepted_switch(command, "query.dynamic-lookback-delta", raw);
    let command = accepted(command, "query.instant.default.max_source_resolution", raw);
    let command = accepted(command, "query.active-query-path", "running queries are not kept");
    let command = refused(
        command,
        "deduplication.func",
        "penalty",
        "replicas are joined by time: of two samples at one time the first counts",
    );
    let command = accepted(command, "query.partition-label", "there is no distributed mode");
    let command = accepted_switch(
        command,
        "query.distributed-with-overlapping-interval",
        "there is no distributed mode",
    );
    let partial = ["rule", "target", "metric-metadata", "exemplar", "status"].map(|it| match it {
        "rule" => "rule.partial-response",
        "target" => "target.partial-response",
        "metric-metadata" => "metric-metadata.partial-response",
        "exemplar" => "exemplar.partial-response",
        _ => "status.partial-response",
    });
    partial.into_iter().fold(command, |it, name| accepted_switch(it, name, NO_RULES))
}

fn client_flags(command: Command) -> Command {
    let help = "Connect to the stores by TLS.";
    let command = bool_pair(command, "grpc-client-tls-secure", false, help)
        .arg(flags::value("grpc-client-tls-cert", "Certificate (PEM) to show to the stores."))
        .arg(flags::value("grpc-client-tls-key", "Private key (PEM) of that certificate."))
        .arg(flags::value("grpc-client-tls-ca", "Authority (PEM) of the stores' certificates."))
        .arg(flags::value("grpc-client-server-name", "Name in the stores' certificates."))
        .arg(
            flags::value("grpc-compression", "How calls are packed: none or snappy.")
                .default_value("none")
                .value_parser(["none", "snappy"]),
        );
    let command = refused_switch(
        command,
        "grpc-client-tls-skip-verify",
        "a certificate that nobody checks protects nothing: give --grpc-client-tls-ca",
    );
    let lowest = "the lowest version cannot be chosen: TLS 1.3 is preferred and 1.2 accepted";
    let command = refused(command, "grpc-client-tls-min-version", "1.3", lowest);
    let command = accepted(command, "grpc.proxy-strategy", "streams are merged as they come");
    accepted(command, "query.lazy-retrieval-max-buffered-responses", "see query memory")
}

fn web_flags(command: Command) -> Command {
    let prefix = "paths cannot have a prefix yet: let the proxy strip it";
    let command = refused(command, "web.route-prefix", "", prefix);
    let command = accepted(command, "web.external-prefix", LATER_UI);
    let command = accepted(command, "web.prefix-header", LATER_UI);
    let command = accepted(command, "alert.query-url", LATER_UI);
    let help = "Send no headers that let pages of other origins ask.";
    bool_pair(command, "web.disable-cors", false, help)
}

fn telemetry_flags(command: Command) -> Command {
    let buckets = "histograms have buckets of their own";
    let names = [
        "query.telemetry.request-duration-seconds-quantiles",
        "query.telemetry.request-samples-quantiles",
        "query.telemetry.request-series-seconds-quantiles",
        "query.conn-metric.label",
        "request.logging-config",
        "request.logging-config-file",
        "store.limits.request-series",
        "store.limits.request-samples",
    ];
    let command = names.into_iter().fold(command, |it, name| accepted(it, name, buckets));
    let selector = "stores are chosen by --endpoint, not by relabelling";
    let command = refused(command, "selector.relabel-config", "", selector);
    refused(command, "selector.relabel-config-file", "", selector)
}

fn tenancy_flags(command: Command) -> Command {
    let command = refused_switch(command, "query.enforce-tenancy", NO_TENANTS);
    let names = [
        "query.tenant-header",
        "query.default-tenant-id",
        "query.tenant-certificate-field",
        "query.tenant-label-name",
    ];
    names.into_iter().fold(command, |it, name| accepted(it, name, NO_TENANTS))
}

impl Config {
    pub(crate) fn from_flags(flags: &ArgMatches) -> anyhow::Result<Config> {
        Ok(Config {
            http: daemon::http::Config::from_flags(flags)?,
            grpc: daemon::grpc::Config::from_flags(flags)?,
            local_stores: Vec::new(),
            endpoints: EndpointsConfig::from_flags(flags)?,
            query: QueryConfig::from_flags(flags)?,
            selector_labels: selector_labels(flags)?,
            has_cors: !flags::is_on(flags, "web.disable-cors"),
            shown_flags: shown(flags),
        })
    }
}

impl EndpointsConfig {
    fn from_flags(flags: &ArgMatches) -> anyhow::Result<EndpointsConfig> {
        let mut specs = Vec::new();
        for name in ["endpoint", "store", "endpoint-strict"] {
            for text in flags.get_many::<String>(name).into_iter().flatten() {
                let spec = Spec::parse(text).map_err(|it| anyhow::anyhow!("--{name}={it}"))?;
                if !specs.contains(&spec) {
                    specs.push(spec);
                }
            }
        }
        let dns_interval = flags::duration_of(flags, "store.sd-dns-interval");
        if dns_interval.is_zero() {
            bail!("--store.sd-dns-interval=0s: must be longer, names would be looked up for ever");
        }
        let response_timeout = flags::duration_of(flags, "store.response-timeout");
        Ok(EndpointsConfig {
            specs,
            dns_interval,
            info_timeout: flags::duration_of(flags, "endpoint.info-timeout"),
            unhealthy_timeout: flags::duration_of(flags, "store.unhealthy-timeout"),
            response_timeout: Some(response_timeout).filter(|it| !it.is_zero()),
            tls: client_tls(flags)?,
            compress: flags::text_of(flags, "grpc-compression") == "snappy",
        })
    }
}

impl QueryConfig {
    fn from_flags(flags: &ArgMatches) -> anyhow::Result<QueryConfig> {
        let concurrent_max = flags.get_one::<u16>("query.max-concurrent");
        let lookback = flags::duration_of(flags, "query.lookback-delta");
        let default_evaluation_interval =
            flags::duration_of(flags, "query.default-evaluation-interval");
        let timeout = flags::duration_of(flags, "query.timeout");
        for (name, duration) in [
            ("query.lookback-delta", lookback),
            ("query.default-evaluation-interval", default_evaluation_interval),
            ("query.timeout", timeout),
        ] {
            if duration.is_zero() {
                bail!("--{name}=0s: must be longer");
            }
        }
        let replica_labels = flags.get_many::<String>("query.replica-label").into_iter().flatten();
        let replica_labels = replica_labels.flat_map(|it| it.split(',')).map(str::trim);
        let samples_max = flags.get_one::<u64>("query.max-samples").copied();
        let features = flags.get_many::<String>("enable-feature").into_iter().flatten();
        let (features, unknown_features) = Features::named(features.flat_map(|it| it.split(',')))?;
        Ok(QueryConfig {
            timeout,
            concurrent_max: concurrent_max.map_or(20, |it| usize::from(*it)),
            lookback,
            default_evaluation_interval,
            default_step: flags::duration_of(flags, "query.default-step"),
            samples_max: samples_max.filter(|it| *it > 0).unwrap_or(u64::MAX),
            replica_labels: replica_labels.filter(|it| !it.is_empty()).map(str::to_owned).collect(),
            partial_response: flags::is_on(flags, "query.partial-response"),
            default_metadata_range: flags::duration_of(flags, "query.metadata.default-time-range"),
            features,
            unknown_features,
        })
    }
}

/// The parts of PromQL that `--enable-feature` turns on, by Prometheus' names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Features {
    pub(crate) experimental_functions: bool,
    pub(crate) extended_range_selectors: bool,
    pub(crate) fill_modifiers: bool,
    pub(crate) delayed_name_removal: bool,
    pub(crate) type_and_unit_labels: bool,
}

impl Features {
    /// Those that are named, and the names that are of none: those do nothing, as in Prometheus.
    fn named<'a>(names: impl Iterator<Item = &'a str>) -> anyhow::Result<(Features, Vec<String>)> {
        let (mut features, mut unknown) = (Features::default(), Vec::new());
        for name in names {
            match name.trim() {
                "promql-experimental-functions" => features.experimental_functions = true,
                "promql-extended-range-selectors" => features.extended_range_selectors = true,
                "promql-binop-fill-modifiers" => features.fill_modifiers = true,
                "promql-delayed-name-removal" => features.delayed_name_removal = true,
                "use-start-timestamps" => bail!(
                    "--enable-feature=use-start-timestamps: start timestamps are not sent between \
                     stores and queriers, every series would seem to have none: leave it out"
                ),
                "type-and-unit-labels" => features.type_and_unit_labels = true,
                "" => {}
                name => unknown.push(name.to_owned()),
            }
        }
        Ok((features, unknown))
    }
}

fn client_tls(flags: &ArgMatches) -> anyhow::Result<Option<ClientTlsConfig>> {
    let certificate = flags::file_of(flags, "grpc-client-tls-cert")?;
    let key = flags::file_of(flags, "grpc-client-tls-key")?;
    let authority = flags::file_of(flags, "grpc-client-tls-ca")?;
    if !flags::is_on(flags, "grpc-client-tls-secure") {
        if certificate.is_some() || key.is_some() || authority.is_some() {
            bail!("--grpc-client-tls-cert, -key and -ca need --grpc-client-tls-secure");
        }
        return Ok(None);
    }
    let mut tls = ClientTlsConfig::new();
    tls = match authority {
        Some(authority) => tls.ca_certificate(Certificate::from_pem(authority)),
        None => tls.with_native_roots(),
    };
    tls = match (certificate, key) {
        (Some(certificate), Some(key)) => tls.identity(Identity::from_pem(certificate, key)),
        (None, None) => tls,
        _ => bail!("--grpc-client-tls-cert and --grpc-client-tls-key: give both or none"),
    };
    let name = flags::text_of(flags, "grpc-client-server-name");
    Ok(Some(if name.is_empty() { tls } else { tls.domain_name(name) }))
}

fn selector_labels(flags: &ArgMatches) -> anyhow::Result<Labels> {
    let mut pairs = Vec::new();
    for text in flags.get_many::<String>("selector-label").into_iter().flatten() {
        let pair = flags::parse_label(text)
            .map_err(|error| anyhow::anyhow!("--selector-label={text}: {error}"))?;
        pairs.push(pair);
    }
    Labels::from_pairs(pairs).context("--selector-label")
}

/// Flags as they are shown to whoever asks; what may hold a secret is not among them.
fn shown(flags: &ArgMatches) -> BTreeMap<String, String> {
    let ids = flags.ids().map(|it| it.as_str()).filter(|it| !it.starts_with("no-"));
    ids.filter(|it| !it.ends_with(".config") && !it.ends_with("-key"))
        .map(|id| {
            let raw = flags.get_raw(id).into_iter().flatten();
            let texts: Vec<String> = raw.map(|it| it.to_string_lossy().into_owned()).collect();
            (id.to_owned(), texts.join(","))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query_config(args: &[&str]) -> anyhow::Result<QueryConfig> {
        let args = std::iter::once("query").chain(args.iter().copied());
        QueryConfig::from_flags(&flags(Command::new("query")).try_get_matches_from(args)?)
    }

    #[test]
    fn samples_are_not_limited_unless_told() {
        assert_eq!(query_config(&[]).unwrap().samples_max, u64::MAX);
        assert_eq!(query_config(&["--query.max-samples=0"]).unwrap().samples_max, u64::MAX);
        assert_eq!(query_config(&["--query.max-samples=7"]).unwrap().samples_max, 7);
    }

    #[test]
    fn a_feature_that_would_do_harm_is_refused_and_an_unknown_one_is_not() {
        let error = query_config(&["--enable-feature=use-start-timestamps"]).unwrap_err();
        assert!(error.to_string().contains("are not sent"), "{error}");
        let config = query_config(&["--enable-feature=none-such, promql-delayed-name-removal,"]);
        let config = config.unwrap();
        assert!(config.features.delayed_name_removal);
        assert_eq!(config.unknown_features, ["none-such"]);
    }
}
