//! The flags of the compactor, all that Thanos has, and what they come to.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Command};
use daemon::flags::{self, accepted, accepted_switch, bool_pair, refused};
use model::TimeBound;

use crate::retention::{Policy, Resolution};

/// Shortest raw retention with downsampling on: a block is downsampled to 5m at this age.
const RAW_RETENTION_MIN: Duration = Duration::from_hours(40);
/// Shortest 5m retention with downsampling on: a block is downsampled to 1h at this age.
const FIVE_MINUTES_RETENTION_MIN: Duration = Duration::from_hours(10 * 24);

/// What a compactor is told to do.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) http: daemon::http::Config,
    pub(crate) objstore: objstore::Config,
    /// Goes on after the first iteration.
    pub(crate) wait: bool,
    pub(crate) wait_interval: Duration,
    /// Between two clean-ups while waiting; zero for none.
    pub(crate) cleanup_interval: Duration,
    pub(crate) sync_concurrency: usize,
    pub(crate) rules: Rules,
}

/// What decides about blocks.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Younger blocks are left alone.
    pub(crate) consistency_delay: Duration,
    /// How long a block lives on after it was marked.
    pub(crate) delete_delay: Duration,
    pub(crate) retention: Policy,
    /// Only blocks that reach into these times are looked at.
    pub(crate) min_time: TimeBound,
    pub(crate) max_time: TimeBound,
}

const LATER: &str = "blocks are not compacted or downsampled yet";
const NO_UI: &str = "there is no web page yet";

pub(crate) fn flags(command: Command) -> Command {
    let command = flags::http(command);
    let command = flags::config_pair(command, "objstore", "YAML with the object store.");
    let command = bool_pair(command, "wait", false, "Go on after the first iteration.")
        .mut_arg("wait", |it| it.short('w'))
        .arg(flags::duration("wait-interval", "5m", "Between two iterations with --wait."))
        .arg(flags::duration(
            "compact.cleanup-interval",
            "5m",
            "Between two clean-ups of marked and partial blocks with --wait; 0s for none.",
        ))
        .arg(flags::duration(
            "consistency-delay",
            "30m",
            "Age below which a block that is not a compactor's is left alone.",
        ))
        .arg(flags::duration(
            "delete-delay",
            "48h",
            "Time between the mark on a block and its deletion; 0s deletes at once.",
        ))
        .arg(flags::duration(
            "retention.resolution-raw",
            "0d",
            "How long to keep raw samples; 0d for ever.",
        ))
        .arg(flags::duration(
            "retention.resolution-5m",
            "0d",
            "How long to keep samples of 5 minutes; 0d for ever.",
        ))
        .arg(flags::duration(
            "retention.resolution-1h",
            "0d",
            "How long to keep samples of 1 hour; 0d for ever.",
        ))
        .arg(
            flags::value("min-time", "Leave blocks alone that end before; RFC 3339 or -30d.")
                .default_value("0000-01-01T00:00:00Z")
                .value_parser(TimeBound::parse),
        )
        .arg(
            flags::value("max-time", "Leave blocks alone that begin after; RFC 3339 or -30d.")
                .default_value("9999-12-31T23:59:59Z")
                .value_parser(TimeBound::parse),
        )
        .arg(
            flags::value("block-meta-fetch-concurrency", "Reads of metas at the same time.")
                .alias("block-sync-concurrency")
                .default_value("32")
                .value_parser(clap::value_parser!(u16).range(1..=1024)),
        );
    let command =
        bool_pair(command, "downsampling.disable", false, "Leave blocks at their resolution.");
    web_flags(compaction_flags(command))
}

/// Flags about what this compactor does not do yet.
fn compaction_flags(command: Command) -> Command {
    let values = [
        "compact.concurrency",
        "compact.blocks-fetch-concurrency",
        "compact.progress-interval",
        "compact.block-max-index-size",
        "downsample.concurrency",
        "block-files-concurrency",
        "deduplication.replica-label",
        "deduplication.func",
        "debug.max-compaction-level",
        "hash-func",
    ];
    let command = values.into_iter().fold(command, |it, name| accepted(it, name, LATER));
    let switches = [
        "compact.enable-vertical-compaction",
        "compact.skip-block-with-out-of-order-chunks",
        "debug.accept-malformed-index",
    ];
    let command = switches.into_iter().fold(command, |it, name| accepted_switch(it, name, LATER));
    let command = accepted_switch(command, "debug.halt-on-error", "a compactor never halts");
    let command = accepted(command, "data-dir", "nothing is kept on the local disk yet");
    let command = accepted(
        command,
        "block-discovery-strategy",
        "one listing of the bucket's top level finds the blocks",
    );
    let reason = "the selection of blocks by relabelling is not there yet, and without it every \
                  block of the bucket would be subject to this retention";
    let command = refused(command, "selector.relabel-config", "", reason);
    refused(command, "selector.relabel-config-file", "", reason)
}

fn web_flags(command: Command) -> Command {
    let values = [
        "web.external-prefix",
        "web.prefix-header",
        "bucket-web-label",
        "block-viewer.global.sync-block-interval",
        "block-viewer.global.sync-block-timeout",
    ];
    let command = values.into_iter().fold(command, |it, name| accepted(it, name, NO_UI));
    let switches = ["web.disable", "web.disable-cors", "disable-admin-operations"];
    switches.into_iter().fold(command, |it, name| accepted_switch(it, name, NO_UI))
}

impl Config {
    pub(crate) fn from_flags(flags: &ArgMatches) -> anyhow::Result<Config> {
        let objstore = flags::config_text(flags, "objstore")?;
        let Some(objstore) = objstore else {
            bail!("--objstore.config-file: is required, or --objstore.config: where is the bucket?")
        };
        let config = Config {
            http: daemon::http::Config::from_flags(flags)?,
            objstore: objstore::Config::parse(&objstore).context("--objstore.config")?,
            wait: flags::is_on(flags, "wait"),
            wait_interval: flags::duration_of(flags, "wait-interval"),
            cleanup_interval: flags::duration_of(flags, "compact.cleanup-interval"),
            sync_concurrency: flags
                .get_one::<u16>("block-meta-fetch-concurrency")
                .map_or(1, |it| usize::from(*it)),
            rules: Rules {
                consistency_delay: flags::duration_of(flags, "consistency-delay"),
                delete_delay: flags::duration_of(flags, "delete-delay"),
                retention: retention(flags),
                min_time: bound(flags, "min-time")?,
                max_time: bound(flags, "max-time")?,
            },
        };
        if config.wait && config.wait_interval.is_zero() {
            bail!("--wait-interval=0s: must be longer, iterations would follow without a pause");
        }
        if !flags::is_on(flags, "downsampling.disable") {
            check_downsampling(&config.rules.retention)?;
        }
        Ok(config)
    }
}

fn retention(flags: &ArgMatches) -> Policy {
    let kept = |name| Some(flags::duration_of(flags, name)).filter(|it| !it.is_zero());
    Policy {
        raw: kept("retention.resolution-raw"),
        five_minutes: kept("retention.resolution-5m"),
        one_hour: kept("retention.resolution-1h"),
    }
}

fn bound(flags: &ArgMatches, name: &str) -> anyhow::Result<TimeBound> {
    flags.get_one::<TimeBound>(name).copied().with_context(|| format!("--{name}: needs a value"))
}

/// A retention that ends before blocks are old enough to be downsampled would leave nothing.
fn check_downsampling(policy: &Policy) -> anyhow::Result<()> {
    for (resolution, flag, shortest) in [
        (Resolution::Raw, "raw", RAW_RETENTION_MIN),
        (Resolution::FiveMinutes, "5m", FIVE_MINUTES_RETENTION_MIN),
    ] {
        if policy.of(resolution).is_some_and(|it| it < shortest) {
            let hours = shortest.as_secs() / 3600;
            bail!(
                "--retention.resolution-{flag}: must be at least {hours}h, the age at which a \
                 block is downsampled; or give --downsampling.disable"
            );
        }
    }
    Ok(())
}
