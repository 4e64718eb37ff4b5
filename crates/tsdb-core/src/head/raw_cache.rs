//! Finds a series by the bytes in which a sender writes its labels.
//!
//! The bytes are not kept, only a keyed 128-bit hash of tenant and bytes; the keys are new in
//! every process and never leave it. Entries may be forgotten at any time, and an entry whose
//! series is gone is noticed by its reference.

use hashbrown::HashTable;

use crate::head::sip_hash::SipHash;

/// Entries that are always allowed, however few series there are.
const ENTRIES_MIN: usize = 1 << 16;

/// Where a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) partition: u16,
    pub(crate) slot: u32,
    /// The reference that the series in the slot must have.
    pub(crate) reference: u64,
}

/// The hashing half of the cache: shared without a lock.
///
/// Equal fingerprints are taken for the same series, of whatever tenant, so nobody who chooses
/// labels may be able to find two label sets with the same one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawHasher(SipHash<1, 3>);

impl RawHasher {
    /// The fingerprint of a tenant's label bytes.
    pub(crate) fn fingerprint(&self, tenant: u32, raw: &[u8]) -> u128 {
        let mut hasher = self.0;
        hasher.word(u64::from(tenant));
        hasher.finish(raw, size_of::<u64>())
    }
}

/// A bounded table from fingerprints to series.
#[derive(Debug)]
pub(crate) struct RawCache {
    hasher: RawHasher,
    entries: HashTable<(u128, Located)>,
}

impl RawCache {
    pub(crate) fn new(seeds: [u64; 2]) -> RawCache {
        let hasher = RawHasher(SipHash::new(seeds));
        RawCache { hasher, entries: HashTable::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.entries = HashTable::new();
    }

    pub(crate) fn hasher(&self) -> RawHasher {
        self.hasher
    }

    pub(crate) fn find(&self, fingerprint: u128) -> Option<Located> {
        let entry = self.entries.find(low_half(fingerprint), |(it, _)| *it == fingerprint);
        entry.map(|(_, located)| *located)
    }

    /// Takes an entry; a table with more than twice as many entries as there are series is
    /// emptied first.
    pub(crate) fn insert(&mut self, fingerprint: u128, located: Located, series_count: usize) {
        if self.entries.len() >= ENTRIES_MIN.max(2 * series_count) {
            self.entries.clear();
        }
        let hash = low_half(fingerprint);
        match self.entries.find_mut(hash, |(it, _)| *it == fingerprint) {
            Some((_, known)) => *known = located,
            None => {
                let hash_of = |(it, _): &(u128, Located)| low_half(*it);
                self.entries.insert_unique(hash, (fingerprint, located), hash_of);
            }
        }
    }
}

fn low_half(fingerprint: u128) -> u64 {
    let [low, _] = [fingerprint & u128::from(u64::MAX), fingerprint >> 64];
    u64::try_from(low).unwrap_or_default()
}
