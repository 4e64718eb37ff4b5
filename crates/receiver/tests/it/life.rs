//! Starts, stops and restarts: what was acknowledged stays, blocks reach the bucket, and a
//! directory that cannot be had is a clear line.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tsdb_core::block::{Meta, Reader};
use tsdb_core::fs::disk::Disk;

use crate::world::{World, series};

const START_MS: i64 = 1_700_000_000_000;

fn bucket_flag(bucket: &Path) -> String {
    format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {:?}}}}}", bucket.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_receiver_has_shipped_its_head_and_goes_on_where_it_was() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flag = bucket_flag(bucket.path());
    let world = World::start(data.path(), START_MS, &[&flag]).await;
    let stale = f64::from_bits(model::STALE_NAN_BITS);
    let samples = [(START_MS - 1000, 1.0), (START_MS, stale)];
    let answer = world.write("team-a", &[series("up", ("job", "x"), &samples)]).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    let before = world.contents().await;
    assert_eq!(before.len(), 1);
    world.stop().await;

    let is_block = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_str().unwrap().parse::<model::BlockId>().is_ok()
    };
    let entries = std::fs::read_dir(bucket.path()).unwrap().map(|it| it.unwrap().path());
    let blocks: Vec<_> = entries.filter(is_block).collect();
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    let block = &blocks[0];
    let meta = Meta::read(&Disk, &block.join("meta.json")).unwrap();
    assert_eq!(meta.stats.num_samples, 2);
    assert_eq!(meta.thanos.source, "receive");
    let labels = meta.external_labels().unwrap().to_string();
    assert_eq!(labels, r#"{receive="r0", tenant_id="team-a"}"#);
    Reader::open(&Disk, block, &model::Budget::unlimited()).unwrap();
    let state = std::fs::read_to_string(data.path().join("team-a/thanos.shipper.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["version"], 1);
    assert_eq!(state["uploaded"][0], block.file_name().unwrap().to_str().unwrap());

    let world = World::start(data.path(), START_MS + 2000, &[&flag]).await;
    assert_eq!(world.contents().await, before);
    // The retry of what was acknowledged before the stop, then the next scrape.
    let again = [series("up", ("job", "x"), &samples)];
    assert_eq!(world.write("team-a", &again).await.status, 204);
    let next = [series("up", ("job", "x"), &[(START_MS + 1000, 2.0)])];
    assert_eq!(world.write("team-a", &next).await.status, 204);
    let contents = world.contents().await;
    assert_eq!(contents.values().map(|it| it.len()).sum::<usize>(), 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_was_shipped_and_compacted_is_not_uploaded_after_a_restart() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flag = bucket_flag(bucket.path());
    let world = World::start(data.path(), START_MS, &[&flag]).await;
    let write = [series("up", ("job", "x"), &[(START_MS, 1.0)])];
    assert_eq!(world.write("team-a", &write).await.status, 204);
    world.stop().await;
    let entries = || -> Vec<_> {
        let entries = std::fs::read_dir(bucket.path()).unwrap();
        entries.map(|it| it.unwrap().path()).filter(|it| it.join("meta.json").exists()).collect()
    };
    let shipped = entries();
    assert_eq!(shipped.len(), 1);
    let state = || std::fs::read(data.path().join("team-a/thanos.shipper.json")).unwrap();
    let before = state();
    // A compaction has put it into another block, which has lost the label of the replica.
    let compacted = shipped[0].with_file_name("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    std::fs::rename(&shipped[0], &compacted).unwrap();
    let meta = std::fs::read_to_string(compacted.join("meta.json")).unwrap();
    let id = shipped[0].file_name().unwrap().to_str().unwrap();
    let (ours, theirs) =
        (format!("\"ulid\": \"{id}\""), "\"ulid\": \"01ARZ3NDEKTSV4RRFFQ69G5FAV\"");
    assert!(meta.contains(&ours), "{meta}");
    let meta = meta.replacen(&ours, theirs, 1).replace("\"receive\":", "\"other\":");
    std::fs::write(compacted.join("meta.json"), meta).unwrap();

    let world = World::start(data.path(), START_MS + 2000, &[&flag]).await;
    assert_eq!(world.contents().await.len(), 1);
    // Stopping ships in any case, so at least one round has looked at the block.
    world.stop().await;
    assert_eq!(entries(), std::slice::from_ref(&compacted));
    assert_eq!(state(), before);

    // Without that one the samples would be lost: the block is uploaded again.
    std::fs::remove_dir_all(&compacted).unwrap();
    let world = World::start(data.path(), START_MS + 4000, &[&flag]).await;
    world.stop().await;
    assert_eq!(entries(), shipped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_samples_beside_bad_ones_are_kept_and_the_bad_ones_named() {
    let data = tempfile::tempdir().unwrap();
    let world = World::start(data.path(), START_MS, &[]).await;
    let hour_ms = 3_600_000;
    let good = series("good", ("job", "x"), &[(START_MS, 1.0)]);
    assert_eq!(world.write("", std::slice::from_ref(&good)).await.status, 204);
    let batch = [
        series("good", ("job", "x"), &[(START_MS, 7.0), (START_MS + 1, 2.0)]),
        series("old", ("job", "x"), &[(START_MS - 2 * hour_ms, 1.0)]),
        series("ahead", ("job", "x"), &[(START_MS + hour_ms, 1.0)]),
        series("other", ("job", "x"), &[(START_MS, 3.0)]),
    ];
    let answer = world.write("", &batch).await;
    assert_eq!(answer.status, 400);
    let lines: Vec<String> = answer.text().lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "2 samples are kept, what follows is refused:");
    let begins = |line: &str, labels: &str, reason: &str| {
        assert!(line.starts_with(labels) && line.contains(reason), "{line}");
    };
    begins(&lines[1], r#"{__name__="good", job="x"} at 1700000000000:"#, "duplicate sample");
    begins(&lines[2], r#"{__name__="old", job="x"} at"#, "out of bounds");
    begins(&lines[3], r#"{__name__="ahead", job="x"} at"#, "too far in the future");
    let contents = world.contents().await;
    let kept: Vec<usize> = contents.values().map(|it| it.len()).collect();
    assert_eq!(kept, [2, 1]);
    let metrics = world.metrics().await;
    for wanted in [
        r#"thanos_receive_write_samples_sum{code="400",tenant="default-tenant"} 5"#,
        r#"thanos_receive_write_timeseries_count{code="204",tenant="default-tenant"} 1"#,
        "aion_receive_samples_refused_total 3",
        "prometheus_tsdb_head_samples_appended_total 3",
    ] {
        assert!(metrics.contains(wanted), "{wanted} is not in\n{metrics}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_had_is_named_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let world = World::start(data.path(), START_MS, &[]).await;
    let error = World::try_start(data.path(), START_MS, &[]).await.err().unwrap();
    let text = format!("{error:#}");
    assert!(text.contains("--tsdb.path=") && text.contains("another process has it"), "{text}");
    assert!(!text.contains('\n'), "{text}");
    world.stop().await;

    let file = data.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = World::try_start(&file.join("below"), START_MS, &[]).await.err().unwrap();
    assert!(format!("{error:#}").contains("--tsdb.path="), "{error:#}");

    let locked = data.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    match World::try_start(&locked, START_MS, &[]).await {
        Err(error) => {
            let text = format!("{error:#}");
            assert!(text.contains("it is not writable"), "{text}");
        }
        // The superuser may write everywhere.
        Ok(world) => world.stop().await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_holds_up_no_write() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("not-a-directory");
    std::fs::write(&file, b"").unwrap();
    let flag = bucket_flag(&file.join("bucket"));
    let flags = [&*flag, "--tsdb.min-block-duration=1m", "--tsdb.max-block-duration=1m"];
    let world = World::start(&data.path().join("data"), START_MS, &flags).await;
    assert!(world.context.readiness.is_ready());
    let samples = [(START_MS - 120_000, 1.0), (START_MS, 2.0)];
    let write = [series("up", ("job", "x"), &samples)];
    assert_eq!(world.write("", &write).await.status, 204);
    for _ in 0..200 {
        if world.metrics().await.contains("thanos_shipper_upload_failures_total 1") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(world.contents().await.len(), 1);
}

#[test]
fn flags_of_a_ring_are_refused_with_the_reason() {
    use daemon::config_of;
    use receiver::Receiver;
    let label = "--label=receive=\"r0\"".to_owned();
    let check = |flags: &[&str], wanted: &str| {
        let mut arguments = vec![label.clone()];
        arguments.extend(flags.iter().map(|it| (*it).to_owned()));
        let text = format!("{:#}", config_of::<Receiver>(&arguments).unwrap_err());
        assert!(text.contains(wanted), "{flags:?}: {text}");
    };
    check(&["--receive.hashrings-file=ring.json"], "not part of a hashring");
    check(&["--receive.replication-factor=3"], "not replicated yet");
    check(&["--tsdb.out-of-order.time-window=10m"], "out-of-order");
    check(&["--tsdb.min-block-duration=1h"], "--tsdb.max-block-duration");
    check(&["--tsdb.retenton=1d"], "--tsdb.retention");
    check(&["--objstore.config=type: S4"], "S3");
    let error = config_of::<Receiver>(&[]).unwrap_err();
    assert!(format!("{error:#}").contains("at least one external label"), "{error:#}");
    config_of::<Receiver>(&[label.clone(), "--receive.replication-factor=1".to_owned()]).unwrap();
}
