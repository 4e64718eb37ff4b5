//! Workers that really are several threads.

use promql::Workers;
use promql::workers::Task;

/// Starts a thread for every task.
#[derive(Debug)]
pub(crate) struct Threads(pub(crate) usize);

impl Workers for Threads {
    fn width(&self) -> usize {
        self.0
    }

    fn run(&self, tasks: Vec<Task>) {
        std::thread::scope(|scope| {
            for task in tasks {
                scope.spawn(task);
            }
        });
    }
}
