//! From matchers to the series of one block: labels as they are sent, in order, with the places
//! of their chunks.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use daemon::Tasks;
use model::{Budget, Labels, Matcher, Reservation, TimeRange};
use storeapi::request::Shard;
use storeapi::resort::{LabelTransform, Resorter};
use tokio::sync::Semaphore;
use tsdb_core::index::lookup::Resolver;
use tsdb_core::index::series::entry_bytes;
use tsdb_core::index::{ChunkMeta, PostingsRange, SeriesEntry};
use tsdb_core::select::{self, Group, Plan};
use tsdb_core::{Damage, postings};

use crate::block::Block;
use crate::error::{Error, Result};
use crate::limits::Touched;
use crate::metrics::Metrics;
use crate::remote::Remote;

/// So many series entries are read and decoded at once.
const SERIES_AT_ONCE: usize = 8192;
/// An entry that says it is larger is damaged: one of so many bytes has millions of chunks.
const ENTRY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Groups of lists that are smaller than this are always fetched; tests have small lists only.
const SMALL_GROUP_BYTES: u64 = if cfg!(test) { 64 } else { 32 * 1024 };

/// What is wanted of every block.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Samples wanted, both ends inclusive.
    pub(crate) range: TimeRange,
    /// Whether only labels are wanted.
    pub(crate) skip_chunks: bool,
    /// Shard wanted.
    pub(crate) shard: Option<Shard>,
    /// Labels to take away.
    pub(crate) without_replica_labels: Vec<String>,
    /// Most series of the answer; 0 is no limit.
    pub(crate) limit: usize,
}

/// Where the chunks of a series lie.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// The chunks inside of the range.
    pub(crate) chunks: Vec<ChunkMeta>,
    /// The chunk of the series that follows the last of them, which tells where that one ends.
    pub(crate) next: Option<u64>,
}

/// The series of a block that were asked for.
#[derive(Debug)]
pub(crate) struct Selected {
    /// In the order of the labels.
    pub(crate) series: Vec<(Labels, Places)>,
    /// Must live as long as the series.
    pub(crate) held: Reservation,
    /// Series that are damaged and missing; the texts name block and place.
    pub(crate) warnings: Vec<String>,
}

/// Everything that reading a block needs.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// Ranged reads.
    pub(crate) remote: Arc<Remote>,
    /// Blocking work.
    pub(crate) tasks: Tasks,
    /// Counts.
    pub(crate) metrics: Metrics,
    /// The account of the call.
    pub(crate) budget: Budget,
    /// Whose turn it is to read.
    pub(crate) gate: Arc<Semaphore>,
    /// What the call touched so far.
    pub(crate) touched: Arc<Touched>,
}

/// Selects the series of a block. `matchers` are those that are not about external labels.
///
/// # Errors
/// When bucket or disk fail, lists are damaged, or a bound is passed. Damaged series are not an
/// error but a warning.
pub(crate) async fn series_of(
    block: &Arc<Block>,
    matchers: &Arc<Vec<Matcher>>,
    wanted: &Arc<Wanted>,
    access: &Access,
) -> Result<Selected> {
    let sorter = Resorter::new(&access.budget).map_err(resort_error)?;
    let (sorter, warnings) = gather(block, matchers, wanted, access, sorter).await?;
    let (mut series, held) = sorter.finish().map_err(resort_error)?;
    if wanted.limit > 0 {
        // Of a block the answer has at most so many series, and only these count.
        keep_distinct(&mut series, wanted.limit);
        access.touched.add_series(series.len())?;
        access.touched.add_chunks(series.iter().map(|it| it.1.chunks.len()).sum())?;
    }
    Ok(Selected { series, held, warnings })
}

/// Keeps the first series until `limit` different ones are there.
fn keep_distinct(series: &mut Vec<(Labels, Places)>, limit: usize) {
    let mut distinct = 0;
    let mut end = 0;
    for (index, (labels, _)) in series.iter().enumerate() {
        let is_new = index == 0 || series[index - 1].0 != *labels;
        distinct += usize::from(is_new);
        if distinct > limit {
            break;
        }
        end = index + 1;
    }
    series.truncate(end);
}

/// What becomes of series while they come in.
pub(crate) trait Sink: Send + 'static {
    /// Takes a series with the labels that it is sent with.
    ///
    /// # Errors
    /// When an account has no room for it.
    fn take(&mut self, labels: Labels, places: Places) -> Result<()>;
}

impl Sink for Resorter<Places> {
    fn take(&mut self, labels: Labels, places: Places) -> Result<()> {
        let bytes = places.chunks.capacity() * size_of::<ChunkMeta>();
        self.push(labels, places, bytes).map_err(resort_error)
    }
}

/// Gives the series of a block that fulfil the matchers and have chunks in the range to a sink, in
/// the order of the block; answers the sink and what is damaged and missing.
///
/// # Errors
/// As [`series_of`].
pub(crate) async fn gather<S: Sink>(
    block: &Arc<Block>,
    matchers: &Arc<Vec<Matcher>>,
    wanted: &Arc<Wanted>,
    access: &Access,
    sink: S,
) -> Result<(S, Vec<String>)> {
    let (references, deferred) = references_of(block, matchers, access).await?;
    let collector = Collector {
        transform: LabelTransform::new(block.external(), &wanted.without_replica_labels),
        resolver: block.lookup().resolver(&access.budget)?,
        sink,
        block: Arc::clone(block),
        matchers: Arc::clone(matchers),
        deferred,
        wanted: Arc::clone(wanted),
        entry: SeriesEntry::default(),
        warnings: Vec::new(),
        touched: Arc::clone(&access.touched),
    };
    let collector = collect(collector, &references, access).await?;
    access.metrics.count_series(references.len());
    for text in &collector.warnings {
        access.metrics.count_damage(&block.id().to_string());
        tracing::warn!("{text}");
    }
    Ok((collector.sink, collector.warnings))
}

/// The references that the posting lists give, and the matchers that are left for the series.
async fn references_of(
    block: &Arc<Block>,
    matchers: &Arc<Vec<Matcher>>,
    access: &Access,
) -> Result<(Vec<u32>, Vec<usize>)> {
    let (planned, wanted) = (Arc::clone(block), Arc::clone(matchers));
    let plan = access
        .tasks
        .spawn_blocking("plan a select", move || select::plan(planned.lookup(), &wanted))
        .await
        .map_err(|_| Error::Stopping)??;
    if plan.is_nothing() {
        return Ok((Vec::new(), Vec::new()));
    }
    let (plan, deferred) = defer(plan, block.series_bytes_guess());
    let groups = plan.include.iter().chain(&plan.exclude);
    let ranges: Vec<PostingsRange> = groups.flat_map(|it| it.lists.iter().copied()).collect();
    let reads: Vec<Range<u64>> = ranges.iter().map(|it| it.start..it.end).collect();
    let total: u64 = ranges.iter().map(PostingsRange::size_bytes).sum();
    access.touched.add_bytes(usize::try_from(total).unwrap_or(usize::MAX))?;
    // Decoded lists and their union are held beside what was fetched.
    let decoded = usize::try_from(total.saturating_mul(2)).unwrap_or(usize::MAX);
    let _held = access.budget.reserve(decoded)?;
    let fetched = access.remote.fetch(block.index(), &reads, &access.budget).await?;
    let key = block.index().key.clone();
    let work = move || {
        let mut parts = fetched.parts.iter().zip(&ranges);
        let mut lists = std::collections::HashMap::new();
        for (part, range) in parts.by_ref() {
            lists.insert(*range, part.clone());
        }
        select::execute(&plan, |range| {
            let part = lists.get(range).cloned().unwrap_or_default();
            let list = postings::decode(&part, range.start);
            list.map_err(|damage| damage.within(std::path::Path::new(&key)))
        })
    };
    let references = access.tasks.spawn_blocking("intersect postings", work).await;
    Ok((references.map_err(|_| Error::Stopping)??, deferred))
}

/// Leaves out the groups whose lists cost more to read than the series they would take away;
/// answers which matchers must then be applied to the series.
fn defer(mut plan: Plan<PostingsRange>, series_bytes: u64) -> (Plan<PostingsRange>, Vec<usize>) {
    let bytes =
        |it: &Group<PostingsRange>| -> u64 { it.lists.iter().map(PostingsRange::size_bytes).sum() };
    let Some(least) = plan.include.iter().map(bytes).min() else { return (plan, Vec::new()) };
    // A reference takes four bytes. Each further group is thought to halve what is left.
    let saved = (least / 4 / 2).saturating_mul(series_bytes);
    let bound = SMALL_GROUP_BYTES.max(saved);
    let mut deferred = Vec::new();
    let mut is_kept = |it: &Group<PostingsRange>| {
        let kept = bytes(it) <= bound || bytes(it) == least || it.matcher == usize::MAX;
        if !kept {
            deferred.push(it.matcher);
        }
        kept
    };
    plan.include.retain(&mut is_kept);
    plan.exclude.retain(&mut is_kept);
    (plan, deferred)
}

/// Gathers series while their entries come in.
struct Collector<S> {
    block: Arc<Block>,
    transform: LabelTransform,
    resolver: Resolver,
    sink: S,
    matchers: Arc<Vec<Matcher>>,
    deferred: Vec<usize>,
    wanted: Arc<Wanted>,
    entry: SeriesEntry,
    warnings: Vec<String>,
    touched: Arc<Touched>,
}

async fn collect<S: Sink>(
    mut collector: Collector<S>,
    references: &[u32],
    access: &Access,
) -> Result<Collector<S>> {
    for batch in references.chunks(SERIES_AT_ONCE) {
        let block = Arc::clone(&collector.block);
        let ranges = entry_ranges(&block, batch);
        let total: u64 = ranges.iter().map(|it| it.end - it.start).sum();
        access.touched.add_bytes(usize::try_from(total).unwrap_or(usize::MAX))?;
        let mut fetched = access.remote.fetch(block.index(), &ranges, &access.budget).await?;
        let _more = refetch_entries(&block, &ranges, &mut fetched.parts, access).await?;
        let work = move || -> Result<Collector<S>> {
            for (part, range) in fetched.parts.iter().zip(&ranges) {
                collector.add(part, range.start)?;
            }
            drop(fetched);
            Ok(collector)
        };
        let done = access.tasks.spawn_blocking("decode series", work).await;
        collector = done.map_err(|_| Error::Stopping)??;
    }
    Ok(collector)
}

/// Where the entries of ascending references lie, as far as that can be guessed.
fn entry_ranges(block: &Block, references: &[u32]) -> Vec<Range<u64>> {
    let version = block.lookup().version();
    let (guess, section_end) = (block.series_bytes_guess(), block.toc().postings);
    let offsets = references.iter().map(|it| version.series_offset(*it));
    let nexts = references.iter().skip(1).map(|it| version.series_offset(*it));
    offsets
        .zip(nexts.chain([section_end]))
        .map(|(start, next)| start..(start + guess).min(next).max(start))
        .collect()
}

/// Reads entries again that turned out to be longer than guessed.
async fn refetch_entries(
    block: &Block,
    ranges: &[Range<u64>],
    parts: &mut [Bytes],
    access: &Access,
) -> Result<Option<Reservation>> {
    let section_end = block.toc().postings;
    let mut again = Vec::new();
    for (index, (part, range)) in parts.iter().zip(ranges).enumerate() {
        // A length that is none is told by whoever decodes the entry.
        let Ok(needed) = entry_bytes(part, range.start) else { continue };
        let needed = needed.unwrap_or(section_end.saturating_sub(range.start));
        // One that cannot be is told by whoever decodes what there is of the entry.
        if needed > ENTRY_BYTES_MAX {
            continue;
        }
        if needed > part.len() as u64 && range.start + needed <= section_end {
            again.push((index, range.start..range.start + needed));
        }
    }
    if again.is_empty() {
        return Ok(None);
    }
    access.metrics.count_series_refetches(again.len());
    let ranges: Vec<Range<u64>> = again.iter().map(|it| it.1.clone()).collect();
    let fetched = access.remote.fetch(block.index(), &ranges, &access.budget).await?;
    for ((index, _), part) in again.into_iter().zip(fetched.parts) {
        parts[index] = part;
    }
    Ok(Some(fetched.held))
}

impl<S: Sink> Collector<S> {
    fn add(&mut self, part: &Bytes, origin: u64) -> Result<()> {
        if let Err(damage) = self.entry.decode(part, origin) {
            self.warn(&damage);
            return Ok(());
        }
        let places = self.places();
        if places.chunks.is_empty() {
            return Ok(());
        }
        let labels = match self.labels() {
            Ok(Some(labels)) => labels,
            Ok(None) => return Ok(()),
            Err(tsdb_core::Error::Corrupt { damage, .. }) => {
                self.warn(&damage);
                return Ok(());
            }
            Err(other) => return Err(other.into()),
        };
        let counts_now = self.wanted.limit == 0;
        if counts_now {
            self.touched.add_series(1)?;
        }
        if !self.wanted.shard.as_ref().is_none_or(|it| it.keeps(&labels)) {
            return Ok(());
        }
        let places = if self.wanted.skip_chunks { Places::default() } else { places };
        if counts_now {
            self.touched.add_chunks(places.chunks.len())?;
        }
        self.sink.take(labels, places)
    }

    /// The labels that the current entry is sent with; none when a matcher that was left for the
    /// series refuses it.
    fn labels(&mut self) -> tsdb_core::Result<Option<Labels>> {
        if self.deferred.is_empty() {
            let own = self.resolver.pairs(&self.entry)?;
            if own.is_sorted() {
                return Ok(Some(self.transform.apply_pairs(own.iter())));
            }
        }
        let own = self.resolver.labels(&self.entry)?;
        let refuses =
            |index: &usize| !self.matchers.get(*index).is_none_or(|it| it.matches_labels(&own));
        let is_refused = self.deferred.iter().any(refuses);
        Ok((!is_refused).then(|| self.transform.apply(&own)))
    }

    /// The chunks of the current entry that are inside of the range.
    fn places(&self) -> Places {
        let overlaps = |it: &ChunkMeta| {
            self.wanted.range.overlaps(TimeRange::new(it.min_time_ms, it.max_time_ms))
        };
        let all = &self.entry.chunks;
        let chunks: Vec<ChunkMeta> = all.iter().copied().filter(overlaps).collect();
        let last = chunks.last().and_then(|last| all.iter().position(|it| it == last));
        let next = last.and_then(|it| all.get(it + 1)).map(|it| it.reference);
        Places { chunks, next }
    }

    fn warn(&mut self, damage: &Damage) {
        let (name, key) = (self.block.name(), &self.block.index().key);
        self.warnings.push(format!("{name}: a series is missing: corrupt object {key}: {damage}"));
    }
}

fn resort_error(error: storeapi::Error) -> Error {
    match error {
        storeapi::Error::BudgetExceeded(error) => Error::Budget(error),
        other => Error::Limit(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(matcher: usize, sizes: &[u64]) -> Group<PostingsRange> {
        let lists = sizes.iter().map(|it| PostingsRange { start: 0, end: *it }).collect();
        Group { matcher, lists }
    }

    #[test]
    fn lists_that_cost_more_than_they_save_are_left_to_the_series() {
        let plan = Plan {
            include: vec![group(0, &[400]), group(1, &[9000, 9000]), group(2, &[1000])],
            exclude: vec![group(3, &[64]), group(4, &[20_000])],
        };
        // 400 bytes are 100 series, of which a further list may save 50, 100 bytes each.
        let (plan, deferred) = defer(plan, 100);
        let left = |groups: &[Group<PostingsRange>]| -> Vec<usize> {
            groups.iter().map(|it| it.matcher).collect()
        };
        assert_eq!((left(&plan.include), left(&plan.exclude)), (vec![0, 2], vec![3]));
        assert_eq!(deferred, [1, 4]);
    }
}
