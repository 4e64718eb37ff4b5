//! The fields of a protobuf message, one after the other, borrowed.

use crate::decode::DecodeError;

/// Deepest nesting of groups that is passed over; nobody sends any.
const GROUP_DEPTH_MAX: usize = 16;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Wire type 0.
    Varint(u64, usize),
    /// Wire type 1.
    Fixed64(u64, usize),
    /// Wire type 2: the bytes and where they begin.
    Bytes(&'a [u8], usize),
    /// Wire type 5, or a group; no field that is known has it.
    Other(usize),
}

/// Reads fields until the end of a message.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the message begins in the whole, for errors.
    origin: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8], origin: usize) -> Fields<'a> {
        Fields { bytes, at: 0, origin }
    }

    /// Goes on behind the first `at` bytes of a message, which must end a field.
    pub(super) fn behind(bytes: &'a [u8], at: usize, origin: usize) -> Fields<'a> {
        Fields { bytes, at, origin }
    }

    /// Bytes of the message that were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next field's number and value; none at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?, self.origin + start),
            1 => {
                let bytes = self.array::<8>()?;
                Value::Fixed64(u64::from_le_bytes(bytes), self.origin + start)
            }
            2 => {
                let length = self.varint()?;
                let bytes = self.take(length)?;
                Value::Bytes(bytes, self.origin + self.at - bytes.len())
            }
            3 => {
                self.skip_group(tag >> 3)?;
                Value::Other(self.origin + start)
            }
            5 => {
                self.array::<4>()?;
                Value::Other(self.origin + start)
            }
            _ => return Err(self.error("a wire type that does not exist or stands alone")),
        };
        Ok(Some((self.field_number(tag)?, value)))
    }

    fn field_number(&self, tag: u64) -> Result<u32, DecodeError> {
        match u32::try_from(tag >> 3) {
            Ok(number) if (1..1 << 29).contains(&number) => Ok(number),
            _ => Err(self.error("a field number that does not exist")),
        }
    }

    /// Passes over the fields of a group up to its end.
    fn skip_group(&mut self, number: u64) -> Result<(), DecodeError> {
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            let tag = self.varint()?;
            match tag & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.array::<8>()?),
                2 => {
                    let length = self.varint()?;
                    self.take(length)?;
                }
                3 if open.len() < GROUP_DEPTH_MAX => open.push(tag >> 3),
                3 => return Err(self.error("groups are nested too deep")),
                4 if tag >> 3 == innermost => drop(open.pop()),
                5 => drop(self.array::<4>()?),
                _ => return Err(self.error("a group that is not closed as it was opened")),
            }
        }
        Ok(())
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        if let Some(&byte) = self.bytes.get(self.at)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut value = 0;
        for (index, &byte) in rest.iter().take(10).enumerate() {
            if index == 9 && byte > 1 {
                return Err(self.error("a varint of more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(self.error(if rest.len() < 10 {
            "the end inside a varint"
        } else {
            "a varint too long"
        }))
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or_else(|| self.error("a length that reaches beyond the end"))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.first_chunk::<N>().copied();
        let taken = taken.ok_or_else(|| self.error("the end inside a number"))?;
        self.at += N;
        Ok(taken)
    }

    fn error(&self, reason: &'static str) -> DecodeError {
        DecodeError::Protobuf { reason, offset: self.origin + self.at }
    }
}

impl<'a> Value<'a> {
    /// The bytes of a field that must have some, and where they begin.
    pub(super) fn bytes(self) -> Result<(&'a [u8], usize), DecodeError> {
        match self {
            Value::Bytes(bytes, offset) => Ok((bytes, offset)),
            other => Err(other.wrong("a field that should hold bytes holds something else")),
        }
    }

    /// The eight bytes of a field that must have them.
    pub(super) fn fixed64(self) -> Result<u64, DecodeError> {
        match self {
            Value::Fixed64(value, _) => Ok(value),
            other => Err(other.wrong("a field that should hold a double holds something else")),
        }
    }

    /// The number of a field that must have one.
    pub(super) fn varint(self) -> Result<u64, DecodeError> {
        match self {
            Value::Varint(value, _) => Ok(value),
            other => Err(other.wrong("a field that should hold a number holds something else")),
        }
    }

    fn wrong(self, reason: &'static str) -> DecodeError {
        let (Value::Varint(_, offset)
        | Value::Fixed64(_, offset)
        | Value::Bytes(_, offset)
        | Value::Other(offset)) = self;
        DecodeError::Protobuf { reason, offset }
    }
}
