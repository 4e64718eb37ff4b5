//! The tombstones of a block: spans of time of series that were deleted and not yet rewritten.

use std::path::Path;

use hashbrown::HashMap;
use model::TimeRange;

use crate::codec::{Cursor, crc32c};
use crate::error::{Damage, Result};
use crate::fs::{self, Fs};

/// The first four bytes of a tombstones file.
pub const MAGIC: u32 = 0x0130_ba30;
/// Larger files are refused: no deletion needs so many intervals.
const SIZE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Deleted intervals by series reference, both ends inclusive, sorted and joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    intervals: HashMap<u64, Vec<TimeRange>, foldhash::fast::RandomState>,
    count: usize,
}

impl Tombstones {
    /// Reads a block's tombstones; without a file there are none.
    ///
    /// # Errors
    /// When the disk fails or the file is damaged.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Tombstones> {
        match fs::read_whole(fs, path, SIZE_MAX_BYTES) {
            Ok(bytes) => Tombstones::decode(&bytes).map_err(|it| it.within(path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Tombstones::default()),
            Err(error) => Err(crate::Error::io("read", path)(error)),
        }
    }

    /// Decodes a whole tombstones file.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Tombstones, Damage> {
        let mut cursor = Cursor::new("tombstones", bytes);
        let magic = cursor.u32()?;
        if magic != MAGIC {
            return Err(Damage::new("tombstones", 0, format!("magic {magic:08x}")));
        }
        let version = cursor.u8()?;
        if version != 1 {
            return Err(Damage::new("tombstones", 4, format!("unknown version {version}")));
        }
        let length = cursor.remaining().saturating_sub(4);
        let content = cursor.take(length)?;
        if cursor.u32()? != crc32c(content) {
            return Err(Damage::new("tombstones", 0, "checksum mismatch"));
        }
        let mut cursor = Cursor::new_at("tombstones", content, 5);
        let mut tombstones = Tombstones::default();
        while !cursor.is_empty() {
            let reference = cursor.uvarint()?;
            let range = TimeRange::new(cursor.varint()?, cursor.varint()?);
            tombstones.count += 1;
            tombstones.intervals.entry(reference).or_default().push(range);
        }
        for intervals in tombstones.intervals.values_mut() {
            join(intervals);
        }
        Ok(tombstones)
    }

    /// The deleted intervals of a series.
    pub fn of(&self, reference: u32) -> &[TimeRange] {
        self.intervals.get(&u64::from(reference)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of intervals in the file.
    pub fn count(&self) -> usize {
        self.count
    }
}

fn join(intervals: &mut Vec<TimeRange>) {
    intervals.sort_by_key(|it| (it.start_ms, it.end_ms));
    intervals.dedup_by(|next, kept| {
        let touching = next.start_ms <= kept.end_ms.saturating_add(1);
        if touching {
            kept.end_ms = kept.end_ms.max(next.end_ms);
        }
        touching
    });
}
