//! How far a tool has come: a bar on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daemon::Clock;
use parking_lot::Mutex;

use super::text;

/// Width of the bar in characters.
const BAR_CELLS: u64 = 24;
/// Between two pictures of the bar.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Counts what is done, from any thread.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    items: u64,
    bytes: u64,
    done_items: AtomicU64,
    done_bytes: AtomicU64,
    clock: Arc<dyn Clock>,
    begin: Duration,
    shown: Mutex<Shown>,
}

#[derive(Debug)]
struct Shown {
    is_terminal: bool,
    at: Duration,
    /// Whether a bar stands on the last line of the terminal.
    has_bar: bool,
}

impl Progress {
    /// Nothing done yet of so many items, named by `what` in the plural, and bytes; no bytes where
    /// they are not counted.
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        what: &'static str,
        items: usize,
        bytes: u64,
    ) -> Progress {
        let begin = clock.monotonic();
        let is_terminal = std::io::stderr().is_terminal();
        Progress {
            what,
            items: items as u64,
            bytes,
            done_items: AtomicU64::new(0),
            done_bytes: AtomicU64::new(0),
            clock,
            begin,
            shown: Mutex::new(Shown { is_terminal, at: begin, has_bar: false }),
        }
    }

    /// More bytes are done.
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    /// One more item is done.
    pub(super) fn add_item(&self) {
        self.done_items.fetch_add(1, Ordering::Relaxed);
        self.show();
    }

    /// Takes the bar away, so that other lines can be written.
    pub(super) fn clear(&self) {
        let mut shown = self.shown.lock();
        if std::mem::take(&mut shown.has_bar) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn show(&self) {
        // Whoever comes while another one writes has nothing newer to say.
        let Some(mut shown) = self.shown.try_lock() else { return };
        let now = self.clock.monotonic();
        let interval = if shown.is_terminal { BAR_INTERVAL } else { LINE_INTERVAL };
        if now.saturating_sub(shown.at) < interval {
            return;
        }
        shown.at = now;
        let line = self.line(now.saturating_sub(self.begin));
        if shown.is_terminal {
            shown.has_bar = true;
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        } else {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// `[######------] 3/12 blocks, 1.2 GiB of 4.0 GiB, 80.1 MiB/s, 36s left`.
    fn line(&self, passed: Duration) -> String {
        let done_items = self.done_items.load(Ordering::Relaxed).min(self.items);
        let done_bytes = self.done_bytes.load(Ordering::Relaxed).min(self.bytes);
        let (done, all) = match self.bytes {
            0 => (done_items, self.items),
            _ => (done_bytes, self.bytes),
        };
        let cells = (BAR_CELLS * done).checked_div(all).unwrap_or(BAR_CELLS);
        let full = usize::try_from(cells).unwrap_or(0);
        let empty = usize::try_from(BAR_CELLS - cells).unwrap_or(0);
        let bar = format!("[{}{}]", "#".repeat(full), "-".repeat(empty));
        let mut line = format!("{bar} {done_items}/{} {}", self.items, self.what);
        let seconds = passed.as_secs_f64();
        let per_second = (u128::from(done_bytes) * 1000).checked_div(passed.as_millis());
        if let Some(rate) = per_second.filter(|_| self.bytes > 0) {
            let rate = text::bytes(u64::try_from(rate).unwrap_or(u64::MAX));
            let (done, all) = (text::bytes(done_bytes), text::bytes(self.bytes));
            line.push_str(&format!(", {done} of {all}, {rate}/s"));
        }
        if done > 0 && done < all {
            let left = seconds * (all - done) as f64 / done as f64;
            line.push_str(&format!(", {left:.0}s left"));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::SystemClock;

    #[test]
    fn a_line_says_what_is_done_how_fast_and_what_is_left() {
        let progress = Progress::new(Arc::new(SystemClock::new()), "blocks", 12, 4 << 30);
        for _ in 0..3 {
            progress.done_items.fetch_add(1, Ordering::Relaxed);
        }
        progress.done_bytes.fetch_add(1 << 30, Ordering::Relaxed);
        let line = progress.line(Duration::from_secs(8));
        let expected = "[######------------------] 3/12 blocks, 1.0 GiB of 4.0 GiB, 128.0 MiB/s, \
                        24s left";
        assert_eq!(line, expected);
        let empty = Progress::new(Arc::new(SystemClock::new()), "blocks", 0, 0);
        assert_eq!(empty.line(Duration::ZERO), "[########################] 0/0 blocks");
    }
}
