//! Killed at every step, on a bucket that fails: nothing is lost and nothing is there twice.

use objstore::faulty::{Fault, Moment, Trigger};

use super::*;

/// Works until the store fails, as a process does that is killed then.
pub(super) async fn work_until_killed(world: &mut World) {
    for _ in 0..50 {
        let outcome = world.rounds.iterate().await;
        let mut has_failed = outcome.is_err();
        while !world.rounds.jobs.is_idle() {
            let ended = world.rounds.jobs.next_end().await;
            has_failed |= ended.result.is_err();
            world.rounds.note_end(&ended);
        }
        if has_failed || world.rounds.board.see().plan.jobs.is_empty() {
            return;
        }
    }
}

#[tokio::test]
async fn killed_at_every_call_each_sample_is_there_once() {
    for moment in [Moment::Before, Moment::After] {
        for call in 1.. {
            let mut world = World::new();
            for at in 0..7_u64 {
                let hour = i64::try_from(at).unwrap() * 2;
                world.put_block(at, (hour, hour + 2), &[at]).await;
            }
            world.put_block(8, (1, 3), &[80]).await;
            world.at(EPOCH_MS + 14 * HOUR_MS);
            let trigger = Trigger::From(call);
            world.faulty.add(Fault { moment, transient: false, ..Fault::new(trigger) });
            work_until_killed(&mut world).await;
            let was_killed = world.faulty.failed() > 0;
            world.faulty.heal();
            world.check_all_once(&format!("killed at call {call}, {moment:?}")).await;
            world.restart();
            world.settle().await;
            world.check_all_once(&format!("after call {call}, {moment:?}")).await;
            assert_eq!(world.visible().await.len(), 4, "call {call}");
            if !was_killed {
                assert!(call > 40, "there are that many calls");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_often_and_random_kills_lose_nothing() {
    let mut random = 7_u64;
    let mut next = move |below: u64| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for seed in 0..5 {
        let mut world = World::with(Policy::default(), seed);
        let mut number = 0;
        for day in 0..20_i64 {
            for hour in (0..24).step_by(2) {
                let first = day * 24 + hour;
                number += 1;
                world.put_block(number, (first, first + 2), &[number * 2, number * 2 + 1]).await;
                if next(20) == 0 {
                    number += 1;
                    let late = i64::try_from(next(u64::try_from(first).unwrap() + 1)).unwrap();
                    world.put_block(number, (late, late + 1), &[number * 2]).await;
                }
            }
            world.at(EPOCH_MS + (day + 1) * DAY_MS);
            let moment = if next(2) == 0 { Moment::Before } else { Moment::After };
            world.faulty.add(Fault { moment, ..Fault::new(Trigger::PerMille(10)) });
            let trigger = Trigger::From(1 + next(400));
            world.faulty.add(Fault { moment, transient: false, ..Fault::new(trigger) });
            work_until_killed(&mut world).await;
            world.faulty.heal();
            world.check_all_once(&format!("seed {seed}, day {day}")).await;
            world.restart();
        }
        world.faulty.add(Fault::new(Trigger::PerMille(10)));
        world.settle().await;
        world.faulty.heal();
        world.settle().await;
        world.check_all_once(&format!("seed {seed}, at the end")).await;
        assert_eq!(world.quarantine().len(), 0);
        let fine: BTreeSet<u64> = world.scan(300_000).await.into_keys().collect();
        let due = world.visible().await;
        let due = due.values().filter(|it| it.max_time_ms - it.min_time_ms >= 40 * HOUR_MS);
        assert!(due.count() > 0 && !fine.is_empty());
    }
}
