//! Blocks are read without a copy on a disk, and written straight into the bucket.

use std::sync::Arc;

use bucket::{Begun, Draft, Error, Reading, layout, open_source};
use bytes::Bytes;
use model::Budget;
use objstore::faulty::{Fault, Moment, Trigger};
use objstore::{Faulty, MemoryStore, ObjectStore, Operation, SharedStore};
use proptest::prelude::*;
use tokio::runtime::{Handle, Runtime};
use tsdb_core::block::Meta;
use tsdb_core::stream::{Sink as _, Source};

use crate::{Clock, NOW_MS, id, labels};

fn body(length: usize) -> Bytes {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn meta() -> Meta {
    let mut meta = Meta::of_head(id(1), NOW_MS - 7_200_000, NOW_MS);
    meta.thanos.labels =
        labels().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    meta
}

/// A block of one segment with the given bytes, read in small windows.
fn source(runtime: &Runtime, store: &SharedStore, segment: &Bytes, window_bytes: u64) -> Source {
    let reading =
        Reading { runtime: runtime.handle().clone(), window_bytes, budget: Budget::unlimited() };
    runtime.block_on(async {
        let key = |path: &str| layout::key(id(1), path);
        store.put(&key("chunks/000001"), segment.clone()).await.unwrap();
        store.put(&key("index"), "index".into()).await.unwrap();
        let listed = layout::list_block(&**store, id(1)).await.unwrap();
        open_source(store, &meta(), &listed, &reading).await.unwrap()
    })
}

fn counted(memory: Arc<MemoryStore>) -> (Arc<Faulty>, SharedStore) {
    let faulty = Arc::new(Faulty::new(memory, 1));
    (Arc::clone(&faulty), faulty)
}

#[test]
fn a_reader_that_moves_forward_gets_every_byte_by_few_calls() {
    let (runtime, segment) = (runtime(), body(1_000_003));
    let (faulty, store) = counted(Clock::at(NOW_MS).store());
    let source = source(&runtime, &store, &segment, 100_000);
    assert_eq!(source.size_bytes(), 1_000_003 + 5);
    let file = &source.segments[0];
    assert_eq!(file.name(), format!("{}/chunks/000001", id(1)));
    let before = faulty.calls();
    let mut read = Vec::new();
    while read.len() < segment.len() {
        let start = read.len() as u64;
        read.extend_from_slice(&file.read(start..(start + 7_777).min(1_000_003)).unwrap());
    }
    assert!(read == segment, "bytes differ");
    let calls = faulty.calls() - before;
    assert!(calls <= 1_000_003 / 100_000 + 3, "{calls} calls for ten windows");
}

/// Stops the clock: what is read ahead arrives while the reader does not wait.
#[test]
fn the_next_window_is_fetched_while_the_reader_works() {
    let (runtime, segment) = (runtime(), body(400_000));
    let (faulty, store) = counted(Clock::at(NOW_MS).store());
    let source = source(&runtime, &store, &segment, 100_000);
    let file = &source.segments[0];
    file.read(0..50_000).unwrap();
    let first = faulty.calls();
    file.read(60_000..150_000).unwrap();
    // The call for the window behind is made without anybody waiting for it.
    for _ in 0..500 {
        if faulty.calls() > first + 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(faulty.calls() > first + 1, "nothing was fetched ahead");
}

#[test]
fn a_reader_that_jumps_fetches_little() {
    let (runtime, segment) = (runtime(), body(3_000_000));
    let memory = Clock::at(NOW_MS).store();
    let store: SharedStore = memory;
    let budget = Budget::unlimited().child("sources", 200_000);
    let listed = runtime.block_on(async {
        store.put(&layout::key(id(1), "index"), segment.clone()).await.unwrap();
        layout::list_block(&*store, id(1)).await.unwrap()
    });
    let reading = Reading::new(runtime.handle().clone(), budget.clone());
    let source = runtime.block_on(open_source(&store, &meta(), &listed, &reading)).unwrap();
    // Windows of the usual size would not have room.
    for start in [2_900_000, 5, 1_000_000, 2_000_000_usize] {
        let found = source.index.read(start as u64..start as u64 + 99).unwrap();
        assert_eq!(found, segment.slice(start..start + 99));
        assert!(budget.used_bytes() <= 64 * 1024, "{} bytes held", budget.used_bytes());
    }
    let error = source.index.read(0..3_000_000).unwrap_err();
    assert!(matches!(error, tsdb_core::Error::Budget(_)), "{error}");
    drop(source);
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn failures_keep_their_nature_and_name_the_object() {
    let (runtime, segment) = (runtime(), body(10_000));
    let memory = Clock::at(NOW_MS).store();
    let (faulty, store) = counted(Arc::clone(&memory));
    let source = source(&runtime, &store, &segment, 1_000);
    let file = &source.segments[0];
    let name = format!("{}/chunks/000001", id(1));
    for (start, transient) in [(0, true), (5_000, false)] {
        faulty.add(Fault { transient, ..Fault::new(Trigger::Nth(1)) });
        let error = file.read(start..start + 100).unwrap_err();
        assert_eq!(error.is_transient(), transient, "{error}");
        assert!(error.to_string().contains(&name), "{error}");
        faulty.heal();
        assert_eq!(file.read(start..start + 100).unwrap().len(), 100, "another try goes on");
    }
    let damaged = |error: tsdb_core::Error| {
        assert_eq!(error.damaged_block(), Some(id(1)), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    };
    damaged(file.read(9_990..10_001).unwrap_err());
    // Somebody replaced the object by a shorter one.
    runtime.block_on(memory.put(&name, segment.slice(..5_000))).unwrap();
    damaged(file.read(4_900..5_001).unwrap_err());
    damaged(file.read(9_000..9_001).unwrap_err());
    runtime.block_on(memory.delete(&name)).unwrap();
    let error = file.read(0..1_000).unwrap_err();
    assert!(!error.is_transient() && error.damaged_block().is_none(), "{error}");
}

#[tokio::test]
async fn a_source_needs_its_files_without_gaps() {
    let store: SharedStore = Clock::at(NOW_MS).store();
    let reading = Reading::new(Handle::current(), Budget::unlimited());
    let put = async |path: &str| store.put(&layout::key(id(1), path), "x".into()).await.unwrap();
    let open = async || {
        let listed = layout::list_block(&*store, id(1)).await.unwrap();
        match open_source(&store, &meta(), &listed, &reading).await {
            Ok(source) => Ok(source.segments.len()),
            Err(Error::Incomplete { missing, .. }) => Err(missing.join(", ")),
            Err(error) => Err(error.to_string()),
        }
    };
    assert_eq!(open().await, Err("index".to_owned()));
    put("index").await;
    put("chunks/000001").await;
    put("chunks/README").await;
    assert_eq!(open().await, Ok(1));
    put("chunks/000003").await;
    assert_eq!(open().await, Err("chunks/000002".to_owned()));
    put("chunks/000002").await;
    assert_eq!(open().await, Ok(3));
    put("tombstones").await;
    assert!(open().await.unwrap_err().contains("tombstones"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_reads_give_the_bytes_of_the_object(
        length in 1..300_000_usize,
        window_bytes in 1..90_000_u64,
        reads in prop::collection::vec((0..1000_usize, 0..=1000_usize, any::<bool>()), 1..12),
    ) {
        let (runtime, segment) = (runtime(), body(length));
        let store: SharedStore = Clock::at(NOW_MS).store();
        // Windows of a few bytes make a call each.
        let window_bytes = window_bytes.max(length as u64 / 50);
        let source = source(&runtime, &store, &segment, window_bytes);
        let mut end = 0;
        for (at, share, goes_on) in reads {
            let start = if goes_on { end } else { length * at / 1000 };
            end = start + (length - start) * share / 1000;
            let found = source.segments[0].read(start as u64..end as u64).unwrap();
            prop_assert!(found == segment.slice(start..end), "{start}..{end}");
        }
    }
}

async fn draft(store: &SharedStore) -> Draft {
    match Draft::begin(store, id(1), Handle::current()).await.unwrap() {
        Begun::Draft(draft) => draft,
        Begun::Visible(meta) => panic!("visible already: {meta:?}"),
    }
}

/// Writes files of a draft as a job does, from a thread that may block.
async fn write(draft: &Draft, files: &'static [(&'static str, usize)]) -> tsdb_core::Result<()> {
    let sink = draft.sink().clone();
    let work = tokio::task::spawn_blocking(move || {
        for (path, length) in files {
            let mut file = sink.create(path)?;
            for bytes in body(*length).chunks(700_000) {
                file.write(Bytes::copy_from_slice(bytes))?;
            }
            file.finish()?;
        }
        Ok(())
    });
    work.await.unwrap()
}

const FILES: &[(&str, usize)] = &[("chunks/000001", 9_000_000), ("index", 1_000)];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_draft_is_published_whole_with_its_meta_last() {
    let memory = Clock::at(NOW_MS).store();
    let store: SharedStore = Arc::clone(&memory) as SharedStore;
    let key = |path: &str| layout::key(id(1), path);
    // What an earlier try left: a segment too many, and the mark of a deletion.
    memory.put(&key("chunks/000002"), "old".into()).await.unwrap();
    memory.put(&key("deletion-mark.json"), "{}".into()).await.unwrap();
    let draft = draft(&store).await;
    write(&draft, FILES).await.unwrap();
    let contents = memory.contents();
    assert!(contents[&key("chunks/000001")] == body(9_000_000));
    assert!(!contents.contains_key(&key("meta.json")), "nobody sees it yet");
    let published = draft.publish(meta(), NOW_MS).await.unwrap();
    let listed = layout::list_block(&*store, id(1)).await.unwrap();
    let paths: Vec<&str> = listed.iter().map(|it| &*it.path).collect();
    assert_eq!(paths, ["chunks/000001", "index", "meta.json"]);
    let found = bucket::upload::verify(&*store, id(1)).await.unwrap();
    assert_eq!(found.as_ref(), Some(&published));
    let files = published.thanos.files.iter().map(|it| (&*it.rel_path, it.size_bytes));
    let expected = [("chunks/000001", 9_000_000), ("index", 1_000), ("meta.json", 0)];
    assert_eq!(files.collect::<Vec<_>>(), expected);
    assert_eq!(published.thanos.segment_files, ["000001"]);
    assert_eq!(published.thanos.upload_time, "2026-11-24T00:00:00Z");
    // A second run of the same job finds it.
    match Draft::begin(&store, id(1), Handle::current()).await.unwrap() {
        Begun::Visible(meta) => assert_eq!(*meta, published),
        Begun::Draft(_) => panic!("it is visible"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_published_is_removed() {
    let memory = Clock::at(NOW_MS).store();
    let store: SharedStore = Arc::clone(&memory) as SharedStore;
    let refused = async |meta: Meta, files: &'static [(&'static str, usize)]| {
        let draft = draft(&store).await;
        write(&draft, files).await.unwrap();
        let error = draft.publish(meta, NOW_MS).await.unwrap_err();
        assert!(memory.contents().is_empty(), "{:?}", memory.contents().keys());
        error.to_string()
    };
    let mut other = meta();
    other.ulid = id(2);
    assert!(refused(other, FILES).await.contains("the meta is that of block"));
    let mut unlabelled = meta();
    unlabelled.thanos.labels.clear();
    assert!(refused(unlabelled, FILES).await.contains("no external labels"));
    assert!(refused(meta(), &FILES[..1]).await.contains("no index"));

    let draft = draft(&store).await;
    write(&draft, FILES).await.unwrap();
    let unfinished = draft.sink().create("chunks/000002").unwrap();
    assert!(draft.sink().create("index").is_err(), "a name is given once");
    drop(unfinished);
    let error = draft.publish(meta(), NOW_MS).await.unwrap_err().to_string();
    assert!(error.contains("chunks/000002 was begun and not finished"), "{error}");
    assert!(memory.contents().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_that_changed_after_it_was_sent_is_found() {
    let memory = Clock::at(NOW_MS).store();
    let store: SharedStore = Arc::clone(&memory) as SharedStore;
    for (changed, what) in [
        (Some(body(1_001)), "1001 bytes"),
        (Some(body(999).into_iter().chain([0]).collect()), "tag"),
        (None, "not listed"),
    ] {
        let draft = draft(&store).await;
        write(&draft, FILES).await.unwrap();
        let key = layout::key(id(1), "index");
        match changed {
            Some(body) => drop(memory.put(&key, body).await.unwrap()),
            None => memory.delete(&key).await.unwrap(),
        }
        let error = draft.publish(meta(), NOW_MS).await.unwrap_err();
        assert!(matches!(error, Error::Unverified { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(memory.contents().is_empty());
    }
}

/// Whatever call fails, there is the whole block or none; nothing visible is ever half.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_failure_of_any_call_leaves_all_or_nothing_visible() {
    const SMALL: &[(&str, usize)] = &[("chunks/000001", 8_400_000), ("index", 10)];
    for moment in [Moment::Before, Moment::After] {
        let mut nth = 1;
        loop {
            let memory = Clock::at(NOW_MS).store();
            let faulty = Arc::new(Faulty::new(Arc::clone(&memory) as SharedStore, 1));
            let store: SharedStore = Arc::clone(&faulty) as SharedStore;
            let draft = draft(&store).await;
            let operation = Some(Operation::Upload);
            faulty.add(Fault { operation, moment, ..Fault::new(Trigger::Nth(nth)) });
            let published = match write(&draft, SMALL).await {
                Ok(()) => draft.publish(meta(), NOW_MS).await.is_ok(),
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    draft.discard().await.unwrap();
                    false
                }
            };
            let visible = bucket::upload::verify(&*memory, id(1)).await.unwrap().is_some();
            assert_eq!(visible, published, "call {nth} fails {moment:?}");
            if !published {
                assert!(memory.contents().is_empty(), "call {nth} fails {moment:?}");
            }
            if faulty.failed() == 0 {
                assert!(published && nth > 5, "{nth} calls");
                break;
            }
            nth += 1;
        }
    }
}
