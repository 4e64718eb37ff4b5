//! The flags of the store gateway, all that Thanos has, and what they come to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Command};
use daemon::flags::{self, accepted, accepted_switch, bool_pair, refused};
use model::TimeBound;

use crate::limits::Limits;

/// What a store gateway is told to do.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) http: daemon::http::Config,
    pub(crate) grpc: daemon::grpc::Config,
    pub(crate) objstore: objstore::Config,
    pub(crate) data_dir: PathBuf,
    pub(crate) sync_interval: Duration,
    pub(crate) load_concurrency: usize,
    pub(crate) meta_concurrency: usize,
    pub(crate) min_time: TimeBound,
    pub(crate) max_time: TimeBound,
    pub(crate) consistency_delay: Duration,
    pub(crate) ignore_deletion_marks_delay: Duration,
    pub(crate) cache_bytes: usize,
    pub(crate) calls_bytes: usize,
    pub(crate) sample_rate: usize,
    pub(crate) series_concurrency: usize,
    pub(crate) limits: Limits,
    pub(crate) web_label: String,
}

const NO_UI: &str = "there is no web page yet";
const ALWAYS_LAZY: &str = "lists that cost more than they save are always left to the series";
const ONE_CACHE: &str = "one cache of pages in memory, sized by --index-cache-size, is under all \
                         reads; caches outside of the process are not there yet";
const NO_SELECTOR: &str = "the selection of blocks by relabelling is not there yet, and without \
                           it this store would serve every block of the bucket";
const NO_PARQUET: &str = "blocks in Parquet are not there yet";

pub(crate) fn flags(command: Command) -> Command {
    let command = flags::grpc(flags::http(command));
    let command = flags::config_pair(command, "objstore", "YAML with the object store.");
    let command = sync_flags(command);
    let command = cache_flags(command);
    let command = limit_flags(command);
    rest_flags(command)
}

fn sync_flags(command: Command) -> Command {
    let count = |name, default, help| {
        flags::value(name, help)
            .default_value(default)
            .value_parser(clap::value_parser!(u16).range(1..=1024))
    };
    command
        .arg(
            flags::value("data-dir", "Where index headers are kept; a cache, may be emptied.")
                .default_value("./data"),
        )
        .arg(flags::duration(
            "sync-block-duration",
            "15s",
            "Between two looks at the bucket for new blocks; one listing each.",
        ))
        .arg(count("block-sync-concurrency", "20", "Index headers made at the same time."))
        .arg(count("block-meta-fetch-concurrency", "32", "Reads of metas at the same time."))
        .arg(
            flags::value("min-time", "Blocks that end before are not served; RFC 3339 or -30d.")
                .default_value("0000-01-01T00:00:00Z")
                .value_parser(TimeBound::parse),
        )
        .arg(
            flags::value("max-time", "Blocks that begin after are not served; RFC 3339 or -2h.")
                .default_value("9999-12-31T23:59:59Z")
                .value_parser(TimeBound::parse),
        )
        .arg(flags::duration(
            "consistency-delay",
            "0s",
            "Age below which a block that is not a compactor's is not served.",
        ))
        .arg(flags::duration(
            "ignore-deletion-marks-delay",
            "24h",
            "How long a block is served on after it was marked for deletion.",
        ))
}

fn cache_flags(command: Command) -> Command {
    let command = command
        .arg(flags::bytes(
            "index-cache-size",
            "250MB",
            "Most bytes of pages of indexes and chunks that are kept in memory.",
        ))
        .arg(flags::bytes("chunk-pool-size", "2GB", "Most bytes that all calls together may hold."))
        .arg(
            flags::value(
                "store.index-header-posting-offsets-in-mem-sampling",
                "One posting offset in so many is kept in memory.",
            )
            .default_value("32")
            .value_parser(clap::value_parser!(u16).range(1..=4096))
            .hide(true),
        );
    let command = [
        "index-cache.config",
        "index-cache.config-file",
        "store.caching-bucket.config",
        "store.caching-bucket.config-file",
    ]
    .into_iter()
    .fold(command, |it, name| refused(it, name, "", ONE_CACHE));
    let command = accepted(command, "matcher-cache-size", "matchers are compiled once per call");
    let command = bool_pair(
        command,
        "cache-index-header",
        true,
        "Keep index headers in --data-dir; they always are.",
    );
    let lazy = "headers are made when a block is first seen, and little of them is in memory";
    let command = accepted_switch(command, "store.enable-index-header-lazy-reader", lazy);
    let command = accepted(command, "store.index-header-lazy-reader-idle-timeout", lazy);
    accepted(command, "store.index-header-lazy-download-strategy", lazy)
}

fn limit_flags(command: Command) -> Command {
    let count = |name, help| {
        flags::value(name, help).default_value("0").value_parser(clap::value_parser!(u64))
    };
    command
        .arg(
            count("store.limits.request-series", "Most series of one call; 0 is no limit.")
                .alias("store.grpc.touched-series-limit"),
        )
        .arg(
            count(
                "store.limits.request-samples",
                "Most samples of one call, 120 for each chunk; 0 is no limit.",
            )
            .alias("store.grpc.series-sample-limit"),
        )
        .arg(flags::bytes(
            "store.grpc.downloaded-bytes-limit",
            "0",
            "Most bytes that one call may read; 0 is no limit.",
        ))
        .arg(
            flags::value(
                "store.grpc.series-max-concurrency",
                "Series calls that read at the same time.",
            )
            .default_value("20")
            .value_parser(clap::value_parser!(u16).range(1..)),
        )
}

fn rest_flags(command: Command) -> Command {
    let command = accepted_switch(command, "store.enable-lazy-expanded-postings", ALWAYS_LAZY);
    let command = accepted(command, "store.posting-group-max-key-series-ratio", ALWAYS_LAZY);
    let listing = "one listing of the bucket finds blocks and marks";
    let command = accepted(command, "block-discovery-strategy", listing);
    let sizes = "sizes are taken from the metas of the blocks and from what was read";
    let command = [
        "debug.series-batch-size",
        "debug.estimated-max-series-size",
        "debug.estimated-max-chunk-size",
    ]
    .into_iter()
    .fold(command, |it, name| accepted(it, name, sizes));
    let command = ["selector.relabel-config", "selector.relabel-config-file"]
        .into_iter()
        .fold(command, |it, name| refused(it, name, "", NO_SELECTOR));
    let command = ["objstore-parquet.config", "objstore-parquet.config-file"]
        .into_iter()
        .fold(command, |it, name| refused(it, name, "", NO_PARQUET));
    let logging = "requests are told by metrics and traces";
    let command = ["request.logging-config", "request.logging-config-file"]
        .into_iter()
        .fold(command, |it, name| accepted(it, name, logging));
    let command = command.arg(
        flags::value("bucket-web-label", "External label that /api/v1/blocks names blocks by.")
            .default_value(""),
    );
    let command = ["web.external-prefix", "web.prefix-header"]
        .into_iter()
        .fold(command, |it, name| accepted(it, name, NO_UI));
    ["web.disable", "web.disable-cors", "disable-admin-operations"]
        .into_iter()
        .fold(command, |it, name| accepted_switch(it, name, NO_UI))
}

impl Config {
    pub(crate) fn from_flags(flags: &ArgMatches) -> anyhow::Result<Config> {
        let objstore = flags::config_text(flags, "objstore")?;
        let Some(objstore) = objstore else {
            bail!("--objstore.config-file: is required, or --objstore.config: where is the bucket?")
        };
        let sync_interval = flags::duration_of(flags, "sync-block-duration");
        if sync_interval.is_zero() {
            bail!("--sync-block-duration=0s: must be longer, looks would follow without a pause");
        }
        let data_dir = flags::text_of(flags, "data-dir");
        if data_dir.is_empty() {
            bail!("--data-dir: is empty, name a directory for the index headers");
        }
        Ok(Config {
            http: daemon::http::Config::from_flags(flags)?,
            grpc: daemon::grpc::Config::from_flags(flags)?,
            objstore: objstore::Config::parse(&objstore).context("--objstore.config")?,
            data_dir: PathBuf::from(data_dir),
            sync_interval,
            load_concurrency: count(flags, "block-sync-concurrency"),
            meta_concurrency: count(flags, "block-meta-fetch-concurrency"),
            min_time: bound(flags, "min-time")?,
            max_time: bound(flags, "max-time")?,
            consistency_delay: flags::duration_of(flags, "consistency-delay"),
            ignore_deletion_marks_delay: flags::duration_of(flags, "ignore-deletion-marks-delay"),
            cache_bytes: size(flags, "index-cache-size"),
            calls_bytes: size(flags, "chunk-pool-size"),
            sample_rate: count(flags, "store.index-header-posting-offsets-in-mem-sampling"),
            series_concurrency: count(flags, "store.grpc.series-max-concurrency"),
            limits: Limits {
                request_series: limit(flags, "store.limits.request-series"),
                request_samples: limit(flags, "store.limits.request-samples"),
                downloaded_bytes: limit(flags, "store.grpc.downloaded-bytes-limit"),
            },
            web_label: flags::text_of(flags, "bucket-web-label"),
        })
    }
}

fn count(flags: &ArgMatches, name: &str) -> usize {
    flags.get_one::<u16>(name).map_or(1, |it| usize::from(*it))
}

fn limit(flags: &ArgMatches, name: &str) -> u64 {
    flags.get_one::<u64>(name).copied().unwrap_or(0)
}

fn size(flags: &ArgMatches, name: &str) -> usize {
    usize::try_from(limit(flags, name)).unwrap_or(usize::MAX)
}

fn bound(flags: &ArgMatches, name: &str) -> anyhow::Result<TimeBound> {
    flags.get_one::<TimeBound>(name).copied().with_context(|| format!("--{name}: needs a value"))
}
