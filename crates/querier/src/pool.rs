//! The threads on which queries are computed: one for each query that may run at once, and some
//! that they share for their pieces.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use daemon::Tasks;
use parking_lot::{Condvar, Mutex};
use promql::Workers;
use promql::workers::Task;

use crate::limits::{IDLE, TASKS_WAITING_MAX};

/// Threads that queries run on; clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    queries: Sender<Task>,
    pieces: Sender<Arc<Batch>>,
    width: usize,
}

impl Pool {
    /// Starts `queries` threads that each run one query at a time, and `width` threads that help
    /// them. They end when the process stops.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub(crate) fn start(tasks: &Tasks, queries: usize, width: usize) -> std::io::Result<Pool> {
        let (query_sender, query_receiver) = bounded::<Task>(queries);
        let (piece_sender, piece_receiver) = bounded::<Arc<Batch>>(TASKS_WAITING_MAX);
        for _ in 0..queries {
            let (queue, stopping) = (query_receiver.clone(), tasks.clone());
            tasks.thread("query", move || {
                serve(&queue, &stopping, |task| {
                    // The query's caller notices by the answer that never comes.
                    let _ = catch_unwind(AssertUnwindSafe(task));
                });
                Ok(())
            })?;
        }
        for _ in 0..width {
            let (queue, stopping) = (piece_receiver.clone(), tasks.clone());
            tasks.thread("query-worker", move || {
                serve(&queue, &stopping, |batch: Arc<Batch>| batch.help());
                Ok(())
            })?;
        }
        Ok(Pool { queries: query_sender, pieces: piece_sender, width })
    }

    /// Runs a query; false when no thread is left, which the gate before it prevents.
    #[must_use]
    pub(crate) fn run_query(&self, query: Task) -> bool {
        self.queries.try_send(query).is_ok()
    }
}

fn serve<T>(queue: &Receiver<T>, stopping: &Tasks, mut work: impl FnMut(T)) {
    loop {
        match queue.recv_timeout(IDLE) {
            Ok(item) => work(item),
            Err(RecvTimeoutError::Timeout) if !stopping.is_stopping() => {}
            Err(RecvTimeoutError::Timeout) => return,
            // Every sender is gone: nobody will ever ask. Still a vital thread may only end when
            // the process stops.
            Err(RecvTimeoutError::Disconnected) if stopping.is_stopping() => return,
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(IDLE),
        }
    }
}

impl Workers for Pool {
    fn width(&self) -> usize {
        self.width + 1
    }

    fn run(&self, tasks: Vec<Task>) {
        if tasks.len() <= 1 {
            tasks.into_iter().for_each(|task| task());
            return;
        }
        let batch = Arc::new(Batch::new(tasks));
        for _ in 0..self.width.min(batch.left() - 1) {
            // A full queue only means that the others are busy: the work is done here then.
            if self.pieces.try_send(Arc::clone(&batch)).is_err() {
                break;
            }
        }
        batch.help();
        batch.wait();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("width", &self.width).finish_non_exhaustive()
    }
}

/// The pieces of one query that are to be run.
struct Batch {
    state: Mutex<State>,
    is_done: Condvar,
}

struct State {
    waiting: Vec<Task>,
    running: usize,
    panic: Option<Box<dyn Any + Send>>,
}

impl Batch {
    fn new(mut tasks: Vec<Task>) -> Batch {
        tasks.reverse();
        let state = State { waiting: tasks, running: 0, panic: None };
        Batch { state: Mutex::new(state), is_done: Condvar::new() }
    }

    fn left(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Runs pieces until none waits.
    fn help(&self) {
        loop {
            let task = {
                let mut state = self.state.lock();
                let Some(task) = state.waiting.pop() else { return };
                state.running += 1;
                task
            };
            let outcome = catch_unwind(AssertUnwindSafe(task));
            let mut state = self.state.lock();
            state.running -= 1;
            if let Err(panic) = outcome {
                state.panic.get_or_insert(panic);
            }
            if state.running == 0 && state.waiting.is_empty() {
                self.is_done.notify_all();
            }
        }
    }

    /// Waits for the pieces that others run; a panic of one goes on here.
    fn wait(&self) {
        let mut state = self.state.lock();
        while state.running > 0 || !state.waiting.is_empty() {
            self.is_done.wait(&mut state);
        }
        if let Some(panic) = state.panic.take() {
            drop(state);
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn all_pieces_are_run_and_a_panic_comes_back() {
        let tasks = Tasks::new();
        let pool = Pool::start(&tasks, 2, 3).unwrap();
        for count in [0, 1, 2, 100] {
            let sum = Arc::new(AtomicUsize::new(0));
            let pieces = (0..count).map(|index| {
                let sum = Arc::clone(&sum);
                Box::new(move || {
                    sum.fetch_add(index, Ordering::Relaxed);
                }) as Task
            });
            pool.run(pieces.collect());
            assert_eq!(sum.load(Ordering::Relaxed), (0..count).sum::<usize>());
        }
        let pieces: Vec<Task> = vec![Box::new(|| {}), Box::new(|| panic!("a piece fails"))];
        assert!(catch_unwind(AssertUnwindSafe(|| pool.run(pieces))).is_err());
        let (sender, receiver) = bounded(1);
        assert!(pool.run_query(Box::new(move || sender.send(7).unwrap())));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(7));
        drop(pool);
        tasks.drain(Duration::from_secs(5)).await;
    }
}
