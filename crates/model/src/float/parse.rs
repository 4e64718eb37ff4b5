//! Go's `strconv.ParseFloat`.

use crate::float::FloatError;

/// The NaN that Go makes when it parses one.
const GO_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Parses a float as Go's `strconv.ParseFloat(text, 64)` does: decimal or hexadecimal, with
/// underscores between digits, `inf`, `infinity` and `nan` in any case.
///
/// # Errors
/// [`FloatError`] with Go's words; a value beyond the largest float is one, a value too small is
/// zero.
pub fn parse_go(text: &str) -> Result<f64, FloatError> {
    let syntax = || FloatError::Syntax { text: text.chars().take(200).collect() };
    if text.eq_ignore_ascii_case("nan") {
        return Ok(GO_NAN);
    }
    let (negative, magnitude) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let sign = if negative { -1.0 } else { 1.0 };
    if ["inf", "infinity"].iter().any(|it| magnitude.eq_ignore_ascii_case(it)) {
        return Ok(sign * f64::INFINITY);
    }
    let hex = magnitude.as_bytes().get(..2).is_some_and(|it| it.eq_ignore_ascii_case(b"0x"));
    let digits_at = if hex { 2 } else { 0 };
    if !underscores_are_between_digits(magnitude, hex) {
        return Err(syntax());
    }
    let parsed = if hex { hexadecimal(&magnitude[digits_at..]) } else { decimal(magnitude) };
    let value = sign * parsed.ok_or_else(syntax)?;
    if value.is_infinite() {
        return Err(FloatError::Range { text: text.chars().take(200).collect(), value });
    }
    Ok(value)
}

/// Underscores stand between two digits, or between the `0x` and a digit.
fn underscores_are_between_digits(magnitude: &str, hex: bool) -> bool {
    let bytes = magnitude.as_bytes();
    let is_digit = |it: &u8| if hex { it.is_ascii_hexdigit() } else { it.is_ascii_digit() };
    bytes.iter().enumerate().all(|(at, &byte)| {
        byte != b'_'
            || ((hex && at == 2 || at > 0 && is_digit(&bytes[at - 1]))
                && bytes.get(at + 1).is_some_and(is_digit))
    })
}

fn decimal(magnitude: &str) -> Option<f64> {
    let plain = |it: u8| it.is_ascii_digit() || matches!(it, b'.' | b'e' | b'E' | b'+' | b'-');
    if magnitude.starts_with(['+', '-']) || !magnitude.bytes().all(|it| plain(it) || it == b'_') {
        return None;
    }
    // Both languages round a decimal to the nearest float, ties to even.
    if magnitude.contains('_') {
        return magnitude.replace('_', "").parse().ok();
    }
    magnitude.parse().ok()
}

/// `1.8p-3` after `0x`; the exponent is required.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent = binary_exponent(exponent)?;
    // The first 64 bits of the mantissa, whether any bit after them is set, and their scale.
    let (mut bits, mut sticky, mut scale) = (0_u64, false, 0_i64);
    let (mut any, mut after_point) = (false, false);
    for byte in mantissa.bytes() {
        match byte {
            b'_' => continue,
            b'.' if !after_point => after_point = true,
            b'.' => return None,
            _ => {
                let digit = char::from(byte).to_digit(16)?;
                any = true;
                if bits >> 60 == 0 {
                    bits = bits << 4 | u64::from(digit);
                    scale -= if after_point { 4 } else { 0 };
                } else {
                    sticky |= digit != 0;
                    scale += if after_point { 0 } else { 4 };
                }
            }
        }
    }
    any.then(|| scaled(bits, sticky, scale.saturating_add(exponent)))
}

fn binary_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let mut magnitude = 0_i64;
    for &digit in digits.iter().filter(|&&it| it != b'_') {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        // Far beyond every float already; more digits say nothing new.
        magnitude = (magnitude * 10 + digit).min(1 << 40);
    }
    (!digits.is_empty()).then_some(if negative { -magnitude } else { magnitude })
}

/// `bits` × 2^`exponent`, to the nearest float, ties to even.
fn scaled(bits: u64, sticky: bool, exponent: i64) -> f64 {
    if bits == 0 {
        return 0.0;
    }
    let zeros = bits.leading_zeros();
    let (bits, exponent) = (bits << zeros, exponent.saturating_sub(i64::from(zeros)));
    // The value is 1.xxx × 2^highest.
    let highest = exponent.saturating_add(63);
    if highest > 1023 {
        return f64::INFINITY;
    }
    // Below the normal range one bit of precision is lost for each power of two.
    let lost = (-1022 - highest).max(0);
    if lost > 53 {
        return 0.0;
    }
    let drop = 11 + lost.unsigned_abs();
    let (kept, rest, half) = if drop == 64 {
        (0, bits, 1_u64 << 63)
    } else {
        (bits >> drop, bits & ((1 << drop) - 1), 1_u64 << (drop - 1))
    };
    let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
    let kept = kept + u64::from(up);
    // Counting on from the bits of the exponent lets a carry go over into it.
    let biased = if lost > 0 { 0 } else { (highest + 1022).unsigned_abs() << 52 };
    f64::from_bits(biased + kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_rounds_to_even_and_fades_to_zero() {
        for (text, expected) in [
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000001p0", 1.000_000_000_000_000_2),
            ("0x1p-1074", f64::from_bits(1)),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", f64::from_bits(1)),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x.8p1", 1.0),
            ("0x1p-99999999999999999999", 0.0),
        ] {
            assert_eq!(parse_go(text).unwrap().to_bits(), expected.to_bits(), "{text}");
        }
        for text in ["0x1.fffffffffffff8p1023", "0x1p1024", "0x1p99999999999999999999"] {
            assert!(matches!(parse_go(text), Err(FloatError::Range { .. })), "{text}");
        }
    }

    #[test]
    fn underscores_stand_between_digits_only() {
        for bad in ["_1", "1_", "1__0", "1_.5", "1._5", "1_e5", "1e_5", "0x1_p0", "0x1p_0", "+_1"] {
            assert!(parse_go(bad).is_err(), "{bad}");
        }
    }
}
