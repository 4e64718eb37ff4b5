//! Compaction against a plain model, its bounds, and what it refuses.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::{BlockId, Budget, Columns, Labels, TimeRange};
use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};
use testkit::fault_fs::FaultFs;
use tsdb_core::block::tombstones::Tombstones;
use tsdb_core::block::{self, ChunkData, Meta};
use tsdb_core::chunk::{Encoding, decode, xor};
use tsdb_core::codec::{crc32c, put_uvarint, put_varint};
use tsdb_core::compact::{
    self, Balance, Done, Ignored, Merge, OneToOne, Options, Progress, Report, RunChunk, RunError,
    Target, balance, naming,
};
use tsdb_core::fs::Fs;
use tsdb_core::index::SeriesEntry;
use tsdb_core::stream::local::{DirectorySink, open_source};
use tsdb_core::stream::{Ranged, Scratch, Sink, SinkFile, Source};
use tsdb_core::{Error, Result};

use crate::promtool::promtool;

const HOME: &str = "/home";
const RANGE_MS: i64 = 7_200_000;
const SCRATCH_BYTES_MAX: u64 = 64 << 20;

/// Chunks of a series, each its samples.
type Chunks = Vec<Vec<(i64, f64)>>;

fn labels(series: usize) -> Labels {
    let (name, instance) = (format!("metric_{}", series % 3), format!("host-{series:05}"));
    Labels::from_pairs([("__name__", name.as_str()), ("instance", &instance), ("job", "node")])
        .unwrap()
}

fn chunk(samples: &[(i64, f64)]) -> ChunkData {
    let mut appender = xor::Appender::new();
    for (time, value) in samples {
        assert!(appender.append(*time, *value));
    }
    ChunkData {
        encoding: Encoding::Xor,
        min_time_ms: samples[0].0,
        max_time_ms: samples[samples.len() - 1].0,
        data: Bytes::from(appender.to_bytes()),
    }
}

/// Writes the block of a number and answers its directory.
fn write_block(fs: &FaultFs, number: u128, start_ms: i64, series: &[(usize, Chunks)]) -> PathBuf {
    let id = BlockId::from_parts(1_700_000_000_000, number);
    let meta = Meta::of_head(id, start_ms, start_ms + RANGE_MS);
    let mut sorted: Vec<(Labels, &Chunks)> =
        series.iter().map(|(series, chunks)| (labels(*series), chunks)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let texts = sorted.iter().flat_map(|it| &it.0).flat_map(|(name, value)| [name, value]);
    let mut symbols: Vec<String> = texts.map(str::to_owned).collect();
    symbols.sort();
    symbols.dedup();
    let home = Path::new(HOME);
    fs.make_directory(home).unwrap();
    let budget = Budget::unlimited();
    let mut writer = block::Writer::create(fs, home, meta, &symbols, &budget).unwrap();
    for (labels, chunks) in &sorted {
        let chunks: Vec<ChunkData> = chunks.iter().map(|it| chunk(it)).collect();
        writer.add_series(labels, &chunks).unwrap();
    }
    writer.finish().unwrap();
    home.join(id.to_string())
}

/// How a test runs a job.
struct Run<'a> {
    options: Options,
    scratch_bytes_max: u64,
    progress: &'a dyn Progress,
    merge: &'a mut dyn Merge,
}

impl<'a> Run<'a> {
    fn with(merge: &'a mut dyn Merge) -> Run<'a> {
        let scratch_bytes_max = SCRATCH_BYTES_MAX;
        Run { options: Options::default(), scratch_bytes_max, progress: &Ignored, merge }
    }
}

fn run(fs: &FaultFs, sources: &[Source], how: Run<'_>) -> Result<(Report, PathBuf)> {
    let metas: Vec<&Meta> = sources.iter().map(|it| &it.meta).collect();
    let meta = naming::meta_of(&metas, naming::output_id(&metas, how.merge.name())).unwrap();
    let out = Path::new(HOME).join("out");
    match fs.remove_directory(&out) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
    let directory = Path::new(HOME);
    let target = Target {
        sink: Arc::new(DirectorySink::new(Arc::new(fs.clone()), &out)),
        scratch: Scratch { fs, directory, bytes_max: how.scratch_bytes_max },
        budget: &Budget::unlimited(),
        progress: how.progress,
    };
    let report = compact::compact(sources, meta, &target, &how.options, how.merge)?;
    if let Some(meta) = &report.meta {
        fs.create(&out.join("meta.json")).unwrap().append(&meta.encode()).unwrap();
    }
    Ok((report, out))
}

fn run_plain(fs: &FaultFs, sources: &[Source]) -> Result<(Report, PathBuf)> {
    run(fs, sources, Run::with(&mut OneToOne::new()))
}

fn open(fs: &FaultFs, paths: &[PathBuf]) -> Vec<Source> {
    let mut sources: Vec<Source> = paths.iter().map(|it| open_source(fs, it).unwrap()).collect();
    naming::sort_sources(&mut sources, |it| &it.meta);
    sources
}

type Model = BTreeMap<Labels, BTreeMap<i64, u64>>;

fn read(fs: &FaultFs, path: &Path) -> Model {
    let budget = Budget::unlimited();
    let block = block::Reader::open(fs, path, &budget).unwrap();
    let mut found = Model::new();
    for series in block.all(TimeRange::ALL, &budget).unwrap() {
        let series = series.unwrap();
        let mut columns = Columns::default();
        for chunk in block.chunks(&series).unwrap() {
            decode(chunk.encoding, &chunk.data, &mut columns).unwrap();
        }
        let samples = columns.timestamps_ms.iter().zip(&columns.values);
        let samples = samples.map(|(time, value)| (*time, value.to_bits()));
        found.insert(series.labels, samples.collect());
    }
    found
}

/// The samples of one source: for each series, gaps between samples in units of a step, and where
/// chunks end.
fn chunks_of(gaps: &[u16], cut_every: usize, start_ms: i64, salt: u64) -> Chunks {
    let mut time = start_ms;
    let mut samples = Vec::new();
    for gap in gaps {
        time += i64::from(*gap) * 5_000;
        if time >= start_ms + RANGE_MS {
            break;
        }
        // Some values depend on the source, others only on the time.
        let value = if time % 2 == 0 { salt } else { 7 } + time.unsigned_abs() / 5_000;
        samples.push((time, value as f64));
        time += 5_000;
    }
    samples.chunks(cut_every).map(<[(i64, f64)]>::to_vec).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_result_is_that_of_a_plain_model(
        blocks in prop::collection::vec(
            (
                0..3_i64,
                0..3_u64,
                prop::collection::vec(
                    (0..6_usize, prop::collection::vec(0..4_u16, 1..300), 1..130_usize),
                    1..5,
                ),
            ),
            1..5,
        ),
        deleted in prop::option::of((0..6_usize, 0..RANGE_MS, 0..RANGE_MS / 2)),
    ) {
        let fs = FaultFs::new();
        let mut paths = Vec::new();
        for (number, (start, salt, series)) in (0_u128..).zip(&blocks) {
            let start_ms = start * RANGE_MS;
            let mut by_series = BTreeMap::new();
            for (series, gaps, cut_every) in series {
                let chunks = chunks_of(gaps, *cut_every, start_ms, *salt);
                if !chunks.is_empty() {
                    by_series.insert(*series, chunks);
                }
            }
            if by_series.is_empty() {
                by_series.insert(0, vec![vec![(start_ms, 1.0)]]);
            }
            let series: Vec<(usize, Chunks)> = by_series.into_iter().collect();
            paths.push(write_block(&fs, number, start_ms, &series));
        }
        let mut sources = open(&fs, &paths);
        let gone = deleted.map(|(series, from, length)| {
            (labels(series), TimeRange::new(from, from + length))
        });
        if let Some((labels, range)) = &gone {
            delete(&fs, &mut sources[0], labels, *range);
        }
        let mut model = Model::new();
        let mut in_samples = 0;
        for (place, source) in sources.iter().enumerate() {
            let path = Path::new(HOME).join(source.meta.ulid.to_string());
            for (labels, samples) in read(&fs, &path) {
                in_samples += samples.len() as u64;
                for (time, bits) in samples {
                    let is_gone = place == 0
                        && gone.as_ref().is_some_and(|(of, range)| {
                            *of == labels && range.contains(time)
                        });
                    if !is_gone {
                        model.entry(labels.clone()).or_default().entry(time).or_insert(bits);
                    }
                }
            }
        }
        let (report, out) = run_plain(&fs, &sources).unwrap();
        prop_assert_eq!(report.balance.in_samples, in_samples);
        let out_samples: usize = model.values().map(BTreeMap::len).sum();
        prop_assert_eq!(report.balance.out_samples, out_samples as u64);
        if out_samples == 0 {
            prop_assert!(report.meta.is_none());
            prop_assert!(!fs.exists(&out).unwrap());
            return Ok(());
        }
        prop_assert_eq!(read(&fs, &out), model);
        let meta = report.meta.unwrap();
        prop_assert_eq!(meta.stats.num_samples, out_samples as u64);
        let damages = block::reader::verify(
            &block::Reader::open(&fs, &out, &Budget::unlimited()).unwrap(),
            &Budget::unlimited(),
        ).unwrap();
        prop_assert!(damages.is_empty());
        // The same job makes the same bytes.
        let before: Vec<Vec<u8>> = files(&fs, &out);
        let (again, out) = run_plain(&fs, &sources).unwrap();
        prop_assert_eq!(again.meta, Some(meta));
        prop_assert_eq!(files(&fs, &out), before);
    }
}

fn files(fs: &FaultFs, directory: &Path) -> Vec<Vec<u8>> {
    let files = fs.files().into_iter().filter(|it| it.starts_with(directory));
    files.map(|it| fs.read(&it).unwrap()).collect()
}

/// Gives a source a tombstone for a series, if it has that.
fn delete(fs: &FaultFs, source: &mut Source, wanted: &Labels, range: TimeRange) {
    let path = Path::new(HOME).join(source.meta.ulid.to_string());
    let block = block::Reader::open(fs, &path, &Budget::unlimited()).unwrap();
    let mut resolver = block.index().lookup().resolver(&Budget::unlimited()).unwrap();
    let mut entry = SeriesEntry::default();
    for reference in block.index().all().unwrap() {
        block.index().series().read(reference, &mut entry).unwrap();
        if resolver.labels(&entry).unwrap() == *wanted {
            let mut content = Vec::new();
            put_uvarint(&mut content, u64::from(reference));
            put_varint(&mut content, range.start_ms);
            put_varint(&mut content, range.end_ms);
            let mut bytes = vec![0x01, 0x30, 0xba, 0x30, 1];
            bytes.extend_from_slice(&content);
            bytes.extend_from_slice(&crc32c(&content).to_be_bytes());
            source.tombstones = Tombstones::decode(&bytes).unwrap();
        }
    }
}

/// A series of `count` samples every 15 s from `start_ms` on, 120 to a chunk.
fn steady(start_ms: i64, count: i64, shift_ms: i64) -> Chunks {
    let samples: Vec<(i64, f64)> =
        (0..count).map(|it| (start_ms + shift_ms + 15_000 * it, (it % 10) as f64)).collect();
    samples.chunks(120).map(<[(i64, f64)]>::to_vec).collect()
}

fn blocks(fs: &FaultFs, count: i64, series: usize) -> Vec<Source> {
    let write = |number: i64| {
        let start_ms = number * RANGE_MS;
        let series: Vec<(usize, Chunks)> =
            (0..series).map(|it| (it, steady(start_ms, 240, 0))).collect();
        write_block(fs, number.unsigned_abs().into(), start_ms, &series)
    };
    open(fs, &(0..count).map(write).collect::<Vec<PathBuf>>())
}

#[test]
fn what_overlaps_nothing_is_copied() {
    let fs = FaultFs::new();
    let sources = blocks(&fs, 3, 50);
    let (report, out) = run_plain(&fs, &sources).unwrap();
    assert_eq!((report.chunks.copied, report.chunks.merged), (300, 0));
    let frames = |path: &Path| {
        let segment = fs.read(&path.join("chunks/000001")).unwrap();
        segment[block::segments::HEADER_BYTES..].to_vec()
    };
    let got = frames(&out);
    for source in &sources {
        // Each source's chunks of a series stand side by side in the result.
        let bytes = frames(&Path::new(HOME).join(source.meta.ulid.to_string()));
        let per_series = bytes.len() / 50;
        for series in bytes.chunks(per_series) {
            assert!(got.windows(per_series).any(|it| it == series));
        }
    }
    let scratch_left = fs.files().iter().any(|it| it.parent() == Some(Path::new(HOME)));
    assert!(!scratch_left, "scratch space is left in use");
}

#[test]
fn equal_replicas_collapse_without_being_decoded() {
    let fs = FaultFs::new();
    let series: Vec<(usize, Chunks)> = (0..10).map(|it| (it, steady(0, 480, 0))).collect();
    let paths = [1, 2, 3].map(|it| write_block(&fs, it, 0, &series));
    let (report, _) = run_plain(&fs, &open(&fs, &paths)).unwrap();
    assert_eq!((report.chunks.copied, report.chunks.merged), (40, 0));
    assert_eq!(report.balance.dropped[balance::DUPLICATE], 2 * 4800);
    assert_eq!(report.balance.out_samples, 4800);
}

/// Loses the last sample of every run, and says nothing.
#[derive(Debug)]
struct Loser(OneToOne);

impl Merge for Loser {
    fn name(&self) -> &'static str {
        "loser"
    }

    fn merge(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
        balance: &mut Balance,
    ) -> std::result::Result<(), RunError> {
        let before = out.len();
        self.0.merge(run, out, balance)?;
        let last = out.pop().filter(|_| out.len() >= before);
        let mut columns = Columns::default();
        if let Some(last) = last {
            decode(last.encoding, &last.data, &mut columns).unwrap();
        }
        let samples = columns.timestamps_ms.iter().copied().zip(columns.values.iter().copied());
        let mut samples: Vec<(i64, f64)> = samples.collect();
        samples.pop();
        out.extend((!samples.is_empty()).then(|| chunk(&samples)));
        Ok(())
    }
}

#[test]
fn a_merge_that_loses_a_sample_makes_no_block() {
    let fs = FaultFs::new();
    let paths =
        [1_u8, 2].map(|it| write_block(&fs, it.into(), 0, &[(1, steady(0, 240, it.into()))]));
    let sources = open(&fs, &paths);
    let error = run(&fs, &sources, Run::with(&mut Loser(OneToOne::new()))).unwrap_err();
    let Error::Unbalanced { balance } = &error else { panic!("{error}") };
    assert_eq!((balance.in_samples, balance.out_samples), (480, 478));
    assert!(error.to_string().contains("480 samples read, 478 written"), "{error}");
    assert!(!error.is_transient());
    // It merged two runs. Without an index there is no block.
    assert!(!fs.exists(&Path::new(HOME).join("out/index")).unwrap());
    let (report, _) = run_plain(&fs, &sources).unwrap();
    assert_eq!(report.balance.out_samples, 480);
}

/// Takes note of the runs that it is given, of chunks a minute apart or less.
#[derive(Debug, Default)]
struct Near {
    merge: OneToOne,
    runs: Vec<Vec<(usize, i64)>>,
}

impl Merge for Near {
    fn name(&self) -> &'static str {
        "near"
    }

    fn reach_ms(&self) -> i64 {
        60_000
    }

    fn merge(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
        balance: &mut Balance,
    ) -> std::result::Result<(), RunError> {
        self.runs.push(run.iter().map(|it| (it.source, it.chunk.min_time_ms)).collect());
        self.merge.merge(run, out, balance)
    }
}

#[test]
fn a_merge_gets_what_lies_near_in_other_sources() {
    let fs = FaultFs::new();
    let chunks = |spans: &[(i64, i64)]| -> Chunks {
        spans.iter().map(|it| vec![(it.0, 1.0), (it.1, 2.0)]).collect()
    };
    // Seconds 0 to 100 and 130 to 200 are near, in two sources; 215 to 300 is near to the latter;
    // 310 to 400 follows in the same source as 215, and is near to nothing of the other.
    let a = chunks(&[(0, 100_000), (215_000, 300_000), (310_000, 400_000)]);
    let b = chunks(&[(130_000, 200_000), (461_000, 500_000)]);
    let paths = [write_block(&fs, 1, 0, &[(1, a)]), write_block(&fs, 2, 0, &[(1, b)])];
    let sources = open(&fs, &paths);
    let mut merge = Near::default();
    let (report, out) = run(&fs, &sources, Run::with(&mut merge)).unwrap();
    assert_eq!(merge.runs, [vec![(0, 0), (1, 130_000), (0, 215_000)]]);
    assert_eq!((report.chunks.merged, report.chunks.copied), (3, 2));
    assert_eq!(report.balance.out_samples, 10);
    assert_eq!(read(&fs, &out).len(), 1);
}

#[test]
fn prometheus_reads_what_compaction_writes() {
    let fs = FaultFs::new();
    let series = |shift_ms| -> Vec<(usize, Chunks)> {
        (0..20).map(|it| (it, steady(0, 240, shift_ms))).collect()
    };
    let paths = [
        write_block(&fs, 1, 0, &series(0)),
        write_block(&fs, 2, 0, &series(7)),
        write_block(&fs, 3, RANGE_MS, &[(5, steady(RANGE_MS, 100, 0))]),
    ];
    let (report, out) = run_plain(&fs, &open(&fs, &paths)).unwrap();
    let id = report.meta.unwrap().ulid.to_string();
    let database = tempfile::tempdir().unwrap();
    std::fs::create_dir(database.path().join("wal")).unwrap();
    std::fs::create_dir_all(database.path().join(&id).join("chunks")).unwrap();
    for file in fs.files().into_iter().filter(|it| it.starts_with(&out)) {
        let target = database.path().join(&id).join(file.strip_prefix(&out).unwrap());
        std::fs::write(target, fs.read(&file).unwrap()).unwrap();
    }
    let dumped = promtool(&["dump"], database.path());
    assert_eq!(dumped.len() as u64, report.balance.out_samples);
    assert_eq!(dumped.len(), 2 * 20 * 240 + 100);
    let analyzed = promtool(&["analyze"], database.path());
    assert!(analyzed.contains(&"Series: 20".to_owned()), "{analyzed:?}");
}

#[test]
fn memory_stays_within_its_bound_however_large_the_group() {
    let options = Options { memory_bytes_max: 3 << 20, ..Options::default() };
    let (mut peaks, mut merge) = (Vec::new(), OneToOne::new());
    for count in [4, 12] {
        let fs = FaultFs::new();
        let sources = blocks(&fs, count, 2000);
        let how = Run { options, ..Run::with(&mut merge) };
        let (report, out) = run(&fs, &sources, how).unwrap();
        assert!(report.memory_peak_bytes <= options.memory_bytes_max);
        assert!(report.memory_peak_bytes > 100_000, "{}", report.memory_peak_bytes);
        assert_eq!(report.balance.out_samples, 2000 * 240 * count.unsigned_abs());
        assert_eq!(read(&fs, &out).len(), 2000);
        peaks.push(report.memory_peak_bytes);
    }
    println!("peaks {peaks:?}");
    let fs = FaultFs::new();
    let options = Options { memory_bytes_max: 100 << 10, ..options };
    let how = Run { options, ..Run::with(&mut merge) };
    let error = run(&fs, &blocks(&fs, 2, 2000), how).unwrap_err();
    assert!(matches!(error, Error::Budget(_)), "{error}");
}

#[test]
fn scratch_space_is_known_before_anything_is_written() {
    let fs = FaultFs::new();
    let sources = blocks(&fs, 3, 100);
    let before = fs.mutation_count();
    let needed_bytes = compact::scratch_bytes_needed(&sources);
    let mut merge = OneToOne::new();
    let how = Run { scratch_bytes_max: needed_bytes - 1, ..Run::with(&mut merge) };
    let error = run(&fs, &sources, how).unwrap_err();
    assert!(matches!(error, Error::Scratch { .. }), "{error}");
    assert!(error.to_string().contains(&needed_bytes.to_string()), "{error}");
    // One call removed what an earlier run may have left of the output.
    assert!(fs.mutation_count() <= before + 1);
    let how = Run { scratch_bytes_max: needed_bytes, ..Run::with(&mut merge) };
    let (report, _) = run(&fs, &sources, how).unwrap();
    assert!(report.scratch_bytes <= needed_bytes);
}

/// Ends a job at its first report.
#[derive(Debug)]
struct Impatient;

impl Progress for Impatient {
    fn advance(&self, done: Done) -> ControlFlow<()> {
        assert!(done.samples > 0 && done.read_bytes <= done.total_bytes);
        ControlFlow::Break(())
    }
}

#[test]
fn a_job_can_be_cancelled() {
    let fs = FaultFs::new();
    let mut merge = OneToOne::new();
    let how = Run { progress: &Impatient, ..Run::with(&mut merge) };
    let error = run(&fs, &blocks(&fs, 2, 300), how).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    let scratch_left = fs.files().iter().any(|it| it.parent() == Some(Path::new(HOME)));
    assert!(!scratch_left, "scratch space is left in use");
}

/// Changes an entry of the series section, with a checksum that is right again.
fn change_series(bytes: &mut [u8], number: usize, change: impl FnOnce(&mut [u8])) {
    let toc = bytes.len() - tsdb_core::index::TOC_BYTES;
    let series: [u8; 8] = bytes[toc + 8..toc + 16].try_into().unwrap();
    let mut at = usize::try_from(u64::from_be_bytes(series)).unwrap().next_multiple_of(16);
    for _ in 0..number {
        at = (at + 1 + usize::from(bytes[at]) + 4).next_multiple_of(16);
    }
    let content = at + 1..at + 1 + usize::from(bytes[at]);
    change(&mut bytes[content.clone()]);
    let crc = crc32c(&bytes[content.clone()]).to_be_bytes();
    bytes[content.end..content.end + 4].copy_from_slice(&crc);
}

#[test]
fn what_no_checksum_tells_is_damage_by_name() {
    let write = |fs: &FaultFs| {
        let series: Vec<(usize, Chunks)> = [1, 4, 7]
            .into_iter()
            .map(|it| (it, vec![vec![(1, 1.0), (2, 1.0)], vec![(50, 2.0), (60, 3.0)]]))
            .collect();
        write_block(fs, 9, 0, &series)
    };
    let check = |wanted: &str, damage: &dyn Fn(&FaultFs, &Path)| {
        let fs = FaultFs::new();
        let path = write(&fs);
        damage(&fs, &path);
        let sources = open(&fs, &[path]);
        let error = run_plain(&fs, &sources).unwrap_err();
        assert_eq!(error.damaged_block(), Some(sources[0].meta.ulid), "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
    };
    let index = |change: &dyn Fn(&mut [u8])| {
        let fs = FaultFs::new();
        let mut bytes = fs_bytes(&fs, &write(&fs));
        change(&mut bytes);
        bytes
    };
    let changed = |number: usize, change: &dyn Fn(&mut [u8])| {
        let bytes = index(&|it| change_series(it, number, |it| change(it)));
        move |fs: &FaultFs, path: &Path| fs.overwrite(&path.join("index"), &bytes).unwrap()
    };
    // Three labels as pairs of one byte each, the count of chunks, then the chunks.
    let host_of_first = fs_first_value();
    check("labels of the series before", &changed(1, &move |it| it[4] = host_of_first));
    check("out of order", &changed(2, &|it| it[4] = 1));
    check("labels are out of order", &changed(0, &|it| it.swap(1, 3)));
    check("has no symbol", &changed(2, &|it| it[4] = 100));
    // First time, span and reference of the first chunk, gap to the second.
    check("lies outside of the block", &changed(0, &|it| it[8] = 1));
    check("overlaps the one before", &changed(0, &|it| it[11] = 0));
    check("where nothing is", &changed(0, &|it| it[10] = 0));
    check("checksum mismatch", &changed(0, &|it| it[10] = 9));
    check("magic", &|fs, path| {
        let segment = path.join("chunks/000001");
        let mut bytes = fs.read(&segment).unwrap();
        bytes[0] ^= 1;
        fs.overwrite(&segment, &bytes).unwrap();
    });
}

fn fs_bytes(fs: &FaultFs, path: &Path) -> Vec<u8> {
    fs.read(&path.join("index")).unwrap()
}

/// The symbol of the first series' host among all symbols of the test's block.
fn fs_first_value() -> u8 {
    // "", "__name__", "host-00001", …
    2
}

/// Fails every read behind an offset, for a while.
#[derive(Debug)]
struct Flaky(Arc<dyn Ranged>, u64);

impl Ranged for Flaky {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn read(&self, range: std::ops::Range<u64>) -> Result<Bytes> {
        if range.end > self.1 {
            return Err(unreachable_for_now("read", self.name()));
        }
        self.0.read(range)
    }
}

fn unreachable_for_now(operation: &'static str, name: &str) -> Error {
    let source = Box::new(std::io::Error::other("the store answered 503"));
    Error::Stream { operation, name: name.to_owned(), is_transient: true, source }
}

/// Takes so many files, and no more than a few bytes of the last.
#[derive(Debug)]
struct Full(std::sync::atomic::AtomicUsize);

impl Sink for Full {
    fn create(&self, path: &str) -> Result<Box<dyn SinkFile>> {
        let left = self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        match left {
            0 => Err(unreachable_for_now("create", path)),
            left => Ok(Box::new(FullFile(left == 1))),
        }
    }
}

#[derive(Debug)]
struct FullFile(bool);

impl SinkFile for FullFile {
    fn write(&mut self, _bytes: Bytes) -> Result<()> {
        if self.0 { Err(unreachable_for_now("write", "it")) } else { Ok(()) }
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_store_that_fails_is_no_damage_and_may_be_asked_again() {
    let fs = FaultFs::new();
    let sources = blocks(&fs, 2, 30);
    let check = |error: Error| {
        assert!(error.is_transient(), "{error}");
        assert_eq!(error.damaged_block(), None, "{error}");
        assert!(error.to_string().contains("503"), "{error}");
        let scratch_left = fs.files().iter().any(|it| it.parent() == Some(Path::new(HOME)));
        assert!(!scratch_left, "scratch space is left in use");
    };
    for behind in [0, 300] {
        let mut flaky = sources.clone();
        flaky[1].segments[0] = Arc::new(Flaky(Arc::clone(&sources[1].segments[0]), behind));
        check(run_plain(&fs, &flaky).unwrap_err());
        let mut flaky = sources.clone();
        flaky[0].index = Arc::new(Flaky(Arc::clone(&sources[0].index), behind));
        check(run_plain(&fs, &flaky).unwrap_err());
    }
    let metas: Vec<&Meta> = sources.iter().map(|it| &it.meta).collect();
    let meta = naming::meta_of(&metas, naming::output_id(&metas, "test")).unwrap();
    for files in 0..3 {
        let target = Target {
            sink: Arc::new(Full(files.into())),
            scratch: Scratch { fs: &fs, directory: Path::new(HOME), bytes_max: 1 << 30 },
            budget: &Budget::unlimited(),
            progress: &Ignored,
        };
        let (meta, options) = (meta.clone(), Options::default());
        let result = compact::compact(&sources, meta, &target, &options, &mut OneToOne::new());
        check(result.unwrap_err());
    }
    assert!(run_plain(&fs, &sources).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_bytes_say_is_a_block_or_damage(
        in_index: bool,
        number in 0..4_usize,
        at: prop::sample::Index,
        byte: u8,
    ) {
        let fs = FaultFs::new();
        let series: Vec<(usize, Chunks)> = (0..4).map(|it| (it, steady(0, 130, 0))).collect();
        let shifted: Vec<(usize, Chunks)> = (0..4).map(|it| (it, steady(0, 130, 5))).collect();
        let paths = [write_block(&fs, 1, 0, &series), write_block(&fs, 2, 0, &shifted)];
        let sources = open(&fs, &paths);
        let file = paths[0].join(if in_index { "index" } else { "chunks/000001" });
        let mut bytes = fs.read(&file).unwrap();
        if in_index {
            change_series(&mut bytes, number, |it| it[at.index(it.len())] = byte);
        } else {
            // The data of the first chunk, with a checksum that is right again.
            let length = usize::from(bytes[8] & 0x7f) | usize::from(bytes[9]) << 7;
            let (start, end) = match bytes[8] < 0x80 {
                true => (9, 10 + usize::from(bytes[8])),
                false => (10, 11 + length),
            };
            bytes[start + 1 + at.index(end - start - 1)] = byte;
            let crc = crc32c(&bytes[start..end]).to_be_bytes();
            bytes[end..end + 4].copy_from_slice(&crc);
        }
        fs.overwrite(&file, &bytes).unwrap();
        match run_plain(&fs, &open(&fs, &paths)) {
            Ok((report, _)) => prop_assert!(report.balance.check().is_ok()),
            Err(error) => {
                let id = sources[0].meta.ulid;
                prop_assert_eq!(error.damaged_block(), Some(id), "{}", error);
            }
        }
    }
}
