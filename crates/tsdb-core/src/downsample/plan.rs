//! Where windows end and how many chunks a series is cut into: Thanos' rules.

use std::ops::Range;

/// Samples that a chunk has at most on average, by the estimate.
const SAMPLES_WANTED: u64 = 140;
/// The distance that raw samples are thought to have, in ms. They are often closer; it only
/// decides how many chunks are made.
const RAW_STEP_MS: i64 = 60_000;

/// Which samples are brought to which resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Distance of the samples that come in, in ms.
    input_ms: i64,
    /// Length of a window in ms.
    pub(super) window_ms: i64,
}

impl Step {
    /// From raw samples.
    pub(super) fn from_raw(window_ms: i64) -> Step {
        Step { input_ms: RAW_STEP_MS, window_ms }
    }

    /// From windows of `input_ms`.
    pub(super) fn from_windows(input_ms: i64, window_ms: i64) -> Step {
        Step { input_ms, window_ms }
    }

    /// The last millisecond of the window that a time lies in.
    pub(super) fn window_end_ms(self, timestamp_ms: i64) -> i64 {
        let start_ms = timestamp_ms - timestamp_ms % self.window_ms;
        start_ms.saturating_add(self.window_ms - 1)
    }

    /// How many chunks are to be made of `sample_count` samples from `first_ms` to `last_ms`: the
    /// least number that leaves each at most 140, by an estimate of how full the range is.
    pub(super) fn chunk_count(self, first_ms: i64, last_ms: i64, sample_count: usize) -> usize {
        let span_ms = last_ms.saturating_sub(first_ms);
        let windows = float(span_ms / self.window_ms);
        let possible = float(span_ms) / float(self.input_ms);
        let fullness = (float_of(sample_count) / possible).min(1.0);
        let expected = whole(windows * fullness) + 1;
        usize::try_from(expected / (SAMPLES_WANTED + 1) + 1).unwrap_or(usize::MAX)
    }
}

/// Cuts the times of raw samples into batches of about equal size; each ends with a window.
pub(super) fn batches(times: &[i64], step: Step) -> impl Iterator<Item = Range<usize>> {
    let (first_ms, last_ms) = (times.first(), times.last());
    let count = match (first_ms, last_ms) {
        (Some(first_ms), Some(last_ms)) => step.chunk_count(*first_ms, *last_ms, times.len()),
        _ => 1,
    };
    let batch_size = times.len() / count + 1;
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = times.get(start..).unwrap_or_default();
        let last_ms = rest.get(batch_size.min(rest.len()).checked_sub(1)?)?;
        let end_ms = step.window_end_ms(*last_ms);
        let mut size = batch_size.min(rest.len());
        while rest.get(size).is_some_and(|it| *it <= end_ms) {
            size += 1;
        }
        let batch = start..start + size;
        start = batch.end;
        Some(batch)
    })
}

/// A number of samples as a float.
#[expect(clippy::cast_precision_loss, reason = "no series of a block has 2^53 samples")]
pub(super) fn float_of(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "no span of a block has 2^53 ms")]
fn float(value_ms: i64) -> f64 {
    value_ms as f64
}

/// The whole part; 0 of what is negative or no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, which is all that is wanted"
)]
pub(super) fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Step = Step { input_ms: RAW_STEP_MS, window_ms: 300_000 };

    #[test]
    fn a_window_ends_a_millisecond_before_the_next_one() {
        for (at_ms, end_ms) in [(0, 299_999), (299_999, 299_999), (300_000, 599_999)] {
            assert_eq!(FIVE.window_end_ms(at_ms), end_ms);
        }
        assert_eq!(FIVE.window_end_ms(i64::MAX), i64::MAX);
    }

    #[test]
    fn chunks_are_as_many_as_leave_140_windows_each() {
        let day_ms = 86_400_000;
        // One sample a minute: 288 windows a day, and one more.
        for (days, want) in [(0, 1), (1, 3), (2, 5), (10, 21)] {
            let samples = usize::try_from(days * 1440).unwrap();
            assert_eq!(FIVE.chunk_count(0, days * day_ms, samples), want, "{days} days");
        }
        // Two samples far apart are not worth two chunks.
        assert_eq!(FIVE.chunk_count(0, 100 * day_ms, 2), 1);
        assert_eq!(FIVE.chunk_count(5, 5, 1), 1);
    }

    #[test]
    fn batches_end_with_their_window() {
        let times: Vec<i64> = (0..3000).map(|it| it * 60_000).collect();
        let batches: Vec<_> = batches(&times, FIVE).collect();
        assert_eq!(batches.first().map(|it| it.start), Some(0));
        assert_eq!(batches.last().map(|it| it.end), Some(3000));
        for pair in batches.windows(2) {
            assert_eq!(pair[0].end, pair[1].start);
            assert_eq!(times[pair[1].start] % 300_000, 0);
        }
        assert_eq!(super::batches(&[], FIVE).count(), 0);
    }
}
