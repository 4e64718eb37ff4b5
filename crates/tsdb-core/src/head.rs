//! The head: the newest samples of all tenants, in memory but for chunks that are full.
//!
//! Series are spread over partitions by a checksum of their canonical key. The bytes in which a
//! sender writes the labels of a series find it directly ([`raw_cache`]); only labels never seen
//! in that form are decoded, checked, sorted and interned.

pub(crate) mod append;
pub(crate) mod batch;
pub(crate) mod chunk_log;
pub(crate) mod partition;
mod postings;
mod raw_cache;
pub(crate) mod select;
mod series;
pub(crate) mod sip_hash;
pub(crate) mod symbols;
mod tenants;

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::quality::FixedState;
use model::{Labels, Tenant};
use parking_lot::RwLock;

use crate::codec::Crc32c;
use crate::error::{Error, Result};
use crate::head::partition::{Floor, PARTITION_COUNT, Partition, PartitionOptions};
use crate::head::raw_cache::RawCache;
pub(crate) use crate::head::series::Series;
pub(crate) use crate::head::tenants::TenantState;
use crate::head::tenants::Tenants;

/// The newest samples of all tenants.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) block_ms: i64,
    key_hasher: FixedState,
    pub(crate) partitions: Box<[RwLock<Partition>]>,
    raw: RwLock<RawCache>,
    is_given_up: AtomicBool,
    tenants: RwLock<Tenants>,
}

impl Head {
    /// An empty head; nothing below `floors` is used again.
    pub(crate) fn new(
        options: &PartitionOptions,
        seeds: [u64; 2],
        floors: &[Floor; PARTITION_COUNT],
    ) -> Result<Head> {
        let mut partitions = Vec::with_capacity(PARTITION_COUNT);
        for (number, floor) in (0..).zip(floors) {
            partitions.push(RwLock::new(Partition::new(number, options, *floor)?));
        }
        Ok(Head {
            block_ms: options.block_ms,
            key_hasher: FixedState::with_seed(seeds[0] ^ seeds[1].rotate_left(32)),
            partitions: partitions.into_boxed_slice(),
            raw: RwLock::new(RawCache::new(seeds)),
            is_given_up: AtomicBool::new(false),
            tenants: RwLock::default(),
        })
    }

    /// Ends writing for good and answers what a successor of this head must not use again.
    pub(crate) fn retire(&self) -> [Floor; PARTITION_COUNT] {
        let mut floors = [Floor::default(); PARTITION_COUNT];
        for (floor, partition) in floors.iter_mut().zip(&self.partitions) {
            *floor = partition.write().retire();
        }
        floors
    }

    /// Drops all series of a retired head, for a successor that needs the memory.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
        for partition in &self.partitions {
            partition.write().clear();
        }
        self.raw.write().clear();
    }

    /// Whether the head has all its series.
    ///
    /// # Errors
    /// [`Error::Unavailable`] once it gave them up. What was read before the call is whole.
    pub(crate) fn check_readable(&self) -> Result<()> {
        match self.is_given_up.load(Ordering::Acquire) {
            true => Err(Error::unavailable("the head is being read again from disk")),
            false => Ok(()),
        }
    }

    /// The state of a tenant, made when it is new.
    pub(crate) fn tenant(&self, tenant: &Tenant) -> Arc<TenantState> {
        if let Some(state) = self.tenants.read().find(tenant) {
            return state;
        }
        self.tenants.write().find_or_add(tenant)
    }

    /// The state of a tenant, if the head knows it.
    pub(crate) fn known_tenant(&self, tenant: &Tenant) -> Option<Arc<TenantState>> {
        self.tenants.read().find(tenant)
    }

    /// The tenant of an index.
    pub(crate) fn tenant_at(&self, index: u32) -> Option<Arc<TenantState>> {
        self.tenants.read().at(index)
    }

    /// All tenants that the head knows.
    pub(crate) fn tenants(&self) -> Vec<Arc<TenantState>> {
        self.tenants.read().all()
    }

    /// Number of series.
    pub(crate) fn series_count(&self) -> usize {
        self.partitions.iter().map(|it| it.read().series_count()).sum()
    }

    /// Hash of a series' identity in this process.
    pub(crate) fn key_hash(&self, tenant: u32, labels: &Labels) -> u64 {
        self.key_hasher.hash_one((tenant, labels.as_key()))
    }
}

/// The partition of a series: the same in every process, because the log names it.
pub(crate) fn partition_of(tenant: &Tenant, labels: &Labels) -> u16 {
    let mut crc = Crc32c::new();
    crc.update(tenant.as_str().as_bytes());
    crc.update(&[0xff]);
    for (name, value) in labels {
        crc.update(name.as_bytes());
        crc.update(&[0xff]);
        crc.update(value.as_bytes());
        crc.update(&[0xff]);
    }
    // The lowest bits of the checksum; the number of partitions is a power of two.
    let number = crc.value() as usize & (PARTITION_COUNT - 1);
    u16::try_from(number).unwrap_or_default()
}
