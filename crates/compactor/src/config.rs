//! The flags of the compactor, all that Thanos has, and what they come to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Command};
use daemon::flags::{self, accepted, accepted_switch, bool_pair, refused};
use model::TimeBound;
use objstore::config::Backend;

use crate::plan;
use crate::retention::Policy;

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
    pub(crate) compact_concurrency: usize,
    pub(crate) downsample_concurrency: usize,
    /// Where what a job needs beside the bucket is kept.
    pub(crate) data_dir: PathBuf,
    pub(crate) deduplication: Deduplication,
    pub(crate) rules: Rules,
}

/// What decides about blocks.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Younger blocks are left alone.
    pub(crate) consistency_delay: Duration,
    /// How long a block lives on after it was marked.
    pub(crate) delete_delay: Duration,
    /// What is merged, downsampled and given up.
    pub(crate) plan: plan::Rules,
    /// Only blocks that reach into these times are looked at.
    pub(crate) min_time: TimeBound,
    pub(crate) max_time: TimeBound,
}

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
    web_flags(without_effect(compaction_flags(command)))
}

/// Flags about merging and downsampling.
fn compaction_flags(command: Command) -> Command {
    let count = |name, help| {
        flags::value(name, help)
            .default_value("1")
            .value_parser(clap::value_parser!(u16).range(1..=256))
    };
    command
        .arg(
            flags::value(
                "data-dir",
                "Directory for what is kept while a job runs; 2 GiB at most for each job.",
            )
            .default_value("./data"),
        )
        .arg(count("compact.concurrency", "Groups of blocks that are merged at the same time."))
        .arg(count("downsample.concurrency", "Blocks that are downsampled at the same time."))
        .arg(flags::bytes(
            "compact.block-max-index-size",
            "64GB",
            "Blocks whose indexes have nearly so many bytes together are not merged. More than \
             1.88 GiB counts as that: a job has no room for a larger index.",
        ))
        .arg(flags::values(
            "deduplication.replica-label",
            "External label that tells replicas apart; their blocks are merged into one. May be \
             given more than once.",
        ))
        .arg(
            flags::value(
                "deduplication.func",
                "How replicas are merged: empty for aion's own rule, penalty or one-to-one for \
                 Thanos' two. Without replica labels always one-to-one.",
            )
            .default_value(""),
        )
        .arg(
            flags::value(
                "debug.max-compaction-level",
                "How many of the ranges 2h, 8h, 2d, 14d blocks are merged to.",
            )
            .default_value("4")
            .value_parser(clap::value_parser!(u8).range(0..=4)),
        )
}

/// Flags that do nothing here, each for its own reason.
fn without_effect(command: Command) -> Command {
    let values = [
        ("compact.blocks-fetch-concurrency", "blocks are read while they are merged"),
        ("block-files-concurrency", "files are read ahead and written in parts while they grow"),
        ("compact.progress-interval", "progress is up to date whenever it is asked for"),
        ("hash-func", "files are verified by their sizes and the MD5 that the store tells"),
        ("block-discovery-strategy", "one listing of the bucket's top level finds the blocks"),
    ];
    let command = values.into_iter().fold(command, |it, (name, why)| accepted(it, name, why));
    let switches = [
        ("compact.enable-vertical-compaction", "overlapping blocks are always merged"),
        (
            "compact.skip-block-with-out-of-order-chunks",
            "a block that cannot be merged is quarantined and stops nothing",
        ),
        ("debug.accept-malformed-index", "a block with a malformed index is quarantined"),
        ("debug.halt-on-error", "a compactor never halts"),
    ];
    let command =
        switches.into_iter().fold(command, |it, (name, why)| accepted_switch(it, name, why));
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
        let plan = plan_rules(flags);
        let has_replica_labels = !plan.replica_labels.is_empty();
        let config = Config {
            http: daemon::http::Config::from_flags(flags)?,
            objstore: objstore::Config::parse(&objstore).context("--objstore.config")?,
            wait: flags::is_on(flags, "wait"),
            wait_interval: flags::duration_of(flags, "wait-interval"),
            cleanup_interval: flags::duration_of(flags, "compact.cleanup-interval"),
            sync_concurrency: count(flags, "block-meta-fetch-concurrency"),
            compact_concurrency: count(flags, "compact.concurrency"),
            downsample_concurrency: count(flags, "downsample.concurrency"),
            data_dir: PathBuf::from(flags::text_of(flags, "data-dir")),
            deduplication: Deduplication::from_flags(flags, has_replica_labels)?,
            rules: Rules {
                consistency_delay: flags::duration_of(flags, "consistency-delay"),
                delete_delay: flags::duration_of(flags, "delete-delay"),
                plan,
                min_time: bound(flags, "min-time")?,
                max_time: bound(flags, "max-time")?,
            },
        };
        if config.wait && config.wait_interval.is_zero() {
            bail!("--wait-interval=0s: must be longer, iterations would follow without a pause");
        }
        check_parts(&config.objstore)?;
        if config.rules.plan.downsampling {
            check_downsampling(&config.rules.plan.retention)?;
        }
        Ok(config)
    }
}

fn plan_rules(flags: &ArgMatches) -> plan::Rules {
    let level = flags.get_one::<u8>("debug.max-compaction-level").map_or(4, |it| usize::from(*it));
    let labels = flags.get_many::<String>("deduplication.replica-label").into_iter().flatten();
    plan::Rules {
        ranges_ms: plan::RANGES_MS.into_iter().take(level + 1).collect(),
        replica_labels: labels.filter(|it| !it.is_empty()).cloned().collect(),
        downsampling: !flags::is_on(flags, "downsampling.disable"),
        retention: retention(flags),
        index_bytes_max: flags
            .get_one::<u64>("compact.block-max-index-size")
            .copied()
            .unwrap_or(u64::MAX)
            .min(plan::INDEX_BYTES_MAX),
    }
}

/// How the samples of overlapping blocks become one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deduplication {
    /// Ours for replicas, the default with a replica label.
    Phases,
    /// Thanos' for replicas.
    Penalty,
    /// All samples, one for each time.
    OneToOne,
}

impl Deduplication {
    fn from_flags(flags: &ArgMatches, has_replica_labels: bool) -> anyhow::Result<Deduplication> {
        let named = flags::text_of(flags, "deduplication.func");
        match (&*named, has_replica_labels) {
            ("", false) | ("one-to-one", _) => Ok(Deduplication::OneToOne),
            ("", true) => Ok(Deduplication::Phases),
            ("penalty", true) => Ok(Deduplication::Penalty),
            ("penalty", false) => bail!(
                "--deduplication.func=penalty: needs at least one --deduplication.replica-label"
            ),
            _ => bail!(
                "--deduplication.func={named}: unsupported, must be empty, penalty or one-to-one"
            ),
        }
    }
}

fn count(flags: &ArgMatches, name: &str) -> usize {
    flags.get_one::<u16>(name).map_or(1, |it| usize::from(*it))
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

/// Blocks are written while they are made, which S3 takes in parts only.
fn check_parts(config: &objstore::Config) -> anyhow::Result<()> {
    match &config.backend {
        Backend::S3(s3) if s3.disable_multipart => bail!(
            "--objstore.config: disable_multipart: true: a compactor writes files while they are \
             made and needs multipart uploads for those over 8 MiB; remove it"
        ),
        _ => Ok(()),
    }
}

/// A retention that ends before blocks are old enough to be downsampled would leave nothing.
fn check_downsampling(policy: &Policy) -> anyhow::Result<()> {
    let is_short = |kept: Option<Duration>, least| kept.is_some_and(|it| it < least);
    if is_short(policy.raw, RAW_RETENTION_MIN) {
        bail!(
            "--retention.resolution-raw: raw resolution must be higher than the minimum block size \
             after which 5m resolution downsampling will occur (40 hours); or give \
             --downsampling.disable"
        );
    }
    if is_short(policy.five_minutes, FIVE_MINUTES_RETENTION_MIN) {
        bail!(
            "--retention.resolution-5m: 5m resolution retention must be higher than the minimum \
             block size after which 1h resolution downsampling will occur (10 days); or give \
             --downsampling.disable"
        );
    }
    Ok(())
}
