//! A quarter in a few seconds: ingestion, late data, retention, downsampling, and a model that
//! knows each sample's fate.

use super::*;

#[tokio::test]
async fn a_quarter_passes_and_every_sample_has_the_fate_that_it_should() {
    let days = |count: u64| Some(Duration::from_hours(24 * count));
    let policy = Policy { raw: days(20), five_minutes: days(60), one_hour: None };
    let mut world = World::with(policy, 1);
    let mut number = 0;
    for day in 0..92_i64 {
        for hour in (0..24).step_by(2) {
            number += 1;
            let first = day * 24 + hour;
            world.put_block(number, (first, first + 2), &[number * 10]).await;
        }
        // Late data of the day before yesterday, every ninth day.
        if day % 9 == 8 {
            number += 1;
            world.put_block(number, (day * 24 - 40, day * 24 - 38), &[number * 10]).await;
        }
        world.at(EPOCH_MS + (day + 1) * DAY_MS);
        world.settle().await;
        check_fates(&world, day).await;
    }
    assert_eq!(world.quarantine().len(), 0);
    // What is past its retention does not stay: the delay of deletion is all that is added, and
    // a window that a block was merged into.
    let snapshot = View::new(4).sync(&*world.memory).await.unwrap();
    let oldest_raw = snapshot.blocks.values().filter_map(|it| it.state.meta());
    let oldest_raw = oldest_raw.filter(|it| it.thanos.downsample.resolution_ms == 0);
    let oldest_ms = oldest_raw.map(|it| it.max_time_ms).min().unwrap();
    let age_ms = world.clock.now_ms() - oldest_ms;
    assert!(age_ms <= (20 + 3) * DAY_MS, "{} days", age_ms / DAY_MS);
}

/// Each sample is in raw blocks until its retention ends, in blocks of 5m from when these are due
/// until theirs ends, and in blocks of 1h for ever; never twice in one resolution.
async fn check_fates(world: &World, day: i64) {
    let [raw, fine, coarse] =
        [world.scan(0).await, world.scan(300_000).await, world.scan(3_600_000).await];
    for scan in [&raw, &fine, &coarse] {
        assert!(scan.values().all(|it| *it == 1), "day {day}: {scan:?}");
    }
    for (sample, max_time_ms) in &world.samples {
        let age_days = (world.clock.now_ms() - max_time_ms) / DAY_MS;
        let is_in = [&raw, &fine, &coarse].map(|it| it.contains_key(sample));
        assert!(is_in.contains(&true), "day {day}: {sample} of {age_days} days is nowhere");
        assert!(is_in[0] || age_days >= 20, "day {day}: {sample} of {age_days} days, {is_in:?}");
        // Two days for the window, two for the block behind it.
        assert!(is_in[1] || !(5..60).contains(&age_days), "day {day}: {sample} {is_in:?}");
        assert!(is_in[2] || age_days < 32, "day {day}: {sample} of {age_days} days, {is_in:?}");
    }
}
