//! Number literals: Go's integers with base 0 first, Go's floats else.

use crate::quote::quoted;

/// The value of a number token, or what Go says about it.
pub(crate) fn parse(text: &str) -> Result<f64, String> {
    if let Some(integer) = integer(text) {
        return Ok(integer as f64);
    }
    let fail = |what: &str| {
        let shown = quoted(text.as_bytes());
        Err(format!("error parsing number: strconv.ParseFloat: parsing {shown}: {what}"))
    };
    // Without underscores Rust reads the same decimal floats as Go and rounds them the same.
    // Hexadecimal digits without an exponent are refused by both.
    let plain: String = text.chars().filter(|it| *it != '_').collect();
    if !underscores_fit(text) {
        return fail("invalid syntax");
    }
    match plain.parse::<f64>() {
        Ok(value) if value.is_infinite() && !text.eq_ignore_ascii_case("inf") => {
            fail("value out of range")
        }
        Ok(value) => Ok(value),
        Err(_) => fail("invalid syntax"),
    }
}

/// Whether every underscore stands between two digits.
fn underscores_fit(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').all(|(index, _)| {
        is_digit(index.checked_sub(1).and_then(|at| bytes.get(at)))
            && is_digit(bytes.get(index + 1))
    })
}

/// An integer below 2^63: decimal, hexadecimal (`0x`) or octal (`0`), underscores between digits.
fn integer(text: &str) -> Option<i64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (text.get(2..)?, 16),
        [b'0', _, ..] => (text.get(1..)?, 8),
        _ => (text, 10),
    };
    let first_is_prefix = radix != 10;
    let bytes = digits.as_bytes();
    let stray = |pair: &[u8]| pair == b"__";
    if bytes.windows(2).any(stray)
        || bytes.last() == Some(&b'_')
        || (!first_is_prefix && bytes.first() == Some(&b'_'))
        || !bytes.iter().all(|it| it.is_ascii_alphanumeric() || *it == b'_')
    {
        return None;
    }
    let digits: String = digits.chars().filter(|it| *it != '_').collect();
    i64::from_str_radix(&digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("0", 0.0),
            ("017", 15.0),
            ("08", 8.0),
            ("0x_ff", 255.0),
            ("1_000", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("9223372036854775808", 9.223_372_036_854_776e18),
            ("1.5_0", 1.5),
            ("0_8", 8.0),
            ("InF", f64::INFINITY),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
        assert!(parse("nAn").is_ok_and(f64::is_nan));
        for text in ["1_", "1__0", "0x8000000000000000", "1e400", "1e", "1_e5", "0x_"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
