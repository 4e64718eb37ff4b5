//! When the compactor wakes, and when a process without `--wait` ends.

use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::*;
use crate::executor::{Built, Progress};
use crate::plan::Job;

/// The first jobs fail, all others do not come to an end.
#[derive(Debug, Default)]
struct Stuck(AtomicUsize);

impl Executor for Stuck {
    fn outputs(&self, _job: &Job) -> Vec<BlockId> {
        Vec::new()
    }

    fn build<'a>(
        &'a self,
        _job: &'a Job,
        _progress: &'a Arc<Progress>,
    ) -> BoxFuture<'a, Result<Built, Failure>> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => std::future::ready(Err(Failure::Transient(anyhow::anyhow!("no")))).boxed(),
            _ => std::future::pending().boxed(),
        }
    }
}

#[tokio::test]
async fn a_job_that_finds_no_room_for_its_next_try_waits_without_listing_the_bucket() {
    let mut world = World::new();
    two_days(&mut world).await;
    let stuck = Arc::new(Stuck::default());
    world.rounds = rounds(&world.clock, &world.faulty, Arc::<Stuck>::clone(&stuck), world.policy);
    world.rounds.iterate().await.unwrap();
    for _ in 0..2 {
        let ended = world.rounds.jobs.next_end().await;
        world.rounds.note_end(&ended);
    }
    assert!(world.rounds.jobs.is_idle());
    let before = world.faulty.calls();
    world.rounds.iterate().await.unwrap();
    let calls = world.faulty.calls() - before;
    assert_eq!(world.rounds.jobs.running().count(), 2, "two others have taken the room");
    assert!(world.rounds.jobs.next_try().is_some());
    world.pass_time(Duration::from_mins(1));
    let (rounds, faulty) = (world.rounds, world.faulty);
    let before = faulty.calls();
    let short = Duration::from_millis(300);
    assert!(tokio::time::timeout(short, rounds.run()).await.is_err(), "it goes on");
    let calls_now = faulty.calls() - before;
    assert!(calls_now <= 2 * calls, "{calls_now} calls, an iteration has {calls}");
    assert_eq!(stuck.0.load(Ordering::Relaxed), 4);
}
