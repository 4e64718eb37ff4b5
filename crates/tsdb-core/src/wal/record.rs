//! What the payloads of frames hold.

use crate::codec::{Cursor, put_text, put_uvarint, put_varint};
use crate::error::Damage;

/// Payload bytes at which a writer ends a frame and begins the next one.
pub(crate) const PAYLOAD_BYTES_WANTED: usize = 4 << 20;

/// One float sample of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FloatRecord {
    /// The series, by its reference.
    pub(crate) reference: u64,
    /// Time in ms.
    pub(crate) timestamp_ms: i64,
    /// The value, to the bit.
    pub(crate) value: f64,
}

/// Writes a payload of floats: per sample the difference to the series before it, the difference
/// to the time before it, and the eight bytes of the value.
#[derive(Debug, Default)]
pub(crate) struct FloatsWriter {
    payload: Vec<u8>,
    reference: u64,
    timestamp_ms: i64,
    count: usize,
}

impl FloatsWriter {
    /// Appends a sample.
    pub(crate) fn push(&mut self, sample: FloatRecord) {
        put_varint(&mut self.payload, wrapping_difference(sample.reference, self.reference));
        put_varint(&mut self.payload, sample.timestamp_ms.wrapping_sub(self.timestamp_ms));
        self.payload.extend_from_slice(&sample.value.to_bits().to_be_bytes());
        self.reference = sample.reference;
        self.timestamp_ms = sample.timestamp_ms;
        self.count += 1;
    }

    /// The payload so far.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Number of samples so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Begins a new payload and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.payload.clear();
        *self = FloatsWriter { payload: std::mem::take(&mut self.payload), ..Self::default() };
    }
}

/// Calls `each` for the samples of a payload.
///
/// # Errors
/// When the payload is not what a writer makes.
pub(crate) fn read_floats(payload: &[u8], mut each: impl FnMut(FloatRecord)) -> Result<(), Damage> {
    let mut cursor = Cursor::new("float samples", payload);
    let (mut reference, mut timestamp_ms) = (0_u64, 0_i64);
    while !cursor.is_empty() {
        reference = reference.wrapping_add_signed(cursor.varint()?);
        timestamp_ms = timestamp_ms.wrapping_add(cursor.varint()?);
        let value = f64::from_bits(cursor.u64()?);
        each(FloatRecord { reference, timestamp_ms, value });
    }
    Ok(())
}

/// One series of a frame; labels as pairs, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeriesRecord<'a> {
    /// The reference that samples name.
    pub(crate) reference: u64,
    /// Whose it is.
    pub(crate) tenant: &'a str,
    /// Sorted by name.
    pub(crate) labels: Vec<(&'a str, &'a str)>,
}

/// Appends a series to a payload.
pub(crate) fn put_series<'a>(
    out: &mut Vec<u8>,
    reference: u64,
    tenant: &str,
    labels: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) {
    put_uvarint(out, reference);
    put_text(out, tenant);
    put_uvarint(out, labels.len() as u64);
    for (name, value) in labels {
        put_text(out, name);
        put_text(out, value);
    }
}

/// Calls `each` for the series of a payload.
///
/// # Errors
/// When the payload is not what a writer makes.
pub(crate) fn read_series<'a>(
    payload: &'a [u8],
    mut each: impl FnMut(SeriesRecord<'a>),
) -> Result<(), Damage> {
    let mut cursor = Cursor::new("series", payload);
    while !cursor.is_empty() {
        let reference = cursor.uvarint()?;
        let tenant = cursor.text()?;
        let count = cursor.length()?;
        // Each label takes two bytes at least: a lying count allocates nothing.
        if count > cursor.remaining() / 2 {
            return Err(cursor.damage("more labels declared than there are bytes"));
        }
        let mut labels = Vec::with_capacity(count);
        for _ in 0..count {
            labels.push((cursor.text()?, cursor.text()?));
        }
        each(SeriesRecord { reference, tenant, labels });
    }
    Ok(())
}

fn wrapping_difference(now: u64, before: u64) -> i64 {
    now.wrapping_sub(before).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_round_trip() {
        let samples = [
            (16, 1_700_000_000_000, 1.5_f64.to_bits()),
            (32, 1_700_000_000_000, model::STALE_NAN_BITS),
            (u64::MAX, i64::MIN, 0x8000_0000_0000_0000),
            (0, i64::MAX, u64::MAX),
        ];
        let mut writer = FloatsWriter::default();
        for _ in 0..2 {
            writer.clear();
            for (reference, timestamp_ms, bits) in samples {
                let value = f64::from_bits(bits);
                writer.push(FloatRecord { reference, timestamp_ms, value });
            }
        }
        let mut read = Vec::new();
        let each = |it: FloatRecord| read.push((it.reference, it.timestamp_ms, it.value.to_bits()));
        read_floats(writer.payload(), each).unwrap();
        assert_eq!(read, samples);
        assert!(read_floats(&writer.payload()[..5], |_| ()).is_err());
    }

    #[test]
    fn series_round_trip_and_lies_are_refused() {
        let mut payload = Vec::new();
        let labels = [("__name__", "up"), ("job", "ä")];
        put_series(&mut payload, 48, "default-tenant", labels.into_iter());
        let mut read = Vec::new();
        read_series(&payload, |it| read.push(it)).unwrap();
        let expected =
            SeriesRecord { reference: 48, tenant: "default-tenant", labels: labels.into() };
        assert_eq!(read, [expected]);
        assert!(read_series(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], |_| ()).is_err());
    }
}
