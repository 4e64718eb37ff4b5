//! Start timestamps in the chunks that carry them: when a counter began to count.
//!
//! A header byte: its upper bit says that the first sample has one, the lower seven bits from which
//! sample on (0: none) each sample has the change of its distance to the sample before.

use crate::chunk::bits::Reader;

/// The start timestamp of the sample that was read last.
#[derive(Clone, Debug)]
pub(super) struct Starts {
    /// In ms since the Unix epoch; 0 means none.
    pub(super) start_ms: i64,
    distance_ms: i64,
    has_first: bool,
    changes_at: u16,
}

impl Starts {
    /// No start timestamps in the chunk.
    pub(super) const NONE: Starts =
        Starts { start_ms: 0, distance_ms: 0, has_first: false, changes_at: 0 };

    /// As the header byte says.
    pub(super) fn new(header: u8) -> Starts {
        Starts {
            has_first: header & 0x80 != 0,
            changes_at: u16::from(header & 0x7f),
            ..Starts::NONE
        }
    }

    /// Reads what follows the first sample.
    pub(super) fn first(&mut self, reader: &mut Reader<'_>, timestamp_ms: i64) -> Option<()> {
        if self.has_first {
            self.start_ms = timestamp_ms.wrapping_sub(reader.varint()?);
        }
        Some(())
    }

    /// Reads what follows the sample `index` (1 or more), where `before_ms` is the time of the
    /// sample before it.
    #[inline]
    pub(super) fn next(
        &mut self,
        reader: &mut Reader<'_>,
        index: u16,
        before_ms: i64,
    ) -> Option<()> {
        if self.changes_at == 0 || index < self.changes_at {
            return Some(());
        }
        let change_ms = reader.varbit_int()?;
        let base_ms = if index == self.changes_at { 0 } else { self.distance_ms };
        self.distance_ms = base_ms.wrapping_add(change_ms);
        self.start_ms = before_ms.wrapping_sub(self.distance_ms);
        Some(())
    }
}
