//! Aggregate chunks of downsampled blocks, as Thanos writes them: up to five chunks in one.
//!
//! Count, sum, min, max and counter in this order, each an unsigned varint of its length, an
//! encoding byte and the data; an absent one is a single zero byte.

use std::ops::Range;

use model::Columns;

use crate::chunk::value::Timed;
use crate::chunk::{DecodeError, Encoding};
use crate::codec::{Cursor, put_uvarint};
use crate::error::Damage;

/// How many aggregates there may be.
pub const PARTS: usize = 5;

/// One of the aggregates, in the order in which they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// Number of raw samples of each window.
    Count,
    /// Their sum.
    Sum,
    /// The least of them.
    Min,
    /// The greatest of them.
    Max,
    /// The counter that carries on over resets.
    Counter,
}

impl Aggregate {
    /// All of them, in order.
    pub const ALL: [Aggregate; PARTS] =
        [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max, Aggregate::Counter];
}

/// One aggregate inside of an aggregate chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Where its data lies in the aggregate chunk's data.
    pub range: Range<usize>,
}

/// Where the aggregates lie; `None` for one that is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Number of raw samples of each window.
    pub count: Option<Part>,
    /// Their sum.
    pub sum: Option<Part>,
    /// The least of them.
    pub min: Option<Part>,
    /// The greatest of them.
    pub max: Option<Part>,
    /// The counter that carries on over resets.
    pub counter: Option<Part>,
}

impl Parts {
    /// Count, sum, min, max and counter: the order in which they are stored.
    pub fn in_order(&self) -> [Option<&Part>; PARTS] {
        [&self.count, &self.sum, &self.min, &self.max, &self.counter].map(Option::as_ref)
    }

    /// Encoding and data of one aggregate of the chunk that was split into these parts; `None` when
    /// it is absent.
    pub fn data<'a>(&self, data: &'a [u8], aggregate: Aggregate) -> Option<(Encoding, &'a [u8])> {
        let part = match aggregate {
            Aggregate::Count => &self.count,
            Aggregate::Sum => &self.sum,
            Aggregate::Min => &self.min,
            Aggregate::Max => &self.max,
            Aggregate::Counter => &self.counter,
        };
        let part = part.as_ref()?;
        Some((part.encoding, data.get(part.range.clone()).unwrap_or_default()))
    }

    /// Appends the samples of one aggregate of the chunk that was split into these parts to
    /// `columns`; false when it is absent.
    ///
    /// # Errors
    /// As [`crate::chunk::decode`].
    pub fn decode(
        &self,
        data: &[u8],
        aggregate: Aggregate,
        columns: &mut Columns,
    ) -> Result<bool, DecodeError> {
        let Some((encoding, data)) = self.data(data, aggregate) else { return Ok(false) };
        crate::chunk::decode(encoding, data, columns).map(|()| true)
    }

    /// As [`Parts::decode`], to samples as they are stored.
    ///
    /// # Errors
    /// As [`crate::chunk::decode_values`].
    pub fn decode_values(
        &self,
        data: &[u8],
        aggregate: Aggregate,
        samples: &mut Vec<Timed>,
    ) -> Result<bool, DecodeError> {
        let Some((encoding, data)) = self.data(data, aggregate) else { return Ok(false) };
        crate::chunk::decode_values(encoding, data, samples).map(|()| true)
    }
}

/// The data of an aggregate chunk with these aggregates: encodings and data of count, sum, min, max
/// and counter. Every absent one gets its zero byte, the last one too, as Thanos writes it.
pub fn join(parts: [Option<(Encoding, &[u8])>; PARTS]) -> Vec<u8> {
    let bytes = parts.iter().flatten().map(|(_, data)| data.len()).sum::<usize>();
    let mut out = Vec::with_capacity(bytes + 4 * PARTS);
    for part in parts {
        let Some((encoding, data)) = part else {
            out.push(0);
            continue;
        };
        put_uvarint(&mut out, data.len() as u64);
        out.push(encoding.to_byte());
        out.extend_from_slice(data);
    }
    out
}

/// Finds the aggregates in the data of an aggregate chunk.
///
/// A last aggregate that is absent may lack its zero byte: Thanos writes it, but nothing depends
/// on it.
///
/// # Errors
/// When a length reaches beyond the data or an encoding is unknown.
pub fn split(data: &[u8]) -> Result<Parts, Damage> {
    let mut cursor = Cursor::new("aggregate chunk", data);
    Ok(Parts {
        count: part(&mut cursor)?,
        sum: part(&mut cursor)?,
        min: part(&mut cursor)?,
        max: part(&mut cursor)?,
        counter: if cursor.is_empty() { None } else { part(&mut cursor)? },
    })
}

fn part(cursor: &mut Cursor<'_>) -> Result<Option<Part>, Damage> {
    let length = cursor.length()?;
    if length == 0 {
        return Ok(None);
    }
    let byte = cursor.u8()?;
    let encoding = Encoding::from_byte(byte).filter(|it| *it != Encoding::Aggregate);
    let encoding = encoding.ok_or_else(|| cursor.damage(format!("encoding {byte} in a part")))?;
    let start = cursor.position();
    cursor.take(length)?;
    Ok(Some(Part { encoding, range: start..start + length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_split_again() {
        let (count, counter) = (vec![7; 300], [1, 2, 3]);
        let parts = [
            Some((Encoding::Xor, count.as_slice())),
            None,
            None,
            None,
            Some((Encoding::FloatHistogram, counter.as_slice())),
        ];
        let data = join(parts);
        let split = split(&data).unwrap();
        let found = split.in_order().map(|it| it.map(|it| (it.encoding, &data[it.range.clone()])));
        assert_eq!(found, parts);
        assert_eq!(join([None; PARTS]), [0; PARTS]);
    }
}
