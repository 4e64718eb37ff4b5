//! The laws of our deduplication, with replicas by chance.

use std::collections::HashSet;

use model::{Columns, is_stale};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::{SeriesToChunks, counted_samples, decode};
use tsdb_core::compact::{Balance, Merge as _, RunChunk};
use tsdb_core::dedup::phases::{Deduplicator, PhasesMerge, REACH_MS};

use crate::replicas::{Dice, START_MS, Scraper, Target};

const MINUTE_MS: i64 = 60_000;

fn deduplicated(parts: &[&Columns]) -> Columns {
    let mut out = Columns::default();
    Deduplicator::new().deduplicate(parts, &mut out);
    out
}

fn bits(columns: &Columns) -> Vec<(i64, u64)> {
    let pairs = columns.timestamps_ms.iter().zip(&columns.values);
    pairs.map(|(time, value)| (*time, value.to_bits())).collect()
}

fn columns(samples: &[(i64, u64)]) -> Columns {
    let mut columns = Columns::default();
    samples.iter().for_each(|(time, bits)| columns.push_float(*time, f64::from_bits(*bits)));
    columns
}

fn between(columns: &Columns, from_ms: i64, until_ms: i64) -> Vec<(i64, u64)> {
    bits(columns).into_iter().filter(|it| from_ms <= it.0 && it.0 < until_ms).collect()
}

fn interval() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => Just(15_000_i64),
        2 => Just(30_000),
        2 => Just(60_000),
        1 => Just(10_000),
        1 => 1_000_i64..300_000,
    ]
}

fn scraper() -> impl Strategy<Value = Scraper> {
    let flaws = (0_i64..1_000, prop_oneof![2 => Just(0_i64), 1 => 0_i64..40], any::<bool>());
    let life = (prop_oneof![2 => Just(0), 1 => 0..90 * MINUTE_MS], 5 * MINUTE_MS..120 * MINUTE_MS);
    let jitter = prop_oneof![3 => Just(0_i64), 2 => 0_i64..100, 1 => 0_i64..3_000];
    (interval(), 0_i64..1_000, jitter, flaws, life).prop_map(
        |(interval_ms, offset, jitter_ms, (latency, lost_percent, marks), (from, length))| {
            Scraper {
                jitter_ms: jitter_ms.min(interval_ms / 2),
                latency_ms: latency * interval_ms / 2_000,
                lost_percent,
                alive_ms: (from, from + length),
                marks,
                ..Scraper::new(interval_ms, offset * interval_ms / 1_000)
            }
        },
    )
}

/// Replicas of one target.
#[derive(Clone, Debug)]
struct Scenario {
    scrapers: Vec<Scraper>,
    restarts_ms: Vec<i64>,
    seed: u64,
}

impl Scenario {
    fn replicas(&self) -> Vec<Columns> {
        let restarts_ms = self.restarts_ms.iter().map(|it| START_MS + it).collect();
        let (target, mut dice) = (Target { restarts_ms }, Dice::new(self.seed));
        let scrape = |it: &Scraper| it.scrape(&target, 120 * MINUTE_MS, &mut dice);
        self.scrapers.iter().map(scrape).collect()
    }
}

/// Replicas with one interval.
fn alike() -> impl Strategy<Value = Scenario> {
    let scrapers =
        (interval(), prop::collection::vec(scraper(), 1..4)).prop_map(|(interval, mut all)| {
            for it in &mut all {
                it.offset_ms = it.offset_ms * interval / it.interval_ms;
                it.jitter_ms = it.jitter_ms.min(interval / 8);
                it.latency_ms = it.latency_ms * interval / it.interval_ms;
                it.interval_ms = interval;
            }
            all
        });
    with_restarts(scrapers)
}

/// Replicas of any kind, most of them with one interval.
fn scenario() -> impl Strategy<Value = Scenario> {
    prop_oneof![3 => alike(), 1 => with_restarts(prop::collection::vec(scraper(), 1..4))]
}

fn with_restarts(scrapers: impl Strategy<Value = Vec<Scraper>>) -> impl Strategy<Value = Scenario> {
    let restarts = prop::collection::vec(0..120 * MINUTE_MS, 0..3);
    (scrapers, restarts, any::<u64>()).prop_map(|(scrapers, mut restarts_ms, seed)| {
        restarts_ms.sort_unstable();
        Scenario { scrapers, restarts_ms, seed }
    })
}

fn deduplicated_all(replicas: &[Columns]) -> Columns {
    deduplicated(&replicas.iter().collect::<Vec<_>>())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 500, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Order, division and repetition of the parts change nothing.
    #[test]
    fn only_the_set_of_samples_counts(scenario in scenario(), seed in any::<u64>()) {
        let replicas = scenario.replicas();
        let want = bits(&deduplicated_all(&replicas));
        let mut dice = Dice::new(seed);
        let mut parts = Vec::new();
        for replica in replicas.iter().chain(replicas.first()) {
            let samples = bits(replica);
            let mut rest = samples.as_slice();
            while !rest.is_empty() {
                let cut = usize::try_from(1 + dice.below(120)).unwrap().min(rest.len());
                parts.push(columns(&rest[..cut]));
                rest = &rest[cut..];
            }
        }
        parts.sort_by_key(|it| (it.timestamps_ms.len(), it.timestamps_ms[0]));
        prop_assert_eq!(bits(&deduplicated_all(&parts)), want);
    }

    #[test]
    fn what_is_given_out_is_a_subset_with_one_sample_at_a_time(scenario in scenario()) {
        let replicas = scenario.replicas();
        let out = bits(&deduplicated_all(&replicas));
        prop_assert!(out.windows(2).all(|it| it[0].0 < it[1].0));
        let all: HashSet<_> = replicas.iter().flat_map(bits).collect();
        prop_assert!(out.iter().all(|it| all.contains(it)));
    }

    #[test]
    fn a_second_time_changes_nothing(mut scenario in alike()) {
        // Where scrapers are worse than this there are windows on the edge of what can be told.
        for it in &mut scenario.scrapers {
            it.jitter_ms = it.jitter_ms.min(it.interval_ms / 250);
            it.lost_percent = it.lost_percent.min(3);
        }
        let replicas = scenario.replicas();
        let once = deduplicated_all(&replicas);
        let twice: HashSet<_> = bits(&deduplicated(&[&once])).into_iter().collect();
        let lost: Vec<_> = bits(&once).into_iter().filter(|it| !twice.contains(it)).collect();
        prop_assert_eq!(lost, vec![]);
    }

    /// What lies farther than the reach may change or be missing.
    #[test]
    fn a_choice_depends_on_what_is_near(
        scenario in scenario(),
        others in scenario(),
        from in 0..110 * MINUTE_MS,
        length in 1..40 * MINUTE_MS,
    ) {
        let (replicas, others) = (scenario.replicas(), others.replicas());
        let (from, until) = (START_MS + from, START_MS + from + length);
        let (low, high) = (from - REACH_MS, until + REACH_MS);
        let want = between(&deduplicated_all(&replicas), from, until);
        let near: Vec<Columns> =
            replicas.iter().map(|it| columns(&between(it, low, high))).collect();
        prop_assert_eq!(between(&deduplicated_all(&near), from, until), want.clone());
        let foreign = others.iter().flat_map(|it| {
            [columns(&between(it, 0, low)), columns(&between(it, high, i64::MAX))]
        });
        let all: Vec<Columns> = near.iter().cloned().chain(foreign).collect();
        prop_assert_eq!(between(&deduplicated_all(&all), from, until), want);
    }

    #[test]
    fn a_single_replica_is_left_alone(scraper in scraper(), seed in any::<u64>()) {
        let target = Target { restarts_ms: vec![START_MS + 50 * MINUTE_MS] };
        let replica = scraper.scrape(&target, 120 * MINUTE_MS, &mut Dice::new(seed));
        prop_assert_eq!(bits(&deduplicated(&[&replica])), bits(&replica));
        let twice = [&replica, &replica, &replica];
        prop_assert_eq!(bits(&deduplicated(&twice)), bits(&replica));
    }

    /// Nothing is left out that does not lie near something given out.
    #[test]
    fn a_hole_is_short_where_any_replica_has_data(scenario in alike()) {
        let replicas = scenario.replicas();
        let out = deduplicated_all(&replicas).timestamps_ms;
        let interval_ms = scenario.scrapers[0].interval_ms;
        let jitter_ms = scenario.scrapers.iter().map(|it| it.jitter_ms).max().unwrap_or(0);
        for replica in &replicas {
            let samples = replica.timestamps_ms.iter().zip(&replica.values);
            for (time, _) in samples.filter(|it| !is_stale(*it.1)) {
                let at = out.partition_point(|it| it < time);
                let near = out[at.saturating_sub(1)..].iter().take(2);
                let nearest = near.map(|it| (it - time).abs()).min();
                let near_ms = interval_ms * 9 / 8 + jitter_ms;
                prop_assert!(nearest.is_some_and(|it| it <= near_ms), "{time} {nearest:?}");
            }
        }
    }

    /// What compaction makes of chunks is what a query makes of their samples.
    #[test]
    fn chunks_become_what_samples_become(scenario in alike(), seed in any::<u64>()) {
        let (replicas, mut dice) = (scenario.replicas(), Dice::new(seed));
        let want = bits(&deduplicated_all(&replicas));
        let mut run = Vec::new();
        for (source, replica) in replicas.iter().enumerate() {
            run.extend(chunked(source, replica, &mut dice));
        }
        run.sort_by_key(|it: &RunChunk| (it.chunk.min_time_ms, it.chunk.max_time_ms, it.source));
        run.dedup_by(|it, before| it.chunk == before.chunk);
        let mut end = i64::MIN;
        let overlaps = run.iter().any(|it| {
            let overlaps = it.chunk.min_time_ms <= end;
            end = end.max(it.chunk.max_time_ms);
            overlaps
        });
        prop_assume!(overlaps);
        let (mut out, mut balance) = (Vec::new(), Balance::default());
        PhasesMerge::new().merge(&run, &mut out, &mut balance).unwrap();
        let mut columns = Columns::default();
        for chunk in &out {
            decode(chunk.encoding, &chunk.data, &mut columns).unwrap();
        }
        prop_assert_eq!(bits(&columns), want);
        let count = |it: &ChunkData| counted_samples(it.encoding, &it.data).unwrap();
        balance.in_samples = run.iter().map(|it| count(&it.chunk)).sum();
        balance.out_samples = out.iter().map(count).sum();
        balance.check().unwrap();
    }
}

/// The chunks of a replica, of any lengths.
fn chunked(source: usize, replica: &Columns, dice: &mut Dice) -> Vec<RunChunk> {
    let (mut chunks, mut encoder) = (Vec::new(), SeriesToChunks::new());
    for (time, value) in replica.timestamps_ms.iter().zip(&replica.values) {
        if dice.below(100) == 0 {
            encoder.finish(&mut chunks);
        }
        encoder.push_float(*time, *value);
    }
    encoder.finish(&mut chunks);
    chunks.into_iter().map(|chunk| RunChunk { source, chunk }).collect()
}
