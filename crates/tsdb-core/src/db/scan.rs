//! Finds chunks in the head-chunk files themselves, for series whose references are damaged.

use hashbrown::HashMap;
use model::Columns;

use crate::chunk::xor;
use crate::error::Result;
use crate::head::chunk_log::{ClosedChunk, Record, read_records};
use crate::head::partition::Partition;

/// A chunk as it was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundChunk {
    pub(crate) closed: ClosedChunk,
    /// Bits of its last sample.
    pub(crate) last_bits: u64,
}

/// The chunks of the series that have no samples yet, by time and not overlapping: slot,
/// reference and chunks. A series that was removed and made again has several references, and
/// only what lies under the newest is not in a block.
///
/// # Errors
/// The disk's; damage is named in `problems`.
pub(crate) fn find_chunks(
    partition: &Partition,
    slots: &HashMap<u64, u32>,
    problems: &mut Vec<String>,
) -> Result<Vec<(u32, u64, Vec<FoundChunk>)>> {
    let mut found: HashMap<u32, (u64, Vec<FoundChunk>)> = HashMap::new();
    for (number, file) in partition.chunks.files() {
        let each = |record: Record<'_>| {
            let Some(slot) = slots.get(&record.reference) else { return };
            if partition.get(*slot).is_none_or(|it| it.has_samples()) {
                return;
            }
            let Some(chunk) = chunk_of(number, &record) else { return };
            let (reference, chunks) = found.entry(*slot).or_default();
            if record.reference > *reference {
                *reference = record.reference;
                chunks.clear();
            }
            if record.reference == *reference {
                chunks.push(chunk);
            }
        };
        problems.extend(read_records(&file, each)?.iter().map(ToString::to_string));
    }
    let found = found.into_iter().map(|(slot, (reference, mut chunks))| {
        chunks.sort_by_key(|it| (it.closed.start_ms, std::cmp::Reverse(it.closed.span_ms)));
        let mut end_ms = i64::MIN;
        chunks.retain(|it| {
            let is_behind = it.closed.start_ms > end_ms;
            end_ms = end_ms.max(it.closed.end_ms());
            is_behind
        });
        (slot, reference, chunks)
    });
    Ok(found.collect())
}

/// A record as a series remembers it; none when its data is not a chunk.
fn chunk_of(file: u32, record: &Record<'_>) -> Option<FoundChunk> {
    let mut columns = Columns::default();
    xor::decode(record.data, &mut columns).ok()?;
    let (start_ms, end_ms) = (*columns.timestamps_ms.first()?, *columns.timestamps_ms.last()?);
    let closed = ClosedChunk {
        start_ms,
        span_ms: u32::try_from(end_ms.checked_sub(start_ms)?).ok()?,
        file,
        offset: record.offset,
        size_bytes: u16::try_from(record.data.len()).ok()?,
        sample_count: u16::try_from(columns.timestamps_ms.len()).ok()?,
    };
    Some(FoundChunk { closed, last_bits: columns.values.last()?.to_bits() })
}
