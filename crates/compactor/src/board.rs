//! What the API shows: written after every pass and every job, read by requests.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::jobs::{Jobs, Past, Running};
use crate::plan::{Backlog, Plan};
use crate::quarantine::{Entry, Quarantine};

/// What there is to be seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    /// When the bucket was last read, in ms since the Unix epoch; 0 before that.
    pub(crate) synced_ms: i64,
    pub(crate) plan: Arc<Plan>,
    pub(crate) backlog: Backlog,
    pub(crate) running: Vec<Running>,
    /// The newest one first.
    pub(crate) history: Vec<Past>,
    pub(crate) quarantine: Vec<Entry>,
}

/// Where it is put for others to see; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Arc<Sight>>>);

impl Board {
    /// What there is to be seen now.
    pub(crate) fn see(&self) -> Arc<Sight> {
        Arc::clone(&self.0.lock())
    }

    /// Shows a new plan.
    pub(crate) fn show_plan(&self, synced_ms: i64, plan: Plan, backlog: Backlog) {
        let mut shown = self.0.lock();
        let sight = Sight { synced_ms, plan: Arc::new(plan), backlog, ..Sight::clone(&shown) };
        *shown = Arc::new(sight);
    }

    /// Shows what runs, what has ended, and what is wrong.
    pub(crate) fn show_jobs(&self, jobs: &Jobs, quarantine: &Quarantine) {
        let (running, history) = (jobs.running().cloned(), jobs.history().cloned());
        let mut shown = self.0.lock();
        let sight = Sight {
            running: running.collect(),
            history: history.collect(),
            quarantine: quarantine.entries().cloned().collect(),
            ..Sight::clone(&shown)
        };
        *shown = Arc::new(sight);
    }
}
