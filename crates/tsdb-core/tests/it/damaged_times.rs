//! Chunks whose checksum is right and whose samples are not where the index says: damage of their
//! block, whoever reads them.

use std::path::Path;

use model::{Budget, Histogram, Labels, TimeRange};
use testkit::golden;
use tsdb_core::block::tombstones::Tombstones;
use tsdb_core::block::{self, ChunkData, Meta};
use tsdb_core::chunk::{Encoding, SeriesToChunks, Timed, Value};
use tsdb_core::codec::{crc32c, put_uvarint, put_varint};
use tsdb_core::compact::{Merge, OneToOne, Options};
use tsdb_core::dedup::penalty::PenaltyMerge;
use tsdb_core::dedup::phases::PhasesMerge;
use tsdb_core::fs::disk::Disk;
use tsdb_core::stream::Source;
use tsdb_core::stream::local::open_source;

use crate::compaction::compact_by;
use crate::downsample::xor_chunk;
use crate::downsample_blocks::downsample;
use crate::downsample_golden::{BOTH, series};

/// A block of one series.
fn block(home: &Path, number: u64, chunks: &[ChunkData]) -> Source {
    let id = model::BlockId::from_parts(number, 7);
    let end_ms = chunks.iter().map(|it| it.max_time_ms).max().unwrap() + 3_600_000;
    let meta = Meta::of_head(id, 0, end_ms);
    let budget = Budget::unlimited();
    let mut writer = block::Writer::create(&Disk, home, meta, ["a", "x"], &budget).unwrap();
    let labels = Labels::from_pairs([("x", "a")]).unwrap();
    writer.add_series(&labels, chunks).unwrap();
    let meta = writer.finish().unwrap();
    open_source(&Disk, &home.join(meta.ulid.to_string())).unwrap()
}

/// Deletes a part of the series of a block.
fn delete(home: &Path, source: &mut Source, range: TimeRange) {
    let path = home.join(source.meta.ulid.to_string());
    let block = block::Reader::open(&Disk, &path, &Budget::unlimited()).unwrap();
    let mut content = Vec::new();
    put_uvarint(&mut content, u64::from(block.index().all().unwrap()[0]));
    put_varint(&mut content, range.start_ms);
    put_varint(&mut content, range.end_ms);
    let mut bytes = vec![0x01, 0x30, 0xba, 0x30, 1];
    bytes.extend_from_slice(&content);
    bytes.extend_from_slice(&crc32c(&content).to_be_bytes());
    source.tombstones = Tombstones::decode(&bytes).unwrap();
}

fn floats(times_ms: &[i64]) -> ChunkData {
    let samples: Vec<(i64, f64)> = times_ms.iter().map(|it| (*it, 1.0)).collect();
    let chunk = xor_chunk(&samples);
    ChunkData { max_time_ms: *times_ms.iter().max().unwrap(), ..chunk }
}

fn histograms(times_ms: &[i64]) -> ChunkData {
    let mut encoder = SeriesToChunks::new();
    for &timestamp_ms in times_ms {
        encoder.push(&Timed { timestamp_ms, value: Value::Histogram(Box::<Histogram>::default()) });
    }
    let mut chunks = Vec::new();
    encoder.finish(&mut chunks);
    assert_eq!(chunks.len(), 1);
    chunks.remove(0)
}

/// The same chunk, of which the index says that it ends earlier.
fn early(chunk: ChunkData) -> ChunkData {
    ChunkData { max_time_ms: chunk.max_time_ms - 1, ..chunk }
}

fn is_blamed(error: &tsdb_core::Error, source: &Source) {
    assert_eq!(error.damaged_block(), Some(source.meta.ulid), "{error}");
    assert!(error.to_string().contains("within the times that the index gives"), "{error}");
}

#[test]
fn replicas_are_not_merged_with_samples_of_other_times() {
    let rules: [fn() -> Box<dyn Merge>; 3] = [
        || Box::new(PenaltyMerge::new()),
        || Box::new(PhasesMerge::new()),
        || Box::new(OneToOne::new()),
    ];
    let goods = [floats(&[1000, 1500, 2400]), histograms(&[1000, 1500, 2400])];
    let bads = [
        early(floats(&[1000, 2000, 3000])),
        floats(&[1000, 3000, 2000]),
        early(histograms(&[1000, 2000, 3000])),
    ];
    for (good, bad) in [(0, 0), (0, 1), (1, 2)] {
        for (index, rule) in rules.iter().enumerate() {
            let home = tempfile::tempdir().unwrap();
            let good = block(home.path(), 1, std::slice::from_ref(&goods[good]));
            let bad = block(home.path(), 2, std::slice::from_ref(&bads[bad]));
            let sources = [good, bad];
            let result = compact_by(&sources, home.path(), &Options::default(), &mut *rule());
            let error = result.unwrap_err();
            assert_eq!(error.damaged_block(), Some(sources[1].meta.ulid), "{index} {error}");
        }
    }
}

#[test]
fn nothing_is_deleted_from_samples_of_other_times() {
    for bad in [
        early(floats(&[1000, 2000, 3000])),
        floats(&[1000, 3000, 2000]),
        early(histograms(&[1000, 2000, 3000])),
    ] {
        let home = tempfile::tempdir().unwrap();
        let mut source = block(home.path(), 1, &[bad]);
        delete(home.path(), &mut source, TimeRange::new(1000, 1100));
        let sources = [source];
        let options = Options::default();
        let error = compact_by(&sources, home.path(), &options, &mut OneToOne::new()).unwrap_err();
        is_blamed(&error, &sources[0]);
    }
}

#[test]
fn start_timestamps_are_not_taken_from_samples_of_other_times() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let all = series(&shared, "prom-xor2");
    let mut chunks = all.into_iter().flat_map(|it| it.1);
    let chunk = chunks.find(|it| it.encoding == Encoding::Xor2 && it.min_time_ms < it.max_time_ms);
    let home = tempfile::tempdir().unwrap();
    let sources = [block(home.path(), 1, &[early(chunk.unwrap())])];
    let options = Options::default();
    let error = compact_by(&sources, home.path(), &options, &mut OneToOne::new()).unwrap_err();
    is_blamed(&error, &sources[0]);
}

#[test]
fn samples_of_other_times_are_not_downsampled() {
    for bad in [early(floats(&[1000, 2000, 3000])), early(histograms(&[1000, 2000, 3000]))] {
        let home = tempfile::tempdir().unwrap();
        let source = block(home.path(), 1, &[bad]);
        let error = downsample(&source, home.path(), BOTH).unwrap_err();
        is_blamed(&error, &source);
    }
}
