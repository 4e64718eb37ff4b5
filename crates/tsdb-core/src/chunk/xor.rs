//! Chunks of floats: delta-of-delta timestamps and XORed values, byte for byte as Prometheus
//! writes them.
//!
//! A big-endian `u16` sample count, then a stream of bits: the first sample as a varint and 64
//! bits, the second with its time delta as an unsigned varint, all others with the change of that
//! delta in one of five widths. See `docs/format/chunks.md`.

use model::Columns;

use crate::chunk::bits::{WrittenWindow, put, signed};
use crate::codec::{Cursor, put_varint};
use crate::error::Damage;

/// Bytes of the sample count.
const HEADER_BYTES: usize = 2;
/// Most samples of one chunk: the count is a `u16`.
pub const SAMPLES_MAX: u16 = u16::MAX;
/// More than one sample can take: 4 + 64 bits of time, 2 + 5 + 6 + 64 bits of value, and a peek of
/// eight bytes behind the last of them.
const SAMPLE_REACH_BYTES: usize = 32;
/// Bits that a peek shows at least, wherever in a byte it begins.
const PEEK_BITS: u32 = 57;

/// An open chunk: takes samples at its end. Small enough to live inside a series.
///
/// Bits gather in a 64-bit word and go to the buffer eight bytes at a time.
#[derive(Clone, Debug)]
pub struct Appender {
    buffer: Vec<u8>,
    /// Bits that are not in the buffer yet, from the most significant one.
    pending: u64,
    timestamp_ms: i64,
    delta_ms: i64,
    value_bits: u64,
    sample_count: u16,
    /// How many bits of `pending` are filled, below 64.
    pending_bits: u8,
    window: WrittenWindow,
}

impl Appender {
    /// An empty chunk, without a heap allocation.
    pub fn new() -> Appender {
        Appender {
            buffer: Vec::new(),
            pending: 0,
            timestamp_ms: 0,
            delta_ms: 0,
            value_bits: 0,
            sample_count: 0,
            pending_bits: 0,
            window: WrittenWindow::default(),
        }
    }

    /// Empties the chunk and keeps its memory, for who encodes one chunk after the other.
    pub fn clear(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        *self = Appender { buffer, ..Appender::new() };
    }

    /// An open chunk with the samples of an encoded one, as after a restart.
    ///
    /// # Errors
    /// When `data` is damaged.
    pub fn rebuild(data: &[u8]) -> Result<Appender, Damage> {
        let mut columns = Columns::default();
        decode(data, &mut columns)?;
        let mut appender = Appender::new();
        for (&timestamp_ms, &value) in columns.timestamps_ms.iter().zip(&columns.values) {
            // The count was a `u16` when it was read.
            let _fits = appender.append(timestamp_ms, value);
        }
        Ok(appender)
    }

    /// Appends a sample; answers false, and changes nothing, when the chunk holds
    /// [`SAMPLES_MAX`] already. The order of timestamps is the caller's business.
    #[must_use]
    pub fn append(&mut self, timestamp_ms: i64, value: f64) -> bool {
        let value_bits = value.to_bits();
        match self.sample_count {
            SAMPLES_MAX => return false,
            0 => {
                self.buffer.reserve_exact(64);
                self.buffer.extend_from_slice(&[0; HEADER_BYTES]);
                put_varint(&mut self.buffer, timestamp_ms);
                self.put(value_bits, 64);
            }
            1 => {
                self.delta_ms = timestamp_ms.wrapping_sub(self.timestamp_ms);
                self.put_uvarint(self.delta_ms.cast_unsigned());
                self.put_value(value_bits);
            }
            _ => {
                let delta_ms = timestamp_ms.wrapping_sub(self.timestamp_ms);
                self.put_delta_of_delta(delta_ms.wrapping_sub(self.delta_ms));
                self.delta_ms = delta_ms;
                self.put_value(value_bits);
            }
        }
        self.timestamp_ms = timestamp_ms;
        self.value_bits = value_bits;
        self.sample_count += 1;
        true
    }

    /// Number of samples.
    pub fn sample_count(&self) -> u16 {
        self.sample_count
    }

    /// Whether there is no sample yet.
    pub fn is_empty(&self) -> bool {
        self.sample_count == 0
    }

    /// Time of the last sample in ms; 0 while there is none.
    pub fn last_timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// Value of the last sample; 0 while there is none.
    pub fn last_value(&self) -> f64 {
        f64::from_bits(self.value_bits)
    }

    /// Bytes of the encoded chunk as it is now, header included.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len().max(HEADER_BYTES) + usize::from(self.pending_bits.div_ceil(8))
    }

    /// Appends the encoded chunk as it is now to `out`; the chunk stays open.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.size_bytes());
        out.extend_from_slice(&self.sample_count.to_be_bytes());
        out.extend_from_slice(self.buffer.get(HEADER_BYTES..).unwrap_or_default());
        let pending = self.pending.to_be_bytes();
        out.extend_from_slice(&pending[..usize::from(self.pending_bits.div_ceil(8))]);
    }

    /// The encoded chunk as it is now; the chunk stays open.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    fn put_delta_of_delta(&mut self, change: i64) {
        let bits = change.cast_unsigned();
        match change {
            0 => self.put(0, 1),
            -0x1fff..=0x2000 => self.put((0b10 << 14) | (bits & 0x3fff), 16),
            -0xffff..=0x1_0000 => self.put((0b110 << 17) | (bits & 0x1_ffff), 20),
            -0x7_ffff..=0x8_0000 => self.put((0b1110 << 20) | (bits & 0xf_ffff), 24),
            _ => {
                self.put(0b1111, 4);
                self.put(bits, 64);
            }
        }
    }

    fn put_value(&mut self, value_bits: u64) {
        let difference = value_bits ^ self.value_bits;
        if difference == 0 {
            self.put(0, 1);
            return;
        }
        let (flag, flag_width, bits, width) = self.window.fit(difference);
        // At once where both fit into a word.
        if flag_width + width < 64 {
            self.put((flag << width) | bits, flag_width + width);
        } else {
            self.put(flag, flag_width);
            self.put(bits, width);
        }
    }

    /// Writes the lowest `width` bits (1 to 64); the bits above must be zero.
    fn put(&mut self, bits: u64, width: u8) {
        put((&mut self.buffer, &mut self.pending, &mut self.pending_bits), bits, width);
    }
}

impl Default for Appender {
    fn default() -> Appender {
        Appender::new()
    }
}

/// Appends the samples of an encoded chunk to `columns`.
///
/// Bytes behind the last sample are ignored, as Prometheus does.
///
/// # Errors
/// When the data ends before the declared number of samples, or a field is impossible. The columns
/// then hold the samples before that place.
pub fn decode(data: &[u8], columns: &mut Columns) -> Result<(), Damage> {
    let result = decode_floats(data, columns);
    if !columns.start_timestamps_ms.is_empty() {
        columns.start_timestamps_ms.resize(columns.timestamps_ms.len(), 0);
    }
    result
}

fn decode_floats(data: &[u8], columns: &mut Columns) -> Result<(), Damage> {
    let mut cursor = Cursor::new("xor chunk", data);
    let sample_count = usize::from(cursor.u16()?);
    // Every sample but the first takes two bits or more, so this is bounded by what is there.
    let room = sample_count.min(4 * data.len());
    columns.timestamps_ms.reserve(room);
    columns.values.reserve(room);
    if sample_count == 0 {
        return Ok(());
    }
    let timestamp_ms = cursor.varint()?;
    let value_bits = cursor.u64()?;
    columns.push_float(timestamp_ms, f64::from_bits(value_bits));
    if sample_count == 1 {
        return Ok(());
    }
    let delta_ms = cursor.uvarint()?.cast_signed();
    let mut state = State {
        timestamp_ms: timestamp_ms.wrapping_add(delta_ms),
        delta_ms,
        value_bits,
        leading: 0,
        width: 64,
    };
    let mut position = state
        .value(&padded(cursor.rest()), 0)
        .map(|width| 8 * cursor.position() + width)
        .filter(|end| *end <= 8 * data.len())
        .ok_or_else(|| cut_short(8 * cursor.position()))?;
    columns.push_float(state.timestamp_ms, f64::from_bits(state.value_bits));
    let left = sample_count - 2;
    let decoded = decode_body(data, &mut position, left.min(room), &mut state, columns)?;
    decode_tail(data, position, left - decoded, &mut state, columns)
}

/// The samples that lie so far from the end that nothing can be read beyond it: no field needs a
/// check of its own. Answers how many these were; `count_max` places are made for them at once, so
/// that none needs a look at the columns' room.
fn decode_body(
    data: &[u8],
    position: &mut usize,
    count_max: usize,
    state: &mut State,
    columns: &mut Columns,
) -> Result<usize, Damage> {
    let start = columns.timestamps_ms.len();
    columns.timestamps_ms.resize(start + count_max, 0);
    columns.values.resize(start + count_max, 0.0);
    let places = columns.timestamps_ms[start..].iter_mut().zip(&mut columns.values[start..]);
    let mut at = *position;
    let mut decoded = 0;
    let mut damage = None;
    for (timestamp_ms, value) in places {
        if at / 8 + SAMPLE_REACH_BYTES > data.len() {
            break;
        }
        let Some(end) = state.sample(data, at) else {
            damage = Some(impossible(at));
            break;
        };
        (*timestamp_ms, *value) = (state.timestamp_ms, f64::from_bits(state.value_bits));
        at = end;
        decoded += 1;
    }
    columns.timestamps_ms.truncate(start + decoded);
    columns.values.truncate(start + decoded);
    *position = at;
    damage.map_or(Ok(decoded), Err)
}

/// The last samples, read from a copy with zeros behind it; a sample counts only when it ends
/// before the data does.
fn decode_tail(
    data: &[u8],
    position: usize,
    left: usize,
    state: &mut State,
    columns: &mut Columns,
) -> Result<(), Damage> {
    let origin = position / 8;
    let rest = data.get(origin..).unwrap_or_default();
    let tail = padded(rest);
    let mut at = position % 8;
    for _ in 0..left {
        if at >= 8 * rest.len() {
            return Err(cut_short(8 * origin + at));
        }
        let end = state.sample(&tail, at).ok_or_else(|| impossible(8 * origin + at))?;
        if end > 8 * rest.len() {
            return Err(cut_short(8 * origin + at));
        }
        columns.push_float(state.timestamp_ms, f64::from_bits(state.value_bits));
        at = end;
    }
    Ok(())
}

/// What a decoder knows of the sample before.
#[derive(Debug)]
struct State {
    timestamp_ms: i64,
    delta_ms: i64,
    value_bits: u64,
    /// Window of significant bits: zeros in front, and its width (1 to 64).
    leading: u32,
    width: u32,
}

impl State {
    /// Reads the sample that begins at bit `position` and answers where the next one begins;
    /// `None` when a field is impossible. Bytes far enough behind it must be readable.
    #[inline(always)]
    fn sample(&mut self, bytes: &[u8], position: usize) -> Option<usize> {
        let head = peek(bytes, position);
        if head >> 62 == 0 {
            // Same delta, same value: the commonest sample of all.
            self.timestamp_ms = self.timestamp_ms.wrapping_add(self.delta_ms);
            return Some(position + 2);
        }
        let (change, width) = match head.leading_ones() {
            0 => (0, 1),
            1 => (signed((head << 2) >> 50, 14), 16),
            2 => (signed((head << 3) >> 47, 17), 20),
            3 => (signed((head << 4) >> 44, 20), 24),
            _ => {
                let change = read(bytes, position + 4, 64).cast_signed();
                self.advance(change);
                return self.value(bytes, position + 68);
            }
        };
        self.advance(change);
        self.value_in(bytes, position + width as usize, (head << width, PEEK_BITS - width))
    }

    #[inline(always)]
    fn advance(&mut self, change: i64) {
        self.delta_ms = self.delta_ms.wrapping_add(change);
        self.timestamp_ms = self.timestamp_ms.wrapping_add(self.delta_ms);
    }

    /// Reads the value that begins at bit `position`, as [`State::sample`] does.
    #[inline(always)]
    fn value(&mut self, bytes: &[u8], position: usize) -> Option<usize> {
        self.value_in(bytes, position, (peek(bytes, position), PEEK_BITS))
    }

    /// Reads the value that begins at bit `position`, where `head` holds what is known of the bits
    /// from there on, and how many of them: most values end inside, and no load waits for another.
    #[inline(always)]
    fn value_in(
        &mut self,
        bytes: &[u8],
        position: usize,
        (head, head_bits): (u64, u32),
    ) -> Option<usize> {
        if head >> 63 == 0 {
            return Some(position + 1);
        }
        let mut flag_bits = 2;
        if head >> 62 == 0b11 {
            let (leading, width) = (low_bits(head >> 57, 5), low_bits(head >> 51, 6));
            self.leading = leading;
            self.width = if width == 0 { 64 } else { width };
            flag_bits = 13;
            if self.leading + self.width > 64 {
                return None;
            }
        }
        let behind = position + flag_bits as usize;
        let difference = if flag_bits + self.width <= head_bits {
            (head << flag_bits) >> (64 - self.width)
        } else {
            read(bytes, behind, self.width)
        };
        self.value_bits ^= difference << (64 - self.leading - self.width);
        Some(behind + self.width as usize)
    }
}

/// The bits from `position` on, [`PEEK_BITS`] or more of them, the first the most significant.
#[inline(always)]
fn peek(bytes: &[u8], position: usize) -> u64 {
    let word = bytes.get(position / 8..).and_then(|it| it.first_chunk::<8>());
    u64::from_be_bytes(word.copied().unwrap_or_default()) << (position % 8)
}

/// `width` bits (1 to 64) at `position`.
#[inline(always)]
fn read(bytes: &[u8], position: usize, width: u32) -> u64 {
    if width <= PEEK_BITS {
        return peek(bytes, position) >> (64 - width);
    }
    let high = peek(bytes, position) >> 32;
    let low = peek(bytes, position + 32) >> (96 - width);
    (high << (width - 32)) | low
}

#[inline(always)]
fn low_bits(word: u64, width: u32) -> u32 {
    u32::from(crate::codec::low_byte(word)) & ((1 << width) - 1)
}

/// The first bytes of `rest`, as many as a sample can reach, with zeros behind them.
fn padded(rest: &[u8]) -> [u8; 2 * SAMPLE_REACH_BYTES] {
    let mut padded = [0; 2 * SAMPLE_REACH_BYTES];
    let count = rest.len().min(SAMPLE_REACH_BYTES);
    padded[..count].copy_from_slice(&rest[..count]);
    padded
}

fn cut_short(position: usize) -> Damage {
    Damage::new("xor chunk", position as u64 / 8, "ends before its last sample")
}

fn impossible(position: usize) -> Damage {
    Damage::new("xor chunk", position as u64 / 8, "window of significant bits beyond 64")
}
