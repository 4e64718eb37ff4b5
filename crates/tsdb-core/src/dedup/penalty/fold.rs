//! The penalty on samples that lie in memory, two sequences at a time and without counters, as
//! compaction needs it.

use crate::chunk::value::Timed;
use crate::dedup::penalty::Pair;

/// Something with a time.
pub(super) trait At: Clone {
    /// The time in ms.
    fn at_ms(&self) -> i64;
}

impl At for (i64, f64) {
    fn at_ms(&self) -> i64 {
        self.0
    }
}

impl At for Timed {
    fn at_ms(&self) -> i64 {
        self.timestamp_ms
    }
}

/// Folds `next` into `folded`, both in order of time; answers how many samples were passed over.
///
/// What lies before the first sample of `next` stays as it is, so that many chunks one after the
/// other are not walked again for each of them.
pub(super) fn fold<T: At>(folded: &mut Vec<T>, next: &[T]) -> u64 {
    let Some(first) = next.first() else { return 0 };
    let kept = folded.partition_point(|it| it.at_ms() < first.at_ms());
    let left = folded.split_off(kept);
    let mut pair = state_behind(folded);
    let (mut left_at, mut right_at) = (0, 0);
    let (mut passed, mut chosen) = (0, 0);
    while pair.left || pair.right {
        let before = left_at + right_at;
        left_at = skip(&left, left_at, pair.last_ms, pair.penalty_left_ms);
        right_at = skip(next, right_at, pair.last_ms, pair.penalty_right_ms);
        passed += left_at + right_at - before;
        let left_time = left.get(left_at).filter(|_| pair.left).map(At::at_ms);
        let right_time = next.get(right_at).filter(|_| pair.right).map(At::at_ms);
        pair = pair.after(left_time, right_time);
        let sample = if pair.use_left { left.get(left_at) } else { next.get(right_at) };
        let sample = sample.filter(|_| pair.left || pair.right);
        chosen += usize::from(sample.is_some());
        folded.extend(sample.cloned());
    }
    passed.saturating_sub(chosen) as u64
}

/// What is known after the left side alone was read.
fn state_behind<T: At>(read: &[T]) -> Pair {
    let mut pair = Pair::NEW;
    for sample in read.iter().skip(read.len().saturating_sub(2)) {
        pair = pair.after(Some(sample.at_ms()), Some(i64::MAX));
    }
    pair
}

/// The first sample from `at` on that is behind the last one by more than the penalty.
fn skip<T: At>(samples: &[T], mut at: usize, last_ms: Option<i64>, penalty_ms: i64) -> usize {
    let Some(last) = last_ms else { return at };
    let start = last.saturating_add(1).saturating_add(penalty_ms);
    while samples.get(at).is_some_and(|it| it.at_ms() < start || it.at_ms() <= last) {
        at += 1;
    }
    at
}
