//! Real blocks through the real program: merged, downsampled, killed, damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use model::BlockId;
use tsdb_core::block::Meta;

use crate::real_blocks::{EPOCH_MS, HOUR_MS, RealBucket, block_id};

/// Hours from and to, resolution in ms, of what a reader sees of a stream.
fn shapes(visible: &BTreeMap<BlockId, std::sync::Arc<Meta>>, stream: &str) -> Vec<(i64, i64, i64)> {
    let of =
        visible.values().filter(|it| it.thanos.labels.get("stream").is_some_and(|it| it == stream));
    let hour = |time_ms: i64| (time_ms - EPOCH_MS) / HOUR_MS;
    let mut shapes: Vec<_> = of
        .map(|it| (hour(it.min_time_ms), hour(it.max_time_ms), it.thanos.downsample.resolution_ms))
        .collect();
    shapes.sort_unstable();
    shapes
}

fn log_of(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn two_hours_become_two_days_and_five_minutes_and_a_second_run_changes_nothing() {
    let mut real = RealBucket::new();
    for at in 0..26_u32 {
        let hour = i64::from(at) * 2;
        real.put(at, "a", (hour, hour + 2));
    }
    // Late data, in the middle of a block and over the border of two.
    real.put(100, "a", (5, 6));
    real.put(101, "a", (15, 17));
    let done = real.run(&["--compact.concurrency=2"]);
    let log = log_of(&done);
    assert!(done.status.success(), "{log}");
    let visible = real.check().await;
    // The stream has ended long ago, so that its last blocks are downsampled alone.
    let expected = [
        (0, 48, 0),
        (0, 48, 300_000),
        (48, 50, 0),
        (48, 50, 300_000),
        (48, 50, 3_600_000),
        (50, 52, 0),
        (50, 52, 300_000),
        (50, 52, 3_600_000),
    ];
    let expected: BTreeSet<_> = expected.into_iter().collect();
    let shapes: BTreeSet<_> = shapes(&visible, "a").into_iter().collect();
    assert!(shapes.is_superset(&expected), "{shapes:?}");
    let whole = visible.values().find(|it| it.max_time_ms - it.min_time_ms == 48 * HOUR_MS);
    let whole = whole.unwrap();
    assert_eq!((whole.compaction.sources.len(), &*whole.thanos.source), (26, "compactor"));
    assert!(whole.thanos.files.iter().any(|it| it.rel_path == "index"));
    let names = |real: &RealBucket| -> BTreeSet<String> {
        let entries = fs::read_dir(real.bucket.path()).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    };
    let before = names(&real);
    let again = real.run(&[]);
    assert!(again.status.success(), "{}", log_of(&again));
    assert_eq!(names(&real), before);
    assert!(!log_of(&again).contains("a job begins"), "{}", log_of(&again));
}

#[tokio::test]
async fn replicas_become_one_stream() {
    for rule in ["", "penalty", "one-to-one"] {
        let mut real = RealBucket::new();
        for at in 0..6_u32 {
            let hour = i64::from(at) * 2;
            for replica in 0..2 {
                // Scraped at other milliseconds.
                let id = real.put(at + 500 * replica, "a", (hour, hour + 2));
                damage_meta(&real, id, |it| {
                    it["thanos"]["labels"]["replica"] = replica.to_string().into();
                });
            }
        }
        let function = format!("--deduplication.func={rule}");
        let label = "--deduplication.replica-label=replica";
        let done = real.run(&[label, &function, "--downsampling.disable"]);
        let log = log_of(&done);
        assert!(done.status.success(), "{log}");
        let mut visible = real.visible().await;
        // The marked sources are to be seen for a while; their labels tell them apart.
        let (bucket, marked) = (&real.bucket, "deletion-mark.json");
        visible.retain(|id, it| match it.thanos.labels.contains_key("replica") {
            true => {
                assert!(bucket.has(*id, marked), "{rule}: {id}");
                false
            }
            false => true,
        });
        assert_eq!(shapes(&visible, "a"), [(0, 8, 0), (8, 10, 0), (10, 12, 0)], "{rule}");
        let mut samples = testkit::blocks::Samples::new();
        for id in visible.keys() {
            testkit::blocks::scan(&real.directory(*id), &mut samples).unwrap();
        }
        // Both replicas' samples, or those of one.
        let kept = real.samples.len() / if rule == "one-to-one" { 1 } else { 2 };
        assert_eq!(samples.len(), kept, "{rule}");
    }
}

#[tokio::test]
async fn killed_at_random_moments_no_sample_is_lost_or_doubled() {
    let mut real = RealBucket::new();
    let mut random = 11_u64;
    for round in 0..10_u32 {
        for at in 0..12 {
            let number = round * 20 + at;
            let hour = i64::from(round * 24 + at * 2);
            real.put(number, "a", (hour, hour + 2));
        }
        if round % 3 == 2 {
            let hour = i64::from(round) * 10;
            real.put(round * 20 + 15, "a", (hour, hour + 1));
        }
        let mut child = real.command(&["--log.level=error"]).spawn().unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_millis(random >> 33 & 0x3ff));
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        real.check().await;
    }
    let done = real.run(&[]);
    assert!(done.status.success(), "{}", log_of(&done));
    let visible = real.check().await;
    let raw = shapes(&visible, "a").into_iter().filter(|it| it.2 == 0);
    // Four or five of two days, and what is not complete yet.
    assert!(raw.count() <= 16, "{visible:?}");
}

/// Changes the bytes of a file of a block.
fn damage(real: &RealBucket, id: BlockId, file: &str, change: impl Fn(&mut Vec<u8>)) {
    let path = real.directory(id).join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

fn damage_meta(real: &RealBucket, id: BlockId, change: impl Fn(&mut serde_json::Value)) {
    damage(real, id, "meta.json", |bytes| {
        let mut meta: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        change(&mut meta);
        *bytes = serde_json::to_vec(&meta).unwrap();
    });
}

/// Damages a block in the way of a number; answers whether its samples are lost to readers.
fn damage_as(real: &RealBucket, kind: u32, id: BlockId) {
    let flip = |at: fn(usize) -> usize| {
        move |bytes: &mut Vec<u8>| {
            let at = at(bytes.len());
            bytes[at] ^= 0x40;
        }
    };
    match kind {
        // A chunk.
        0 => damage(real, id, "chunks/000001", flip(|it| it / 2)),
        1 => damage(real, id, "chunks/000001", |it| it.truncate(it.len() - 20)),
        2 => damage(real, id, "chunks/000001", |it| it.iter_mut().for_each(|it| *it = 0)),
        // The index: its magic, symbols, series, table of contents, its end.
        3 => damage(real, id, "index", flip(|_| 0)),
        4 => damage(real, id, "index", flip(|_| 20)),
        5 => damage(real, id, "index", flip(|it| it / 3)),
        6 => damage(real, id, "index", flip(|it| it - 10)),
        7 => damage(real, id, "index", |it| it.truncate(it.len() / 2)),
        // The meta: no JSON, of another block, of a later version, foreign in three ways.
        8 => damage(real, id, "meta.json", |it| it.truncate(10)),
        9 => damage_meta(real, id, |it| it["ulid"] = block_id(99_999).to_string().into()),
        10 => damage_meta(real, id, |it| it["version"] = 2.into()),
        11 => damage_meta(real, id, |it| it["thanos"]["downsample"]["resolution"] = 7.into()),
        12 => damage_meta(real, id, |it| it["thanos"]["labels"] = serde_json::json!({})),
        13 => damage_meta(real, id, |it| it["maxTime"] = it["minTime"].clone()),
        // Files that are not there.
        14 => fs::remove_file(real.directory(id).join("index")).unwrap(),
        15 => fs::remove_dir_all(real.directory(id).join("chunks")).unwrap(),
        // Samples outside of the times that the meta says.
        _ => damage_meta(real, id, |it| {
            it["maxTime"] = (it["minTime"].as_i64().unwrap() + HOUR_MS).into();
        }),
    }
}

#[tokio::test]
async fn damaged_blocks_among_good_ones_stop_nothing_and_are_named_once() {
    let mut real = RealBucket::new();
    let mut number = 0;
    // Good streams, and one for each kind of damage.
    for stream in 0..14 {
        for at in 0..13_i64 {
            number += 1;
            real.put(number, &format!("good-{stream}"), (at * 2, at * 2 + 2));
        }
    }
    let mut bad = Vec::new();
    for kind in 0..=16_u32 {
        for at in 0..9_i64 {
            number += 1;
            let id = real.put(number, &format!("bad-{kind}"), (at * 2, at * 2 + 2));
            if at == 1 {
                bad.push((kind, id));
            }
        }
    }
    for (kind, id) in &bad {
        damage_as(&real, *kind, *id);
    }
    let done = real.run(&["--compact.concurrency=2", "--downsampling.disable"]);
    let log = log_of(&done);
    assert!(done.status.success(), "{log}");
    let visible = real.visible().await;
    for stream in 0..14 {
        let shapes = shapes(&visible, &format!("good-{stream}"));
        let expected = [(0, 8, 0), (8, 16, 0), (16, 24, 0), (24, 26, 0)];
        assert_eq!(shapes, expected, "good-{stream}");
    }
    for (kind, id) in &bad {
        let line = |it: &&str| {
            it.contains("quarantined, the others go on") && it.contains(&id.to_string())
        };
        let lines: Vec<&str> = log.lines().filter(line).collect();
        assert_eq!(lines.len(), 1, "kind {kind}, {id}: {lines:#?}");
        assert!(lines[0].contains("aion tools bucket"), "{}", lines[0]);
        assert!(real.directory(*id).exists(), "what is damaged is not taken away");
        // The window behind the damaged one is merged.
        let shapes = shapes(&visible, &format!("bad-{kind}"));
        assert!(shapes.contains(&(8, 16, 0)), "kind {kind}: {shapes:?}");
    }
    let quarantine = fs::read(real.bucket.path().join("aion/compactor/quarantine.json")).unwrap();
    let quarantine: serde_json::Value = serde_json::from_slice(&quarantine).unwrap();
    let named: BTreeSet<String> = quarantine["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["block"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(named, bad.iter().map(|it| it.1.to_string()).collect());
    // A second run names nothing again, and does nothing again.
    let again = log_of(&real.run(&["--downsampling.disable"]));
    assert!(!again.contains("quarantined, the others go on"), "{again}");
    assert!(!again.contains("a job begins"), "{again}");
}
