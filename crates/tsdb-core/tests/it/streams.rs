//! Real blocks, read from front to back and written again through sources and sinks.

use std::path::Path;
use std::sync::Arc;

use model::Budget;
use testkit::golden;
use tsdb_core::fs::disk::Disk;
use tsdb_core::stream::local::{DirectorySink, open_source};
use tsdb_core::stream::writer::SCRATCH_BYTES_MAX;
use tsdb_core::stream::{BlockWriter, Frame, Scratch, SeriesCursor, Source, Written, symbols};
use tsdb_core::{Error, Result};

use crate::golden_blocks::{BLOCKS, same_file};

/// Copies every series and chunk of a block.
fn copy(source: &Source, home: &Path, window_bytes: usize) -> Result<Written> {
    let budget = Budget::unlimited();
    let mut cursors = [SeriesCursor::open(source, window_bytes, &budget)?];
    let (list, maps) = symbols::join(&mut cursors, &budget)?;
    let sink = Arc::new(DirectorySink::new(Arc::new(Disk), home.join("out")));
    let scratch = Scratch { fs: &Disk, directory: home, bytes_max: SCRATCH_BYTES_MAX };
    let mut writer = BlockWriter::create(sink, scratch, &source.meta, list, &budget)?;
    if source.segments.len() > 1 {
        writer.set_segment_bytes_max(4096);
    }
    let mut frames: Vec<Frame> = Vec::new();
    let [mut cursor] = cursors;
    while cursor.advance()? {
        let number = |reference| maps[0].number(reference).unwrap();
        let labels: Vec<(u32, u32)> =
            cursor.labels().iter().map(|it| (number(it.0), number(it.1))).collect();
        writer.begin_series();
        cursor.read_chunks(&mut frames)?;
        for frame in frames.drain(..) {
            writer.copy(&frame)?;
        }
        writer.end_series(&labels)?;
    }
    writer.finish()
}

#[test]
fn what_is_read_and_written_again_has_the_same_bytes() {
    let Some(shared) = golden::shared_or_skip() else { return };
    for name in BLOCKS {
        for window_bytes in [300, 8 << 20] {
            let path = shared.join("golden/blocks").join(name);
            let home = tempfile::tempdir().unwrap();
            let source = open_source(&Disk, &path).unwrap();
            let written = copy(&source, home.path(), window_bytes).unwrap();
            let stats = &source.meta.stats;
            assert_eq!(written.stats.num_series, stats.num_series, "{name}");
            assert_eq!(written.stats.num_chunks, stats.num_chunks, "{name}");
            assert_eq!(written.stats.num_samples, stats.num_samples, "{name}");
            let out = home.path().join("out");
            for file in written.files.iter().filter(|it| it.rel_path != "meta.json") {
                let got = out.join(&file.rel_path);
                assert_eq!(std::fs::metadata(&got).unwrap().len(), file.size_bytes, "{name}");
                // Version 1 is read and not written.
                if name != "prom-index-v1" || file.rel_path != "index" {
                    same_file(&got, &path.join(&file.rel_path), name);
                }
            }
            if name.starts_with("thanos") {
                assert_eq!(written.segment_files, source.meta.thanos.segment_files, "{name}");
                let (got, want) = (written.index_stats, source.meta.thanos.index_stats);
                let series_max = got.series_max_bytes;
                assert!([0, series_max].contains(&want.series_max_bytes), "{name}");
                // Thanos does not measure the last chunk of a series.
                assert!(want.chunk_max_bytes <= got.chunk_max_bytes, "{name}");
                if !source.meta.thanos.files.is_empty() {
                    assert_eq!(written.files, source.meta.thanos.files, "{name}");
                }
            }
            let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
            assert_eq!(left.len(), 1, "{name}: scratch space is left behind");
        }
    }
}

#[test]
fn any_flipped_bit_or_missing_end_is_damage_of_the_block() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let path = shared.join("golden/blocks/prom-compacted");
    let (index, segment) = (path.join("index"), path.join("chunks/000001"));
    let check = |file: &str, bytes: &[u8], place: &str| {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("in/chunks")).unwrap();
        for whole in ["index", "chunks/000001", "meta.json"] {
            std::fs::copy(path.join(whole), home.path().join("in").join(whole)).unwrap();
        }
        std::fs::write(home.path().join("in").join(file), bytes).unwrap();
        let source = open_source(&Disk, &home.path().join("in")).unwrap();
        match copy(&source, home.path(), 4096) {
            Err(error @ Error::BlockDamaged { .. }) => {
                assert_eq!(error.damaged_block(), Some(source.meta.ulid));
                // What is missing behind the end of a segment is missed by the index.
                let named = error.to_string();
                assert!(named.contains(file) || named.contains("where nothing is"), "{error}");
                true
            }
            Err(other) => panic!("{place}: {other}"),
            Ok(_) => false,
        }
    };
    let mut harmless = 0;
    let mut flipped = 0;
    let toc = tsdb_core::index::TOC_BYTES;
    let bytes = std::fs::read(&index).unwrap();
    let postings = u64::from_be_bytes(
        bytes[bytes.len() - toc + 32..bytes.len() - toc + 40].try_into().unwrap(),
    );
    for at in (0..usize::try_from(postings).unwrap()).step_by(29) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        flipped += 1;
        // Padding between series carries nothing.
        harmless += usize::from(!check("index", &damaged, &format!("index at {at}")));
    }
    for length in [0, 4, 56, bytes.len() - 60, bytes.len() - 1] {
        assert!(check("index", &bytes[..length], &format!("index of {length} bytes")));
    }
    assert!(harmless * 4 < flipped, "{harmless} of {flipped} went unseen");
    let bytes = std::fs::read(&segment).unwrap();
    for at in (8..bytes.len()).step_by(397) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(check("chunks/000001", &damaged, &format!("segment at {at}")));
    }
    for length in [0, 5, 8, 100, bytes.len() - 1] {
        assert!(check("chunks/000001", &bytes[..length], &format!("segment of {length} bytes")));
    }
}
