//! A block with any byte of it damaged is read as before or fails; it never panics or lies.

use std::path::Path;

use model::{Budget, Labels, TimeRange};
use testkit::golden;
use tsdb_core::block::{self, ChunkData};
use tsdb_core::error::Result;
use tsdb_core::fs::disk::Disk;
use tsdb_core::index::{SeriesEntry, header};

type Contents = Vec<(Labels, Vec<ChunkData>)>;

fn contents(path: &Path) -> Result<Contents> {
    let budget = Budget::unlimited().child("test", 16 * 1024 * 1024);
    let block = block::Reader::open(&Disk, path, &budget)?;
    let mut all = Vec::new();
    for series in block.all(TimeRange::ALL, &budget)? {
        let series = series?;
        all.push((series.labels.clone(), block.chunks(&series)?));
    }
    for name in block.label_names(&[], &budget)? {
        for value in block.label_values(&name, &[], &budget)? {
            let matcher = model::Matcher::equal(&name, &value);
            let got: Contents = block
                .select(std::slice::from_ref(&matcher), TimeRange::ALL, &budget)?
                .map(|it| Ok((it?.labels, Vec::new())))
                .collect::<Result<_>>()?;
            all.extend(got);
        }
    }
    Ok(all)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("chunks")).unwrap();
    for file in ["index", "meta.json", "tombstones", "chunks/000001"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

fn damage_each_byte(file: &str, step: usize) {
    let Some(shared) = golden::shared_or_skip() else { return };
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("block");
    copy(&shared.join("golden/blocks/prom-compacted"), &path);
    let whole = contents(&path).unwrap();
    let bytes = std::fs::read(path.join(file)).unwrap();
    let mut failed = 0;
    for at in (0..bytes.len()).step_by(step) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(path.join(file), &damaged).unwrap();
        match contents(&path) {
            Ok(read) => assert!(read == whole, "{file}: byte {at} changed the answer"),
            Err(_) => failed += 1,
        }
    }
    assert!(failed * step > bytes.len() / 2, "only {failed} failures");
    for end in (0..bytes.len()).step_by(step * 7) {
        std::fs::write(path.join(file), &bytes[..end]).unwrap();
        assert!(contents(&path).is_err(), "{file} cut at {end}");
    }
}

#[test]
fn a_damaged_index_never_lies() {
    damage_each_byte("index", 3);
}

#[test]
fn a_damaged_segment_never_lies() {
    damage_each_byte("chunks/000001", 41);
}

#[test]
fn a_damaged_index_header_never_panics() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("index-header");
    let bytes = std::fs::read(shared.join("golden/blocks/prom-compacted.index-header")).unwrap();
    let mut unharmed = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x80 >> (at % 8);
        std::fs::write(&path, &damaged).unwrap();
        let opened = header::Header::open(&Disk, &path, 32, &Budget::unlimited());
        unharmed += usize::from(opened.is_ok());
    }
    // Only the padding behind the symbols, and the bytes before the first section, are unchecked.
    assert!(unharmed < 16, "{unharmed} damaged headers were accepted");
}

#[test]
fn a_damaged_series_leaves_its_neighbours() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("block");
    copy(&shared.join("golden/blocks/prom-compacted"), &path);
    let budget = Budget::unlimited();
    let whole = block::Reader::open(&Disk, &path, &budget).unwrap();
    let references = whole.index().all().unwrap();
    let mut entry = SeriesEntry::default();
    whole.index().series().read(references[3], &mut entry).unwrap();
    let mut bytes = std::fs::read(path.join("index")).unwrap();
    let at =
        usize::try_from(whole.index().lookup().version().series_offset(references[3])).unwrap();
    bytes[at + 2] ^= 0x40;
    std::fs::write(path.join("index"), &bytes).unwrap();
    let block = block::Reader::open(&Disk, &path, &budget).unwrap();
    let read: Vec<bool> =
        block.all(TimeRange::ALL, &budget).unwrap().map(|it| it.is_ok()).collect();
    assert_eq!(read.len(), references.len());
    assert_eq!(read.iter().position(|it| !it), Some(3));
    assert_eq!(read.iter().filter(|it| !**it).count(), 1);
    assert_eq!(block::reader::verify(&block, &budget).unwrap().len(), 1);
}
