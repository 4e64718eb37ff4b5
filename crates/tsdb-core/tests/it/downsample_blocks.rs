//! Whole blocks, downsampled: the files are Thanos', and what goes wrong is named.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::{Budget, Labels};
use testkit::golden;
use tsdb_core::block::{self, ChunkData, Meta};
use tsdb_core::chunk::Encoding;
use tsdb_core::compact::{Done, Ignored, Options, Progress, scratch_bytes_needed};
use tsdb_core::downsample::{self, FIVE_MINUTES_MS, ONE_HOUR_MS, Report, Target, Targets, meta_of};
use tsdb_core::fs::disk::Disk;
use tsdb_core::stream::local::{DirectorySink, open_source};
use tsdb_core::stream::writer::SCRATCH_BYTES_MAX;
use tsdb_core::stream::{Scratch, Sink, Source};
use tsdb_core::{Error, Result};

use crate::downsample::xor_chunk;
use crate::downsample_golden::{BOTH, FIVE, HOUR, downsample as downsample_series};
use crate::golden_blocks::same_file;

/// Downsamples a block into `5m` and `1h` below `home`.
pub(crate) fn downsample(source: &Source, home: &Path, targets: Targets) -> Result<Report> {
    downsample_with(source, home, targets, (&Options::default(), &Ignored))
}

fn downsample_with(
    source: &Source,
    home: &Path,
    targets: Targets,
    (options, progress): (&Options, &dyn Progress),
) -> Result<Report> {
    let sink = |name: &str| Arc::new(DirectorySink::new(Arc::new(Disk), home.join(name)));
    let (five, hour) = (sink("5m"), sink("1h"));
    let target = Target {
        five_minutes: targets.five_minutes.then(|| Arc::clone(&five) as Arc<dyn Sink>),
        one_hour: targets.one_hour.then(|| Arc::clone(&hour) as Arc<dyn Sink>),
        scratch: Scratch { fs: &Disk, directory: home, bytes_max: SCRATCH_BYTES_MAX },
        budget: &Budget::unlimited(),
        progress,
    };
    let report = downsample::downsample(source, &target, options)?;
    for (made, name) in [(&report.five_minutes, "5m"), (&report.one_hour, "1h")] {
        let Some(meta) = made.as_ref().and_then(|it| it.meta.as_ref()) else { continue };
        std::fs::write(home.join(name).join("meta.json"), meta.encode()).unwrap();
    }
    Ok(report)
}

fn source(shared: &Path, name: &str) -> Source {
    open_source(&Disk, &shared.join("golden/blocks").join(name)).unwrap()
}

fn check_meta(got: &Meta, want: &Meta, name: &str) {
    let counts = |it: &Meta| (it.stats.num_series, it.stats.num_chunks, it.stats.num_samples);
    assert_eq!(counts(got), counts(want), "{name}");
    assert_eq!(got.compaction, want.compaction, "{name}");
    assert_eq!(got.thanos.labels, want.thanos.labels, "{name}");
    assert_eq!(got.thanos.downsample, want.thanos.downsample, "{name}");
    let series = |it: &Meta| it.thanos.index_stats.series_max_bytes;
    assert_eq!(series(got), series(want), "{name}");
    // Thanos does not measure the last chunk of a series.
    let chunk = |it: &Meta| it.thanos.index_stats.chunk_max_bytes;
    assert!(chunk(got) >= chunk(want), "{name}");
    assert_eq!(got.thanos.segment_files, want.thanos.segment_files, "{name}");
    assert_eq!(got.thanos.files, want.thanos.files, "{name}");
    let times = |it: &Meta| (it.min_time_ms, it.max_time_ms);
    assert_eq!(times(got), times(want), "{name}");
}

#[test]
fn a_block_becomes_the_golden_files_in_one_pass_and_in_two() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let raw = source(&shared, "thanos-raw-12d");
    let home = tempfile::tempdir().unwrap();
    let report = downsample(&raw, home.path(), BOTH).unwrap();
    let made = [
        ("5m", "thanos-12d-5m", report.five_minutes.unwrap()),
        ("1h", "thanos-12d-1h", report.one_hour.unwrap()),
    ];
    for (name, golden_name, made) in &made {
        let golden_path = shared.join("golden/blocks").join(golden_name);
        for file in ["chunks/000001", "index"] {
            same_file(&home.path().join(name).join(file), &golden_path.join(file), golden_name);
        }
        let want = Meta::read(&Disk, &golden_path.join("meta.json")).unwrap();
        check_meta(made.meta.as_ref().unwrap(), &want, golden_name);
        assert_eq!(made.balance.in_samples, raw.meta.stats.num_samples);
    }
    let five = open_source(&Disk, &home.path().join("5m")).unwrap();
    let later = tempfile::tempdir().unwrap();
    let report = downsample(&five, later.path(), HOUR).unwrap();
    let hour = report.one_hour.unwrap();
    assert_eq!(hour.meta, made[1].2.meta, "the name is the same in two passes");
    assert_eq!(hour.balance.in_samples, made[1].2.balance.out_samples);
    let golden_path = shared.join("golden/blocks/thanos-12d-1h");
    for file in ["chunks/000001", "index"] {
        same_file(&later.path().join("1h").join(file), &golden_path.join(file), "two passes");
    }
}

#[test]
fn blocks_whose_indices_do_not_fit_together_are_made_one_after_the_other() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let raw = source(&shared, "thanos-raw-12d");
    let (home, tight_home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at_once = downsample(&raw, home.path(), BOTH).unwrap();
    let sink = |name: &str| -> Option<Arc<dyn Sink>> {
        Some(Arc::new(DirectorySink::new(Arc::new(Disk), tight_home.path().join(name))))
    };
    let with_scratch = |bytes_max| {
        let target = Target {
            five_minutes: sink("5m"),
            one_hour: sink("1h"),
            scratch: Scratch { fs: &Disk, directory: tight_home.path(), bytes_max },
            budget: &Budget::unlimited(),
            progress: &Ignored,
        };
        downsample::downsample(&raw, &target, &Options::default())
    };
    let needed_bytes = scratch_bytes_needed(std::slice::from_ref(&raw));
    let report = with_scratch(needed_bytes).unwrap();
    assert_eq!(report.five_minutes, at_once.five_minutes);
    assert_eq!(report.one_hour, at_once.one_hour);
    assert!(report.read_bytes > at_once.read_bytes);
    for file in ["5m/chunks/000001", "5m/index", "1h/chunks/000001", "1h/index"] {
        same_file(&tight_home.path().join(file), &home.path().join(file), "one after the other");
    }
    let error = with_scratch(needed_bytes - 1).unwrap_err();
    assert!(matches!(error, Error::Scratch { .. }), "{error}");
}

#[test]
fn what_is_left_out_is_named() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let raw = source(&shared, "thanos-raw-48h");
    let home = tempfile::tempdir().unwrap();
    let report = downsample(&raw, home.path(), BOTH).unwrap();
    let (five, hour) = (report.five_minutes.unwrap(), report.one_hour.unwrap());
    assert_eq!(five.balance, hour.balance);
    assert_eq!(five.balance.in_samples, raw.meta.stats.num_samples);
    let reasons: Vec<_> = five.balance.dropped.keys().copied().collect();
    assert_eq!(reasons, ["nan", "stale"]);
    for (made, golden_name) in [(five, "thanos-5m"), (hour, "thanos-1h")] {
        let path = shared.join("golden/blocks").join(golden_name).join("meta.json");
        let (got, want) = (made.meta.unwrap(), Meta::read(&Disk, &path).unwrap());
        assert_eq!(got.stats.num_series, want.stats.num_series);
        assert_eq!(got.stats.num_samples, want.stats.num_samples);
        // Two series need three chunks more, each, for the windows that Thanos loses.
        assert_eq!(got.stats.num_chunks, want.stats.num_chunks + 6);
        assert_eq!(got.compaction, want.compaction);
    }
}

#[test]
fn deleted_samples_are_not_aggregated() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let raw = source(&shared, "prom-tombstones");
    let home = tempfile::tempdir().unwrap();
    let report = downsample(&raw, home.path(), FIVE).unwrap();
    let five = report.five_minutes.unwrap();
    assert!(five.balance.dropped["deleted"] > 0, "{}", five.balance);
    let mut want = Vec::new();
    for (labels, chunks) in crate::downsample_golden::series(&shared, "prom-tombstones") {
        let (made, _) = downsample_series(FIVE, &chunks);
        if !made.five_minutes.is_empty() {
            want.push((labels, made.five_minutes));
        }
    }
    let block = block::Reader::open(&Disk, &home.path().join("5m"), &Budget::unlimited()).unwrap();
    let all = block.all(model::TimeRange::ALL, &Budget::unlimited()).unwrap();
    let got: Vec<_> = all
        .map(|it| it.unwrap())
        .map(|it| (it.labels.to_string(), block.chunks(&it).unwrap()))
        .collect();
    assert!(got == want);
}

/// A block of two series; the second has `chunk`.
fn block_with(home: &Path, chunk: ChunkData, resolution_ms: i64) -> Source {
    let id = "01M83S0F8TNW1QY364803HA4MN".parse().unwrap();
    let mut meta = Meta::of_head(id, 0, 7_200_000);
    meta.thanos.downsample.resolution_ms = resolution_ms;
    let symbols = ["a", "b", "x"];
    let mut writer =
        block::Writer::create(&Disk, home, meta, symbols, &Budget::unlimited()).unwrap();
    let good = xor_chunk(&[(1000, 1.0), (2000, 2.0), (400_000, 1.0)]);
    let labels = |value: &str| Labels::from_pairs([("x", value)]).unwrap();
    let first = if resolution_ms == 0 {
        vec![good]
    } else {
        downsample_series(FIVE, &[good]).0.five_minutes
    };
    writer.add_series(&labels("a"), &first).unwrap();
    writer.add_series(&labels("b"), &[chunk]).unwrap();
    let meta = writer.finish().unwrap();
    open_source(&Disk, &home.join(meta.ulid.to_string())).unwrap()
}

#[test]
fn a_damaged_chunk_is_named_with_its_place() {
    let good = xor_chunk(&[(1000, 1.0), (2000, 2.0), (400_000, 7.0)]);
    let cut = ChunkData { data: good.data.slice(..good.data.len() - 3), ..good.clone() };
    let no_parts = ChunkData {
        encoding: Encoding::Aggregate,
        data: Bytes::from_static(&[0xff, 0xff, 0xff]),
        ..good.clone()
    };
    let cases = [
        (cut, 0, "ends before its last sample"),
        (no_parts, FIVE_MINUTES_MS, "varint"),
        (downsample_series(FIVE, &[good]).0.five_minutes[0].clone(), 0, "aggregates in a block"),
    ];
    for (chunk, resolution_ms, want) in cases {
        let home = tempfile::tempdir().unwrap();
        let source = block_with(home.path(), chunk, resolution_ms);
        let error = downsample(&source, home.path(), HOUR).unwrap_err();
        let Error::BlockDamaged { block, file, damage } = &error else { panic!("{error}") };
        assert_eq!(*block, source.meta.ulid);
        assert!(file.ends_with("chunks/000001"), "{error}");
        assert!(damage.offset > 8, "{error}");
        assert!(damage.reason.contains(want), "{error}");
        assert!(!error.is_transient());
        let left = std::fs::read_dir(home.path()).unwrap().count();
        assert!(left <= 2, "scratch files are gone, but for the block and what the sink got");
    }
}

#[test]
fn raw_chunks_in_a_block_of_windows_are_downsampled_and_empty_ones_skipped() {
    let samples = [(1000, 1.0), (2000, 2.0), (400_000, 7.0)];
    let raw = xor_chunk(&samples);
    let (want, _) = downsample_series(BOTH, std::slice::from_ref(&raw));
    let home = tempfile::tempdir().unwrap();
    let source = block_with(home.path(), raw.clone(), FIVE_MINUTES_MS);
    let report = downsample(&source, home.path(), HOUR).unwrap();
    let hour = report.one_hour.unwrap();
    assert_eq!(hour.balance.in_samples, 6);
    assert_eq!(hour.meta.unwrap().stats.num_series, 2);
    let block = block::Reader::open(&Disk, &home.path().join("1h"), &Budget::unlimited()).unwrap();
    let all = block.all(model::TimeRange::ALL, &Budget::unlimited()).unwrap();
    let last = all.map(|it| it.unwrap()).last().unwrap();
    assert_eq!(block.chunks(&last).unwrap(), want.one_hour);

    let home = tempfile::tempdir().unwrap();
    let empty = ChunkData { data: Bytes::from_static(&[0, 0]), ..raw };
    let source = block_with(home.path(), empty, FIVE_MINUTES_MS);
    let report = downsample(&source, home.path(), HOUR).unwrap();
    assert_eq!(report.one_hour.unwrap().meta.unwrap().stats.num_series, 1);
}

#[derive(Debug)]
struct Stop;

impl Progress for Stop {
    fn advance(&self, done: Done) -> ControlFlow<()> {
        assert!(done.read_bytes <= done.total_bytes);
        ControlFlow::Break(())
    }
}

#[test]
fn bounds_and_wrong_wishes_are_errors_and_nothing_is_published() {
    let chunk = xor_chunk(&[(1000, 1.0)]);
    let home = tempfile::tempdir().unwrap();
    let raw = block_with(home.path(), chunk, 0);
    let out = tempfile::tempdir().unwrap();
    let stopped = downsample_with(&raw, out.path(), BOTH, (&Options::default(), &Stop));
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let small = Options { memory_bytes_max: 100, ..Options::default() };
    let error = downsample_with(&raw, home.path(), BOTH, (&small, &Ignored)).unwrap_err();
    assert!(matches!(error, Error::Budget(_)), "{error}");
    let nothing = Targets { five_minutes: false, one_hour: false };
    assert!(matches!(downsample(&raw, home.path(), nothing), Err(Error::Invalid { .. })));
    assert!(!home.path().join("5m/meta.json").exists());
    assert!(!out.path().join("5m/meta.json").exists());

    let mut five = meta_of(&raw.meta, FIVE_MINUTES_MS).unwrap();
    assert!(meta_of(&five, FIVE_MINUTES_MS).is_err());
    let hour = meta_of(&five, ONE_HOUR_MS).unwrap();
    assert_eq!(hour, meta_of(&raw.meta, ONE_HOUR_MS).unwrap());
    assert!(meta_of(&hour, ONE_HOUR_MS).is_err());
    assert_ne!(hour.ulid, five.ulid);
    assert_eq!(five.ulid.timestamp_ms(), raw.meta.ulid.timestamp_ms());
    five.thanos.downsample.resolution_ms = 1;
    assert!(meta_of(&five, ONE_HOUR_MS).is_err());
}

#[test]
fn a_block_of_which_nothing_is_left_is_not_written() {
    let stale = f64::from_bits(model::STALE_NAN_BITS);
    let home = tempfile::tempdir().unwrap();
    let id = "01M83S0F8TNW1QY364803HA4MN".parse().unwrap();
    let meta = Meta::of_head(id, 0, 7_200_000);
    let mut writer =
        block::Writer::create(&Disk, home.path(), meta, ["a", "x"], &Budget::unlimited()).unwrap();
    let labels = Labels::from_pairs([("x", "a")]).unwrap();
    writer.add_series(&labels, &[xor_chunk(&[(1000, stale), (2000, f64::NAN)])]).unwrap();
    let meta = writer.finish().unwrap();
    let source = open_source(&Disk, &home.path().join(meta.ulid.to_string())).unwrap();
    let five = downsample(&source, home.path(), FIVE).unwrap().five_minutes.unwrap();
    assert_eq!(five.meta, None);
    assert_eq!(
        five.balance.to_string(),
        "2 samples read, 0 written, 1 dropped as nan, 1 dropped as stale"
    );
    assert!(!home.path().join("5m").exists());
}
