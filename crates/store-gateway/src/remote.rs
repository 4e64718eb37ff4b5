//! Ranged reads of a block's objects: cached, joined where that is cheaper, identical ones made
//! once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{BlockId, Budget, Reservation};
use objstore::SharedStore;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::page_cache::{PAGE_BYTES, PageCache, PageKey};

/// Ranges that lie closer together than this are read by one request: the time of a request to an
/// object store is worth about so many bytes.
const GAP_BYTES_MAX: u64 = 512 * 1024;
/// Longest single request.
const RUN_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Requests of one fetch that are under way at once.
const RUNS_AT_ONCE: usize = 4;
/// Parts that take less than one in so many of the bytes that were read are copied.
const SLICES_SHARE_MIN: usize = 4;

/// An object of a block.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    /// The block.
    pub(crate) block: BlockId,
    /// 0 for the index, else the number of the segment from 1.
    pub(crate) number: u32,
    /// Its key in the bucket.
    pub(crate) key: String,
}

/// What was asked for, in the order in which it was asked for.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// A part is shorter than its range only where the object ends.
    pub(crate) parts: Vec<Bytes>,
    /// Must live as long as the parts.
    pub(crate) held: Reservation,
}

/// Reads objects of blocks.
#[derive(Debug)]
pub(crate) struct Remote {
    store: SharedStore,
    cache: PageCache,
    metrics: Metrics,
    under_way: Mutex<HashMap<RunKey, SharedRun>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RunKey {
    block: BlockId,
    file: u32,
    pages: Range<u64>,
}

/// A request that several may wait for.
type SharedRun = Shared<BoxFuture<'static, std::result::Result<Bytes, Arc<objstore::Error>>>>;

impl Remote {
    /// Reads through `store` and `cache`.
    pub(crate) fn new(store: SharedStore, cache: PageCache, metrics: Metrics) -> Remote {
        Remote { store, cache, metrics, under_way: Mutex::default() }
    }

    /// The bucket itself.
    pub(crate) fn store(&self) -> &SharedStore {
        &self.store
    }

    /// Bytes in the cache.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cache.size_bytes()
    }

    /// Reads ranges of an object, in any order.
    ///
    /// # Errors
    /// When the bucket fails or `budget` has no room.
    pub(crate) async fn fetch(
        &self,
        file: &RemoteFile,
        ranges: &[Range<u64>],
        budget: &Budget,
    ) -> Result<Fetched> {
        let pages = pages_of(ranges);
        let mut cached: BTreeMap<u64, Bytes> = BTreeMap::new();
        let mut missing = Vec::new();
        for page in pages {
            match self.cache.get(&page_key(file, page)) {
                Some(bytes) => drop(cached.insert(page, bytes)),
                None => missing.push(page),
            }
        }
        self.metrics.count_pages(cached.len(), missing.len());
        let runs = join_pages(&missing);
        let wanted = cached.len() as u64 + runs.iter().map(|it| it.end - it.start).sum::<u64>();
        let wanted_bytes = usize::try_from(wanted * PAGE_BYTES).unwrap_or(usize::MAX);
        let mut held = budget.reserve(wanted_bytes)?;
        let fetched: Vec<(u64, Bytes)> = stream::iter(runs)
            .map(|run| async move {
                let start = run.start;
                self.fetch_run(file, run).await.map(|bytes| (start * PAGE_BYTES, bytes))
            })
            .buffered(RUNS_AT_ONCE)
            .try_collect()
            .await?;
        for page in missing {
            if let Some(bytes) = piece(&fetched, page * PAGE_BYTES..(page + 1) * PAGE_BYTES) {
                self.cache.insert(page_key(file, page), &bytes);
            }
        }
        let source = Source { fetched, cached };
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            held.grow(source.copied_bytes(range).min(wanted_bytes))?;
            parts.push(source.assemble(range));
        }
        drop(source);
        // Parts are slices of what was read, and may outlive this call's account of it: where they
        // are little of it, they get a buffer of their own.
        let parts_bytes: usize = parts.iter().map(Bytes::len).sum();
        if parts_bytes < wanted_bytes / SLICES_SHARE_MIN {
            held.grow(parts_bytes)?;
            copy_together(&mut parts, parts_bytes);
            held.resize(parts_bytes)?;
        }
        Ok(Fetched { parts, held })
    }

    /// Reads whole pages, together with whoever else wants just these.
    async fn fetch_run(&self, file: &RemoteFile, pages: Range<u64>) -> Result<Bytes> {
        let key = RunKey { block: file.block, file: file.number, pages: pages.clone() };
        let run = {
            let mut under_way = self.under_way.lock();
            let begin = || {
                let (store, object) = (Arc::clone(&self.store), file.key.clone());
                let range = pages.start * PAGE_BYTES..pages.end * PAGE_BYTES;
                async move { store.get_range(&object, range).await.map_err(Arc::new) }
                    .boxed()
                    .shared()
            };
            under_way.entry(key.clone()).or_insert_with(begin).clone()
        };
        // However this ends, nobody joins a request that nobody drives any more.
        let leave = LeaveOnDrop { under_way: &self.under_way, key };
        let result = run.await;
        drop(leave);
        match result {
            Ok(bytes) => {
                self.metrics.count_fetched(bytes.len());
                Ok(bytes)
            }
            // The object ends before the run begins. That whatever pointed there is damaged is
            // told by whoever decodes what there is: nothing.
            Err(error) if matches!(*error, objstore::Error::Invalid { .. }) => Ok(Bytes::new()),
            Err(error) => Err(Error::Read(error)),
        }
    }
}

struct LeaveOnDrop<'a> {
    under_way: &'a Mutex<HashMap<RunKey, SharedRun>>,
    key: RunKey,
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

fn page_key(file: &RemoteFile, page: u64) -> PageKey {
    PageKey { block: file.block, file: file.number, page }
}

/// The pages that the ranges touch, sorted, each once.
fn pages_of(ranges: &[Range<u64>]) -> Vec<u64> {
    let touched = ranges.iter().filter(|it| it.start < it.end);
    let mut pages: Vec<u64> =
        touched.flat_map(|it| it.start / PAGE_BYTES..it.end.div_ceil(PAGE_BYTES)).collect();
    pages.sort_unstable();
    pages.dedup();
    pages
}

/// Joins sorted pages to runs, over gaps that are cheaper to read than to leave out.
fn join_pages(pages: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some(run)
                if (page - run.end) * PAGE_BYTES <= GAP_BYTES_MAX
                    && (page + 1 - run.start) * PAGE_BYTES <= RUN_BYTES_MAX =>
            {
                run.end = page + 1;
            }
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

/// Moves parts into one new buffer.
fn copy_together(parts: &mut [Bytes], parts_bytes: usize) {
    let mut buffer = BytesMut::with_capacity(parts_bytes);
    for part in &mut *parts {
        buffer.extend_from_slice(part);
    }
    let mut buffer = buffer.freeze();
    for part in parts {
        *part = buffer.split_to(part.len());
    }
}

/// The bytes of a range as far as one of the fetched runs holds its beginning.
fn piece(fetched: &[(u64, Bytes)], range: Range<u64>) -> Option<Bytes> {
    let index = fetched.partition_point(|it| it.0 <= range.start).checked_sub(1)?;
    let (start, bytes) = fetched.get(index)?;
    let from = usize::try_from(range.start - start).ok().filter(|it| *it < bytes.len())?;
    let to = usize::try_from(range.end - start).unwrap_or(usize::MAX).min(bytes.len());
    Some(bytes.slice(from..to))
}

/// What was read and what was in the cache.
struct Source {
    /// Runs with the offset at which each begins, ascending.
    fetched: Vec<(u64, Bytes)>,
    cached: BTreeMap<u64, Bytes>,
}

impl Source {
    /// The bytes from the start of a range on that lie in one run or page.
    fn part(&self, range: Range<u64>) -> Option<Bytes> {
        if let Some(bytes) = piece(&self.fetched, range.clone()) {
            return Some(bytes);
        }
        let number = range.start / PAGE_BYTES;
        let page = (number * PAGE_BYTES, self.cached.get(&number)?.clone());
        piece(&[page], range)
    }

    /// How many bytes must be copied to have a range in one piece.
    fn copied_bytes(&self, range: &Range<u64>) -> usize {
        let first = self.part(range.clone()).map_or(0, |it| it.len());
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        if first < length { length } else { 0 }
    }

    /// The bytes of a range: a slice where one run or page holds all of it, else put together.
    fn assemble(&self, range: &Range<u64>) -> Bytes {
        let Some(first) = self.part(range.clone()) else { return Bytes::new() };
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        if first.len() >= length {
            return first;
        }
        let mut whole = BytesMut::from(first);
        while whole.len() < length {
            let at = range.start + whole.len() as u64;
            let Some(next) = self.part(at..range.end) else { break };
            whole.extend_from_slice(&next);
        }
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_joined_over_small_gaps_only() {
        let gap = GAP_BYTES_MAX / PAGE_BYTES;
        let check = |pages: &[u64], runs: &[(u64, u64)]| {
            let joined = join_pages(pages);
            let joined: Vec<(u64, u64)> = joined.iter().map(|it| (it.start, it.end)).collect();
            assert_eq!(joined, runs);
        };
        check(&[], &[]);
        check(&[3, 4, 5 + gap], &[(3, 6 + gap)]);
        check(&[3, 5 + gap], &[(3, 4), (5 + gap, 6 + gap)]);
        let longest = RUN_BYTES_MAX / PAGE_BYTES;
        let all: Vec<u64> = (0..longest + 1).collect();
        check(&all, &[(0, longest), (longest, longest + 1)]);
    }

    #[test]
    fn a_range_over_runs_and_pages_is_put_together() {
        let page = |fill: u8| Bytes::from(vec![fill; 16 * 1024]);
        let fetched = vec![(PAGE_BYTES, page(1)), (3 * PAGE_BYTES, Bytes::from_static(b"end"))];
        let cached = BTreeMap::from([(0, page(0)), (2, page(2))]);
        let source = Source { fetched, cached };
        let whole = source.assemble(&(PAGE_BYTES - 1..3 * PAGE_BYTES + 100));
        let expected = [&[0][..], &page(1), &page(2), b"end"].concat();
        assert_eq!(whole, expected);
        assert_eq!(source.copied_bytes(&(0..PAGE_BYTES)), 0);
        assert_eq!(source.assemble(&(9 * PAGE_BYTES..10 * PAGE_BYTES)), Bytes::new());
    }
}
