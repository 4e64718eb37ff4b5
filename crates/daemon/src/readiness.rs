//! Whether the process can serve, and if not, why.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Tells the world whether one part of the process can serve; clones speak for the same part.
///
/// The process is ready when all of its parts are. A part is not ready until it says so.
#[derive(Clone)]
pub struct Readiness {
    parts: Arc<watch::Sender<Vec<Part>>>,
    index: usize,
}

struct Part {
    name: &'static str,
    /// Why it is not ready; none when it is.
    obstacle: Option<String>,
}

impl Readiness {
    /// The readiness of a process whose first part is `name`.
    pub fn new(name: &'static str) -> Readiness {
        Readiness { parts: Arc::new(watch::Sender::new(vec![Part::starting(name)])), index: 0 }
    }

    /// One more part of the same process.
    pub fn part(&self, name: &'static str) -> Readiness {
        let mut index = 0;
        self.parts.send_modify(|parts| {
            index = parts.len();
            parts.push(Part::starting(name));
        });
        Readiness { parts: Arc::clone(&self.parts), index }
    }

    /// This part can serve.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// This part cannot serve, and why, for the person who asks.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// Whether all parts of the process can serve.
    pub fn is_ready(&self) -> bool {
        self.parts.borrow().iter().all(|it| it.obstacle.is_none())
    }

    /// Whether this part can serve.
    pub fn is_part_ready(&self) -> bool {
        self.parts.borrow().get(self.index).is_some_and(|it| it.obstacle.is_none())
    }

    /// Why the process is not ready: `part: reason` of each part that is not.
    pub fn obstacles(&self) -> Vec<String> {
        let parts = self.parts.borrow();
        let unready = parts.iter().filter_map(|it| Some((it.name, it.obstacle.as_ref()?)));
        unready.map(|(name, obstacle)| format!("{name}: {obstacle}")).collect()
    }

    /// Each part of the process, and whether it can serve.
    pub(crate) fn parts(&self) -> Vec<(&'static str, bool)> {
        self.parts.borrow().iter().map(|it| (it.name, it.obstacle.is_none())).collect()
    }

    /// Waits until [`is_part_ready`](Readiness::is_part_ready) differs from `seen`, and gives the
    /// new value; for what mirrors it, such as the gRPC health service.
    pub async fn part_changed(&self, seen: bool) -> bool {
        let mut changes = self.parts.subscribe();
        loop {
            let is_ready = self.is_part_ready();
            if is_ready != seen || changes.changed().await.is_err() {
                return is_ready;
            }
        }
    }

    /// Waits until the process is ready.
    pub async fn until_ready(&self) {
        let mut changes = self.parts.subscribe();
        while !self.is_ready() && changes.changed().await.is_ok() {}
    }

    fn set(&self, obstacle: Option<String>) {
        self.parts.send_if_modified(|parts| {
            let Some(part) = parts.get_mut(self.index) else { return false };
            let is_changed = part.obstacle != obstacle;
            part.obstacle = obstacle;
            is_changed
        });
    }
}

impl Part {
    fn starting(name: &'static str) -> Part {
        Part { name, obstacle: Some("starting".to_owned()) }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("obstacles", &self.obstacles()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_all_its_parts_are() {
        let first = Readiness::new("receive");
        let second = first.part("store");
        assert!(!first.is_ready());
        first.set_ready();
        assert!(first.is_part_ready() && !first.is_ready());
        second.set_not_ready("the bucket does not answer");
        assert_eq!(first.obstacles(), ["store: the bucket does not answer"]);
        second.set_ready();
        assert!(first.is_ready() && second.is_ready());
    }

    #[tokio::test]
    async fn changes_of_a_part_wake_who_waits_for_them() {
        let first = Readiness::new("receive");
        let second = first.part("store");
        let (is_ready, ()) = tokio::join!(second.part_changed(false), async {
            first.set_ready();
            tokio::task::yield_now().await;
            second.set_ready();
        });
        assert!(is_ready);
        assert!(second.part_changed(false).await, "what is so already needs no wait");
    }
}
