//! A check of a block names every damage once and finds none in what real programs wrote.

use std::fs;
use std::path::{Path, PathBuf};

use model::Budget;
use testkit::golden;
use tsdb_core::block::Meta;
use tsdb_core::fs::disk::Disk;
use tsdb_core::index::Toc;
use tsdb_core::stream::check::{Checked, check};
use tsdb_core::stream::local::open_source;

fn checked(block: &Path) -> Checked {
    let source = open_source(&Disk, block).unwrap();
    check(&source, 64 * 1024, &Budget::unlimited(), &mut |_| true).unwrap()
}

fn texts(checked: &Checked) -> Vec<String> {
    checked.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn blocks_of_real_programs_are_sound() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut blocks = 0;
    for entry in fs::read_dir(shared.join("golden/blocks")).unwrap() {
        let path = entry.unwrap().path();
        if !path.join("meta.json").exists() || !path.join("index").exists() {
            continue;
        }
        let found = checked(&path);
        assert!(found.is_sound(), "{}: {:#?}", path.display(), texts(&found));
        let stats = Meta::read(&Disk, &path.join("meta.json")).unwrap().stats;
        assert_eq!((found.series, found.chunks), (stats.num_series, stats.num_chunks));
        blocks += 1;
    }
    assert!(blocks >= 20, "{blocks} blocks");
}

/// A copy of a golden block, to be damaged.
struct Copy {
    _scratch: tempfile::TempDir,
    path: PathBuf,
}

impl Copy {
    fn of(shared: &Path, name: &str) -> Copy {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(name);
        fs::create_dir_all(path.join("chunks")).unwrap();
        let from = shared.join("golden/blocks").join(name);
        for file in ["meta.json", "index"] {
            fs::copy(from.join(file), path.join(file)).unwrap();
        }
        for segment in fs::read_dir(from.join("chunks")).unwrap() {
            let segment = segment.unwrap();
            fs::copy(segment.path(), path.join("chunks").join(segment.file_name())).unwrap();
        }
        Copy { _scratch: scratch, path }
    }

    fn flip(&self, file: &str, offset: usize) {
        let path = self.path.join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset] ^= 0x20;
        fs::write(&path, bytes).unwrap();
    }

    fn cut(&self, file: &str, length: u64) {
        let file = fs::OpenOptions::new().write(true).open(self.path.join(file)).unwrap();
        file.set_len(length).unwrap();
    }

    fn change_meta(&self, change: impl FnOnce(&mut Meta)) {
        let path = self.path.join("meta.json");
        let mut meta = Meta::read(&Disk, &path).unwrap();
        change(&mut meta);
        fs::write(path, meta.encode()).unwrap();
    }

    fn toc(&self) -> Toc {
        let index = fs::read(self.path.join("index")).unwrap();
        Toc::decode(&index[index.len() - 52..], index.len() as u64).unwrap()
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

#[test]
fn every_damage_is_named_and_the_rest_is_read() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let block = Copy::of(&shared, "prom-floats");
    let toc = block.toc();
    // Two entries of the middle of the section, and two chunks, far from each other.
    let length = toc.postings - toc.series;
    let index = fs::read(block.path.join("index")).unwrap();
    for offset in [at(toc.series + length / 3), at(toc.series + 2 * length / 3)] {
        // Between entries lie zeros, which say nothing.
        block.flip("index", (offset..).find(|it| index[*it] != 0).unwrap());
    }
    let segment = fs::metadata(block.path.join("chunks/000001")).unwrap().len();
    block.flip("chunks/000001", at(segment / 4));
    block.flip("chunks/000001", at(3 * segment / 4));
    let found = checked(&block.path);
    let texts = texts(&found);
    let of = |file: &str| texts.iter().filter(|it| it.contains(file)).count();
    assert_eq!((of("index: series at offset"), of("chunks/000001: chunk at offset")), (2, 2));
    assert_eq!(texts.len(), 4, "{texts:#?}");
    assert_eq!(found.series, 179 - 2, "all others were read");
}

#[test]
fn damage_of_each_section_is_found_there() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let check = |damage: &dyn Fn(&Copy), expected: &[&str]| {
        let block = Copy::of(&shared, "prom-histograms");
        damage(&block);
        let texts = texts(&checked(&block.path));
        assert_eq!(texts.len(), expected.len(), "{texts:#?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.contains(expected), "{text} without {expected}");
        }
    };
    let index_bytes = |it: &Copy| fs::metadata(it.path.join("index")).unwrap().len();
    check(&|_| {}, &[]);
    check(&|it| it.flip("index", 1), &["index: index header at offset 0: magic"]);
    check(&|it| it.flip("index", at(index_bytes(it)) - 20), &["table of contents"]);
    check(&|it| it.cut("index", 30), &["30 bytes are no index"]);
    check(&|it| it.flip("index", at(it.toc().symbols) + 20), &["index: symbol"]);
    check(&|it| it.flip("index", at(it.toc().postings) + 9), &["posting list at offset"]);
    let last_entry = |it: &Copy| at(index_bytes(it)) - 52 - 4 - 3;
    let both =
        ["schema=\"\\u{18}\" is out of order", "posting offset table at offset 6008: checksum"];
    check(&|it| it.flip("index", last_entry(it)), &both);
    // Each chunk of the segment cannot be read; the first hundred are named.
    check(&|it| it.flip("chunks/000001", 0), &["segment header at offset 0: magic"; 100]);
    let stats = |it: &Copy| it.change_meta(|it| it.stats.num_samples += 1);
    check(&stats, &["meta.json: meta at offset 0: numSamples is 4965, the block has 4964"]);
}

#[test]
fn what_no_checksum_sees_is_found() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let block = Copy::of(&shared, "prom-floats");
    // A block that claims to be an hour shorter has chunks outside of it.
    block.change_meta(|it| it.max_time_ms -= 3_600_000);
    let found = checked(&block.path);
    assert!(!found.is_sound());
    let outside = "lies outside of the block";
    assert!(texts(&found).iter().all(|it| it.contains(outside)), "{:#?}", texts(&found));
    // A segment that is shorter: chunks lie behind its end, one across it.
    let block = Copy::of(&shared, "prom-floats");
    let length = fs::metadata(block.path.join("chunks/000001")).unwrap().len();
    block.cut("chunks/000001", length - 10);
    let texts = texts(&checked(&block.path));
    assert_eq!(texts.len(), 1, "{texts:#?}");
    assert!(texts[0].contains("chunks/000001: chunk at offset"), "{texts:#?}");
}

#[test]
fn findings_are_bounded_and_a_check_can_be_stopped() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let block = Copy::of(&shared, "prom-labels");
    block.change_meta(|it| it.max_time_ms = it.min_time_ms + 1);
    let found = checked(&block.path);
    assert_eq!(found.findings.len(), 100);
    assert_eq!(found.more_findings, 4_900);
    let source = open_source(&Disk, &block.path).unwrap();
    let mut passed = 0;
    let stopped = check(&source, 64 * 1024, &Budget::unlimited(), &mut |bytes| {
        passed = bytes;
        bytes < 100_000
    });
    assert!(matches!(stopped, Err(tsdb_core::Error::Cancelled)), "{stopped:?}");
    assert!(passed >= 100_000);
}

#[test]
fn a_list_said_to_lie_anywhere_is_looked_for_within_the_index() {
    let Some(shared) = golden::shared_or_skip() else { return };
    for place in [u64::MAX, u64::MAX - 3, u64::MAX - 4, 1 << 63, 1] {
        let block = Copy::of(&shared, "prom-histograms");
        let path = block.path.join("index");
        let mut index = fs::read(&path).unwrap();
        // The first entry is of all series; the second one has names to overwrite.
        let mut start = at(block.toc().postings_table) + 8;
        let end_of = |index: &[u8], start: usize| {
            let value = start + 2 + usize::from(index[start + 1]);
            let list = value + 1 + usize::from(index[value]);
            list + index[list..].iter().position(|it| it & 0x80 == 0).unwrap() + 1
        };
        start = end_of(&index, start);
        let end = end_of(&index, start);
        let mut number = place;
        let mut varint = Vec::new();
        for _ in 0..9 {
            varint.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        varint.push(number.to_le_bytes()[0]);
        let name = end - start - 3 - varint.len();
        index[start + 1] = u8::try_from(name).unwrap();
        index[start + 2 + name] = 0;
        index[end - varint.len()..end].copy_from_slice(&varint);
        fs::write(&path, index).unwrap();
        let texts = texts(&checked(&block.path));
        let expected = format!("is said to lie at {place}");
        assert!(texts.iter().any(|it| it.contains(&expected)), "{texts:#?}");
    }
}

/// Any byte of a block may be wrong: it is found, and nothing panics.
#[test]
fn any_flipped_byte_is_found() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let block = Copy::of(&shared, "prom-histograms");
    for file in ["index", "chunks/000001"] {
        let length = at(fs::metadata(block.path.join(file)).unwrap().len());
        for offset in (0..length).step_by(length / 61) {
            block.flip(file, offset);
            let is_found = !checked(&block.path).is_sound();
            // Between sections and entries lies padding, and a header has bytes without meaning.
            let original =
                fs::read(shared.join("golden/blocks/prom-histograms").join(file)).unwrap();
            assert!(is_found || original[offset] == 0, "{file} at {offset}");
            block.flip(file, offset);
        }
    }
    assert!(checked(&block.path).is_sound());
}
