//! Every flag of Thanos is known; what cannot be done is refused with a reason.

use compactor::Compactor;

const BUCKET: &str = "--objstore.config={type: FILESYSTEM, config: {directory: /nowhere}}";

fn parse(more: &[&str]) -> Result<String, String> {
    let flags: Vec<String> =
        std::iter::once(&BUCKET).chain(more).map(|it| (*it).to_owned()).collect();
    match daemon::config_of::<Compactor>(&flags) {
        Ok(config) => Ok(format!("{config:?}")),
        Err(error) => Err(format!("{error:#}")),
    }
}

#[test]
fn all_flags_of_thanos_are_taken() {
    let flags = "--data-dir=./data --wait --wait-interval=5m --compact.concurrency=1 \
         --compact.blocks-fetch-concurrency=1 --downsample.concurrency=1 \
         --block-files-concurrency=1 --block-meta-fetch-concurrency=32 \
         --block-discovery-strategy=concurrent --compact.progress-interval=5m \
         --compact.cleanup-interval=5m --consistency-delay=30m --delete-delay=48h \
         --retention.resolution-raw=30d --retention.resolution-5m=180d \
         --retention.resolution-1h=2y --downsampling.disable --min-time=-2y \
         --max-time=2030-01-01T00:00:00Z --hash-func=SHA256 \
         --compact.enable-vertical-compaction --deduplication.replica-label=replica \
         --deduplication.replica-label=rule_replica --deduplication.func=penalty \
         --debug.halt-on-error --no-debug.halt-on-error --debug.accept-malformed-index \
         --debug.max-compaction-level=4 --compact.block-max-index-size=64GB \
         --compact.skip-block-with-out-of-order-chunks --web.disable \
         --web.external-prefix=/x --web.prefix-header=X --web.disable-cors \
         --bucket-web-label=cluster --disable-admin-operations \
         --block-viewer.global.sync-block-interval=1m \
         --block-viewer.global.sync-block-timeout=5m --selector.relabel-config= \
         --http-address=127.0.0.1:0 --http-grace-period=1s --log.level=info \
         --log.format=logfmt";
    parse(&flags.split_whitespace().collect::<Vec<_>>()).unwrap();
    parse(&["-w", "--block-sync-concurrency=20"]).unwrap();
    let nothing_given = parse(&[]).unwrap();
    for default in ["wait: false", "delete_delay: 172800s", "raw: None", "wait_interval: 300s"] {
        assert!(nothing_given.contains(default), "{default}: {nothing_given}");
    }
    for (flags, expected) in [
        (&[][..], "deduplication: OneToOne"),
        (&["--deduplication.func=one-to-one", "--deduplication.replica-label=r"], "OneToOne"),
        (&["--deduplication.func=penalty", "--deduplication.replica-label=r"], "Penalty"),
        (&["--deduplication.replica-label=r"], "deduplication: Phases"),
        (&["--debug.max-compaction-level=2"], "ranges_ms: [3600000, 7200000, 28800000]"),
        (&["--compact.block-max-index-size=64GB"], "index_bytes_max: 2021161000"),
        (&["--compact.block-max-index-size=1GB"], "index_bytes_max: 1073741824"),
        (&["--compact.concurrency=3", "--downsample.concurrency=2"], "compact_concurrency: 3"),
    ] {
        let config = parse(flags).unwrap();
        assert!(config.contains(expected), "{flags:?}: {config}");
    }
    assert!(parse(&["--retention.resolution-raw=0d"]).unwrap().contains("raw: None"));
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    for (flags, reason) in [
        (&["--retention.resolution-raw=1d"][..], "--downsampling.disable"),
        (&["--retention.resolution-5m=9d"], "1h resolution downsampling will occur (10 days)"),
        (&["--retention.resolution-raw=39h"], "5m resolution downsampling will occur (40 hours)"),
        (&["--deduplication.func=penalty"], "at least one --deduplication.replica-label"),
        (&["--deduplication.func=chain"], "must be"),
        (&["--debug.max-compaction-level=5"], "--debug.max-compaction-level=5"),
        (&["--compact.concurrency=0"], "--compact.concurrency=0"),
        (&["--wait", "--wait-interval=0s"], "--wait-interval"),
        (&["--selector.relabel-config=[]"], "selection of blocks by relabelling"),
        (&["--min-time=yesterday"], "--min-time=yesterday"),
        (&["--delete-delay=2"], "--delete-delay=2"),
        (&["--retention.resolution-rw=1d"], "did you mean --retention.resolution-raw?"),
        (&["--block-meta-fetch-concurrency=0"], "--block-meta-fetch-concurrency=0"),
    ] {
        let refusal = parse(flags).unwrap_err();
        assert!(refusal.contains(reason), "{flags:?}: {refusal}");
    }
    parse(&["--retention.resolution-raw=1d", "--downsampling.disable"]).unwrap();
    let bucket = "--objstore.config={type: S3, config: {bucket: b, endpoint: e, \
                  disable_multipart: true}}";
    let refusal = daemon::config_of::<Compactor>(&[bucket.to_owned()]).unwrap_err().to_string();
    assert!(refusal.contains("disable_multipart"), "{refusal}");
    let refusal = daemon::config_of::<Compactor>(&[]).unwrap_err().to_string();
    assert!(refusal.contains("--objstore.config-file"), "{refusal}");
}
