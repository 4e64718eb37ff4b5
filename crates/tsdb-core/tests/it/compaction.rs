//! Real blocks, compacted: the result is what Prometheus and Thanos made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Budget;
use testkit::golden;
use tsdb_core::block::Meta;
use tsdb_core::compact::{self, Ignored, OneToOne, Options, Report, Target, naming};
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
    let metas: Vec<&Meta> = sources.iter().map(|it| &it.meta).collect();
    let meta = naming::meta_of(&metas, naming::output_id(&metas, "one-to-one")).unwrap();
    let out = home.join("out");
    let sink = Arc::new(DirectorySink::new(Arc::new(Disk), &out));
    let target = Target {
        sink: Arc::clone(&sink) as Arc<_>,
        scratch: Scratch { fs: &Disk, directory: home, bytes_max: SCRATCH_BYTES_MAX },
        budget: &Budget::unlimited(),
        progress: &Ignored,
    };
    let report = compact::compact(sources, meta, &target, options, &mut OneToOne::new())?;
    if let Some(meta) = &report.meta {
        sink.sync()?;
        std::fs::write(out.join("meta.json"), meta.encode()).unwrap();
    }
    Ok((report, out))
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
