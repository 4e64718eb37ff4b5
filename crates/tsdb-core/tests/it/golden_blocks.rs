//! Real blocks of Prometheus and Thanos, read and written again.

use std::path::{Path, PathBuf};

use model::{Budget, TimeRange};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use testkit::golden;
use tsdb_core::block::{self, BlockSeries, ChunkData};
use tsdb_core::chunk::{Encoding, Timed, aggregate, decode_values};
use tsdb_core::fs::disk::Disk;
use tsdb_core::index::header::Builder;
use tsdb_core::index::{Version, header};

use crate::chunk_vectors::{check_samples, encoding};
use crate::chunks::from_hex;
use crate::samples;

pub(crate) const BLOCKS: [&str; 26] = [
    "prom-floats",
    "prom-histograms",
    "prom-labels",
    "prom-compacted-parent-1",
    "prom-compacted-parent-2",
    "prom-compacted-parent-3",
    "prom-compacted",
    "prom-segments",
    "prom-tombstones",
    "prom-tombstones-applied",
    "prom-ooo-inorder",
    "prom-ooo",
    "prom-ooo-merged",
    "prom-xor2",
    "prom-xor2-no-st",
    "prom-index-v1",
    "thanos-raw-48h",
    "thanos-5m",
    "thanos-1h",
    "thanos-raw-12d",
    "thanos-12d-5m",
    "thanos-12d-1h",
    "thanos-vertical-in-a",
    "thanos-vertical-in-b",
    "thanos-vertical-out-one-to-one",
    "thanos-vertical-out-penalty",
];

pub(crate) fn open(shared: &Path, name: &str) -> block::Reader {
    let path = shared.join("golden/blocks").join(name);
    block::Reader::open(&Disk, &path, &Budget::unlimited()).unwrap()
}

fn expected(shared: &Path, name: &str) -> Vec<Value> {
    let file = format!("{name}.expected.jsonl.gz");
    golden::read_jsonl_gz(&shared.join("golden/blocks").join(file))
}

fn all_series(block: &block::Reader) -> Vec<BlockSeries> {
    let all = block.all(TimeRange::ALL, &Budget::unlimited()).unwrap();
    all.map(|it| it.unwrap()).collect()
}

#[test]
fn every_block_is_read_as_its_writer_meant_it() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut samples = 0;
    for name in BLOCKS {
        let (block, lines) = (open(&shared, name), expected(&shared, name));
        check_facts(&block, &lines[0], name);
        let mut series = block.index().series();
        let mut resolver = block.index().lookup().resolver(&Budget::unlimited()).unwrap();
        let references = block.index().all().unwrap();
        assert_eq!(references.len(), lines.len() - 1, "{name}");
        for (reference, line) in references.iter().zip(&lines[1..]) {
            let place = format!("{name} {}", line["labels"]);
            assert_eq!(u64::from(*reference), line["ref"].as_u64().unwrap(), "{place}");
            let mut entry = tsdb_core::index::SeriesEntry::default();
            series.read(*reference, &mut entry).unwrap();
            let labels = resolver.labels(&entry).unwrap();
            let pairs: Vec<_> = labels.iter().map(|it| Value::from(vec![it.0, it.1])).collect();
            assert_eq!(Value::from(pairs), line["labels"], "{place}");
            let whole = BlockSeries { labels, chunks: entry.chunks, deleted: Vec::new() };
            samples += check_chunks(&block, &whole, line, &place);
        }
    }
    assert!(samples > 150_000, "only {samples} samples compared");
}

fn check_facts(block: &block::Reader, facts: &Value, name: &str) {
    let meta = block.meta();
    let numbers = [
        ("numSeries", meta.stats.num_series),
        ("numSamples", meta.stats.num_samples),
        ("numChunks", meta.stats.num_chunks),
        ("numTombstones", meta.stats.num_tombstones),
    ];
    for (fact, value) in numbers {
        assert_eq!(facts[fact].as_u64().unwrap(), value, "{name} {fact}");
    }
    assert_eq!(facts["ulid"].as_str().unwrap(), meta.ulid.to_string(), "{name}");
    assert_eq!(facts["mint"].as_i64().unwrap(), meta.min_time_ms, "{name}");
    assert_eq!(facts["maxt"].as_i64().unwrap(), meta.max_time_ms, "{name}");
    let lookup = block.index().lookup();
    let version = u64::from(lookup.version().to_byte());
    assert_eq!(facts["indexVersion"].as_u64().unwrap(), version, "{name}");
    assert_eq!(facts["symbolsCount"].as_u64().unwrap(), u64::from(lookup.symbols().count()));
    assert_eq!(facts["labelNames"], Value::from(lookup.label_names()), "{name}");
    let mut hash = Sha256::new();
    let added = lookup.for_each_symbol(|symbol| {
        hash.update(symbol.as_bytes());
        hash.update(b"\n");
        Ok(())
    });
    added.unwrap();
    let digest: String = hash.finalize().iter().map(|it| format!("{it:02x}")).collect();
    assert_eq!(facts["symbolsSha256"], Value::from(digest), "{name}");
    let toc = block.index().toc();
    assert_eq!(facts["toc"]["postings_table"].as_u64().unwrap(), toc.postings_table, "{name}");
}

fn check_chunks(block: &block::Reader, series: &BlockSeries, line: &Value, place: &str) -> usize {
    let want = line["chunks"].as_array().unwrap();
    assert_eq!(series.chunks.len(), want.len(), "{place}");
    let read = block.chunks(series).unwrap();
    let mut samples = 0;
    for ((meta, chunk), want) in series.chunks.iter().zip(&read).zip(want) {
        assert_eq!(meta.reference, want["ref"].as_u64().unwrap(), "{place}");
        assert_eq!(meta.min_time_ms, want["mint"].as_i64().unwrap(), "{place}");
        assert_eq!(meta.max_time_ms, want["maxt"].as_i64().unwrap(), "{place}");
        assert_eq!(Some(chunk.encoding), encoding(&want["enc"]), "{place}");
        assert_eq!(chunk.data.len() as u64, want["len"].as_u64().unwrap(), "{place}");
        if chunk.encoding == Encoding::Aggregate {
            assert_eq!(chunk.data, from_hex(want["bytes"].as_str().unwrap()), "{place}");
            samples += check_aggregates(chunk, &want["aggregates"], place);
        } else {
            samples += check_samples(want, chunk.encoding, &chunk.data, place);
        }
    }
    samples
}

fn check_aggregates(chunk: &ChunkData, want: &Value, place: &str) -> usize {
    let mut samples = 0;
    let parts = aggregate::split(&chunk.data).unwrap();
    let all = [
        ("count", parts.count),
        ("sum", parts.sum),
        ("min", parts.min),
        ("max", parts.max),
        ("counter", parts.counter),
    ];
    for (name, part) in all {
        let want = &want[name];
        assert_eq!(part.is_none(), want.is_null(), "{place} {name}");
        let Some(part) = part else { continue };
        assert_eq!(part.range.len() as u64, want["len"].as_u64().unwrap(), "{place} {name}");
        assert_eq!(Some(part.encoding), encoding(&want["enc"]), "{place} {name}");
        samples += check_samples(want, part.encoding, &chunk.data[part.range], place);
    }
    samples
}

#[test]
fn a_block_written_again_has_the_same_bytes() {
    let Some(shared) = golden::shared_or_skip() else { return };
    for name in BLOCKS {
        let block = open(&shared, name);
        if block.index().lookup().version() == Version::V1 || !block.tombstones().is_empty() {
            continue;
        }
        // Many passes over many series take long and show nothing more.
        let is_small = block.meta().stats.num_series < 1000;
        for passes in if is_small { 1..=2 } else { 1..=1 } {
            let home = tempfile::tempdir().unwrap();
            let written = write_again(&block, home.path(), name, passes);
            let golden_path = shared.join("golden/blocks").join(name);
            same_file(&written.join("index"), &golden_path.join("index"), name);
            let segments = std::fs::read_dir(golden_path.join("chunks")).unwrap();
            for segment in segments {
                let file = Path::new("chunks").join(segment.unwrap().file_name());
                same_file(&written.join(&file), &golden_path.join(&file), name);
            }
        }
    }
}

pub(crate) fn write_again(
    block: &block::Reader,
    home: &Path,
    name: &str,
    passes: usize,
) -> PathBuf {
    let budget = Budget::unlimited();
    let mut symbols = Vec::new();
    let lookup = block.index().lookup();
    let gathered = lookup.for_each_symbol(|symbol| {
        symbols.push(symbol.to_owned());
        Ok(())
    });
    gathered.unwrap();
    let mut meta = block.meta().clone();
    meta.stats = block::meta::Stats::default();
    let mut writer = block::Writer::create(&Disk, home, meta, &symbols, &budget).unwrap();
    if name == "prom-segments" {
        writer.set_segment_bytes_max(4096);
    }
    if passes > 1 {
        writer.set_lists_bytes_max(4096);
    }
    for series in all_series(block) {
        writer.add_series(&series.labels, &block.chunks(&series).unwrap()).unwrap();
    }
    let meta = writer.finish().unwrap();
    let stats = &block.meta().stats;
    assert_eq!(meta.stats.num_series, stats.num_series, "{name}");
    assert_eq!(meta.stats.num_chunks, stats.num_chunks, "{name}");
    if block.meta().thanos.downsample.resolution_ms == 0 {
        assert_eq!(meta.stats.num_samples, stats.num_samples, "{name}");
    }
    assert_eq!(
        block::Meta::read(&Disk, &home.join(format!("{}/meta.json", meta.ulid))).unwrap(),
        meta
    );
    home.join(meta.ulid.to_string())
}

pub(crate) fn same_file(got: &Path, want: &Path, name: &str) {
    let (got_bytes, want_bytes) = (std::fs::read(got).unwrap(), std::fs::read(want).unwrap());
    let differ = got_bytes.iter().zip(&want_bytes).position(|it| it.0 != it.1);
    assert_eq!(differ, None, "{name}: {} differs", want.display());
    assert_eq!(got_bytes.len(), want_bytes.len(), "{name}: {}", want.display());
}

#[test]
fn deleted_samples_are_not_given_out() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut compared = 0;
    for name in ["prom-tombstones", "prom-compacted-parent-2"] {
        let (block, lines) = (open(&shared, name), expected(&shared, name));
        assert!(!block.tombstones().is_empty());
        let mut got = all_series(&block).into_iter();
        for line in &lines[1..] {
            let want = line["merged"].get("samples").filter(|it| it.is_array());
            let histograms = line["merged"].get("histograms").filter(|it| it.is_array());
            let count = want.or(histograms).map_or(0, |it| it.as_array().unwrap().len());
            if !line["merged"].is_object() || count == 0 {
                if line["merged"].is_object() {
                    continue;
                }
                let series = got.next().unwrap();
                assert!(series.deleted.is_empty(), "{name} {}", line["labels"]);
                continue;
            }
            let series = got.next().unwrap();
            let mut left = Vec::new();
            for chunk in block.chunks(&series).unwrap() {
                decode_values(chunk.encoding, &chunk.data, &mut left).unwrap();
            }
            let want = samples::of_chunk(&line["merged"]);
            assert_eq!(without_hints(&left), without_hints(&want), "{name} {}", line["labels"]);
            compared += want.len();
        }
    }
    assert!(compared > 1000, "only {compared} samples");
}

#[test]
fn chunks_without_deleted_samples_have_the_bytes_of_prometheus() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let (block, applied) =
        (open(&shared, "prom-tombstones"), open(&shared, "prom-tombstones-applied"));
    let left = |block: &block::Reader| {
        let read = |it: BlockSeries| (it.labels.clone(), block.chunks(&it).unwrap());
        let all = all_series(block).into_iter().map(read);
        all.filter(|it| !it.1.is_empty()).collect::<Vec<_>>()
    };
    let (got, want) = (left(&block), left(&applied));
    assert_eq!(got.len(), want.len());
    let mut kinds = [0; 4];
    for ((labels, got), (same_labels, want)) in got.iter().zip(&want) {
        assert_eq!(labels, same_labels);
        assert_eq!(got, want, "{labels}");
        got.iter().for_each(|it| kinds[usize::from(it.encoding.to_byte())] += 1);
    }
    assert!(kinds[1..].iter().all(|it| *it > 0), "{kinds:?}");
}

/// What is left behind deleted samples begins a chunk, and nothing is known of the reset before.
fn without_hints(samples: &[Timed]) -> Vec<String> {
    samples::texts(samples).iter().map(|it| it.replacen("NotReset", "Unknown", 1)).collect()
}

#[test]
fn index_headers_have_the_golden_bytes_and_answer_as_the_index() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let names =
        ["floats", "histograms", "labels", "compacted", "index-v1"].map(|it| format!("prom-{it}"));
    for name in names.into_iter().chain(["thanos-5m".to_owned(), "thanos-1h".to_owned()]) {
        let block = open(&shared, &name);
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("index-header");
        let index = block.index().file();
        let (version, toc) = (block.index().lookup().version(), *block.index().toc());
        let mut builder = Builder::create(&Disk, &path, version, toc, index.size_bytes()).unwrap();
        for range in builder.wanted() {
            for at in (range.start..range.end).step_by(1000) {
                let length = usize::try_from((range.end - at).min(1000)).unwrap();
                builder.append(&index.read(at, length).unwrap()).unwrap();
            }
        }
        builder.finish().unwrap();
        let golden_path = shared.join("golden/blocks").join(format!("{name}.index-header"));
        same_file(&path, &golden_path, &name);
        for sample_rate in [1, 32] {
            let opened = header::Header::open(&Disk, &path, sample_rate, &Budget::unlimited());
            let opened = opened.unwrap();
            assert_eq!(opened.index_bytes, index.size_bytes(), "{name}");
            check_header(&opened, &expected(&shared, &format!("{name}.index-header")), &name);
        }
    }
}

fn check_header(header: &header::Header, lines: &[Value], name: &str) {
    use tsdb_core::select::LabelIndex as _;
    let lookup = &header.lookup;
    assert_eq!(Value::from(lookup.label_names()), lines[0]["label_names"], "{name}");
    assert_eq!(lines[0]["postings_entries"].as_u64().unwrap(), lookup.offsets().entry_count());
    let mut resolver = lookup.resolver(&Budget::unlimited()).unwrap();
    for line in &lines[1..] {
        let label = line["name"].as_str().unwrap_or_default();
        if let Some(reference) = line["ref"].as_u64() {
            let symbol = resolver.resolve(u32::try_from(reference).unwrap()).unwrap();
            assert_eq!(line["symbol"].as_str().unwrap(), symbol, "{name}");
        } else if let Some(missing) = line["missing_value"].as_str() {
            assert!(lookup.lists_of(label, &[missing]).unwrap().is_empty(), "{name} {line}");
        } else if let Some(value) = line["value"].as_str() {
            let found = match (label, value) {
                ("", "") => lookup.all().unwrap(),
                _ => lookup.lists_of(label, &[value]).unwrap().first().copied(),
            };
            let found = found.unwrap();
            let exact = &line["exact"];
            assert_eq!(exact[0].as_u64().unwrap(), found.start + 4, "{name} {line}");
            let list_end = exact[1].as_u64().unwrap() + 4;
            assert!(list_end <= found.end, "{name} {line}");
            assert!(found.end <= line["range"][1].as_u64().unwrap() + 4, "{name} {line}");
        } else if let Some(label) = line["label_values_of"].as_str() {
            assert_eq!(line["values"], Value::from(lookup.label_values(label).unwrap()), "{name}");
        } else {
            panic!("{name}: {line}");
        }
    }
}
