//! A borrowed walk over protobuf bytes: fields as slices of the message, nothing copied.

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field ends after its message.
    #[error("a field ends after its message")]
    Truncated,
    /// A varint has more than ten bytes.
    #[error("a varint is longer than ten bytes")]
    Varint,
    /// The field number 0 or a wire type that does not exist.
    #[error("illegal field key {0}")]
    Key(u64),
    /// A field has another wire type than its message lays down.
    #[error("field {0} has the wrong wire type")]
    Type(u32),
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A chunk in an encoding that nobody knows here.
    #[error("unknown chunk encoding {0}")]
    Encoding(u64),
    /// The same label twice, or a label without a name.
    #[error("bad labels: {0}")]
    Labels(&'static str),
}

/// The content of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2: bytes, text or a message.
    Bytes(&'a [u8]),
    /// Wire types 1, 3 and 5; no message here has such fields, they are stepped over.
    Other,
}

/// The fields of one message in the order of the bytes.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// A walk over the bytes of one message.
    pub fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// The next field's number and content; `None` at the end of the message.
    pub fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = take_varint(&mut self.rest)?;
        let number = u32::try_from(key >> 3).map_err(|_| WireError::Key(key))?;
        if number == 0 {
            return Err(WireError::Key(key));
        }
        let value = match key & 7 {
            0 => Value::Varint(take_varint(&mut self.rest)?),
            2 => Value::Bytes(take_bytes(&mut self.rest)?),
            3 => {
                skip_group(&mut self.rest)?;
                Value::Other
            }
            kind @ (1 | 5) => {
                take(&mut self.rest, if kind == 1 { 8 } else { 4 })?;
                Value::Other
            }
            _ => return Err(WireError::Key(key)),
        };
        Ok(Some((number, value)))
    }
}

impl<'a> Value<'a> {
    /// The content of a field that must be a varint.
    pub fn varint(self, number: u32) -> Result<u64, WireError> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(WireError::Type(number)),
        }
    }

    /// The content of a field that must be an `int64`.
    pub fn int64(self, number: u32) -> Result<i64, WireError> {
        self.varint(number).map(u64::cast_signed)
    }

    /// The content of a field that must be bytes or a message.
    pub fn bytes(self, number: u32) -> Result<&'a [u8], WireError> {
        match self {
            Value::Bytes(value) => Ok(value),
            _ => Err(WireError::Type(number)),
        }
    }

    /// The content of a field that must be text.
    pub fn text(self, number: u32) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(number)?).map_err(|_| WireError::Utf8)
    }
}

/// Bytes of `value` as a varint.
pub fn varint_len(value: u64) -> usize {
    // Seven bits a byte, and at least one byte: ceil(bits / 7) without a division.
    let bits = 64 - (value | 1).leading_zeros();
    ((bits * 9 + 64) / 64) as usize
}

/// Appends `value` as a varint.
pub fn put_varint(out: &mut impl bytes::BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.put_u8(low_byte(value));
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], WireError> {
    let (taken, after) = rest.split_at_checked(length).ok_or(WireError::Truncated)?;
    *rest = after;
    Ok(taken)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], WireError> {
    let length = take_varint(rest)?;
    take(rest, usize::try_from(length).map_err(|_| WireError::Truncated)?)
}

#[inline]
fn take_varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    match *rest {
        [first, after @ ..] if *first < 0x80 => {
            *rest = after;
            Ok(u64::from(*first))
        }
        _ => take_long_varint(rest),
    }
}

fn take_long_varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < 10 { WireError::Truncated } else { WireError::Varint })
}

/// Steps over a group, also over groups in it, without recursion.
fn skip_group(rest: &mut &[u8]) -> Result<(), WireError> {
    let mut depth = 1_usize;
    while depth > 0 {
        let key = take_varint(rest)?;
        match key & 7 {
            0 => drop(take_varint(rest)?),
            1 => drop(take(rest, 8)?),
            2 => drop(take_bytes(rest)?),
            3 => depth += 1,
            4 => depth -= 1,
            5 => drop(take(rest, 4)?),
            _ => return Err(WireError::Key(key)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_have_the_length_that_was_foretold() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(bytes.len(), varint_len(value), "{value}");
                let mut rest = bytes.as_slice();
                assert_eq!(take_varint(&mut rest), Ok(value));
                assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn broken_bytes_are_named() {
        let check = |bytes: &[u8], expected: WireError| {
            let mut fields = Fields::new(bytes);
            let error = loop {
                match fields.field() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{bytes:?} was taken"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, expected);
        };
        check(&[0x0a, 5, 1], WireError::Truncated);
        check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], WireError::Truncated);
        check(&[0x08], WireError::Truncated);
        check(&[0x08, 0x80], WireError::Truncated);
        check(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], WireError::Varint);
        check(&[0x02, 0], WireError::Key(2));
        check(&[0x0f], WireError::Key(15));
        check(&[0x0b, 0x0b, 0x0c], WireError::Truncated);
    }

    #[test]
    fn groups_and_fixed_fields_are_stepped_over() {
        let mut bytes = vec![0x0b, 0x0b, 0x10, 1, 0x0c, 0x1a, 1, 9, 0x0c];
        bytes.extend_from_slice(&[0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0x20, 7]);
        let mut fields = Fields::new(&bytes);
        assert_eq!(fields.field(), Ok(Some((1, Value::Other))));
        assert_eq!(fields.field(), Ok(Some((2, Value::Other))));
        assert_eq!(fields.field(), Ok(Some((3, Value::Other))));
        assert_eq!(fields.field(), Ok(Some((4, Value::Varint(7)))));
        assert_eq!(fields.field(), Ok(None));
    }
}
