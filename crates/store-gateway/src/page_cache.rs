//! Pages of immutable objects in memory: one bounded cache under all reads of the bucket.

use bytes::Bytes;
use model::{BlockId, Budget, BudgetExceeded, Reservation};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Size of a page; the last one of an object is shorter.
pub(crate) const PAGE_BYTES: u64 = 16 * 1024;
/// What an entry costs besides its page.
const ENTRY_BYTES: u64 = 128;

/// Which part of which object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PageKey {
    /// The block.
    pub(crate) block: BlockId,
    /// 0 for the index, else the number of the segment from 1.
    pub(crate) file: u32,
    /// Number of the page in the object.
    pub(crate) page: u64,
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<PageKey, Bytes> for ByBytes {
    fn weight(&self, _key: &PageKey, page: &Bytes) -> u64 {
        page.len() as u64 + ENTRY_BYTES
    }
}

/// The cache. Blocks never change, so nothing is ever invalidated.
#[derive(Debug)]
pub(crate) struct PageCache {
    pages: Cache<PageKey, Bytes, ByBytes>,
    _held: Reservation,
}

impl PageCache {
    /// A cache of at most `bytes_max`, all of which is reserved at once.
    pub(crate) fn new(bytes_max: usize, budget: &Budget) -> Result<PageCache, BudgetExceeded> {
        let held = budget.reserve(bytes_max)?;
        let bytes_max = bytes_max as u64;
        let entries = usize::try_from(bytes_max / (PAGE_BYTES + ENTRY_BYTES)).unwrap_or(1).max(1);
        Ok(PageCache { pages: Cache::with_weighter(entries, bytes_max, ByBytes), _held: held })
    }

    /// The page, if it is there.
    pub(crate) fn get(&self, key: &PageKey) -> Option<Bytes> {
        self.pages.get(key)
    }

    /// Keeps a copy of a page, so that what it was cut from may go.
    pub(crate) fn insert(&self, key: PageKey, page: &[u8]) {
        self.pages.insert(key, Bytes::copy_from_slice(page));
    }

    /// Bytes in the cache.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.pages.weight()
    }
}
