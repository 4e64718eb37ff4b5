//! One series of the head: what an append touches first, then what only readers need.

use crate::chunk::cut::{CutPlan, OpenChunk};
use crate::chunk::xor::Appender;
use crate::head::chunk_log::ClosedChunk;

/// A series in memory.
#[derive(Debug)]
pub(crate) struct Series {
    /// Its name in the log; never given twice.
    pub(crate) reference: u64,
    /// Time of the newest sample in ms; `i64::MIN` before the first.
    pub(crate) last_ms: i64,
    /// Bits of the newest sample's value.
    pub(crate) last_bits: u64,
    /// The chunk that takes samples; empty right after a cut.
    pub(crate) open: Appender,
    /// When the open chunk ends.
    pub(crate) plan: CutPlan,
    /// Time of the open chunk's first sample.
    pub(crate) open_start_ms: i64,
    /// Chunks in the chunk log, by time.
    pub(crate) closed: Vec<ClosedChunk>,
    /// Pairs of symbols, sorted by the text of the name.
    pub(crate) labels: Box<[(u32, u32)]>,
    /// Whose it is: index into the tenants of the head.
    pub(crate) tenant: u32,
    /// Hash of its canonical key in this process.
    pub(crate) key_hash: u64,
}

impl Series {
    pub(crate) fn new(
        reference: u64,
        tenant: u32,
        key_hash: u64,
        labels: Box<[(u32, u32)]>,
    ) -> Series {
        Series {
            reference,
            last_ms: i64::MIN,
            last_bits: 0,
            open: Appender::new(),
            plan: CutPlan::ending_at(i64::MAX),
            open_start_ms: 0,
            closed: Vec::new(),
            labels,
            tenant,
            key_hash,
        }
    }

    /// Whether it ever had a sample.
    pub(crate) fn has_samples(&self) -> bool {
        self.last_ms != i64::MIN
    }

    /// Time of the first sample that is left.
    pub(crate) fn first_ms(&self) -> Option<i64> {
        match self.closed.first() {
            Some(chunk) => Some(chunk.start_ms),
            None => (!self.open.is_empty()).then_some(self.open_start_ms),
        }
    }

    /// Whether the open chunk must be closed before a sample at `timestamp_ms`.
    pub(crate) fn must_cut(&mut self, timestamp_ms: i64) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let open = OpenChunk {
            start_ms: self.open_start_ms,
            last_ms: self.open.last_timestamp_ms(),
            sample_count: u32::from(self.open.sample_count()),
            size_bytes: self.open.size_bytes(),
        };
        // The span of a closed chunk is kept in 32 bits; blocks of 49 days are refused before.
        let is_long = timestamp_ms.saturating_sub(self.open_start_ms) > i64::from(u32::MAX);
        self.plan.cut_before(open, timestamp_ms) || is_long
    }

    /// Appends a sample that is newer than the newest, to a chunk that has room.
    pub(crate) fn push(&mut self, timestamp_ms: i64, value: f64, block_ms: i64) {
        if self.open.is_empty() {
            self.open_start_ms = timestamp_ms;
            self.plan = CutPlan::begin(timestamp_ms, block_ms);
        }
        let taken = self.open.append(timestamp_ms, value);
        debug_assert!(taken, "the cut plan ends a chunk long before it is full");
        self.last_ms = timestamp_ms;
        self.last_bits = value.to_bits();
    }
}
