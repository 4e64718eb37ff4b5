//! The gateway over a bucket in memory that fails on request, and the rules that every store obeys.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use daemon::{Context, config_of};
use futures_util::StreamExt as _;
use model::{BlockId, Budget, Labels, MatchOp, Matcher, TimeRange};
use objstore::faulty::{Fault, Trigger};
use objstore::{Faulty, FilesystemStore, MemoryStore, ObjectStore as _, Operation, SharedStore};
use storeapi::conformance::{self, Held};
use storeapi::request::{LabelsRequest, PartialResponse, SeriesRequest};
use storeapi::store::SeriesFrame;
use storeapi::{Error, Store};
use tsdb_core::block::{self, ChunkData, Meta};
use tsdb_core::chunk::{Encoding, xor};
use tsdb_core::fs::disk::Disk;

use crate::{Parts, StoreGateway, environment, metrics::Metrics};

/// Blocks are this long.
const BLOCK_MS: i64 = 7_200_000;

struct Fixture {
    bucket: Arc<MemoryStore>,
    faulty: Arc<Faulty>,
    parts: Parts,
    home: tempfile::TempDir,
    /// Samples of a chunk.
    chunk_samples: usize,
    /// Whether metas tell far too small sizes of entries and chunks.
    has_wrong_sizes: bool,
    /// The blocks that those replace which are written now.
    sources: Vec<BlockId>,
}

/// A series of a block: its own labels and the times of its samples.
type Series = (Labels, Vec<i64>);

impl Fixture {
    fn new() -> Fixture {
        let home = tempfile::tempdir().unwrap();
        let context = Context::of_this_machine("store").unwrap();
        let bucket = Arc::new(MemoryStore::new("test", environment(&context)));
        let faulty = Arc::new(Faulty::new(Arc::clone(&bucket) as SharedStore, 7));
        let parts = parts(&faulty, &context, home.path(), &[]);
        let (chunk_samples, has_wrong_sizes, sources) = (7, false, Vec::new());
        Fixture { bucket, faulty, parts, home, chunk_samples, has_wrong_sizes, sources }
    }

    /// The gateway anew, with what the last one left on the disk.
    fn restart(&mut self, flags: &[&str]) {
        let context = Context::of_this_machine("store").unwrap();
        self.parts = parts(&self.faulty, &context, self.home.path(), flags);
    }

    /// Writes a block and puts it into the bucket.
    async fn add(&self, number: u64, external: &[(&str, &str)], series: &[Series]) -> BlockId {
        let id = BlockId::from_parts(1_700_000_000_000 + number, 1);
        let directory = self.write_block(id, external, series);
        for file in ["chunks/000001", "index", "meta.json"] {
            let bytes = std::fs::read(directory.join(file)).unwrap();
            self.bucket.put(&format!("{id}/{file}"), Bytes::from(bytes)).await.unwrap();
        }
        id
    }

    fn write_block(
        &self,
        id: BlockId,
        external: &[(&str, &str)],
        series: &[Series],
    ) -> std::path::PathBuf {
        let times = || series.iter().flat_map(|it| it.1.iter().copied());
        let start = model::time::align_down(times().min().unwrap(), BLOCK_MS);
        let end = model::time::align_down(times().max().unwrap(), BLOCK_MS) + BLOCK_MS;
        let mut meta = Meta::of_head(id, start, end);
        let labels = external.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        meta.thanos.labels = labels.collect();
        if !self.sources.is_empty() {
            meta.compaction.sources = self.sources.clone();
        }
        let symbols: std::collections::BTreeSet<&str> =
            series.iter().flat_map(|it| it.0.iter()).flat_map(|it| [it.0, it.1]).collect();
        let (home, budget) = (self.home.path(), Budget::unlimited());
        let mut writer = block::Writer::create(&Disk, home, meta, symbols, &budget).unwrap();
        let mut sorted = series.to_vec();
        sorted.sort();
        for (labels, times) in &sorted {
            let chunks: Vec<ChunkData> = times.chunks(self.chunk_samples).map(chunk).collect();
            writer.add_series(labels, &chunks).unwrap();
        }
        let mut meta = writer.finish().unwrap();
        let directory = home.join(id.to_string());
        if self.has_wrong_sizes {
            meta.thanos.index_stats.series_max_bytes = 1;
            meta.thanos.index_stats.chunk_max_bytes = 1;
            std::fs::write(directory.join("meta.json"), meta.encode()).unwrap();
        }
        directory
    }

    async fn damage(&self, key: &str, at: usize) {
        let mut bytes = self.bucket.get(key, u64::MAX).await.unwrap().to_vec();
        bytes[at] ^= 0x55;
        self.bucket.put(key, Bytes::from(bytes)).await.unwrap();
    }

    async fn sync(&mut self) {
        self.parts.sync.once(1_800_000_000_000).await.unwrap();
    }

    async fn read(&self, request: SeriesRequest) -> Result<(Vec<Labels>, Vec<String>), Error> {
        let mut frames = self.parts.store.series(request, Budget::unlimited()).await?;
        let (mut labels, mut warnings) = (Vec::new(), Vec::new());
        while let Some(frame) = frames.next().await {
            match frame? {
                SeriesFrame::Batch(batch) => labels.extend(batch.into_iter().map(|it| it.labels)),
                SeriesFrame::Warning(text) => warnings.push(text),
            }
        }
        Ok((labels, warnings))
    }
}

fn parts(bucket: &Arc<Faulty>, context: &Context, data_dir: &Path, flags: &[&str]) -> Parts {
    let mut arguments = vec![
        "--objstore.config={type: FILESYSTEM, config: {directory: unused}}".to_owned(),
        format!("--data-dir={}", data_dir.join("data").display()),
        "--index-cache-size=8MiB".to_owned(),
    ];
    arguments.extend(flags.iter().map(|it| (*it).to_owned()));
    let config = config_of::<StoreGateway>(&arguments).unwrap();
    let bucket = Arc::clone(bucket) as SharedStore;
    Parts::new(&config, context, bucket, Arc::new(Disk), Metrics::default()).unwrap()
}

fn chunk(times: &[i64]) -> ChunkData {
    let mut appender = xor::Appender::new();
    for (index, time) in times.iter().enumerate() {
        assert!(appender.append(*time, f64::from(u32::try_from(index).unwrap()) * 1.25));
    }
    ChunkData {
        encoding: Encoding::Xor,
        min_time_ms: times[0],
        max_time_ms: times[times.len() - 1],
        data: Bytes::from(appender.to_bytes()),
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// Series whose order changes when external labels come between their own.
fn sample_series(start: i64) -> Vec<Series> {
    let times =
        |count: i64, step: i64| (0..count).map(|it| start + it * step).collect::<Vec<i64>>();
    vec![
        (labels(&[("__name__", "up"), ("a", "1")]), times(100, 15_000)),
        (labels(&[("__name__", "up"), ("a", "1"), ("k", "1")]), times(3, 60_000)),
        (labels(&[("__name__", "up"), ("a", "1"), ("z", "1")]), times(1, 1)),
        (labels(&[("__name__", "up"), ("a", "2"), ("replica", "own")]), times(20, 1000)),
        (
            labels(&[("__name__", "other"), ("Upper", "x"), ("long", &"y".repeat(200))]),
            times(50, 90_000),
        ),
    ]
}

fn held(external: &[(&str, &str)], series: &[Series]) -> Vec<Held> {
    let whole = |it: &Series| {
        let mut builder = it.0.to_builder();
        for (name, value) in external {
            builder.set(name, value);
        }
        Held { labels: builder.build(), timestamps_ms: it.1.clone() }
    };
    series.iter().map(whole).collect()
}

fn all_names() -> Vec<Matcher> {
    vec![Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap()]
}

#[tokio::test]
async fn the_gateway_obeys_the_rules_of_every_store() {
    let external = [("m", "x"), ("replica", "a")];
    let mut fixture = Fixture::new();
    // The rules speak of samples; chunks of one sample tell of them by their times alone.
    fixture.chunk_samples = 1;
    fixture.has_wrong_sizes = true;
    let (early, late) = (sample_series(0), sample_series(BLOCK_MS));
    fixture.add(1, &external, &early).await;
    fixture.add(2, &external, &late).await;
    fixture.sync().await;
    let mut all = held(&external, &early);
    for (series, more) in all.iter_mut().zip(&late) {
        series.timestamps_ms.extend(&more.1);
    }
    conformance::check(&*fixture.parts.store, &all, &labels(&external)).await;
}

#[tokio::test]
async fn a_damaged_index_is_named_and_the_other_blocks_answer() {
    let mut fixture = Fixture::new();
    let good = fixture.add(1, &[("cluster", "good")], &sample_series(0)).await;
    let bad = fixture.add(2, &[("cluster", "bad")], &sample_series(BLOCK_MS)).await;
    let key = format!("{bad}/index");
    fixture.damage(&key, 20).await;
    fixture.sync().await;
    let request = SeriesRequest::new(TimeRange::ALL, all_names());
    let (read, warnings) = fixture.read(request.clone()).await.unwrap();
    assert_eq!(read.len(), 5, "those of {good}");
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains(&bad.to_string()) && warnings[0].contains("index"),
        "{warnings:?}"
    );
    // It is told of, so that whoever looks for what it holds comes here.
    let info = fixture.parts.store.info();
    let sets = ["bad", "good"].map(|it| labels(&[("cluster", it)]));
    assert_eq!(info.label_sets, sets);
    assert!(info.tsdbs.iter().any(|it| it.labels == sets[0] && it.min_time_ms == BLOCK_MS));
    assert_eq!(info.max_time_ms, 2 * BLOCK_MS);
    // Who cannot live with a part is told so.
    let mut strict = request.clone();
    strict.partial_response = PartialResponse::Abort;
    assert!(matches!(fixture.read(strict).await, Err(Error::Aborted(_))));
    // Who asks for other times or labels misses nothing.
    let mut early = request.clone();
    early.range = TimeRange::new(0, BLOCK_MS - 1);
    assert_eq!(fixture.read(early).await.unwrap().1, Vec::<String>::new());
    let mut other = request;
    other.matchers.push(Matcher::equal("cluster", "good"));
    assert_eq!(fixture.read(other).await.unwrap().1, Vec::<String>::new());
    // Once it is repaired, it answers too.
    fixture.damage(&key, 20).await;
    fixture.sync().await;
    let request = SeriesRequest::new(TimeRange::ALL, all_names());
    let (read, warnings) = fixture.read(request).await.unwrap();
    assert_eq!((read.len(), warnings.len()), (10, 0));
}

#[tokio::test]
async fn a_damaged_chunk_or_series_is_named_and_the_rest_is_sent() {
    let mut fixture = Fixture::new();
    let id = fixture.add(1, &[], &sample_series(0)).await;
    fixture.sync().await;
    // The first chunk of the segment is of the first series.
    fixture.damage(&format!("{id}/chunks/000001"), 8 + 5).await;
    let request = SeriesRequest::new(TimeRange::ALL, all_names());
    let (read, warnings) = fixture.read(request.clone()).await.unwrap();
    assert_eq!(read.len(), 5);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("chunks/000001") && warnings[0].contains("other"));
    let mut strict = request;
    strict.partial_response = PartialResponse::Abort;
    assert!(matches!(fixture.read(strict).await, Err(Error::Aborted(_))));
}

#[tokio::test]
async fn a_damaged_local_index_header_is_made_again() {
    let mut fixture = Fixture::new();
    let id = fixture.add(1, &[], &sample_series(0)).await;
    fixture.sync().await;
    let path = fixture.home.path().join("data").join(id.to_string()).join("index-header");
    let whole = std::fs::read(&path).unwrap();
    for damage in [0, 4, 30, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[damage] ^= 0x11;
        std::fs::write(&path, &bytes).unwrap();
        fixture.restart(&[]);
        fixture.sync().await;
        let request = SeriesRequest::new(TimeRange::ALL, all_names());
        assert_eq!(fixture.read(request).await.unwrap().0.len(), 5);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}

#[tokio::test]
async fn a_bucket_that_fails_is_no_empty_answer() {
    let mut fixture = Fixture::new();
    fixture.add(1, &[], &sample_series(0)).await;
    let request = SeriesRequest::new(TimeRange::ALL, all_names());
    // Nothing was read yet: nobody must take that for an empty bucket.
    assert!(matches!(fixture.read(request.clone()).await, Err(Error::Unavailable(_))));
    fixture.faulty.add(Fault {
        operation: Some(Operation::Iter),
        trigger: Trigger::Nth(1),
        ..Fault::new(Trigger::Nth(1))
    });
    assert!(fixture.parts.sync.once(0).await.is_err());
    assert!(matches!(fixture.read(request.clone()).await, Err(Error::Unavailable(_))));
    fixture.sync().await;
    // A read that fails is named; the next one is whole.
    fixture
        .faulty
        .add(Fault { operation: Some(Operation::GetRange), ..Fault::new(Trigger::Nth(1)) });
    let (read, warnings) = fixture.read(request.clone()).await.unwrap();
    assert_eq!((read.len(), warnings.len()), (0, 1), "{warnings:?}");
    let (read, warnings) = fixture.read(request).await.unwrap();
    assert_eq!((read.len(), warnings.len()), (5, 0), "{warnings:?}");
}

#[tokio::test]
async fn blocks_come_and_go_with_the_bucket() {
    let mut fixture = Fixture::new();
    fixture.sync().await;
    let info = fixture.parts.store.info();
    assert!(info.min_time_ms > info.max_time_ms, "an empty store holds no time: {info:?}");
    let id = fixture.add(1, &[("cluster", "c")], &sample_series(0)).await;
    fixture.sync().await;
    assert_eq!(fixture.parts.store.info().label_sets, [labels(&[("cluster", "c")])]);
    let kept = fixture.home.path().join("data").join(id.to_string());
    assert!(kept.exists());
    for file in ["meta.json", "index", "chunks/000001"] {
        fixture.bucket.delete(&format!("{id}/{file}")).await.unwrap();
    }
    fixture.sync().await;
    assert_eq!(fixture.parts.store.info().tsdbs, []);
    assert!(!kept.exists(), "the local index header goes with the block");
}

#[tokio::test]
async fn a_small_budget_is_an_error_and_not_a_part_of_the_answer() {
    let mut fixture = Fixture::new();
    fixture.add(1, &[("m", "x")], &sample_series(0)).await;
    fixture.sync().await;
    let names = LabelsRequest {
        range: TimeRange::ALL,
        matchers: all_names(),
        partial_response: PartialResponse::Warn,
        without_replica_labels: Vec::new(),
        limit: 0,
    };
    for bytes in (0..24_000).step_by(3000) {
        let budget = Budget::unlimited().child("call", bytes);
        let request = SeriesRequest::new(TimeRange::ALL, all_names());
        let refused = match fixture.parts.store.series(request, budget.clone()).await {
            Err(Error::BudgetExceeded(_)) => true,
            Err(error) => panic!("{error}"),
            Ok(mut frames) => loop {
                match frames.next().await {
                    Some(Err(Error::BudgetExceeded(_))) => break true,
                    Some(Ok(SeriesFrame::Batch(_))) => {}
                    Some(other) => panic!("{other:?}"),
                    None => break false,
                }
            },
        };
        assert!(refused, "{bytes} bytes were enough");
        assert_eq!(budget.used_bytes(), 0, "everything is given back");
        let named = fixture.parts.store.label_names(names.clone(), budget).await;
        assert!(matches!(named, Ok(_) | Err(Error::BudgetExceeded(_))), "{named:?}");
    }
}

/// More calls than may read at once, each left alone after its first frame.
#[tokio::test]
async fn a_stream_that_waits_keeps_no_other_from_reading() {
    let mut fixture = Fixture::new();
    // Reads of a disk, unlike those of memory, are not done when they are first looked at.
    let environment = environment(&Context::of_this_machine("store").unwrap());
    let disk = FilesystemStore::new(fixture.home.path(), environment);
    fixture.faulty = Arc::new(Faulty::new(Arc::new(disk), 7));
    fixture.restart(&["--store.grpc.series-max-concurrency=2"]);
    fixture.add(1, &[("m", "x")], &sample_series(0)).await;
    fixture.add(2, &[("m", "y")], &sample_series(0)).await;
    fixture.sync().await;
    let all = async {
        let mut calls = Vec::new();
        for _ in 0..21 {
            let request = SeriesRequest { batch_size: 1, ..everything() };
            let mut frames =
                fixture.parts.store.series(request, Budget::unlimited()).await.unwrap();
            assert!(frames.next().await.unwrap().is_ok());
            calls.push(frames);
        }
        for mut frames in calls.into_iter().rev() {
            let mut count = 1;
            while let Some(frame) = frames.next().await {
                assert!(matches!(frame, Ok(SeriesFrame::Batch(_))), "{frame:?}");
                count += 1;
            }
            assert_eq!(count, 10);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), all).await.unwrap();
}

fn everything() -> SeriesRequest {
    SeriesRequest::new(TimeRange::ALL, all_names())
}

#[tokio::test]
async fn lengths_and_places_that_cannot_be_cost_only_what_has_them() {
    let mut fixture = Fixture::new();
    let id = fixture.add(1, &[], &sample_series(0)).await;
    fixture.sync().await;
    // The length of the first entry becomes the largest number that there is.
    let key = format!("{id}/index");
    let mut index = fixture.bucket.get(&key, u64::MAX).await.unwrap().to_vec();
    let toc_at = index.len() - tsdb_core::index::TOC_BYTES;
    let toc = tsdb_core::index::Toc::decode(&index[toc_at..], index.len() as u64).unwrap();
    let entry_at = usize::try_from(toc.series.next_multiple_of(16)).unwrap();
    index[entry_at..entry_at + 9].fill(0xff);
    index[entry_at + 9] = 1;
    fixture.bucket.put(&key, Bytes::from(index)).await.unwrap();
    let (read, warnings) = fixture.read(everything()).await.unwrap();
    assert_eq!((read.len(), warnings.len()), (4, 1), "{warnings:?}");
    assert!(warnings[0].contains("a series is missing"), "{warnings:?}");
    // A place far behind the end of an object has no bytes, and those before it have theirs.
    let file = crate::remote::RemoteFile { block: id, number: 7, key: "far".to_owned() };
    fixture.bucket.put("far", Bytes::from_static(b"what is there")).await.unwrap();
    let (far, budget) = (8 << 20, Budget::unlimited());
    let ranges = [5..7, far..far + 10, 8..100];
    let fetched = fixture.parts.store.remote.fetch(&file, &ranges, &budget).await.unwrap();
    assert_eq!(fetched.parts, [&b"is"[..], b"", b"there"]);
}

#[tokio::test]
async fn a_block_whose_meta_cannot_be_read_is_missing_from_every_answer() {
    let mut fixture = Fixture::new();
    let good = fixture.add(1, &[("cluster", "good")], &sample_series(0)).await;
    fixture.sync().await;
    let bad = fixture.add(2, &[("cluster", "bad")], &sample_series(BLOCK_MS)).await;
    for id in [good, bad] {
        fixture.bucket.put(&format!("{id}/meta.json"), Bytes::from_static(b"{")).await.unwrap();
    }
    fixture.sync().await;
    // A block that is loaded already stays.
    let (read, warnings) = fixture.read(everything()).await.unwrap();
    assert_eq!((read.len(), warnings.len()), (5, 1), "{warnings:?}");
    assert!(
        warnings[0].contains(&bad.to_string()) && warnings[0].contains("meta.json"),
        "{warnings:?}"
    );
    let info = fixture.parts.store.info();
    assert!(info.label_sets.contains(&Labels::empty()), "{info:?}");
    assert_eq!((info.min_time_ms, info.max_time_ms), (i64::MIN, i64::MAX));
    // So does one whose meta cannot be fetched, and one that is new then is missing.
    let late = fixture.add(3, &[("cluster", "late")], &sample_series(0)).await;
    fixture.faulty.add(Fault { operation: Some(Operation::Get), ..Fault::new(Trigger::From(1)) });
    fixture.sync().await;
    let (read, warnings) = fixture.read(everything()).await.unwrap();
    assert_eq!((read.len(), warnings.len()), (5, 2), "{warnings:?}");
    assert!(warnings.iter().any(|it| it.contains(&late.to_string())), "{warnings:?}");
    // A damaged block that is to be deleted for long would not be served if it were whole.
    fixture.faulty.heal();
    let mark = format!(r#"{{"id":"{bad}","version":1,"deletion_time":1,"details":""}}"#);
    let key = format!("{bad}/deletion-mark.json");
    fixture.bucket.put(&key, Bytes::from(mark)).await.unwrap();
    fixture.sync().await;
    let (read, warnings) = fixture.read(everything()).await.unwrap();
    assert_eq!((read.len(), warnings.len()), (10, 0), "{warnings:?}");
}

#[tokio::test]
async fn blocks_answer_while_the_one_that_replaces_them_cannot_be_loaded() {
    let mut fixture = Fixture::new();
    let (early, late) = (sample_series(0), sample_series(BLOCK_MS));
    let first = fixture.add(1, &[("m", "x")], &early).await;
    let second = fixture.add(2, &[("m", "x")], &late).await;
    // One that replaces both, and one that replaces all.
    fixture.sources = vec![first, second];
    let replaced = fixture.add(3, &[("m", "x")], &sample_series(0)).await;
    fixture.sources.push(fixture.add(4, &[("m", "y")], &sample_series(0)).await);
    let whole = fixture.add(5, &[("m", "x")], &sample_series(0)).await;
    fixture.damage(&format!("{whole}/index"), 20).await;
    fixture.sync().await;
    let ids = |fixture: &Fixture| -> Vec<BlockId> {
        fixture.parts.store.blocks.now().loaded.keys().copied().collect()
    };
    assert!(ids(&fixture).contains(&replaced) && !ids(&fixture).contains(&first));
    // The one in between cannot be loaded either.
    fixture.damage(&format!("{replaced}/index"), 20).await;
    std::fs::remove_dir_all(fixture.home.path().join("data")).unwrap();
    std::fs::create_dir(fixture.home.path().join("data")).unwrap();
    fixture.restart(&[]);
    fixture.sync().await;
    assert!(ids(&fixture).contains(&first) && ids(&fixture).contains(&second));
    let mut request = everything();
    request.matchers.push(Matcher::equal("m", "x"));
    let (read, warnings) = fixture.read(request).await.unwrap();
    assert_eq!(read.len(), 5);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    // Repaired, it answers alone again.
    fixture.damage(&format!("{whole}/index"), 20).await;
    fixture.sync().await;
    assert!(ids(&fixture).contains(&whole) && !ids(&fixture).contains(&first));
}

#[tokio::test]
async fn names_and_values_cost_what_they_are_and_not_what_their_series_are() {
    let mut fixture = Fixture::new();
    let wide = |index: i64| {
        let mut builder =
            labels(&[("__name__", "wide"), ("number", &index.to_string())]).to_builder();
        for name in 'a'..='t' {
            builder.set(&name.to_string(), &"v".repeat(60));
        }
        (builder.build(), vec![index])
    };
    let series: Vec<Series> = (0..500).map(wide).collect();
    fixture.add(1, &[("m", "x"), ("replica", "r")], &series).await;
    fixture.sync().await;
    let request = LabelsRequest {
        range: TimeRange::ALL,
        matchers: all_names(),
        partial_response: PartialResponse::Warn,
        without_replica_labels: vec!["replica".to_owned()],
        limit: 0,
    };
    let store = &fixture.parts.store;
    let budget = Budget::unlimited().child("call", 400 << 10);
    let names = store.label_names(request.clone(), budget.clone()).await.unwrap();
    assert_eq!((names.values.len(), names.warnings.len()), (22, 0), "{names:?}");
    let number = "number".to_owned();
    let values = store.label_values(number, request, budget.clone()).await.unwrap();
    assert_eq!(values.values.len(), 500);
    let refused = store.series(everything(), budget.clone()).await;
    assert!(matches!(refused, Err(Error::BudgetExceeded(_))), "series take more");
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn little_of_much_that_was_read_keeps_little_in_memory() {
    let fixture = Fixture::new();
    let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    fixture.bucket.put("large", Bytes::from(body.clone())).await.unwrap();
    let block = BlockId::from_parts(1, 1);
    let file = crate::remote::RemoteFile { block, number: 1, key: "large".to_owned() };
    let (remote, budget) = (&fixture.parts.store.remote, Budget::unlimited());
    // Once from the bucket, once from the cache.
    for _ in 0..2 {
        let sparse = remote.fetch(&file, &[300_000..300_010, 10..30], &budget).await.unwrap();
        assert_eq!(sparse.parts, [&body[300_000..300_010], &body[10..30]]);
        assert_eq!((sparse.held.bytes(), budget.used_bytes()), (30, 30));
    }
    let dense = remote.fetch(&file, &[0..300_000, 7..9], &budget).await.unwrap();
    assert_eq!(dense.parts, [&body[..300_000], &body[7..9]]);
    assert!(dense.held.bytes() >= 300_000);
}
