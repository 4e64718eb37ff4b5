//! The life of a compactor: one iteration, many, a damaged block, a bucket that is not there.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use compactor::Compactor;
use daemon::{Context, Running, SeededRandom, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bucket_dir::{BucketDir, DAY_MS, id, now_ms};
use crate::real_blocks::RealBucket;

const DAY: Duration = Duration::from_hours(24);

async fn start(flags: &[&str]) -> Running<Compactor> {
    let own = ["--http-address=127.0.0.1:0", "--wait", "--downsampling.disable"];
    let flags: Vec<String> = own.iter().chain(flags).map(|it| (*it).to_owned()).collect();
    let config = daemon::config_of::<Compactor>(&flags).unwrap();
    let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SeededRandom::new(1)));
    Running::start(config, Context::new("compact", clock, random)).await.unwrap()
}

/// Status line and body.
async fn get(running: &Running<Compactor>, path: &str) -> String {
    let mut stream = TcpStream::connect(running.service().http_address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until a page says something.
async fn until(running: &Running<Compactor>, path: &str, expected: &str) -> String {
    for _ in 0..200 {
        let page = get(running, path).await;
        if page.contains(expected) {
            return page;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} never said {expected:?}: {}", get(running, path).await);
}

#[test]
fn without_wait_one_iteration_is_done_and_the_process_ends() {
    let bucket = BucketDir::new();
    let now_ms = now_ms();
    let (expired, kept, coarse) = (id(1), id(2), id(3));
    bucket.write_block(expired, now_ms - 3 * DAY_MS, 0);
    bucket.write_block(kept, now_ms - DAY_MS, 0);
    bucket.write_block(coarse, now_ms - 3 * DAY_MS, 300_000);
    let done = Command::new(env!("CARGO_BIN_EXE_compactor"))
        .args([&bucket.flag(), "--http-address=127.0.0.1:0", "--downsampling.disable"])
        .args(["--retention.resolution-raw=2d", "--hash-func=SHA256", &bucket.data_flag()])
        .output()
        .unwrap();
    let log = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{log}");
    assert!(log.contains("--hash-func is accepted without effect"), "{log}");
    assert!(bucket.has(expired, "deletion-mark.json") && bucket.has(expired, "meta.json"));
    assert!(!bucket.has(kept, "deletion-mark.json") && !bucket.has(coarse, "deletion-mark.json"));
}

#[test]
fn without_wait_a_clock_that_is_not_the_buckets_is_a_failure() {
    let bucket = BucketDir::new();
    let now_ms = now_ms();
    bucket.write_block(id(1), now_ms - 3 * DAY_MS, 0);
    bucket.write_block(id(2), now_ms - DAY_MS, 0);
    bucket.set_ahead(id(2), "index", DAY);
    let done = Command::new(env!("CARGO_BIN_EXE_compactor"))
        .args([&bucket.flag(), "--http-address=127.0.0.1:0", "--downsampling.disable"])
        .args(["--retention.resolution-raw=2d", &bucket.data_flag()])
        .output()
        .unwrap();
    let log = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success(), "{log}");
    assert!(log.contains("no block is marked or deleted until they agree"), "{log}");
    assert!(log.contains(&format!("{}/index", id(2))), "{log}");
    assert!(log.contains("so nothing was done"), "{log}");
    assert!(!bucket.has(id(1), "deletion-mark.json"));
}

#[tokio::test]
async fn marked_blocks_and_given_up_uploads_go_and_a_damaged_block_stops_nothing() {
    let bucket = BucketDir::new();
    let now_ms = now_ms();
    let [damaged, marked, fresh_mark, given_up, under_way, strange_mark, expired, back_dated] =
        [1, 2, 3, 4, 5, 6, 7, 8].map(id);
    for block in [damaged, marked, fresh_mark, strange_mark, back_dated] {
        bucket.write_block(block, now_ms - DAY_MS, 0);
    }
    bucket.write_block(expired, now_ms - 40 * DAY_MS, 0);
    bucket.write(damaged, "meta.json", "{\"ulid\":");
    bucket.set_age(damaged, "meta.json", 9 * DAY);
    bucket.write_mark(marked, now_ms - 3 * DAY_MS);
    bucket.set_age(marked, "deletion-mark.json", 3 * DAY);
    // Written now, by a clock that was behind.
    bucket.write_mark(back_dated, now_ms - 3 * DAY_MS);
    bucket.write_mark(fresh_mark, now_ms - DAY_MS / 2);
    bucket.write(strange_mark, "deletion-mark.json", "{\"id\":");
    for block in [given_up, under_way] {
        bucket.write(block, "index", "index");
        bucket.write(block, "chunks/000001", "chunks");
        bucket.set_age(block, "index", 9 * DAY);
    }
    bucket.set_age(given_up, "chunks/000001", 3 * DAY);
    for file in ["index", "chunks/000001"] {
        bucket.set_age(damaged, file, 9 * DAY);
    }

    let flags = [&*bucket.flag(), &bucket.data_flag(), "--retention.resolution-raw=30d"];
    let running = start(&flags).await;
    until(&running, "/-/ready", "200 OK").await;
    let metrics = until(&running, "/metrics", "thanos_compact_iterations_total 1").await;
    for expected in [
        "thanos_compact_blocks_cleaned_total 1",
        "thanos_compact_aborted_partial_uploads_deletion_attempts_total 1",
        "thanos_compact_halted 0",
        "thanos_blocks_meta_synced{state=\"corrupted-meta-json\"} 1",
        "thanos_blocks_meta_synced{state=\"no-meta-json\"} 2",
        "thanos_blocks_meta_synced{state=\"marked-for-deletion\"} 2",
        "thanos_delete_delay_seconds 172800",
        "thanos_compact_blocks_marked_total{marker=\"deletion-mark.json\",reason=\"retention\"} 1",
    ] {
        assert!(metrics.contains(expected), "{expected} is missing in {metrics}");
    }
    let left = [damaged, marked, fresh_mark, given_up, under_way, strange_mark, back_dated]
        .map(|it| bucket.has_any(it));
    assert_eq!(left, [true, false, true, false, true, true, true]);
    assert!(bucket.has(damaged, "chunks/000001"), "what cannot be read is not lost");
    assert!(bucket.has(expired, "deletion-mark.json"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn new_blocks_are_seen_and_what_was_interrupted_is_finished() {
    let bucket = BucketDir::new();
    let (flag, data) = (bucket.flag(), bucket.data_flag());
    let flags = [&*flag, &data, "--wait-interval=200ms", "--retention.resolution-raw=30d"];
    let running = start(&flags).await;
    until(&running, "/-/ready", "200 OK").await;
    let now_ms = now_ms();
    let (late, torn) = (id(1), id(2));
    bucket.write_block(late, now_ms - 40 * DAY_MS, 0);
    // What a crash leaves behind its first and before its last step.
    bucket.write(torn, "chunks/000001", "chunks");
    bucket.write_mark(torn, now_ms - 3 * DAY_MS);
    bucket.set_age(torn, "deletion-mark.json", 3 * DAY);
    until(&running, "/metrics", "thanos_compact_blocks_cleaned_total 1").await;
    until(&running, "/metrics", "reason=\"retention\"} 1").await;
    assert!(bucket.has(late, "deletion-mark.json") && !bucket.has_any(torn));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_waited_for() {
    // Nothing listens on the discard port.
    let config = "--objstore.config={type: S3, config: {bucket: b, endpoint: '127.0.0.1:9', \
                  insecure: true, access_key: a, secret_key: s, max_retries: 1}}";
    let directories = BucketDir::new();
    let running = start(&[config, &directories.data_flag()]).await;
    let page = until(&running, "/-/ready", "the bucket cannot be read").await;
    assert!(page.contains("503"), "{page}");
    assert!(get(&running, "/-/healthy").await.contains("200 OK"));
    until(&running, "/metrics", "thanos_compact_retries_total 2").await;
    let metrics = get(&running, "/metrics").await;
    assert!(metrics.contains("thanos_blocks_meta_sync_failures_total"), "{metrics}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn plan_jobs_backlog_quarantine_and_history_are_shown() {
    let mut real = RealBucket::new();
    for at in 0..6_u32 {
        let hour = i64::from(at) * 2;
        real.put(at, "a", (hour, hour + 2));
    }
    let damaged = real.put(7, "b", (0, 2));
    std::fs::write(real.directory(damaged).join("meta.json"), "{").unwrap();
    let data = real.bucket.data_flag();
    let running = start(&[&*real.bucket.flag(), &data, "--consistency-delay=0s"]).await;
    let history = until(&running, "/api/v1/compactor/history", "\"outcome\":\"made\"").await;
    let json = |page: &str| -> serde_json::Value {
        let (_, body) = page.split_once("\r\n\r\n").unwrap();
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(value["status"], "success");
        value["data"].clone()
    };
    let job = &json(&history)["jobs"][0];
    assert_eq!((&job["job"], &job["bytes"].is_u64()), (&"compact".into(), &true));
    assert_eq!(job["blocks"].as_array().unwrap().len(), 4);
    assert_eq!(
        job["samples"],
        serde_json::json!({
            "in": 4 * 3 * 120, "out": 4 * 3 * 120, "dropped": {}, "notes": {},
        })
    );
    assert_eq!(job["group"], "0@{stream=\"a\"}");
    let quarantine = json(&get(&running, "/api/v1/compactor/quarantine").await);
    let entry = &quarantine["entries"][0];
    assert_eq!(entry["subject"]["block"], damaged.to_string());
    assert_eq!(entry["cause"], "corrupt-meta");
    // At rest nothing is left to do.
    until(&running, "/api/v1/compactor/backlog", "\"compactions\":0").await;
    let plan = json(&until(&running, "/api/v1/compactor/plan", "\"jobs\":[]").await);
    assert_eq!(plan["expired"], serde_json::json!([]));
    let jobs = json(&until(&running, "/api/v1/compactor/jobs", "\"jobs\":[]").await);
    assert_eq!(jobs["jobs"], serde_json::json!([]));
    let metrics = get(&running, "/metrics").await;
    for expected in [
        "thanos_compact_halted 0",
        "thanos_compact_group_compactions_total{resolution=\"0\"} 1",
        "thanos_compact_group_compaction_runs_started_total 1",
        "thanos_compact_group_compaction_runs_completed_total 1",
        "thanos_compact_group_compactions_failures_total 0",
        "thanos_compact_group_vertical_compactions_total 0",
        "thanos_compact_downsample_total{resolution=\"0\"} 0",
        "thanos_compact_downsample_failures_total{resolution=\"0\"} 0",
        "thanos_compact_todo_compactions 0",
        "thanos_compact_todo_compaction_blocks 0",
        "thanos_compact_todo_downsample_blocks 0",
        "thanos_compact_garbage_collected_blocks_total 0",
        "thanos_compact_garbage_collection_total",
        "thanos_compact_garbage_collection_failures_total 0",
        "thanos_compact_garbage_collection_duration_seconds_count",
        "reason=\"compacted\"} 4",
        "aion_compact_quarantined 1",
    ] {
        assert!(metrics.contains(expected), "{expected} is missing in {metrics}");
    }
    running.stop().await.unwrap();
}
