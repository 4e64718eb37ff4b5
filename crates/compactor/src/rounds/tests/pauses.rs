//! When the compactor wakes, and when a process without `--wait` ends.

use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use objstore::Operation;
use objstore::faulty::{Fault, Trigger};

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

#[tokio::test]
async fn without_wait_a_block_that_cannot_be_deleted_keeps_no_other_from_being_merged() {
    let mut world = World::new();
    let gone = world.put_block(90, (-600, -598), &[]).await;
    let mark = marker::encode(&DeletionMark::new(gone, "by hand", EPOCH_MS));
    world.put(gone, "deletion-mark.json", mark).await;
    let ids = two_days(&mut world).await;
    let operation = Some(Operation::Delete);
    world.faulty.add(Fault { operation, transient: false, ..Fault::new(Trigger::From(1)) });
    world.rounds.wait = false;
    let outcome = world.rounds.run().await;
    let text = format!("{:#}", outcome.unwrap_err());
    assert!(text.contains(&format!("delete block {gone}")), "{text}");
    let contents = world.memory.contents();
    let is_merged = |it: &BlockId| contents.contains_key(&layout::key(*it, "deletion-mark.json"));
    assert!(ids[..24].iter().all(is_merged), "everything else is done");
}

#[tokio::test]
async fn without_wait_a_block_that_cannot_be_read_at_once_is_read_again() {
    let mut world = World::new();
    let ids = two_days(&mut world).await;
    let operation = Some(Operation::Get);
    world.faulty.add(Fault { operation, ..Fault::new(Trigger::Nth(3)) });
    world.rounds.wait = false;
    let World { rounds, memory, faulty, .. } = world;
    let run = rounds.run();
    tokio::pin!(run);
    let merged = async {
        let is_marked =
            |it: &BlockId| memory.contents().contains_key(&layout::key(*it, "deletion-mark.json"));
        while !ids[..24].iter().all(is_marked) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        outcome = &mut run => panic!("it ends before all is done: {outcome:?}"),
        () = merged => {}
    }
    assert_eq!(faulty.failed(), 1);
    // At its end it asks the process to stop, and waits for that.
    let end = tokio::time::timeout(Duration::from_millis(500), run).await;
    assert!(end.is_err(), "{end:?}");
}

#[tokio::test]
async fn without_wait_a_bucket_that_cannot_be_listed_ends_the_process() {
    let mut world = World::new();
    two_days(&mut world).await;
    let operation = Some(Operation::Iter);
    world.faulty.add(Fault { operation, ..Fault::new(Trigger::From(1)) });
    world.rounds.wait = false;
    let text = format!("{:#}", world.rounds.run().await.unwrap_err());
    assert!(text.contains("read the blocks of the bucket"), "{text}");
}
