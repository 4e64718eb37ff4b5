//! The flags of the receiver, all that Thanos has, and what they come to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Command};
use daemon::flags::{self, accepted, accepted_switch, refused, refused_switch, value, values};
use model::{Labels, Tenant};

/// How far ahead of the clock samples may be where the flag says 0s, as in Prometheus' receiver.
const FUTURE_DEFAULT: Duration = Duration::from_mins(10);
/// Block lengths that are taken: the head counts spans of chunks in 32 bits of milliseconds.
const BLOCK_MIN: Duration = Duration::from_secs(1);
const BLOCK_MAX: Duration = Duration::from_hours(31 * 24);

/// What a receiver is told to do.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) http: daemon::http::Config,
    pub(crate) remote_write: daemon::http::Config,
    pub(crate) grpc: daemon::grpc::Config,
    /// Where blocks go; none keeps them here.
    pub(crate) objstore: Option<objstore::Config>,
    pub(crate) tenancy: Tenancy,
    pub(crate) tsdb: Tsdb,
    pub(crate) upload_parallel: usize,
}

/// Who is who.
#[derive(Clone, Debug)]
pub(crate) struct Tenancy {
    /// Header that names the tenant of a request.
    pub(crate) header: http::HeaderName,
    /// Tenant of requests without that header.
    pub(crate) default: Tenant,
    /// Label that names the tenant of a series.
    pub(crate) label: String,
    /// External labels of all tenants.
    pub(crate) labels: Labels,
}

/// How samples are kept.
#[derive(Clone, Debug)]
pub(crate) struct Tsdb {
    pub(crate) directory: PathBuf,
    pub(crate) block_ms: i64,
    /// Age at which a local block may go; none keeps all.
    pub(crate) retention: Option<Duration>,
    /// How far ahead of the clock samples are taken.
    pub(crate) future: Duration,
}

impl Tenancy {
    /// The external labels of a tenant.
    pub(crate) fn external(&self, tenant: &Tenant) -> Labels {
        self.labels.to_builder().set(&self.label, tenant.as_str()).build()
    }
}

const NO_RING: &str = "this receiver is not part of a hashring yet; start one receiver per shard \
                       and let senders choose";
const NO_TLS: &str = "TLS on the remote-write listener is not there yet; put a proxy in front";
const NO_FORWARD: &str = "nothing is forwarded to other receivers yet";
const NO_LIMITS: &str = "limits per tenant are not there yet; the process' memory budget holds";
const NO_OUT_OF_ORDER: &str = "out-of-order samples are not taken yet";
const OWN_LOG: &str = "the log has a form of its own";

pub(crate) fn flags(command: Command) -> Command {
    let command = flags::grpc(flags::http(command));
    let command = command
        .arg(
            value("remote-write.address", "Listen host:port of remote write.")
                .default_value("0.0.0.0:19291"),
        )
        .arg(
            value("receive.tenant-header", "HTTP header that names the tenant of a request.")
                .default_value("THANOS-TENANT"),
        )
        .arg(
            value("receive.default-tenant-id", "Tenant of requests that name none.")
                .default_value(model::tenant::DEFAULT_TENANT),
        )
        .arg(
            value("receive.tenant-label-name", "External label that names the tenant.")
                .default_value("tenant_id"),
        )
        .arg(values("label", "External label of all series, name=\"value\"; at least one."))
        .arg(value("tsdb.path", "Directory of the data.").default_value("./data"))
        .arg(flags::duration(
            "tsdb.retention",
            "15d",
            "Age at which local blocks may go, once they are verified in the bucket; 0d for never.",
        ))
        .arg(flags::duration("tsdb.min-block-duration", "2h", "Length of a block."))
        .arg(flags::duration(
            "tsdb.max-block-duration",
            "2h",
            "The same as --tsdb.min-block-duration: blocks are not compacted here.",
        ))
        .arg(flags::duration(
            "tsdb.too-far-in-future.time-window",
            "0s",
            "How far ahead of the clock samples are taken; 0s for 10 minutes.",
        ))
        .arg(
            value("shipper.upload-concurrency", "Files of a block sent at once; 0 for 4.")
                .default_value("0")
                .value_parser(clap::value_parser!(u16).range(0..=64)),
        );
    let command = flags::config_pair(command, "objstore", "YAML with the object store.");
    storage_flags(ring_flags(tls_flags(command)))
}

fn tls_flags(command: Command) -> Command {
    let names = [
        "remote-write.server-tls-cert",
        "remote-write.server-tls-key",
        "remote-write.server-tls-client-ca",
        "remote-write.server-tls-ciphers",
        "remote-write.server-tls-curves",
    ];
    let command = names.into_iter().fold(command, |it, name| refused(it, name, "", NO_TLS));
    let command = refused(command, "remote-write.server-tls-min-version", "1.3", NO_TLS);
    let names = [
        "remote-write.client-tls-cert",
        "remote-write.client-tls-key",
        "remote-write.client-tls-ca",
        "remote-write.client-server-name",
        "remote-write.client-tls-min-version",
        "receive.grpc-compression",
        "receive.grpc-service-config",
        "receive.forward.async-workers",
        "receive-forward-timeout",
        "receive-forward-max-backoff",
        "receive.artificial-max-delay",
    ];
    let command = names.into_iter().fold(command, |it, name| accepted(it, name, NO_FORWARD));
    let switches = ["remote-write.client-tls-secure", "remote-write.client-tls-skip-verify"];
    switches.into_iter().fold(command, |it, name| accepted_switch(it, name, NO_FORWARD))
}

fn ring_flags(command: Command) -> Command {
    let command = refused(command, "receive.hashrings-file", "", NO_RING);
    let command = refused(command, "receive.hashrings", "", NO_RING);
    let command = refused(
        command,
        "receive.replication-factor",
        "1",
        "writes are not replicated yet; send to several receivers and deduplicate in the querier",
    );
    let names = [
        "receive.hashrings-algorithm",
        "receive.hashrings-file-refresh-interval",
        "receive.local-endpoint",
        "receive.replication-protocol",
        "receive.capnproto-address",
        "receive.replica-header",
    ];
    let command = names.into_iter().fold(command, |it, name| accepted(it, name, NO_RING));
    let command = refused(
        command,
        "receive.tenant-certificate-field",
        "",
        "the remote-write listener takes no client certificates yet",
    );
    let command = refused(
        command,
        "receive.split-tenant-label-name",
        "",
        "the tenant comes from the header alone yet",
    );
    let relabel = "relabelling before ingestion is not there yet; relabel in the sender";
    let command = refused(command, "receive.relabel-config", "", relabel);
    let command = refused(command, "receive.relabel-config-file", "", relabel);
    let command = refused(command, "receive.limits-config", "", NO_LIMITS);
    let command = refused(command, "receive.limits-config-file", "", NO_LIMITS);
    let command = accepted(command, "receive.limits-config-reload-timer", NO_LIMITS);
    let otlp = "OTLP is not taken yet";
    let command = accepted_switch(command, "receive.otlp-enable-target-info", otlp);
    accepted(command, "receive.otlp-promote-resource-attributes", otlp)
}

fn storage_flags(command: Command) -> Command {
    let command = refused(
        command,
        "tsdb.max-retention-bytes",
        "0",
        "a bound on the disk is not there yet; --tsdb.retention bounds the time",
    );
    let command = refused(command, "tsdb.out-of-order.time-window", "0s", NO_OUT_OF_ORDER);
    let command = accepted(command, "tsdb.out-of-order.cap-max", NO_OUT_OF_ORDER);
    let command = refused(command, "tsdb.max-exemplars", "0", "exemplars are not kept yet");
    let command = accepted_switch(command, "tsdb.wal-compression", OWN_LOG);
    let command = accepted(command, "tsdb.write-queue-size", OWN_LOG);
    let snapshot = "snapshots are always taken";
    let command = accepted_switch(command, "tsdb.memory-snapshot-on-shutdown", snapshot);
    let command = refused_switch(
        command,
        "tsdb.no-lockfile",
        "two processes on one directory would destroy each other's data; the lock ends with its \
         process and needs no removal",
    );
    let caches = "there is no such cache";
    let command = accepted(command, "tsdb.head.expanded-postings-cache-size", caches);
    let command = accepted(command, "tsdb.block.expanded-postings-cache-size", caches);
    let command = accepted(command, "matcher-cache-size", caches);
    let no_op = "it is so anyway";
    let command = accepted_switch(command, "tsdb.allow-overlapping-blocks", no_op);
    let command = accepted_switch(command, "tsdb.enable-native-histograms", no_op);
    let command = accepted(command, "hash-func", "uploads are verified by size and entity tag");
    let shipping = "every block is shipped on its own, one that fails stops no other";
    let command = accepted_switch(command, "shipper.allow-out-of-order-uploads", shipping);
    let command = accepted_switch(command, "shipper.skip-corrupted-blocks", shipping);
    let command = accepted(command, "enable-feature", "there are no features to enable");
    let lazy = "answers are streamed with a bound of their own";
    let command = accepted(command, "receive.lazy-retrieval-max-buffered-responses", lazy);
    let limit = "not there yet; the process' memory budget holds";
    let command = refused(command, "store.limits.request-series", "0", limit);
    let command = refused(command, "store.limits.request-samples", "0", limit);
    let log = "requests are measured and traced, not logged";
    let command = accepted(command, "request.logging-config", log);
    accepted(command, "request.logging-config-file", log)
}

impl Config {
    pub(crate) fn from_flags(flags: &ArgMatches) -> anyhow::Result<Config> {
        let http = daemon::http::Config::from_flags(flags)?;
        let remote_write = daemon::http::Config {
            name: "remote-write",
            flag: "--remote-write.address",
            address: flags::text_of(flags, "remote-write.address"),
            grace_period: http.grace_period,
            has_admin_routes: false,
        };
        let objstore = match flags::config_text(flags, "objstore")? {
            Some(text) => Some(objstore::Config::parse(&text).context("--objstore.config")?),
            None => None,
        };
        let parallel = flags.get_one::<u16>("shipper.upload-concurrency").copied();
        Ok(Config {
            http,
            remote_write,
            grpc: daemon::grpc::Config::from_flags(flags)?,
            objstore,
            tenancy: tenancy(flags)?,
            tsdb: tsdb(flags)?,
            upload_parallel: parallel.filter(|it| *it > 0).map_or(4, usize::from),
        })
    }
}

fn tenancy(flags: &ArgMatches) -> anyhow::Result<Tenancy> {
    let header = flags::text_of(flags, "receive.tenant-header");
    let header = header
        .parse()
        .with_context(|| format!("--receive.tenant-header={header}: not the name of a header"))?;
    let default = Tenant::new(&flags::text_of(flags, "receive.default-tenant-id"))
        .context("--receive.default-tenant-id")?;
    let label = flags::text_of(flags, "receive.tenant-label-name");
    if label.is_empty() {
        bail!("--receive.tenant-label-name: must not be empty");
    }
    let mut pairs = Vec::new();
    for text in flags.get_many::<String>("label").into_iter().flatten() {
        let pair = flags::parse_label(text).map_err(anyhow::Error::msg).context("--label")?;
        pairs.push(pair);
    }
    let labels = Labels::from_pairs(pairs).context("--label")?;
    if labels.is_empty() {
        bail!(
            "--label: at least one external label is needed, so that the blocks of this receiver \
             can be told from those of others; for instance --label='receive=\"r0\"'"
        );
    }
    Ok(Tenancy { header, default, label, labels })
}

fn tsdb(flags: &ArgMatches) -> anyhow::Result<Tsdb> {
    let directory = flags::text_of(flags, "tsdb.path");
    if directory.is_empty() {
        bail!("--tsdb.path: must name a directory");
    }
    let block = flags::duration_of(flags, "tsdb.min-block-duration");
    if !(BLOCK_MIN..=BLOCK_MAX).contains(&block) {
        bail!("--tsdb.min-block-duration: must be between 1s and 31d");
    }
    if flags::duration_of(flags, "tsdb.max-block-duration") != block {
        bail!(
            "--tsdb.max-block-duration: must equal --tsdb.min-block-duration, blocks are compacted \
             in the bucket and not here"
        );
    }
    let future = flags::duration_of(flags, "tsdb.too-far-in-future.time-window");
    Ok(Tsdb {
        directory: PathBuf::from(directory),
        block_ms: i64::try_from(block.as_millis()).context("--tsdb.min-block-duration")?,
        retention: Some(flags::duration_of(flags, "tsdb.retention")).filter(|it| !it.is_zero()),
        future: if future.is_zero() { FUTURE_DEFAULT } else { future },
    })
}
