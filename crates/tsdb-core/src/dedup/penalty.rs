//! Thanos' penalty: stay with one replica until it has a hole, then with the other one.
//!
//! A replica that was not chosen must leave twice the last distance of samples before it is looked
//! at again. Replicas are folded from the left, ((first, second), third) and so on, and the result
//! depends on their order and on where reading starts; it is kept as it is for equal answers.

mod fold;
mod merge;

use model::Columns;

use crate::dedup::cursor::{Cursor, Point};
use crate::error::{Error, Result};

pub use crate::dedup::penalty::merge::{LOST, PENALTY, PenaltyMerge};

/// The penalty while no distance between samples is known, in ms.
const PENALTY_FIRST_MS: i64 = 5_000;
/// More replicas than this are refused: each is one more call inside of another.
pub const REPLICAS_MAX: usize = 256;

/// The samples of several replicas, deduplicated.
#[derive(Clone, Debug)]
pub struct Fold<'a> {
    leaves: Vec<Leaf<'a>>,
    /// The fold of the first two leaves, then of that and the third, and so on.
    pairs: Vec<Pair>,
}

/// A replica with what is added to its floats.
#[derive(Clone, Debug)]
struct Leaf<'a> {
    cursor: Cursor<'a>,
    added: f64,
}

/// State of two sides: everything to the left, and one leaf on the right.
#[derive(Clone, Copy, Debug)]
struct Pair {
    last_ms: Option<i64>,
    penalty_left_ms: i64,
    penalty_right_ms: i64,
    /// Which side gave the last sample.
    use_left: bool,
    /// Whether the sides have a sample.
    left: bool,
    right: bool,
}

/// Whether Thanos adjusts the floats of replicas for this PromQL function.
pub fn adjusts_counters(function: &str) -> bool {
    matches!(function, "increase" | "rate" | "irate" | "resets")
}

impl<'a> Fold<'a> {
    /// All sides at their first samples, but for the outermost left one.
    fn new(replicas: &[&'a Columns], adjust: bool) -> Fold<'a> {
        let leaf = |it: &&'a Columns| Leaf { cursor: Cursor::new(it), added: 0.0 };
        let mut fold = Fold { leaves: replicas.iter().map(leaf).collect(), pairs: Vec::new() };
        for replica in 1..fold.leaves.len() {
            let level = fold.pairs.len();
            fold.advance(level, adjust);
            fold.leaves[replica].cursor.advance();
            let pair = Pair {
                left: fold.time(level).is_some(),
                right: fold.leaves[replica].cursor.time().is_some(),
                ..Pair::NEW
            };
            fold.pairs.push(pair);
        }
        fold
    }

    /// The leaf whose sample is the current one of the fold of the first `level` pairs.
    fn current(&self, level: usize) -> usize {
        let right = self.pairs[..level].iter().rposition(|it| !it.use_left);
        right.map_or(0, |it| it + 1)
    }

    /// Time of the current sample of the fold of the first `level` pairs, if there is one.
    fn time(&self, level: usize) -> Option<i64> {
        let has = |pair: &Pair| if pair.use_left { pair.left } else { pair.right };
        let ended = level > 0 && !has(&self.pairs[level - 1]);
        if ended { None } else { self.leaves.get(self.current(level))?.cursor.time() }
    }

    /// The current float of the fold of the first `level` pairs.
    fn float(&self, level: usize) -> Option<f64> {
        let leaf = self.leaves.get(self.current(level))?;
        leaf.cursor.float().map(|it| it + leaf.added)
    }

    /// Moves the fold of the first `level` pairs to its next sample.
    fn advance(&mut self, level: usize, adjust: bool) {
        let Some(below) = level.checked_sub(1) else {
            if let Some(first) = self.leaves.first_mut() {
                first.cursor.advance();
            }
            return;
        };
        let before = self.pairs[below];
        let last_float = self.float(level);
        let start = |penalty: i64| match before.last_ms {
            Some(last) => last.saturating_add(1).saturating_add(penalty),
            None => i64::MIN,
        };
        if before.left {
            self.seek_side(below, start(before.penalty_left_ms), adjust);
        }
        if before.right {
            self.leaves[level].cursor.seek(start(before.penalty_right_ms));
        }
        let fresh = |it: &i64| before.last_ms.is_none_or(|last| *it > last);
        let left = self.time(below).filter(fresh).filter(|_| before.left);
        let right = self.leaves[level].cursor.time().filter(fresh).filter(|_| before.right);
        self.pairs[below] = before.after(left, right);
        if self.pairs[below].use_left != before.use_left
            && adjust
            && let Some(last) = last_float
        {
            self.adjust(level, last);
        }
    }

    /// Moves the fold of the first `level` pairs to `time_ms` or later, sample by sample.
    fn seek_side(&mut self, level: usize, time_ms: i64, adjust: bool) {
        if level == 0 {
            if let Some(first) = self.leaves.first_mut() {
                first.cursor.seek(time_ms);
            }
            return;
        }
        while self.time(level).is_some_and(|it| it < time_ms) {
            self.advance(level, adjust);
        }
    }

    /// Lifts every leaf of the fold of the first `level` pairs whose float lies below `last`.
    fn adjust(&mut self, level: usize, last: f64) {
        // From the outermost pair inwards: its right leaf, then what lies to the left of it, as
        // long as that stands at a float.
        for above in (0..level).rev() {
            let pair = self.pairs[above];
            if pair.right {
                self.leaves[above + 1].lift(last);
            }
            let float = self.time(above).is_some() && self.float(above).is_some();
            if !pair.left || !float {
                return;
            }
        }
        if let Some(first) = self.leaves.first_mut() {
            first.lift(last);
        }
    }
}

impl Leaf<'_> {
    fn lift(&mut self, last: f64) {
        if let Some(value) = self.cursor.float()
            && last > value + self.added
        {
            self.added += last - (value + self.added);
        }
    }
}

impl Pair {
    /// Two sides that were not read yet.
    const NEW: Pair = Pair {
        last_ms: None,
        penalty_left_ms: 0,
        penalty_right_ms: 0,
        use_left: true,
        left: true,
        right: true,
    };

    /// The state after both sides moved on to these times, of which the earlier is given out.
    fn after(self, left: Option<i64>, right: Option<i64>) -> Pair {
        let mut pair = Pair { left: left.is_some(), right: right.is_some(), ..self };
        let distance = |time: i64| match self.last_ms {
            Some(last) => time.saturating_sub(last).saturating_mul(2),
            None => PENALTY_FIRST_MS,
        };
        match (left, right) {
            (None, None) => pair.use_left = false,
            (Some(time), other) if other.is_none_or(|it| time <= it) => {
                pair.use_left = true;
                pair.penalty_left_ms = 0;
                if other.is_some() {
                    pair.penalty_right_ms = distance(time);
                }
                pair.last_ms = Some(time);
            }
            (other, Some(time)) => {
                pair.use_left = false;
                pair.penalty_right_ms = 0;
                if other.is_some() {
                    pair.penalty_left_ms = distance(time);
                }
                pair.last_ms = Some(time);
            }
            (Some(_), None) => {}
        }
        pair
    }
}

/// The samples that [`Penalty`] gives out. A series with one replica passes through untouched.
#[derive(Clone, Debug)]
pub struct Penalty<'a> {
    fold: Fold<'a>,
    adjust: bool,
    started: bool,
    ended: bool,
}

impl<'a> Penalty<'a> {
    /// Before the first sample of `replicas`, in the order in which their series arrive; `function`
    /// is the PromQL function around the selector, or nothing.
    ///
    /// # Errors
    /// With more than [`REPLICAS_MAX`] replicas.
    pub fn new(replicas: &[&'a Columns], function: &str) -> Result<Penalty<'a>> {
        let count = replicas.len();
        if count > REPLICAS_MAX {
            return Err(Error::invalid(format!(
                "{count} replicas of one series: penalty folds at most {REPLICAS_MAX}"
            )));
        }
        let adjust = adjusts_counters(function) && count > 1;
        Ok(Penalty { fold: Fold::new(replicas, adjust), adjust, started: false, ended: false })
    }

    /// The first sample at `time_ms` or later, found sample by sample; the current one if it is
    /// not before that. Before the first sample was asked for it is the same as asking for it.
    pub fn seek(&mut self, time_ms: i64) -> Option<Point<'a>> {
        if !self.started {
            self.next()?;
        }
        while !self.ended {
            let point = self.point()?;
            if point.timestamp_ms() >= time_ms {
                return Some(point);
            }
            self.next()?;
        }
        None
    }

    fn point(&self) -> Option<Point<'a>> {
        let leaf = self.fold.leaves.get(self.fold.current(self.fold.pairs.len()))?;
        Some(match leaf.cursor.point()? {
            Point::Float(time, value) if self.adjust => Point::Float(time, sum(value, leaf.added)),
            point => point,
        })
    }
}

/// The sum as a processor forms it, which makes every NaN a quiet one. So a staleness marker under
/// a counter function is a plain NaN in Thanos' answers.
fn sum(value: f64, added: f64) -> f64 {
    const QUIET: u64 = 1 << 51;
    if value.is_nan() { f64::from_bits(value.to_bits() | QUIET) } else { value + added }
}

impl<'a> Iterator for Penalty<'a> {
    type Item = Point<'a>;

    fn next(&mut self) -> Option<Point<'a>> {
        if self.ended {
            return None;
        }
        self.started = true;
        let level = self.fold.pairs.len();
        self.fold.advance(level, self.adjust);
        self.ended = self.fold.time(level).is_none();
        if self.ended { None } else { self.point() }
    }
}
