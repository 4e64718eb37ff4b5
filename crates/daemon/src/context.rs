//! What the process lends to a service.

use std::sync::Arc;

use model::Budget;

use crate::{Clock, Memory, Metrics, Random, Readiness, SeededRandom, SystemClock, Tasks};

/// What the process lends to a service.
#[derive(Clone, Debug)]
pub struct Context {
    /// Spawns tasks and threads, and tells them when to stop.
    pub tasks: Tasks,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where the service registers its metrics.
    pub metrics: Metrics,
    /// Where the service says that it can serve.
    pub readiness: Readiness,
    /// How much memory there is.
    pub memory: Memory,
    /// The account of the whole process, which all of its parts share.
    pub budget: Budget,
}

impl Context {
    /// The context of a process whose only part so far is `name`.
    pub fn new(name: &'static str, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Context {
        let memory = Memory::of_this_machine();
        Context {
            tasks: Tasks::new(),
            clock,
            random,
            metrics: Metrics::new(),
            readiness: Readiness::new(name),
            memory,
            budget: memory.budget(),
        }
    }

    /// The context of a process on this machine, with its clock and its randomness.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn of_this_machine(name: &'static str) -> anyhow::Result<Context> {
        let random = Arc::new(SeededRandom::from_system()?);
        Ok(Context::new(name, Arc::new(SystemClock::new()), random))
    }

    /// A context for a service inside this one: its tasks end on their own, but a vital one that
    /// dies stops the whole process; its metrics carry `component="<name>"`; the process is ready
    /// when all parts are.
    pub fn part(&self, name: &'static str) -> Context {
        Context {
            tasks: self.tasks.part(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            metrics: self.metrics.part(name),
            readiness: self.readiness.part(name),
            memory: self.memory,
            budget: self.budget.clone(),
        }
    }

    /// The same with another bound of memory, and so a new account.
    #[must_use]
    pub fn with_memory(self, memory: Memory) -> Context {
        Context { memory, budget: memory.budget(), ..self }
    }
}
