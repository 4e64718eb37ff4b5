//! Streams of bits, most significant first, and the numbers that chunks are made of in them.

use crate::codec::VARINT_BYTES_MAX;
use crate::error::Damage;

/// Marks that no window of significant bits was written yet.
const NO_WINDOW: u8 = 0xff;
/// Bits that a peek shows at least, wherever in a byte it begins.
const PEEK_BITS: u32 = 57;
/// Bits of a varbit's number by the ones that lead it; eight ones have no zero behind them.
const VARBIT_WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Appends the lowest `width` bits (1 to 64) of `bits` to a buffer and the word of bits that is to
/// go there next, of which `pending_bits` (below 64) are filled; the bits above must be zero.
#[inline(always)]
pub(super) fn put(
    (buffer, pending, pending_bits): (&mut Vec<u8>, &mut u64, &mut u8),
    bits: u64,
    width: u8,
) {
    let free = 64 - *pending_bits;
    if width < free {
        *pending |= bits << (free - width);
        *pending_bits += width;
        return;
    }
    let over = width - free;
    *pending |= bits >> over;
    buffer.extend_from_slice(&pending.to_be_bytes());
    *pending = bits.checked_shl(64 - u32::from(over)).unwrap_or(0);
    *pending_bits = over;
}

/// The number that `width` bits stand for, where the upper half of their range is negative; the
/// border itself is positive.
#[inline(always)]
pub(super) fn signed(bits: u64, width: u32) -> i64 {
    let border = 1_i64 << (width - 1);
    let value = bits.cast_signed();
    if value > border { value - 2 * border } else { value }
}

/// The window of significant bits that the last different value was written with.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenWindow {
    leading: u8,
    trailing: u8,
}

/// None was written yet.
impl Default for WrittenWindow {
    fn default() -> WrittenWindow {
        WrittenWindow { leading: NO_WINDOW, trailing: 0 }
    }
}

impl WrittenWindow {
    /// How a difference that is not zero is written: a flag and its width, then its bits and their
    /// width.
    #[inline(always)]
    pub(super) fn fit(&mut self, difference: u64) -> (u64, u8, u64, u8) {
        // Five bits hold the leading zeros: more than 31 count as 31.
        let leading = u8::try_from(difference.leading_zeros().min(31)).unwrap_or(31);
        let trailing = u8::try_from(difference.trailing_zeros()).unwrap_or(63);
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            let width = 64 - self.leading - self.trailing;
            return (0b10, 2, difference >> self.trailing, width);
        }
        (self.leading, self.trailing) = (leading, trailing);
        let width = 64 - leading - trailing;
        // A width of 64 is written as 0 in its six bits; a difference always has some bits.
        let flag = (0b11 << 11) | (u64::from(leading) << 6) | u64::from(width & 63);
        (flag, 13, difference >> trailing, width)
    }
}

/// Bits gather in a 64-bit word and go to the buffer eight bytes at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    buffer: Vec<u8>,
    pending: u64,
    pending_bits: u8,
}

impl Writer {
    /// Writes the lowest `width` bits (1 to 64); the bits above must be zero.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, width: u8) {
        put((&mut self.buffer, &mut self.pending, &mut self.pending_bits), bits, width);
    }

    /// Writes a number in the fewest of nine widths that holds it.
    #[inline]
    pub(super) fn put_varbit_uint(&mut self, value: u64) {
        match 64 - value.leading_zeros() {
            0 => self.put(0, 1),
            1..=3 => self.put((0b10 << 3) | value, 5),
            4..=6 => self.put((0b110 << 6) | value, 9),
            7..=9 => self.put((0b1110 << 9) | value, 13),
            10..=12 => self.put((0b1_1110 << 12) | value, 17),
            13..=18 => self.put((0b11_1110 << 18) | value, 24),
            19..=25 => self.put((0b111_1110 << 25) | value, 32),
            26..=56 => self.put((0b1111_1110 << 56) | value, 64),
            _ => {
                self.put(0b1111_1111, 8);
                self.put(value, 64);
            }
        }
    }

    /// As [`Writer::put_varbit_uint`], of a number that may be negative.
    #[inline]
    pub(super) fn put_varbit_int(&mut self, value: i64) {
        let bits = value.cast_unsigned();
        match value {
            0 => self.put(0, 1),
            -3..=4 => self.put((0b10 << 3) | (bits & 0x7), 5),
            -31..=32 => self.put((0b110 << 6) | (bits & 0x3f), 9),
            -255..=256 => self.put((0b1110 << 9) | (bits & 0x1ff), 13),
            -2047..=2048 => self.put((0b1_1110 << 12) | (bits & 0xfff), 17),
            -0x1_ffff..=0x2_0000 => self.put((0b11_1110 << 18) | (bits & 0x3_ffff), 24),
            -0xff_ffff..=0x100_0000 => self.put((0b111_1110 << 25) | (bits & 0x1ff_ffff), 32),
            -0x7f_ffff_ffff_ffff..=0x80_0000_0000_0000 => {
                self.put((0b1111_1110 << 56) | (bits & 0xff_ffff_ffff_ffff), 64);
            }
            _ => {
                self.put(0b1111_1111, 8);
                self.put(bits, 64);
            }
        }
    }

    /// Writes a float's bits as the difference to those of the one before.
    #[inline]
    pub(super) fn put_xor(&mut self, window: &mut WrittenWindow, bits: u64, before: u64) {
        let difference = bits ^ before;
        if difference == 0 {
            self.put(0, 1);
            return;
        }
        let (flag, flag_width, significant, width) = window.fit(difference);
        self.put(flag, flag_width);
        self.put(significant, width);
    }

    /// Bytes of what was written so far; the last one may be filled in part.
    pub(super) fn size_bytes(&self) -> usize {
        self.buffer.len() + usize::from(self.pending_bits.div_ceil(8))
    }

    /// Appends what was written so far to `out`, filled up with zeros to a whole byte.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.buffer);
        let pending = self.pending.to_be_bytes();
        out.extend_from_slice(&pending[..usize::from(self.pending_bits.div_ceil(8))]);
    }
}

/// A float in a stream of differences, and the window of significant bits that was read last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Xored {
    /// The float's bits.
    pub(super) bits: u64,
    leading: u8,
    width: u8,
}

impl Xored {
    /// The first float of a stream.
    pub(super) fn first(bits: u64) -> Xored {
        Xored { bits, leading: 0, width: 64 }
    }

    /// The float.
    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }
}

/// A place in a stream of bits. Nothing is read beyond the end: what would be, gives `None`, and
/// [`Reader::damage`] then says where.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Of the next bit.
    position: usize,
    is_short: bool,
}

impl<'a> Reader<'a> {
    /// Begins at the start of the byte `start` of `bytes`.
    pub(super) fn new(bytes: &'a [u8], start: usize) -> Reader<'a> {
        Reader { bytes, position: 8 * start, is_short: false }
    }

    /// Bits that are left.
    pub(super) fn remaining_bits(&self) -> usize {
        (8 * self.bytes.len()).saturating_sub(self.position)
    }

    /// Why a read gave `None`: the data ends, or a field is impossible.
    pub(super) fn damage(&self, what: &'static str) -> Damage {
        let reason =
            if self.is_short { "ends before its last sample" } else { "has an impossible field" };
        Damage::new(what, self.position as u64 / 8, reason)
    }

    /// The next bits, [`PEEK_BITS`] or more of them, the first the most significant; zeros behind
    /// the end.
    #[inline(always)]
    fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.position / 8..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(word) => *word,
            None => padded(rest),
        };
        u64::from_be_bytes(word) << (self.position % 8)
    }

    #[inline(always)]
    fn skip(&mut self, width: u32) -> Option<()> {
        let end = self.position + width as usize;
        if end > 8 * self.bytes.len() {
            self.is_short = true;
            return None;
        }
        self.position = end;
        Some(())
    }

    /// The next `width` bits (1 to 64).
    #[inline]
    pub(super) fn bits(&mut self, width: u32) -> Option<u64> {
        if width > PEEK_BITS {
            let high = self.bits(32)?;
            let low_width = width - 32;
            return Some((high << low_width) | self.bits(low_width)?);
        }
        let bits = self.peek() >> (64 - width);
        self.skip(width)?;
        Some(bits)
    }

    /// How many of the next bits are ones, at most `most`, which is below [`PEEK_BITS`]; moves
    /// behind them and behind the zero that ends them, if they are fewer than `most`.
    #[inline(always)]
    pub(super) fn ones(&mut self, most: u32) -> Option<u32> {
        let ones = self.peek().leading_ones().min(most);
        self.skip((ones + 1).min(most))?;
        Some(ones)
    }

    /// An unsigned varint in whole bytes, wherever in a byte it begins.
    pub(super) fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0;
        for index in 0..VARINT_BYTES_MAX {
            let byte = self.bits(8)?;
            if index == VARINT_BYTES_MAX - 1 && byte > 1 {
                return None;
            }
            value |= (byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// As [`Reader::uvarint`], zigzag-coded.
    pub(super) fn varint(&mut self) -> Option<i64> {
        let value = self.uvarint()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// What [`Writer::put_varbit_uint`] wrote.
    #[inline]
    pub(super) fn varbit_uint(&mut self) -> Option<u64> {
        let (bits, _) = self.varbit()?;
        Some(bits)
    }

    /// What [`Writer::put_varbit_int`] wrote.
    #[inline]
    pub(super) fn varbit_int(&mut self) -> Option<i64> {
        let (bits, width) = self.varbit()?;
        Some(match width {
            0 => 0,
            64 => bits.cast_signed(),
            _ => signed(bits, width),
        })
    }

    #[inline(always)]
    fn varbit(&mut self) -> Option<(u64, u32)> {
        let head = self.peek();
        if head >> 63 == 0 {
            self.skip(1)?;
            return Some((0, 0));
        }
        let ones = head.leading_ones().min(8);
        let width = VARBIT_WIDTHS[ones as usize];
        let prefix = (ones + 1).min(8);
        if prefix + width <= PEEK_BITS {
            self.skip(prefix + width)?;
            return Some(((head << prefix) >> (64 - width), width));
        }
        self.skip(prefix)?;
        Some((self.bits(width)?, width))
    }

    /// Reads what [`Writer::put_xor`] wrote.
    #[inline]
    pub(super) fn xor(&mut self, float: &mut Xored) -> Option<()> {
        match self.ones(2)? {
            0 => Some(()),
            1 => self.in_window(float),
            _ => self.new_window(float),
        }
    }

    /// Reads a difference in the window of the one before.
    #[inline]
    pub(super) fn in_window(&mut self, float: &mut Xored) -> Option<()> {
        let difference = self.bits(u32::from(float.width))?;
        float.bits ^= difference << (64 - float.leading - float.width);
        Some(())
    }

    /// Reads a window and a difference in it.
    #[inline]
    pub(super) fn new_window(&mut self, float: &mut Xored) -> Option<()> {
        let field = self.bits(11)?;
        let (leading, width) =
            (crate::codec::low_byte(field >> 6), crate::codec::low_byte(field & 63));
        let width = if width == 0 { 64 } else { width };
        if leading + width > 64 {
            return None;
        }
        (float.leading, float.width) = (leading, width);
        self.in_window(float)
    }
}

#[cold]
fn padded(rest: &[u8]) -> [u8; 8] {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(rest) {
        *to = *from;
    }
    word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(
            values in prop::collection::vec(
                prop_oneof![any::<i64>(), -5000_i64..5000, -(1_i64 << 56)..(1 << 56)], 0..50),
        ) {
            let mut writer = Writer::default();
            let mut window = WrittenWindow::default();
            for (value, before) in values.iter().zip([0].iter().chain(&values)) {
                writer.put_varbit_int(*value);
                writer.put_varbit_uint(value.cast_unsigned());
                writer.put_xor(&mut window, value.cast_unsigned(), before.cast_unsigned());
            }
            let mut bytes = Vec::new();
            writer.write_to(&mut bytes);
            prop_assert_eq!(bytes.len(), writer.size_bytes());
            let mut reader = Reader::new(&bytes, 0);
            let mut float = Xored::first(0);
            for value in values {
                prop_assert_eq!(reader.varbit_int(), Some(value));
                prop_assert_eq!(reader.varbit_uint(), Some(value.cast_unsigned()));
                prop_assert_eq!(reader.xor(&mut float), Some(()));
                prop_assert_eq!(float.bits, value.cast_unsigned());
            }
            assert!(reader.remaining_bits() < 8);
        }
    }

    #[test]
    fn the_borders_of_widths_are_those_of_the_format() {
        let bits = |value: i64| {
            let mut writer = Writer::default();
            writer.put_varbit_int(value);
            8 * writer.buffer.len() + usize::from(writer.pending_bits)
        };
        for (value, width) in [(-3, 5), (4, 5), (-4, 9), (5, 9), (33, 13), (257, 17), (2049, 24)] {
            assert_eq!(bits(value), width, "{value}");
        }
        assert_eq!(
            [1_i64 << 17, (1 << 17) + 1, 1 << 55, (1 << 55) + 1].map(bits),
            [24, 32, 64, 72]
        );
    }
}
