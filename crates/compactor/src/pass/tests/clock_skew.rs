//! By a clock that is far from the store's nothing is marked or deleted.

use std::io;
use std::sync::Mutex;

use tracing_subscriber::fmt::MakeWriter;

use super::*;

const HOUR_MS: i64 = 3_600_000;

/// A bucket at day 100 with something to do of each kind for a clock that says day 200, and
/// nothing for one that is right.
async fn world_at_day_100() -> World {
    let world = world();
    world.at(99 * DAY_MS);
    world.put_block(1, 100 * DAY_MS).await;
    world.put_block(2, 100 * DAY_MS).await;
    world.put_mark(2, 99 * DAY_MS).await;
    world.put_partial(3).await;
    world.at(100 * DAY_MS);
    world
}

impl World {
    fn own_clock_at(&self, now_ms: i64) {
        self.clock.0.store(now_ms, Ordering::Relaxed);
    }

    fn blocks_left(&self) -> Vec<(String, Bytes)> {
        let contents = self.memory.contents().into_iter();
        contents
            .filter(|(key, _)| ![clock::PROBE_KEY, crate::quarantine::KEY].contains(&&**key))
            .collect()
    }
}

/// Keeps what is logged.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl Lines {
    fn with(&self, text: &str) -> usize {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().filter(|it| it.contains(text)).count()
    }
}

#[tokio::test]
async fn a_clock_that_is_ahead_marks_and_deletes_nothing_and_says_so_once() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut world = world_at_day_100().await;
    let before = world.blocks_left();
    world.own_clock_at(200 * DAY_MS);
    for round in 1..=3 {
        world.iterate().await.unwrap();
        assert_eq!(world.blocks_left(), before);
        assert!(world.pass.is_clock_off());
        let metrics = &world.pass.metrics;
        assert_eq!(metrics.clock_refusals.get(), 2 * round, "deletions, then marks");
        assert!((metrics.clock_ahead.get() - 8_640_000.0).abs() < 1.0);
        assert_eq!(metrics.syncs.get(), round, "the view goes on");
    }
    let refusal = "no block is marked or deleted";
    assert_eq!((lines.with(refusal), lines.with("marks and deletions go on")), (1, 0));
    assert_eq!(lines.with(clock::PROBE_KEY), 1, "the line names what shows the time");

    // Right again, with nothing to do: still it is said, and the metric is right.
    world.own_clock_at(100 * DAY_MS);
    world.iterate().await.unwrap();
    assert!(!world.pass.is_clock_off());
    assert_eq!((lines.with(refusal), lines.with("marks and deletions go on")), (1, 1));
    assert!(world.pass.metrics.clock_ahead.get().abs() < 1.0);
    assert_eq!(world.blocks_left(), before);
    // And when the time has really come, the work is done.
    world.at(102 * DAY_MS);
    world.iterate().await.unwrap();
    assert!(world.has(1, "deletion-mark.json"));
    assert_eq!((world.left(2), world.left(3)), (0, 0));
    assert_eq!(world.pass.metrics.clock_refusals.get(), 6);
}

#[tokio::test]
async fn a_clock_that_is_behind_marks_and_deletes_nothing() {
    let mut world = world_at_day_100().await;
    world.at(150 * DAY_MS);
    let before = world.blocks_left();
    // All is due by this clock too, only it is not the store's.
    world.own_clock_at(150 * DAY_MS - HOUR_MS - 1);
    world.iterate().await.unwrap();
    assert_eq!(world.blocks_left(), before);
    assert!(world.pass.metrics.clock_ahead.get() < -3_600.0);
    // A block that was written since shows it without a call.
    world.put_block(4, 200 * DAY_MS).await;
    let (calls, snapshot) = (world.faulty.calls(), world.pass.sync().await.unwrap());
    let synced = world.faulty.calls();
    assert!(synced > calls);
    world.pass.clean(&snapshot).await.unwrap();
    world.retain(&snapshot).await.unwrap();
    assert_eq!(world.faulty.calls(), synced);
    assert!(world.has(2, "meta.json") && !world.has(1, "deletion-mark.json"));
}

#[tokio::test]
async fn each_kind_of_work_asks_for_the_time() {
    for (number, kind) in [(1, "mark"), (2, "deletion"), (3, "given-up upload")] {
        let mut world = world_at_day_100().await;
        for other in (1..=3).filter(|it| *it != number) {
            let prefix = format!("{}/", id(other));
            for key in world.memory.contents().into_keys().filter(|it| it.starts_with(&prefix)) {
                world.memory.delete(&key).await.unwrap();
            }
        }
        let before = world.blocks_left();
        world.own_clock_at(200 * DAY_MS);
        world.iterate().await.unwrap();
        assert_eq!(world.blocks_left(), before, "{kind}");
        world.at(200 * DAY_MS);
        world.iterate().await.unwrap();
        assert_ne!(world.blocks_left(), before, "{kind}");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_by_less_than_an_hour_is_good_enough() {
    for off_ms in [-HOUR_MS, HOUR_MS] {
        let mut world = world_at_day_100().await;
        world.at(150 * DAY_MS).own_clock_at(150 * DAY_MS + off_ms);
        world.iterate().await.unwrap();
        assert!(world.has(1, "deletion-mark.json"), "{off_ms}");
        assert_eq!((world.left(2), world.left(3)), (0, 0), "{off_ms}");
        assert_eq!(world.pass.metrics.clock_refusals.get(), 0);
    }
}

#[tokio::test]
async fn without_work_no_object_is_written_and_without_an_answer_nothing_is_done() {
    let mut world = world_at_day_100().await;
    world.iterate().await.unwrap();
    assert!(!world.memory.contents().contains_key(clock::PROBE_KEY));
    world.at(150 * DAY_MS);
    let before = world.blocks_left();
    let operation = Some(Operation::Upload);
    world.faulty.add(Fault { operation, ..Fault::new(Trigger::From(1)) });
    let error = world.iterate().await.unwrap_err();
    assert!(format!("{error:#}").contains("compare the clock"), "{error:#}");
    assert_eq!(world.blocks_left(), before);
    world.faulty.heal();
    world.iterate().await.unwrap();
    assert_eq!((world.left(2), world.left(3)), (0, 0));
}

#[tokio::test]
async fn a_back_dated_mark_gets_its_whole_delay() {
    let mut world = world();
    world.at(100 * DAY_MS);
    world.put_block(1, 200 * DAY_MS).await;
    world.put_mark(1, DAY_MS).await;
    world.put_block(2, 200 * DAY_MS).await;
    let timeless = format!(r#"{{"id":"{}","version":1}}"#, id(2));
    world.put(2, "deletion-mark.json", timeless).await;
    for (at_ms, left) in
        [(101 * DAY_MS, [6, 6]), (102 * DAY_MS, [6, 6]), (102 * DAY_MS + 1, [0, 6])]
    {
        world.at(at_ms);
        world.iterate().await.unwrap();
        assert_eq!([world.left(1), world.left(2)], left, "{at_ms}");
    }
    world.at(199 * DAY_MS);
    world.iterate().await.unwrap();
    assert_eq!(world.left(2), 6, "a mark without a time is never due");
}
