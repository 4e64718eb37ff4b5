//! Which blocks are due to be made coarser, and which will be.

use std::collections::{BTreeMap, HashMap, HashSet};

use model::BlockId;
use model::duration::format_ms;

use crate::plan::group::labels_of;
use crate::plan::windows::window_end_ms;
use crate::plan::{Candidate, JobKey, Rules, View};
use crate::resolution::Resolution;
use crate::retention;

/// Raw blocks of this range, in ms, are downsampled to 5m: it gives about two chunks a series.
pub(crate) const RAW_RANGE_MS: i64 = 40 * 3_600_000;
/// Blocks of 5m of this range, in ms, are downsampled to 1h.
pub(crate) const FIVE_MINUTES_RANGE_MS: i64 = 10 * 24 * 3_600_000;

/// Whether a block is to be downsampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// At once.
    Now {
        /// To these, the finer one first.
        targets: Vec<Resolution>,
        reason: String,
    },
    /// It will be, as a part of a larger block, or when it is clear that there will be none.
    Later,
    /// It is not: it is there already, or not wanted.
    Never,
}

/// What decides about downsampling.
pub(crate) struct Downsampling<'a> {
    rules: &'a Rules,
    now_ms: i64,
    /// The sources of all blocks of a resolution.
    present: BTreeMap<Resolution, HashSet<BlockId>>,
    /// The newest time of each stream, over all resolutions.
    newest_ms: HashMap<BTreeMap<String, String>, i64>,
    quarantined_jobs: &'a HashSet<JobKey>,
}

impl<'a> Downsampling<'a> {
    /// Looks at all blocks but those that are `gone`.
    pub(crate) fn new(
        view: &'a View,
        rules: &'a Rules,
        gone: &HashSet<BlockId>,
    ) -> Downsampling<'a> {
        let mut present: BTreeMap<Resolution, HashSet<BlockId>> = BTreeMap::new();
        let mut newest_ms = HashMap::new();
        for block in view.blocks.iter().filter(|it| !gone.contains(&it.id())) {
            // What is damaged is there all the same: making it again would not mend it.
            if block.is_whole {
                present.entry(block.resolution).or_default().extend(block.sources());
            }
            let labels = labels_of(&block.meta, &rules.replica_labels);
            let newest = newest_ms.entry(labels).or_insert(i64::MIN);
            *newest = (*newest).max(block.meta.max_time_ms);
        }
        let (now_ms, quarantined_jobs) = (view.now_ms, &view.quarantined_jobs);
        Downsampling { rules, now_ms, present, newest_ms, quarantined_jobs }
    }

    /// Whether a block, one of its `group` by time, is to be downsampled, if no compaction has it.
    pub(crate) fn due(&self, block: &Candidate, group: &[&Candidate]) -> Due {
        match self.due_alone(block) {
            Due::Later if self.is_old_and_final(block, group) => {
                let reason = format!(
                    "nothing more joins its {}, and its newest sample is old enough",
                    format_ms(block.range_ms())
                );
                Due::Now { targets: block.resolution.next().into_iter().collect(), reason }
            }
            due => due,
        }
    }

    /// The same without a look at whether the block can grow.
    pub(crate) fn due_alone(&self, block: &Candidate) -> Due {
        let Some((target, range_min_ms)) = threshold(block.resolution) else { return Due::Never };
        if !self.rules.downsampling || block.no_downsample || block.is_quarantined {
            return Due::Never;
        }
        // What was tried and does not work is not waited for.
        if !self.quarantined_jobs.is_empty()
            && self.quarantined_jobs.contains(&JobKey::of_downsampling(block.id()))
        {
            return Due::Never;
        }
        let is_further = |it: Resolution| self.is_missing(block, it) && !self.is_past(block, it);
        // What would be past its retention at once is made only as a step to what is kept longer.
        let is_wanted = |it| is_further(it) || it.next().is_some_and(is_further);
        if !self.is_missing(block, target) || !is_wanted(target) {
            return Due::Never;
        }
        let range_ms = block.range_ms();
        if range_ms < range_min_ms {
            return Due::Later;
        }
        let mut targets = vec![target];
        if let Some((next, next_min_ms)) = threshold(target)
            && range_ms >= next_min_ms
            && is_further(next)
        {
            targets.push(next);
        }
        let (range, range_min) = (format_ms(range_ms), format_ms(range_min_ms));
        Due::Now { targets, reason: format!("its range of {range} is at least {range_min}") }
    }

    /// Why a block is kept although it has outlived its retention; none when it is not.
    pub(crate) fn owed(&self, block: &Candidate) -> Option<String> {
        let target = block.resolution.next()?;
        match self.due_alone(block) {
            Due::Never => None,
            // Nobody can read what is not there.
            _ if !block.is_whole => None,
            Due::Now { .. } => Some(format!("its version of {target} is due and not made yet")),
            Due::Later => {
                Some(format!("its version of {target} is made when it is a part of a larger block"))
            }
        }
    }

    /// Whether not all that is in a block is there in a resolution.
    fn is_missing(&self, block: &Candidate, resolution: Resolution) -> bool {
        let present = self.present.get(&resolution);
        block.sources().iter().any(|it| !present.is_some_and(|present| present.contains(it)))
    }

    /// Whether the block would have outlived its retention in another resolution.
    fn is_past(&self, block: &Candidate, resolution: Resolution) -> bool {
        let policy = &self.rules.retention;
        retention::is_over(block.meta.max_time_ms, policy.of(resolution), self.now_ms)
    }

    /// Whether a block will not become larger, and is as old as a block of its age would be large.
    fn is_old_and_final(&self, block: &Candidate, group: &[&Candidate]) -> bool {
        let Some((_, range_min_ms)) = threshold(block.resolution) else { return false };
        let is_old = |max_time_ms: i64| self.now_ms.saturating_sub(max_time_ms) >= range_min_ms;
        let labels = labels_of(&block.meta, &self.rules.replica_labels);
        let has_ended = self.newest_ms.get(&labels).is_none_or(|it| is_old(*it));
        is_old(block.meta.max_time_ms)
            && (block.no_compact || has_ended || self.is_closed(block, range_min_ms, group))
    }

    /// Whether the windows in which a block could be merged are past: a window is merged when the
    /// last block but one begins behind it. A block that retention waits for looks no further than
    /// the first window that would make it large enough.
    fn is_closed(&self, block: &Candidate, range_min_ms: i64, group: &[&Candidate]) -> bool {
        let ranges_ms = &self.rules.ranges_ms;
        let Some(largest_ms) = ranges_ms.last().copied() else { return true };
        let range_ms = match self.is_past(block, block.resolution) {
            true => ranges_ms.iter().copied().find(|it| *it >= range_min_ms).unwrap_or(largest_ms),
            false => largest_ms,
        };
        let end_ms = window_end_ms(block.meta.min_time_ms, range_ms).max(block.meta.max_time_ms);
        let last_but_one = group.iter().rev().nth(1);
        last_but_one.is_some_and(|it| it.meta.min_time_ms >= end_ms)
    }
}

/// What a resolution is downsampled to, and from which range on, in ms.
fn threshold(resolution: Resolution) -> Option<(Resolution, i64)> {
    match resolution {
        Resolution::Raw => Some((Resolution::FiveMinutes, RAW_RANGE_MS)),
        Resolution::FiveMinutes => Some((Resolution::OneHour, FIVE_MINUTES_RANGE_MS)),
        Resolution::OneHour => None,
    }
}
