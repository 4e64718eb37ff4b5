//! Real blocks, on a store that fails and under kills; what is there is read by a scan that knows
//! nothing of jobs.
#![expect(clippy::disallowed_methods, reason = "blocks are made and read in directories")]

use std::fs;

use model::{Budget, Labels};
use objstore::faulty::{Fault, Moment, Trigger};
use testkit::blocks::{self, Samples, Series};
use tsdb_core::fs::disk::Disk;

use super::*;
use crate::config::Deduplication;
use crate::executor::blocks::Blocks;

/// A bucket with real blocks and a compactor that merges them.
struct RealWorld {
    world: World,
    scratch: tempfile::TempDir,
    samples: Samples,
}

fn labels(series: i64) -> Labels {
    Labels::from_pairs([("__name__", "metric"), ("series", &series.to_string())]).unwrap()
}

impl RealWorld {
    fn new(seed: u64) -> RealWorld {
        let world = World::with(Policy::default(), seed);
        let mut real =
            RealWorld { world, scratch: tempfile::tempdir().unwrap(), samples: Samples::new() };
        real.restart();
        real
    }

    /// What a new process finds when the old one was killed.
    fn restart(&mut self) {
        let World { clock, faulty, policy, .. } = &self.world;
        let context =
            Context::new("compact", Arc::clone(clock) as _, Arc::new(SeededRandom::new(1)));
        let blocks = Blocks {
            store: Arc::<Faulty>::clone(faulty),
            tasks: context.tasks,
            budget: Budget::unlimited(),
            fs: Arc::new(Disk),
            scratch: self.scratch.path().to_owned(),
            deduplication: Deduplication::OneToOne,
            memory_bytes_max: 64 << 20,
        };
        self.world.rounds = rounds(clock, faulty, Arc::new(blocks), *policy);
    }

    /// Puts a block with a sample every ten minutes of two series; times are in hours.
    async fn put_block(&mut self, number: u64, (first, last): (i64, i64)) {
        let begin_ms = EPOCH_MS + first * HOUR_MS;
        let id = id(number);
        let mut meta = Meta::of_head(id, begin_ms, EPOCH_MS + last * HOUR_MS);
        meta.thanos.labels.insert("cluster".to_owned(), "x".to_owned());
        // Milliseconds tell blocks apart, so that no two samples have one time.
        let offset_ms = i64::try_from(number).unwrap();
        let series: Vec<Series> = (0..2)
            .map(|series| {
                let times = (0..(last - first) * 6).map(|it| begin_ms + it * 600_000 + offset_ms);
                let value = |at: i64| f64::from(u32::try_from(at % 1_000_003).unwrap());
                (labels(series), times.map(|at| (at, value(at))).collect())
            })
            .collect();
        let made = tempfile::tempdir().unwrap();
        blocks::write(made.path(), meta, &series).unwrap();
        for file in [CHUNKS, "index", "meta.json"] {
            let bytes = fs::read(made.path().join(id.to_string()).join(file)).unwrap();
            self.world.put(id, file, bytes).await;
        }
        for (labels, samples) in series {
            let samples =
                samples.into_iter().map(|(at, value)| ((labels.clone(), at), value.to_bits()));
            self.samples.extend(samples);
        }
    }

    /// Checks that a reader sees every sample of all blocks once, bit for bit.
    async fn check_all_once(&self, place: &str) {
        let contents = self.world.memory.contents();
        let directory = tempfile::tempdir().unwrap();
        let mut seen = Samples::new();
        for (id, meta) in self.world.visible().await {
            if meta.thanos.downsample.resolution_ms != 0 {
                continue;
            }
            let prefix = layout::prefix(id);
            for (key, body) in contents.iter().filter(|it| it.0.starts_with(&prefix)) {
                let path = directory.path().join(key);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, body).unwrap();
            }
            let doubled = blocks::scan(&directory.path().join(id.to_string()), &mut seen);
            assert_eq!(doubled.unwrap(), 0, "{place}: samples of {id} are elsewhere too");
        }
        assert!(seen == self.samples, "{place}: {} of {}", seen.len(), self.samples.len());
    }

    async fn work_until_killed(&mut self) {
        crashes::work_until_killed(&mut self.world).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_blocks_on_a_store_that_fails_and_random_kills_lose_nothing() {
    let mut random = 5_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (random >> 33) % below
    };
    let mut real = RealWorld::new(3);
    let mut number = 0;
    for day in 0..15_i64 {
        for hour in (0..24).step_by(2) {
            number += 1;
            real.put_block(number, (day * 24 + hour, day * 24 + hour + 2)).await;
        }
        if day % 3 == 2 {
            number += 1;
            let late = i64::try_from(next(u64::try_from(day * 24).unwrap())).unwrap();
            real.put_block(number, (late, late + 1)).await;
        }
        real.world.at(EPOCH_MS + (day + 1) * DAY_MS);
        for kill in 0..2 {
            let moment = if next(2) == 0 { Moment::Before } else { Moment::After };
            let faulty = &real.world.faulty;
            faulty.add(Fault { moment, ..Fault::new(Trigger::PerMille(10)) });
            let trigger = Trigger::From(1 + next(500));
            faulty.add(Fault { moment, transient: false, ..Fault::new(trigger) });
            real.work_until_killed().await;
            real.world.faulty.heal();
            real.check_all_once(&format!("day {day}, kill {kill}")).await;
            real.restart();
        }
    }
    real.world.faulty.add(Fault::new(Trigger::PerMille(10)));
    real.world.settle().await;
    real.world.faulty.heal();
    real.world.settle().await;
    real.check_all_once("at the end").await;
    // What a killed process left of an upload is nobody's fault.
    let left = |it: &Entry| it.cause == Cause::Partial;
    assert!(real.world.quarantine().into_iter().all(left), "{:?}", real.world.quarantine());
    let visible = real.world.visible().await;
    let of = |resolution_ms: i64| {
        let of = visible.values().filter(|it| it.thanos.downsample.resolution_ms == resolution_ms);
        of.map(|it| (it.max_time_ms - it.min_time_ms) / HOUR_MS).max()
    };
    assert_eq!([of(0), of(300_000), of(3_600_000)], [Some(14 * 24), Some(14 * 24), Some(14 * 24)]);
}
