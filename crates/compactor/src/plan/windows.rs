//! Which blocks of a group are merged: overlapping ones, then those that fill a window.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use model::BlockId;
use model::duration::format_ms;

use crate::plan::{Candidate, GroupKey, Job, JobKey, Kind, Rules, View};
use crate::resolution::Resolution;

/// A block whose tombstones are more than one of so many series is rewritten.
const SERIES_PER_TOMBSTONE: u64 = 20;

/// What is selected from.
pub(crate) struct Selection<'a> {
    /// The blocks of one group, by time.
    pub(crate) blocks: &'a [&'a Candidate],
    pub(crate) rules: &'a Rules,
    pub(crate) view: &'a View,
    pub(crate) key: &'a GroupKey,
}

/// Blocks that are merged, and why.
pub(crate) struct Chosen<'a> {
    pub(crate) kind: Kind,
    pub(crate) blocks: Vec<&'a Candidate>,
    pub(crate) reason: String,
}

/// Whether a compaction may touch a block, if not now then later.
fn is_free(block: &Candidate) -> bool {
    block.is_whole && block.is_open && !block.no_compact && !block.is_quarantined
}

impl<'a> Selection<'a> {
    /// The blocks that are to be merged because their times overlap, now or when none of them is
    /// in use; those that no job may touch are not looked at.
    pub(crate) fn overlapping(&self) -> HashSet<BlockId> {
        let free: Vec<&Candidate> = self.blocks.iter().copied().filter(|it| is_free(it)).collect();
        let runs = overlapping_runs(&free).into_iter();
        let runs = runs.filter(|it| !self.is_late(it) && !self.is_quarantined(&vertical(it), it));
        runs.flatten().map(Candidate::id).collect()
    }

    /// Selects blocks, none of them excluded or touched, and adds them to the touched ones.
    pub(crate) fn select(
        &self,
        excluded: &HashSet<BlockId>,
        touched: &mut HashSet<BlockId>,
    ) -> Vec<Chosen<'a>> {
        let is_out = |it: &Candidate| !is_free(it) || excluded.contains(&it.id());
        let free: Vec<&Candidate> = self.blocks.iter().copied().filter(|it| !is_out(it)).collect();
        let (late, runs): (Vec<_>, Vec<_>) =
            overlapping_runs(&free).into_iter().partition(|it| self.is_late(it));
        let late: HashSet<BlockId> = late.into_iter().flatten().map(Candidate::id).collect();
        let is_excluded = |it: &Candidate| is_out(it) || late.contains(&it.id());
        let mut chosen = Vec::new();
        let mut stuck: HashSet<BlockId> = HashSet::new();
        for run in runs {
            stuck.extend(self.choose_run(run, touched, &mut chosen));
        }
        // The newest block waits, so that whoever made it can still be stopped and asked.
        if let Some((_, older)) = self.blocks.split_last() {
            self.choose_windows(older, &is_excluded, touched, &mut chosen);
            if chosen.is_empty() {
                let older = older.iter().copied().filter(|it| !is_excluded(it));
                self.choose_tombstones(older.rev(), touched, &mut chosen);
            }
        }
        // They are merged with nothing else, but nothing else has to wait for that.
        touched.retain(|it| !stuck.contains(it));
        chosen
    }

    /// Whether coarse blocks overlap that are not of different replicas: both have a part of the
    /// samples of a window, and no merge can tell which. They stay as they are, as in Thanos.
    fn is_late(&self, run: &[&Candidate]) -> bool {
        let mut ends_ms: HashMap<&BTreeMap<String, String>, i64> = HashMap::new();
        let mut later = run.iter().map(|it| {
            let end_ms = ends_ms.entry(&it.meta.thanos.labels).or_insert(i64::MIN);
            let is_before = it.meta.min_time_ms < *end_ms;
            *end_ms = it.meta.max_time_ms.max(*end_ms);
            is_before
        });
        self.key.resolution != Resolution::Raw && later.any(|it| it)
    }

    /// A run of overlapping blocks is merged as a whole, or later when one of them is in use.
    /// Answers the blocks, newly touched, of one that will not be merged.
    fn choose_run(
        &self,
        run: Vec<&'a Candidate>,
        touched: &mut HashSet<BlockId>,
        chosen: &mut Vec<Chosen<'a>>,
    ) -> Vec<BlockId> {
        let kind = vertical(&run);
        let is_taken = run.iter().any(|it| touched.contains(&it.id()));
        // Nothing else may be done with them before they are merged.
        let ids = run.iter().map(|it| it.id());
        let newly: Vec<BlockId> = ids.filter(|it| touched.insert(*it)).collect();
        if self.is_quarantined(&kind, &run) {
            return newly;
        }
        if !is_taken {
            let reason = format!("{} blocks overlap", run.len());
            chosen.push(Chosen { kind, blocks: run, reason });
        }
        Vec::new()
    }

    fn choose_windows(
        &self,
        older: &[&'a Candidate],
        is_excluded: &dyn Fn(&Candidate) -> bool,
        touched: &mut HashSet<BlockId>,
        chosen: &mut Vec<Chosen<'a>>,
    ) {
        let Some(high_time_ms) = older.last().map(|it| it.meta.min_time_ms) else { return };
        for range_ms in self.rules.ranges_ms.iter().skip(1) {
            for window in split_by_range(older, *range_ms) {
                if !is_complete(window, *range_ms, high_time_ms)
                    || window.iter().any(|it| touched.contains(&it.id()))
                {
                    continue;
                }
                // Pieces end at blocks that are left out, so that no result spans one of them.
                for piece in window.split(|it| is_excluded(it)).filter(|it| it.len() > 1) {
                    let kind = Kind::Compact { is_vertical: false, range_ms: *range_ms };
                    if self.is_quarantined(&kind, piece) {
                        continue;
                    }
                    touched.extend(piece.iter().map(|it| it.id()));
                    let (count, range) = (piece.len(), format_ms(*range_ms));
                    let reason = format!("{count} blocks of a window of {range} that is complete");
                    chosen.push(Chosen { kind, blocks: piece.to_vec(), reason });
                }
            }
        }
    }

    /// Rewrites the newest large block that has many tombstones, so that they are applied.
    fn choose_tombstones(
        &self,
        newest_first: impl Iterator<Item = &'a Candidate>,
        touched: &mut HashSet<BlockId>,
        chosen: &mut Vec<Chosen<'a>>,
    ) {
        let ranges_ms = &self.rules.ranges_ms;
        let Some(large_ms) = ranges_ms.get(ranges_ms.len() / 2).copied() else { return };
        for block in newest_first.take_while(|it| it.range_ms() >= large_ms) {
            let stats = &block.meta.stats;
            let tombstones = stats.num_tombstones.saturating_mul(SERIES_PER_TOMBSTONE);
            let kind = Kind::Compact { is_vertical: false, range_ms: block.range_ms() };
            if tombstones <= stats.num_series.saturating_add(1)
                || touched.contains(&block.id())
                || self.is_quarantined(&kind, &[block])
            {
                continue;
            }
            touched.insert(block.id());
            let (deleted, series) = (stats.num_tombstones, stats.num_series);
            let reason = format!("{deleted} tombstones in {series} series");
            chosen.push(Chosen { kind, blocks: vec![block], reason });
            return;
        }
    }

    fn is_quarantined(&self, kind: &Kind, blocks: &[&Candidate]) -> bool {
        !self.view.quarantined_jobs.is_empty()
            && self.view.quarantined_jobs.contains(&self.key_of(kind, blocks))
    }

    fn key_of(&self, kind: &Kind, blocks: &[&Candidate]) -> JobKey {
        let job = Job {
            kind: kind.clone(),
            group: self.key.clone(),
            sources: blocks.iter().map(|it| Arc::clone(&it.meta)).collect(),
            bytes: 0,
            reason: String::new(),
            is_owed: false,
        };
        job.key()
    }
}

/// What is done with a run of overlapping blocks.
fn vertical(run: &[&Candidate]) -> Kind {
    let min_time_ms = run.iter().map(|it| it.meta.min_time_ms).min().unwrap_or_default();
    let max_time_ms = run.iter().map(|it| it.meta.max_time_ms).max().unwrap_or_default();
    Kind::Compact { is_vertical: true, range_ms: max_time_ms.saturating_sub(min_time_ms) }
}

/// Runs of blocks each of which overlaps with one before it; blocks are by time.
fn overlapping_runs<'a>(blocks: &[&'a Candidate]) -> Vec<Vec<&'a Candidate>> {
    let mut runs = Vec::new();
    let mut run: Vec<&Candidate> = Vec::new();
    let mut max_time_ms = i64::MIN;
    for block in blocks {
        if block.meta.min_time_ms >= max_time_ms && !run.is_empty() {
            runs.push(std::mem::take(&mut run));
        }
        run.push(block);
        max_time_ms = max_time_ms.max(block.meta.max_time_ms);
    }
    runs.push(run);
    runs.retain(|it| it.len() > 1);
    runs
}

/// The blocks of each window that begins at a multiple of the range; what crosses the border of
/// its window is in none.
fn split_by_range<'b, 'a>(blocks: &'b [&'a Candidate], range_ms: i64) -> Vec<&'b [&'a Candidate]> {
    let mut windows = Vec::new();
    let mut rest = blocks;
    while let Some(first) = rest.first() {
        let end_ms = window_end_ms(first.meta.min_time_ms, range_ms);
        let fits = |it: &&&Candidate| it.meta.max_time_ms <= end_ms;
        let count = rest.iter().take_while(fits).count();
        let (window, behind) = rest.split_at(count.max(1));
        if count > 0 {
            windows.push(window);
        }
        rest = behind;
    }
    windows
}

/// The first millisecond behind the window that a time lies in.
pub(crate) fn window_end_ms(time_ms: i64, range_ms: i64) -> i64 {
    let begin_ms = time_ms.div_euclid(range_ms).saturating_mul(range_ms);
    begin_ms.saturating_add(range_ms)
}

/// Whether the blocks of a window are merged: they fill it, or nothing more comes, since there are
/// newer blocks. Blocks of which a compaction failed are not tried again.
fn is_complete(window: &[&Candidate], range_ms: i64, high_time_ms: i64) -> bool {
    let (Some(first), Some(last)) = (window.first(), window.last()) else { return false };
    let range = last.meta.max_time_ms.saturating_sub(first.meta.min_time_ms);
    window.len() > 1
        && window.iter().all(|it| !it.meta.compaction.failed)
        && (range == range_ms || last.meta.max_time_ms <= high_time_ms)
}
