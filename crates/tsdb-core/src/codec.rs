//! Reading and writing of numbers, texts and checksums in byte slices, every step bounds-checked.

use crate::error::Damage;

/// Most bytes that a 64-bit number takes as a varint.
pub const VARINT_BYTES_MAX: usize = 10;

/// The CRC-32C (Castagnoli) of the bytes, the checksum of every format of this crate.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// A CRC-32C over bytes that come in pieces.
#[derive(Debug)]
pub struct Crc32c(crc_fast::Digest);

impl Crc32c {
    /// The checksum of nothing yet.
    pub fn new() -> Crc32c {
        Crc32c(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn value(&self) -> u32 {
        // A 32-bit checksum comes in a wider word whose upper half is zero.
        u32::try_from(self.0.finalize() & u64::from(u32::MAX)).unwrap_or_default()
    }
}

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c::new()
    }
}

/// A place in a slice, moving forward. Every read is checked against the end.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    what: &'static str,
    origin: u64,
}

impl<'a> Cursor<'a> {
    /// Begins at the start of `bytes`, which hold a `what`.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0, what, origin: 0 }
    }

    /// Begins at the start of `bytes`, which lie at `origin` of a file: errors count from there.
    pub fn new_at(what: &'static str, bytes: &'a [u8], origin: u64) -> Cursor<'a> {
        Cursor { bytes, at: 0, what, origin }
    }

    /// Bytes passed so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// All that is left, without moving.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The error of damage here.
    pub fn damage(&self, reason: impl Into<std::borrow::Cow<'static, str>>) -> Damage {
        Damage::new(self.what, self.origin + self.at as u64, reason)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let Some((taken, _)) = self.rest().split_at_checked(count) else {
            let left = self.remaining();
            return Err(self.damage(format!("cut short: {count} bytes wanted, {left} left")));
        };
        self.at += count;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let Some(taken) = self.rest().first_chunk::<N>() else {
            let left = self.remaining();
            return Err(self.damage(format!("cut short: {N} bytes wanted, {left} left")));
        };
        self.at += N;
        Ok(*taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self) -> Result<u8, Damage> {
        Ok(u8::from_be_bytes(self.take_array()?))
    }

    /// A 16-bit number, most significant byte first.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn u16(&mut self) -> Result<u16, Damage> {
        Ok(u16::from_be_bytes(self.take_array()?))
    }

    /// A 32-bit number, most significant byte first.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_be_bytes(self.take_array()?))
    }

    /// A 64-bit number, most significant byte first.
    ///
    /// # Errors
    /// When too few bytes are left.
    pub fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_be_bytes(self.take_array()?))
    }

    /// An unsigned varint of at most 64 bits.
    ///
    /// # Errors
    /// When it is cut short or does not fit.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u64, Damage> {
        if let Some(&first) = self.rest().first()
            && first < 0x80
        {
            self.at += 1;
            return Ok(u64::from(first));
        }
        self.long_uvarint()
    }

    /// An unsigned varint of more than one byte, mostly.
    fn long_uvarint(&mut self) -> Result<u64, Damage> {
        let rest = self.rest();
        let mut value = 0;
        for (index, &byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            if index == VARINT_BYTES_MAX - 1 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        let short = rest.len() < VARINT_BYTES_MAX;
        Err(self.damage(if short { "varint is cut short" } else { "varint overflows 64 bits" }))
    }

    /// A signed varint, zigzag-coded, of at most 64 bits.
    ///
    /// # Errors
    /// When it is cut short or does not fit.
    pub fn varint(&mut self) -> Result<i64, Damage> {
        Ok(unzigzag(self.uvarint()?))
    }

    /// An unsigned varint that must be a length or count of this machine.
    ///
    /// # Errors
    /// When it is cut short or does not fit.
    pub fn length(&mut self) -> Result<usize, Damage> {
        let value = self.uvarint()?;
        usize::try_from(value).map_err(|_| self.damage("length does not fit"))
    }

    /// Bytes behind their length as an unsigned varint.
    ///
    /// # Errors
    /// When the length reaches beyond the end.
    pub fn sized_bytes(&mut self) -> Result<&'a [u8], Damage> {
        let length = self.length()?;
        self.take(length)
    }

    /// A text behind its length as an unsigned varint.
    ///
    /// # Errors
    /// When the length reaches beyond the end, or the text is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Damage> {
        let bytes = self.sized_bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.damage("text is not UTF-8"))
    }
}

/// Appends an unsigned varint.
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

/// Appends a signed varint, zigzag-coded.
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, zigzag(value));
}

/// Appends a text behind its length as an unsigned varint.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Bytes that a value takes as an unsigned varint.
pub fn uvarint_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// The lowest eight bits.
pub fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_width() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_uvarint(&mut out, value);
                assert_eq!(out.len(), uvarint_bytes(value), "{value}");
                assert_eq!(Cursor::new("test", &out).uvarint(), Ok(value));
                for cut in 0..out.len() {
                    assert!(Cursor::new("test", &out[..cut]).uvarint().is_err());
                }
                let mut out = Vec::new();
                put_varint(&mut out, value.cast_signed());
                assert_eq!(Cursor::new("test", &out).varint(), Ok(value.cast_signed()));
            }
        }
        assert!(Cursor::new("test", &[0xff; 10]).uvarint().is_err());
        assert!(Cursor::new("test", &[0xff; 11]).uvarint().is_err());
    }

    #[test]
    fn a_declared_length_is_checked_before_it_is_used() {
        let mut out = Vec::new();
        put_uvarint(&mut out, u64::MAX);
        let error = Cursor::new_at("label", &out, 100).text().unwrap_err();
        assert_eq!(error.what, "label");
        assert_eq!(error.offset, 110);
    }

    #[test]
    fn checksums_of_pieces_are_those_of_the_whole() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut crc = Crc32c::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.value(), 0xe306_9283);
    }
}
