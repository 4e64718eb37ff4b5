//! Which blocks have outlived their retention: a function of blocks and time, nothing else.

use std::time::Duration;

use model::BlockId;

use crate::plan;
use crate::resolution::Resolution;
use crate::selection::whole_ms;

/// How long samples are kept, by resolution; none is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) raw: Option<Duration>,
    pub(crate) five_minutes: Option<Duration>,
    pub(crate) one_hour: Option<Duration>,
}

impl Policy {
    pub(crate) fn of(&self, resolution: Resolution) -> Option<Duration> {
        match resolution {
            Resolution::Raw => self.raw,
            Resolution::FiveMinutes => self.five_minutes,
            Resolution::OneHour => self.one_hour,
        }
    }
}

/// What retention wants to know of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: BlockId,
    /// End of the block's time range, exclusive, in milliseconds since the Unix epoch.
    pub(crate) max_time_ms: i64,
    pub(crate) resolution: Resolution,
}

impl Candidate {
    pub(crate) fn of(block: &plan::Candidate) -> Candidate {
        let (id, max_time_ms) = (block.id(), block.meta.max_time_ms);
        Candidate { id, max_time_ms, resolution: block.resolution }
    }
}

/// A block that is to be marked, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) id: BlockId,
    /// The text of the mark.
    pub(crate) details: String,
}

/// Whether samples up to `max_time_ms` have outlived a retention.
pub(crate) fn is_over(max_time_ms: i64, kept: Option<Duration>, now_ms: i64) -> bool {
    kept.is_some_and(|it| max_time_ms.saturating_add(whole_ms(it)) < now_ms)
}

/// The blocks whose newest possible sample is older than the retention of their resolution.
///
/// Whether the same time exists in another resolution plays no part here: see [`plan::Held`].
pub(crate) fn expired(
    blocks: impl IntoIterator<Item = Candidate>,
    policy: &Policy,
    now_ms: i64,
) -> Vec<Expired> {
    let expired = blocks.into_iter().filter_map(|block| {
        let kept = policy.of(block.resolution)?;
        is_over(block.max_time_ms, Some(kept), now_ms).then(|| Expired {
            id: block.id,
            details: format!(
                "block exceeding retention of {} for resolution {}",
                model::duration::format_ms(whole_ms(kept)),
                block.resolution
            ),
        })
    });
    expired.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn block(number: u64, max_time_ms: i64, resolution: Resolution) -> Candidate {
        Candidate { id: BlockId::from_parts(number, 7), max_time_ms, resolution }
    }

    fn check(policy: Policy, blocks: &[Candidate], now_ms: i64, expected: &[usize]) {
        let expired = expired(blocks.iter().copied(), &policy, now_ms);
        let ids: Vec<BlockId> = expired.iter().map(|it| it.id).collect();
        let expected: Vec<BlockId> = expected.iter().map(|it| blocks[*it].id).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn each_resolution_has_its_own_end() {
        let days = |count: u64| Some(Duration::from_hours(24 * count));
        let policy = Policy { raw: days(2), five_minutes: days(10), one_hour: None };
        let blocks = [
            block(1, 0, Resolution::Raw),
            block(2, 0, Resolution::FiveMinutes),
            block(3, 0, Resolution::OneHour),
            block(4, DAY_MS, Resolution::Raw),
        ];
        check(policy, &blocks, 2 * DAY_MS, &[]);
        check(policy, &blocks, 2 * DAY_MS + 1, &[0]);
        check(policy, &blocks, 3 * DAY_MS + 1, &[0, 3]);
        check(policy, &blocks, 11 * DAY_MS, &[0, 1, 3]);
        check(Policy::default(), &blocks, i64::MAX, &[]);
    }

    #[test]
    fn times_at_the_end_of_the_world_do_not_overflow() {
        let policy = Policy { raw: Some(Duration::MAX), ..Policy::default() };
        let blocks = [block(1, i64::MAX, Resolution::Raw), block(2, i64::MIN, Resolution::Raw)];
        check(policy, &blocks, i64::MAX, &[1]);
        check(policy, &blocks, -1, &[]);
        let policy = Policy { raw: Some(Duration::from_millis(1)), ..Policy::default() };
        check(policy, &blocks, i64::MAX, &[1]);
        check(policy, &blocks, i64::MIN, &[]);
    }

    #[test]
    fn the_mark_says_why() {
        let policy = Policy { raw: Some(Duration::from_hours(36)), ..Policy::default() };
        let expired = expired([block(1, 0, Resolution::Raw)], &policy, 3 * DAY_MS);
        assert_eq!(expired[0].details, "block exceeding retention of 1d12h for resolution raw");
    }
}
