//! The whole loop over a bucket in memory, with time that stands where it is put.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bucket::filter::{self, Filters};
use bucket::marker::{self, DeletionMark};
use bucket::{View, layout};
use bytes::Bytes;
use daemon::{Clock, SeededRandom};
use model::{BlockId, TimeBound};
use objstore::{Environment, Faulty, MemoryStore, ObjectStore as _, SharedStore};
use tsdb_core::block::Meta;

use super::*;
use crate::config::Rules;
use crate::executor::Executor;
use crate::jobs::{Limits, Means};
use crate::metrics::Metrics;
use crate::quarantine::Entry;
use crate::retention::Policy;
use fake::{CHUNKS, Fake};

mod crashes;
mod fake;
mod pauses;
mod quarantined;
mod quarter;
mod real;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A Thursday, and the start of a window of two weeks.
const EPOCH_MS: i64 = 1_470 * 14 * DAY_MS;

/// A clock that stands where it is put; its monotonic time goes with it.
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

/// A bucket and a compactor that works on it.
struct World {
    clock: Arc<StoppedClock>,
    memory: Arc<MemoryStore>,
    faulty: Arc<Faulty>,
    fake: Arc<Fake>,
    policy: Policy,
    rounds: Rounds,
    /// Every sample that was ever put into a block, with the end of that block.
    samples: BTreeMap<u64, i64>,
}

impl World {
    fn new() -> World {
        World::with(Policy::default(), 1)
    }

    fn with(policy: Policy, seed: u64) -> World {
        let clock = Arc::new(StoppedClock(AtomicI64::new(EPOCH_MS)));
        let stamps = Arc::clone(&clock);
        let environment = Environment::new(move || stamps.now_ms(), || Duration::ZERO, || 4);
        let memory = Arc::new(MemoryStore::new("test", environment));
        let store: SharedStore = Arc::<MemoryStore>::clone(&memory);
        let faulty = Arc::new(Faulty::new(store, seed));
        let fake = Arc::new(Fake::new(Arc::<Faulty>::clone(&faulty)));
        let rounds = rounds(&clock, &faulty, Arc::<Fake>::clone(&fake), policy);
        World { clock, memory, faulty, fake, policy, rounds, samples: BTreeMap::new() }
    }

    /// What a new process finds when the old one was killed.
    fn restart(&mut self) {
        let fake = Arc::<Fake>::clone(&self.fake);
        self.rounds = rounds(&self.clock, &self.faulty, fake, self.policy);
    }

    fn at(&self, now_ms: i64) {
        self.clock.0.store(now_ms, Ordering::Relaxed);
    }

    fn pass_time(&self, duration: Duration) {
        let ms = i64::try_from(duration.as_millis()).unwrap();
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// Puts a block of the stream into the bucket; times are in hours.
    async fn put_block(
        &mut self,
        number: u64,
        (first, last): (i64, i64),
        samples: &[u64],
    ) -> BlockId {
        let id = id(number);
        let (min_time_ms, max_time_ms) = (EPOCH_MS + first * HOUR_MS, EPOCH_MS + last * HOUR_MS);
        let mut meta = Meta::of_head(id, min_time_ms, max_time_ms);
        meta.thanos.labels.insert("cluster".to_owned(), "x".to_owned());
        let body = fake::encode(&samples.iter().copied().collect());
        let meta = fake::with_files(meta, body.len() as u64);
        self.put(id, CHUNKS, body).await;
        self.put(id, "index", "index").await;
        self.put(id, "meta.json", meta.encode()).await;
        self.samples.extend(samples.iter().map(|it| (*it, max_time_ms)));
        id
    }

    async fn put(&self, id: BlockId, file: &str, body: impl Into<Bytes>) {
        self.memory.put(&layout::key(id, file), body.into()).await.unwrap();
    }

    fn has(&self, id: BlockId, file: &str) -> bool {
        self.memory.contents().contains_key(&layout::key(id, file))
    }

    /// Passes and jobs until nothing is left to do; time goes on only where jobs wait for it.
    async fn settle(&mut self) {
        for _ in 0..2_000 {
            let outcome = self.rounds.iterate().await;
            while !self.rounds.jobs.is_idle() {
                let ended = self.rounds.jobs.next_end().await;
                self.rounds.note_end(&ended);
            }
            let is_at_rest = self.rounds.board.see().plan.jobs.is_empty();
            if outcome.is_ok() && is_at_rest && self.rounds.iterate().await.is_ok() {
                let sight = self.rounds.board.see();
                if sight.plan.jobs.is_empty() && self.rounds.jobs.is_idle() {
                    return;
                }
            }
            self.pass_time(self.rounds.jobs.next_try().unwrap_or_default());
        }
        panic!("it never comes to rest: {:?}", self.rounds.board.see());
    }

    /// The blocks that a reader sees.
    async fn visible(&self) -> BTreeMap<BlockId, Arc<Meta>> {
        let snapshot = View::new(4).sync(&*self.memory).await.unwrap();
        let filters = Filters::after_deletion_marks(24 * HOUR_MS);
        filter::apply(&snapshot, &filters, self.clock.now_ms()).kept
    }

    /// The samples of a resolution that a reader sees, each as often as it does.
    async fn scan(&self, resolution_ms: i64) -> BTreeMap<u64, usize> {
        let mut seen = BTreeMap::new();
        for (id, meta) in self.visible().await {
            if meta.thanos.downsample.resolution_ms == resolution_ms {
                let body = self.memory.get(&layout::key(id, CHUNKS), 1 << 20).await.unwrap();
                for sample in fake::decode(&body).unwrap_or_default() {
                    *seen.entry(sample).or_default() += 1;
                }
            }
        }
        seen
    }

    /// Checks that every sample is seen once.
    async fn check_all_once(&self, place: &str) {
        let expected: BTreeMap<u64, usize> = self.samples.keys().map(|it| (*it, 1)).collect();
        assert_eq!(self.scan(0).await, expected, "{place}");
    }

    fn quarantine(&self) -> Vec<&Entry> {
        self.rounds.pass.quarantine.entries().collect()
    }
}

/// Most blocks were made long ago.
fn id(number: u64) -> BlockId {
    BlockId::from_parts(u64::try_from(EPOCH_MS).unwrap() - 10_000_000 + number, u128::from(number))
}

fn rounds(
    clock: &Arc<StoppedClock>,
    faulty: &Arc<Faulty>,
    executor: Arc<dyn Executor>,
    policy: Policy,
) -> Rounds {
    let shared: Arc<dyn Clock> = Arc::<StoppedClock>::clone(clock);
    let context = Context::new("compact", Arc::clone(&shared), Arc::new(SeededRandom::new(1)));
    let rules = Rules {
        consistency_delay: Duration::ZERO,
        delete_delay: Duration::from_hours(48),
        plan: plan::Rules {
            ranges_ms: plan::RANGES_MS.to_vec(),
            replica_labels: Vec::new(),
            downsampling: true,
            retention: policy,
            index_bytes_max: u64::MAX,
        },
        min_time: TimeBound::At(i64::MIN),
        max_time: TimeBound::At(i64::MAX),
    };
    let store: SharedStore = Arc::<Faulty>::clone(faulty);
    let metrics = Metrics::unregistered();
    let pass =
        Pass::new(Arc::clone(&store), View::new(4), rules, metrics.clone(), Arc::clone(&shared));
    let means = Means { store, executor, clock: shared, tasks: context.tasks.clone(), metrics };
    Rounds {
        pass,
        jobs: Jobs::new(means, Limits { compactions: 2, downsamplings: 2 }),
        board: Board::default(),
        bucket: "memory".to_owned(),
        wait: true,
        wait_interval: Duration::from_mins(5),
        cleanup_interval: Duration::from_mins(5),
        context,
        unread_syncs: 0,
        is_unfinished: false,
        snapshot: Snapshot::default(),
    }
}

/// Two days of blocks of two hours, of one sample each.
async fn two_days(world: &mut World) -> Vec<BlockId> {
    let mut ids = Vec::new();
    for at in 0..26_u64 {
        let hour = i64::try_from(at).unwrap() * 2;
        ids.push(world.put_block(at, (hour, hour + 2), &[at]).await);
    }
    world.at(EPOCH_MS + 52 * HOUR_MS);
    ids
}

#[tokio::test]
async fn small_blocks_become_large_ones_and_then_coarse_ones() {
    let mut world = World::new();
    let ids = two_days(&mut world).await;
    world.settle().await;
    world.check_all_once("at rest").await;
    let visible = world.visible().await;
    let of = |resolution_ms| {
        let of = visible.values().filter(|it| it.thanos.downsample.resolution_ms == resolution_ms);
        let mut hours: Vec<(i64, i64)> = of
            .map(|it| {
                ((it.min_time_ms - EPOCH_MS) / HOUR_MS, (it.max_time_ms - EPOCH_MS) / HOUR_MS)
            })
            .collect();
        hours.sort_unstable();
        hours
    };
    assert_eq!(of(0), [(0, 48), (48, 50), (50, 52)]);
    assert_eq!(of(300_000), [(0, 48)]);
    assert_eq!(world.scan(300_000).await.len(), 24);
    assert!(world.has(ids[0], "deletion-mark.json") && !world.has(ids[25], "deletion-mark.json"));
    // What was merged goes when its delay is over.
    world.pass_time(Duration::from_hours(49));
    world.settle().await;
    assert!(!world.has(ids[0], "index") && world.has(ids[25], "index"));
    world.check_all_once("later").await;
    let history = &world.rounds.board.see().history;
    // Windows of 8 hours, one of 2 days, that one at 5m, and the last two blocks of the stream.
    assert_eq!(history.len(), 6 + 1 + 1 + 2);
}

#[tokio::test]
async fn an_overlapping_block_is_merged_and_what_was_downsampled_is_so_again() {
    let mut world = World::new();
    two_days(&mut world).await;
    world.settle().await;
    world.put_block(90, (10, 12), &[900, 901]).await;
    world.settle().await;
    world.check_all_once("with late data").await;
    let mut expected: BTreeSet<u64> = (0..24).collect();
    expected.extend([900, 901]);
    let fine = world.scan(300_000).await;
    assert_eq!(fine.keys().copied().collect::<BTreeSet<_>>(), expected);
    assert!(fine.values().all(|it| *it == 1), "{fine:?}");
}

#[tokio::test]
async fn a_job_whose_sources_are_marked_meanwhile_publishes_nothing() {
    let mut world = World::new();
    let ids: Vec<BlockId> = {
        let mut ids = Vec::new();
        for at in 0..6_u64 {
            let hour = i64::try_from(at).unwrap() * 2;
            ids.push(world.put_block(at, (hour, hour + 2), &[at]).await);
        }
        ids
    };
    let mark = marker::encode(&DeletionMark::new(ids[1], "by hand", EPOCH_MS));
    world.fake.meanwhile.lock().push((layout::key(ids[1], "deletion-mark.json"), mark));
    world.rounds.iterate().await.unwrap();
    let ended = world.rounds.jobs.next_end().await;
    assert!(matches!(ended.result, Err(Failure::Changed(_))), "{ended:?}");
    world.rounds.note_end(&ended);
    assert_eq!(world.visible().await.len(), 6, "nothing new is visible");
    assert!(!world.has(ids[0], "deletion-mark.json"));
    let blocks = View::new(1).sync(&*world.memory).await.unwrap().blocks;
    assert_eq!(blocks.len(), 6, "what was uploaded is gone");
    world.settle().await;
    world.pass_time(Duration::from_hours(49));
    world.samples.remove(&1);
    world.settle().await;
    world.check_all_once("without the marked one").await;
}

#[tokio::test]
async fn no_job_begins_by_a_clock_that_is_not_the_stores() {
    let mut world = World::new();
    two_days(&mut world).await;
    let wrong = Arc::new(StoppedClock(AtomicI64::new(EPOCH_MS + 90 * HOUR_MS)));
    let fake = Arc::<Fake>::clone(&world.fake);
    world.rounds = rounds(&wrong, &world.faulty, fake, world.policy);
    world.rounds.iterate().await.unwrap();
    assert!(world.rounds.jobs.is_idle() && world.rounds.pass.is_clock_off());
    assert!(!world.rounds.board.see().plan.jobs.is_empty());
    world.restart();
    world.settle().await;
    world.check_all_once("with the right clock").await;
}

#[tokio::test]
async fn what_cannot_be_made_visible_leaves_nothing_behind() {
    let mut world = World::new();
    world.put_block(1, (0, 14 * 24), &[1, 2]).await;
    world.at(EPOCH_MS + 20 * DAY_MS);
    *world.fake.refuses.lock() = true;
    world.rounds.iterate().await.unwrap();
    let ended = world.rounds.jobs.next_end().await;
    assert!(matches!(ended.result, Err(Failure::Transient(_))), "{ended:?}");
    world.rounds.note_end(&ended);
    let blocks = View::new(1).sync(&*world.memory).await.unwrap().blocks;
    assert_eq!(blocks.len(), 1, "neither of the two blocks is left");
    world.settle().await;
    assert_eq!((world.scan(300_000).await.len(), world.scan(3_600_000).await.len()), (2, 2));
}
