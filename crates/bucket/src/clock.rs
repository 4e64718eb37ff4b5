//! Compares a clock with the store's, so that nobody takes blocks away by a clock that is wrong.

use bytes::Bytes;
use objstore::ObjectStore;

use crate::error::Result;
use crate::layout;
use crate::view::Snapshot;

/// Two clocks that are further apart than this do not agree.
pub const SKEW_MAX_MS: i64 = 3_600_000;
/// The object that is written to learn the store's time. One for all, and it stays: whoever wrote
/// it last, its time is that of the store.
pub const PROBE_KEY: &str = "aion-clock-probe";

/// What one says who opens the object.
const PROBE_BODY: &[u8] = b"Its time of modification is what matters; it may be deleted.\n";

/// How a clock stands beside the store's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// By how many ms the clock is ahead of the store's, negative when it is behind.
    pub ahead_ms: i64,
    /// The object whose time shows it.
    pub key: String,
}

impl Reading {
    /// Whether the clocks are so near to each other that marks and deletions may go by them.
    pub fn agrees(&self) -> bool {
        self.ahead_ms.unsigned_abs() <= SKEW_MAX_MS.unsigned_abs()
    }
}

/// Compares `now_ms` with the store's clock. A block that was written later than that shows a
/// clock that is behind without any call; otherwise the store stamps an object now.
///
/// A bucket in a directory has no clock but that of the machine which has the disk.
///
/// # Errors
/// When the probe can be neither written nor looked at.
pub async fn compare(store: &dyn ObjectStore, snapshot: &Snapshot, now_ms: i64) -> Result<Reading> {
    if let Some((modified_ms, key)) = newest(snapshot) {
        let reading = Reading { ahead_ms: now_ms.saturating_sub(modified_ms), key };
        if reading.ahead_ms < 0 && !reading.agrees() {
            return Ok(reading);
        }
    }
    store.put(PROBE_KEY, Bytes::from_static(PROBE_BODY)).await?;
    let probe = store.head(PROBE_KEY).await?;
    let ahead_ms = now_ms.saturating_sub(probe.modified_ms);
    Ok(Reading { ahead_ms, key: PROBE_KEY.to_owned() })
}

/// The object of a block that was written last, and when.
fn newest(snapshot: &Snapshot) -> Option<(i64, String)> {
    let blocks = snapshot.blocks.iter();
    let files = blocks.flat_map(|(id, block)| block.files.iter().map(move |it| (*id, it)));
    let (id, file) = files.max_by_key(|(_, it)| it.modified_ms)?;
    Some((file.modified_ms, layout::key(id, &file.path)))
}
