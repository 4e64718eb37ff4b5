//! Where evaluation runs: a fixed set of threads that comes in as an argument, never made here.

use std::fmt;

/// A piece of work that runs to its end without waiting for another piece.
pub type Task = Box<dyn FnOnce() + Send>;

/// Runs the independent pieces of one query.
///
/// The engine decides what is a piece and in which order results are put together from the query
/// and the data alone, so that the number of threads never shows in an answer.
pub trait Workers: Send + Sync + fmt::Debug {
    /// How many tasks can make progress at once; at least 1.
    fn width(&self) -> usize;

    /// Runs all tasks and returns when the last one has ended. An implementation whose threads are
    /// all busy runs them on the calling thread, so that queries never wait for each other.
    fn run(&self, tasks: Vec<Task>);
}

/// Runs everything on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleThread;

impl Workers for SingleThread {
    fn width(&self) -> usize {
        1
    }

    fn run(&self, tasks: Vec<Task>) {
        for task in tasks {
            task();
        }
    }
}
