//! Real blocks, compacted: the result is what Prometheus and Thanos made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Budget, TimeRange};
use testkit::golden;
use tsdb_core::block::{self, Meta};
use tsdb_core::chunk::{Encoding, Timed, decode_values};
use tsdb_core::compact::{self, Ignored, Merge, OneToOne, Options, Report, Target, naming};
use tsdb_core::fs::disk::Disk;
use tsdb_core::stream::local::{DirectorySink, open_source};
use tsdb_core::stream::writer::SCRATCH_BYTES_MAX;
use tsdb_core::stream::{Scratch, Source};

use crate::golden_blocks::same_file;

/// Opens golden blocks as sources.
pub(crate) fn sources(shared: &Path, names: &[&str]) -> Vec<Source> {
    let open = |name: &&str| open_source(&Disk, &shared.join("golden/blocks").join(name)).unwrap();
    names.iter().map(open).collect()
}

/// Compacts sources one-to-one into a block `out` below `home`.
pub(crate) fn compact(
    sources: &[Source],
    home: &Path,
    options: &Options,
) -> tsdb_core::Result<(Report, PathBuf)> {
    compact_by(sources, home, options, &mut OneToOne::new())
}

/// Compacts sources by some rule into a block `out` below `home`.
pub(crate) fn compact_by(
    sources: &[Source],
    home: &Path,
    options: &Options,
    merge: &mut dyn Merge,
) -> tsdb_core::Result<(Report, PathBuf)> {
    let metas: Vec<&Meta> = sources.iter().map(|it| &it.meta).collect();
    let meta = naming::meta_of(&metas, naming::output_id(&metas, merge.name())).unwrap();
    let out = home.join("out");
    let sink = Arc::new(DirectorySink::new(Arc::new(Disk), &out));
    let target = Target {
        sink: Arc::clone(&sink) as Arc<_>,
        scratch: Scratch { fs: &Disk, directory: home, bytes_max: SCRATCH_BYTES_MAX },
        budget: &Budget::unlimited(),
        progress: &Ignored,
    };
    let report = compact::compact(sources, meta, &target, options, merge)?;
    if let Some(meta) = &report.meta {
        sink.sync()?;
        std::fs::write(out.join("meta.json"), meta.encode()).unwrap();
    }
    Ok((report, out))
}

/// The samples of a block, series by series.
pub(crate) fn samples(path: &Path) -> Vec<(model::Labels, Vec<Timed>)> {
    let block = block::Reader::open(&Disk, path, &Budget::unlimited()).unwrap();
    let all = block.all(TimeRange::ALL, &Budget::unlimited()).unwrap();
    all.map(|series| {
        let series = series.unwrap();
        let mut samples = Vec::new();
        for chunk in block.chunks(&series).unwrap() {
            decode_values(chunk.encoding, &chunk.data, &mut samples).unwrap();
        }
        (series.labels, samples)
    })
    .collect()
}

fn check_meta(got: &Meta, want: &Meta, name: &str) {
    assert_eq!(got.stats, want.stats, "{name}");
    assert_eq!(got.compaction, want.compaction, "{name}");
    let times = |it: &Meta| (it.min_time_ms, it.max_time_ms);
    assert_eq!(times(got), times(want), "{name}");
}

/// Compacts parents and compares every byte of chunks and index with what Prometheus made.
fn check_bytes(name: &str, parents: &[&str], segment_bytes_max: Option<u64>) {
    let Some(shared) = golden::shared_or_skip() else { return };
    let sources = sources(&shared, parents);
    let mut options = Options::default();
    options.segment_bytes_max = segment_bytes_max.unwrap_or(options.segment_bytes_max);
    let home = tempfile::tempdir().unwrap();
    let (report, out) = compact(&sources, home.path(), &options).unwrap();
    let golden_path = shared.join("golden/blocks").join(name);
    let got = report.meta.unwrap();
    let want = Meta::read(&Disk, &golden_path.join("meta.json")).unwrap();
    for file in got.thanos.files.iter().filter(|it| it.rel_path != "meta.json") {
        same_file(&out.join(&file.rel_path), &golden_path.join(&file.rel_path), name);
    }
    let segments = std::fs::read_dir(golden_path.join("chunks")).unwrap().count();
    assert_eq!(got.thanos.segment_files.len(), segments, "{name}");
    check_meta(&got, &want, name);
}

#[test]
fn blocks_side_by_side_are_copied_as_prometheus_does() {
    let parents = [1, 2, 3].map(|it| format!("prom-compacted-parent-{it}"));
    let parents = [0, 1, 2].map(|it| parents[it].as_str());
    check_bytes("prom-compacted", &parents, None);
    check_bytes("prom-segments", &parents, Some(4096));
}

#[test]
fn deleted_samples_are_gone_as_in_prometheus() {
    check_bytes("prom-tombstones-applied", &["prom-tombstones"], None);
}

#[test]
fn an_out_of_order_block_is_merged_as_prometheus_does() {
    check_bytes("prom-ooo-merged", &["prom-ooo-inorder", "prom-ooo"], None);
}

#[test]
fn replicas_are_merged_one_to_one_as_in_thanos() {
    let parents = ["thanos-vertical-in-a", "thanos-vertical-in-b"];
    check_bytes("thanos-vertical-out-one-to-one", &parents, None);
}

#[test]
fn start_timestamps_are_left_out_and_counted() {
    let Some(shared) = golden::shared_or_skip() else { return };
    for (name, has_starts) in [("prom-xor2", true), ("prom-xor2-no-st", false)] {
        let sources = sources(&shared, &[name]);
        let home = tempfile::tempdir().unwrap();
        let (report, out) = compact(&sources, home.path(), &Options::default()).unwrap();
        let golden_path = shared.join("golden/blocks").join(name);
        let (got, want) = (samples(&out), samples(&golden_path));
        assert_eq!(format!("{got:?}"), format!("{want:?}"), "{name}");
        assert!(report.chunks.made_plain > 0, "{name}");
        let lines = golden::read_jsonl_gz(&golden_path.with_extension("expected.jsonl.gz"));
        let starts: u64 = lines.iter().map(starts_in).sum();
        assert_eq!(report.start_timestamps_dropped, starts, "{name}");
        assert_eq!(starts > 0, has_starts, "{name}");
        assert!(report.balance.dropped.is_empty(), "start timestamps are no samples");
        assert_eq!(report.meta.unwrap().stats, sources[0].meta.stats, "{name}");
        let block = block::Reader::open(&Disk, &out, &Budget::unlimited()).unwrap();
        for series in block.all(TimeRange::ALL, &Budget::unlimited()).unwrap() {
            for chunk in block.chunks(&series.unwrap()).unwrap() {
                let plain = [Encoding::Xor, Encoding::Histogram, Encoding::FloatHistogram];
                assert!(plain.contains(&chunk.encoding), "{name}");
            }
        }
    }
}

/// How many samples of an expected series have a start timestamp.
fn starts_in(line: &serde_json::Value) -> u64 {
    let of_chunk = |chunk: &serde_json::Value| {
        let floats = chunk["samples"].as_array().into_iter().flatten();
        let floats = floats.filter(|it| it[2].as_i64().unwrap_or(0) != 0);
        let histograms = chunk["histograms"].as_array().into_iter().flatten();
        let histograms = histograms.filter(|it| it["st"].as_i64().unwrap_or(0) != 0);
        (floats.count() + histograms.count()) as u64
    };
    line["chunks"].as_array().into_iter().flatten().map(of_chunk).sum()
}

#[test]
fn any_single_block_comes_out_as_it_was() {
    let Some(shared) = golden::shared_or_skip() else { return };
    for name in ["thanos-raw-48h", "thanos-5m", "thanos-12d-1h", "prom-index-v1"] {
        let sources = sources(&shared, &[name]);
        let home = tempfile::tempdir().unwrap();
        let (report, out) = compact(&sources, home.path(), &Options::default()).unwrap();
        let golden_path = shared.join("golden/blocks").join(name);
        same_file(&out.join("chunks/000001"), &golden_path.join("chunks/000001"), name);
        if name != "prom-index-v1" {
            same_file(&out.join("index"), &golden_path.join("index"), name);
        }
        let meta = report.meta.unwrap();
        assert_eq!(meta.stats.num_samples, sources[0].meta.stats.num_samples, "{name}");
        assert_eq!(meta.thanos.downsample, sources[0].meta.thanos.downsample, "{name}");
    }
}
