//! Marks and deletions in a bucket that fails at every possible moment.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bucket::marker::{self, DeletionMark};
use bytes::Bytes;
use model::TimeBound;
use objstore::faulty::{Fault, Moment, Trigger};
use objstore::{Environment, Faulty, MemoryStore, ObjectStore as _, Operation};
use tsdb_core::block::Meta;

use super::*;
use crate::metrics::Reason;
use crate::retention::Policy;

mod clock_skew;

const DAY_MS: i64 = 86_400_000;

/// A clock that stands where it is put.
#[derive(Debug, Default)]
struct StoppedClock(AtomicI64);

impl Clock for StoppedClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now_ms().unsigned_abs())
    }
}

struct World {
    /// That of the compactor.
    clock: Arc<StoppedClock>,
    store_clock: Arc<StoppedClock>,
    memory: Arc<MemoryStore>,
    faulty: Arc<Faulty>,
    pass: Pass,
}

fn world() -> World {
    let clock = Arc::new(StoppedClock::default());
    let store_clock = Arc::new(StoppedClock::default());
    let stamps = Arc::clone(&store_clock);
    let environment = Environment::new(move || stamps.now_ms(), || Duration::ZERO, || 4);
    let memory = Arc::new(MemoryStore::new("test", environment).with_page_entries_max(2));
    let store: SharedStore = Arc::<MemoryStore>::clone(&memory);
    let faulty = Arc::new(Faulty::new(store, 1));
    let rules = Rules {
        consistency_delay: Duration::ZERO,
        delete_delay: Duration::from_hours(48),
        plan: plan::Rules {
            ranges_ms: plan::RANGES_MS.to_vec(),
            replica_labels: Vec::new(),
            downsampling: false,
            retention: Policy { raw: Some(Duration::from_hours(24)), ..Policy::default() },
            index_bytes_max: u64::MAX,
        },
        min_time: TimeBound::At(i64::MIN),
        max_time: TimeBound::At(i64::MAX),
    };
    let store: SharedStore = Arc::<Faulty>::clone(&faulty);
    let shared_clock: Arc<dyn Clock> = Arc::<StoppedClock>::clone(&clock);
    let pass = Pass::new(store, View::new(4), rules, Metrics::unregistered(), shared_clock);
    let world = World { clock, store_clock, memory, faulty, pass };
    // A store that says zero says nothing.
    world.at(1);
    world
}

fn id(number: u64) -> BlockId {
    BlockId::from_parts(number, 9)
}

impl World {
    fn at(&self, now_ms: i64) -> &World {
        self.clock.0.store(now_ms, Ordering::Relaxed);
        self.store_clock.0.store(now_ms, Ordering::Relaxed);
        self
    }

    async fn put(&self, number: u64, file: &str, body: impl Into<Bytes>) {
        self.memory.put(&format!("{}/{file}", id(number)), body.into()).await.unwrap();
    }

    /// What an upload has sent before it comes to the meta.
    async fn put_partial(&self, number: u64) {
        for file in ["index", "chunks/000001", "chunks/000002", "no-compact-mark.json"] {
            self.put(number, file, "x").await;
        }
    }

    async fn put_block(&self, number: u64, max_time_ms: i64) {
        self.put_partial(number).await;
        let meta = Meta::of_head(id(number), max_time_ms - 1, max_time_ms);
        self.put(number, "meta.json", meta.encode()).await;
    }

    async fn put_mark(&self, number: u64, at_ms: i64) {
        let mark = DeletionMark::new(id(number), "by hand", at_ms);
        self.put(number, "deletion-mark.json", marker::encode(&mark)).await;
    }

    fn has(&self, number: u64, file: &str) -> bool {
        self.memory.contents().contains_key(&format!("{}/{file}", id(number)))
    }

    /// Objects that are left of a block.
    fn left(&self, number: u64) -> usize {
        let prefix = format!("{}/", id(number));
        self.memory.contents().keys().filter(|it| it.starts_with(&prefix)).count()
    }

    /// Sync, clean, retain, as one iteration does it.
    async fn iterate(&mut self) -> anyhow::Result<()> {
        let snapshot = self.pass.sync().await?;
        let cleaned = self.pass.clean(&snapshot).await;
        cleaned.and(self.retain(&snapshot).await)
    }

    async fn retain(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let view = self.pass.view(snapshot, HashSet::new());
        let plan = plan::plan(&view, self.pass.plan_rules());
        self.pass.retain(snapshot, &plan).await
    }
}

#[tokio::test]
async fn a_deletion_interrupted_anywhere_leaves_no_half_block_and_is_finished_later() {
    for moment in [Moment::Before, Moment::After] {
        for failing in 1.. {
            let mut world = world();
            world.put_block(1, 10 * DAY_MS).await;
            world.put_mark(1, 1_000).await;
            world.put_block(2, 10 * DAY_MS).await;
            world.at(3 * DAY_MS);
            let snapshot = world.pass.sync().await.unwrap();
            let trigger = Trigger::From(failing);
            world.faulty.add(Fault { moment, transient: false, ..Fault::new(trigger) });
            let outcome = world.pass.clean(&snapshot).await;
            world.faulty.heal();
            // Without a meta no reader begins with it; with the mark the next pass knows it.
            let left = world.left(1);
            assert!(!world.has(1, "meta.json") || left == 6, "{moment:?} {failing}");
            assert!(world.has(1, "deletion-mark.json") || left == 0, "{moment:?} {failing}");
            world.iterate().await.unwrap();
            assert_eq!(world.left(1), 0, "{moment:?} {failing}");
            assert_eq!(world.left(2), 5, "the neighbour is untouched");
            if outcome.is_ok() {
                assert!(failing > 6, "at least as many calls as there are objects");
                break;
            }
        }
    }
}

#[tokio::test]
async fn marked_and_given_up_blocks_go_when_their_time_has_come() {
    let mut world = world();
    world.put_partial(1).await;
    world.put_block(2, 100 * DAY_MS).await;
    world.put_mark(2, DAY_MS).await;
    world.put_partial(3).await;
    world.put_mark(3, 2 * DAY_MS).await;
    world.put_block(4, 100 * DAY_MS).await;
    world.put(5, "meta.json", "{").await;
    world.at(DAY_MS).put(1, "chunks/000003", "x").await;
    let left = |world: &World| [1, 2, 3, 4, 5].map(|it| world.left(it));
    world.at(3 * DAY_MS);
    world.iterate().await.unwrap();
    assert_eq!(left(&world), [5, 6, 5, 5, 1]);
    world.at(3 * DAY_MS + 1);
    world.iterate().await.unwrap();
    assert_eq!(left(&world), [0, 0, 5, 5, 1]);
    let metrics = &world.pass.metrics;
    assert_eq!((metrics.blocks_cleaned.get(), metrics.partial_deletion_attempts.get()), (1, 1));
    world.at(9 * DAY_MS);
    world.iterate().await.unwrap();
    assert_eq!(left(&world), [0, 0, 0, 5, 1]);
}

#[tokio::test]
async fn one_block_that_cannot_be_deleted_keeps_no_other() {
    let mut world = world();
    for number in 1..=4 {
        world.put_block(number, 100 * DAY_MS).await;
        world.put_mark(number, 1_000).await;
    }
    world.at(3 * DAY_MS);
    let snapshot = world.pass.sync().await;
    let snapshot = snapshot.unwrap();
    let operation = Some(Operation::Delete);
    world.faulty.add(Fault { operation, transient: false, ..Fault::new(Trigger::Nth(2)) });
    let error = world.pass.clean(&snapshot).await.unwrap_err();
    assert!(format!("{error:#}").contains("1 of 4 blocks could not be deleted"), "{error:#}");
    let left = (1..=4).filter(|it| world.left(*it) > 0).count();
    assert_eq!((left, world.pass.metrics.cleanup_failures.get()), (1, 1));
    world.iterate().await.unwrap();
    let left: Vec<String> = world.memory.contents().into_keys().collect();
    assert_eq!(left, [clock::PROBE_KEY, crate::quarantine::KEY]);
}

#[tokio::test]
async fn retention_marks_once_and_never_overwrites() {
    let mut world = world();
    world.put_block(1, DAY_MS).await;
    world.put_block(2, DAY_MS).await;
    world.put_block(3, 10 * DAY_MS).await;
    world.put(2, "deletion-mark.json", "somebody else's").await;
    world.at(10 * DAY_MS + 1_999);
    for _ in 0..2 {
        world.iterate().await.unwrap();
        let contents = world.memory.contents();
        let mark = |number| contents[&format!("{}/deletion-mark.json", id(number))].clone();
        assert_eq!(mark(2), "somebody else's");
        let details = "block exceeding retention of 1d for resolution raw";
        let ours: serde_json::Value = serde_json::from_slice(&mark(1)).unwrap();
        let expected = serde_json::json!({
            "id": id(1).to_string(), "version": 1, "details": details, "deletion_time": 864_001,
        });
        assert_eq!(ours, expected);
        assert!(!world.has(3, "deletion-mark.json"));
    }
    assert_eq!(world.pass.metrics.marked(Reason::Retention), 1);
    assert_eq!(world.pass.metrics.todo_deletion_blocks.get(), 0);
}

#[tokio::test]
async fn a_mark_that_came_since_the_sync_is_kept() {
    let mut world = world();
    world.put_block(1, DAY_MS).await;
    world.at(10 * DAY_MS);
    let snapshot = world.pass.sync().await;
    world.put(1, "deletion-mark.json", "somebody else's").await;
    world.retain(&snapshot.unwrap()).await.unwrap();
    let key = format!("{}/deletion-mark.json", id(1));
    assert_eq!(world.memory.contents()[&key], "somebody else's");
    assert_eq!(world.pass.metrics.marked(Reason::Retention), 0);
}

#[tokio::test]
async fn one_mark_that_cannot_be_written_keeps_no_other() {
    let mut world = world();
    for number in 1..=3 {
        world.put_block(number, DAY_MS).await;
    }
    world.at(10 * DAY_MS);
    let snapshot = world.pass.sync().await;
    // The first upload is the one that asks for the time.
    let operation = Some(Operation::Upload);
    world.faulty.add(Fault { operation, ..Fault::new(Trigger::Nth(2)) });
    let error = world.retain(&snapshot.unwrap()).await.unwrap_err();
    assert!(format!("{error:#}").contains("1 of 3 blocks could not be marked"), "{error:#}");
    let marked = |world: &World| [1, 2, 3].map(|it| world.has(it, "deletion-mark.json"));
    assert_eq!(marked(&world).into_iter().filter(|it| *it).count(), 2);
    world.iterate().await.unwrap();
    assert_eq!(marked(&world), [true; 3]);
}

#[tokio::test]
async fn a_bucket_that_cannot_be_listed_is_an_error_and_not_an_empty_one() {
    let mut world = world();
    world.put_block(1, DAY_MS).await;
    world.at(10 * DAY_MS).faulty.add(Fault::new(Trigger::Nth(1)));
    world.iterate().await.unwrap_err();
    let metrics = &world.pass.metrics;
    assert_eq!((metrics.syncs.get(), metrics.sync_failures.get()), (1, 1));
    world.iterate().await.unwrap();
    assert!(world.has(1, "deletion-mark.json"));
}
