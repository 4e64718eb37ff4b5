//! Replicas of one series, scraped from one simulated target.

use model::{Columns, STALE_NAN_BITS};

/// A reproducible sequence of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((it ^ (it >> 31)) >> 1).unwrap() % bound.max(1)
    }
}

/// The counter of the target: it grows by 7 each 100 ms and starts again at these times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) restarts_ms: Vec<i64>,
}

impl Target {
    pub(crate) fn value(&self, time_ms: i64) -> f64 {
        let since = self.restarts_ms.iter().rfind(|it| **it <= time_ms).unwrap_or(&START_MS);
        f64::from(i32::try_from((time_ms - since).max(0) / 100 * 7).unwrap())
    }

    /// How much was counted in a stretch.
    pub(crate) fn increase(&self, from_ms: i64, to_ms: i64) -> f64 {
        let mut total = 0.0;
        let mut from = from_ms;
        for restart in self.restarts_ms.iter().filter(|it| **it > from_ms && **it <= to_ms) {
            total += self.value(restart - 1) - self.value(from);
            from = *restart;
        }
        total + self.value(to_ms) - self.value(from)
    }
}

/// Where simulations begin.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// One replica.
#[derive(Clone, Debug)]
pub(crate) struct Scraper {
    pub(crate) interval_ms: i64,
    pub(crate) offset_ms: i64,
    /// A scrape is up to this much late.
    pub(crate) jitter_ms: i64,
    /// The target answers up to this much after the time that the sample gets.
    pub(crate) latency_ms: i64,
    /// Its clock is this much ahead.
    pub(crate) ahead_ms: i64,
    pub(crate) lost_percent: i64,
    /// It works from and until these times after the start.
    pub(crate) alive_ms: (i64, i64),
    /// It is down from and until these times after the start.
    pub(crate) down_ms: (i64, i64),
    /// Whether a lost scrape leaves a staleness marker.
    pub(crate) marks: bool,
}

impl Scraper {
    pub(crate) fn new(interval_ms: i64, offset_ms: i64) -> Scraper {
        Scraper {
            interval_ms,
            offset_ms,
            jitter_ms: 0,
            latency_ms: 0,
            ahead_ms: 0,
            lost_percent: 0,
            alive_ms: (0, i64::MAX),
            down_ms: (0, 0),
            marks: false,
        }
    }

    pub(crate) fn scrape(&self, target: &Target, until_ms: i64, dice: &mut Dice) -> Columns {
        let mut columns = Columns::default();
        let mut slot = START_MS + self.offset_ms;
        while slot < START_MS + until_ms {
            let time = slot + dice.below(self.jitter_ms + 1);
            let latency = dice.below(self.latency_ms + 1);
            let lost = dice.below(100) < self.lost_percent;
            let age = slot - START_MS;
            let is_down = self.down_ms.0 <= age && age < self.down_ms.1;
            if self.alive_ms.0 <= age && age < self.alive_ms.1 && !is_down {
                if !lost {
                    columns.push_float(time, target.value(time + latency - self.ahead_ms));
                } else if self.marks {
                    columns.push_float(time, f64::from_bits(STALE_NAN_BITS));
                }
            }
            slot += self.interval_ms;
        }
        columns
    }
}

/// How often a counter goes down.
pub(crate) fn resets(values: &[f64]) -> usize {
    values.windows(2).filter(|it| it[1] < it[0]).count()
}

/// How much a counter says that was counted, resets taken for such.
pub(crate) fn increase(values: &[f64]) -> f64 {
    values.windows(2).map(|it| if it[1] < it[0] { it[1] } else { it[1] - it[0] }).sum()
}
