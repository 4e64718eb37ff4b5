//! Chunks of floats in Prometheus' second XOR encoding, which are read only: time and value share
//! their flags, staleness markers take few bits, and start timestamps may follow each sample.
//!
//! A big-endian `u16` sample count, the header of the start timestamps, then a stream of bits. See
//! `docs/format/chunks.md`.

use model::{Columns, STALE_NAN_BITS};

use crate::chunk::bits::{Reader, Xored};
use crate::chunk::starts::Starts;
use crate::codec::Cursor;
use crate::error::Damage;

const WHAT: &str = "xor2 chunk";
/// Sample count and the header of the start timestamps.
const HEADER_BYTES: usize = 3;

/// Appends the samples of an encoded chunk to `columns`, with their start timestamps.
///
/// # Errors
/// When the data ends before the declared number of samples, or a field is impossible. The columns
/// then hold the samples before that place.
pub fn decode(data: &[u8], columns: &mut Columns) -> Result<(), Damage> {
    let mut cursor = Cursor::new(WHAT, data);
    let sample_count = cursor.u16()?;
    let header = cursor.u8()?;
    let mut reader = Reader::new(data, HEADER_BYTES);
    let mut state = State {
        timestamp_ms: 0,
        delta_ms: 0,
        value_bits: 0,
        base: Xored::first(0),
        starts: Starts::new(header),
    };
    // Every sample but the first takes a bit or more.
    let room = usize::from(sample_count).min(8 * data.len());
    columns.timestamps_ms.reserve(room);
    columns.values.reserve(room);
    for index in 0..sample_count {
        state.sample(&mut reader, index).ok_or_else(|| reader.damage(WHAT))?;
        let value = f64::from_bits(state.value_bits);
        columns.push_float_since(state.timestamp_ms, value, state.starts.start_ms);
    }
    Ok(())
}

/// What a decoder knows of the sample before.
#[derive(Debug)]
struct State {
    timestamp_ms: i64,
    delta_ms: i64,
    value_bits: u64,
    /// The last value that was not a staleness marker.
    base: Xored,
    starts: Starts,
}

impl State {
    fn sample(&mut self, reader: &mut Reader<'_>, index: u16) -> Option<()> {
        if index == 0 {
            return self.first(reader);
        }
        let before_ms = self.timestamp_ms;
        if index == 1 {
            self.advance(reader.uvarint()?.cast_signed());
            self.value(reader)?;
        } else {
            self.later(reader)?;
        }
        self.starts.next(reader, index, before_ms)
    }

    fn first(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        self.timestamp_ms = reader.varint()?;
        self.value_bits = reader.bits(64)?;
        if self.value_bits != STALE_NAN_BITS {
            self.base = Xored::first(self.value_bits);
        }
        self.starts.first(reader, self.timestamp_ms)
    }

    /// A sample behind the second: the flags say what changed of time and value.
    fn later(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let width = match reader.ones(5)? {
            0 => {
                self.advance(0);
                self.value_bits = self.base.bits;
                return Some(());
            }
            1 => {
                self.advance(0);
                match reader.ones(1)? {
                    0 => reader.in_window(&mut self.base)?,
                    _ => reader.new_window(&mut self.base)?,
                }
                self.value_bits = self.base.bits;
                return Some(());
            }
            2 => 13,
            3 => 20,
            4 => 64,
            _ => {
                self.advance(0);
                self.value_bits = STALE_NAN_BITS;
                return Some(());
            }
        };
        // Here a sign bit is one, unlike in the first encoding.
        let change = (reader.bits(width)? << (64 - width)).cast_signed() >> (64 - width);
        self.advance(change);
        self.value(reader)
    }

    fn advance(&mut self, change_ms: i64) {
        self.delta_ms = self.delta_ms.wrapping_add(change_ms);
        self.timestamp_ms = self.timestamp_ms.wrapping_add(self.delta_ms);
    }

    fn value(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        match reader.ones(3)? {
            0 => {}
            1 => reader.in_window(&mut self.base)?,
            2 => reader.new_window(&mut self.base)?,
            _ => {
                self.value_bits = STALE_NAN_BITS;
                return Some(());
            }
        }
        self.value_bits = self.base.bits;
        Some(())
    }
}
