//! Floats as Go and Prometheus print and parse them.
//!
//! Every printed form has the fewest digits that read back as the same float; the forms differ
//! in where they use an exponent.

use crate::quote::GoQuoted;

mod parse;

pub use self::parse::parse_go;

/// A text that Go's `strconv.ParseFloat` refuses, with its words.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FloatError {
    /// Not a float at all.
    #[error("strconv.ParseFloat: parsing {}: invalid syntax", GoQuoted(.text))]
    Syntax {
        /// What was to be parsed.
        text: String,
    },
    /// Beyond the largest float.
    #[error("strconv.ParseFloat: parsing {}: value out of range", GoQuoted(.text))]
    Range {
        /// What was to be parsed.
        text: String,
        /// The infinity that Go returns beside this error.
        value: f64,
    },
}

/// Longest text that [`append_f`] writes: sign, `0.`, 323 zeros and 17 digits.
pub const TEXT_BYTES_MAX: usize = 343;

/// Appends a value as Prometheus' HTTP API shows it, without the quotes: with an exponent below
/// 1e-6 and from 1e21 on.
pub fn append_json(out: &mut Vec<u8>, value: f64) {
    if append_integer(out, value) {
        return;
    }
    let Some(shortest) = begin(out, value) else { return };
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        shortest.append_exponent(out);
    } else {
        shortest.append_fixed(out);
    }
}

/// Appends a value without an exponent: `strconv.FormatFloat(v, 'f', -1, 64)`.
pub fn append_f(out: &mut Vec<u8>, value: f64) {
    if append_integer(out, value) {
        return;
    }
    if let Some(shortest) = begin(out, value) {
        shortest.append_fixed(out);
    }
}

/// Appends a value with an exponent below 1e-4 and from 1e6 on:
/// `strconv.FormatFloat(v, 'g', -1, 64)`.
pub fn append_g(out: &mut Vec<u8>, value: f64) {
    let Some(shortest) = begin(out, value) else { return };
    if shortest.length > 0 && !(-3..=6).contains(&shortest.point) {
        shortest.append_exponent(out);
    } else {
        shortest.append_fixed(out);
    }
}

/// The text of [`append_json`].
pub fn format_json(value: f64) -> String {
    text_of(append_json, value)
}

/// The text of [`append_f`].
pub fn format_f(value: f64) -> String {
    text_of(append_f, value)
}

/// A value as a `le` or `quantile` label that Prometheus makes itself: whole numbers get `.0`,
/// minus zero loses its sign.
pub fn format_openmetrics(value: f64) -> String {
    if value == 0.0 {
        return "0.0".to_owned();
    }
    let mut text = text_of(append_g, value);
    if value.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

/// A number as PromQL's printer writes it; the parser reads back the same float.
pub fn format_promql_literal(value: f64) -> String {
    format_f(value)
}

fn text_of(append: fn(&mut Vec<u8>, f64), value: f64) -> String {
    let mut out = Vec::with_capacity(24);
    append(&mut out, value);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends a whole number that is its own shortest text, and tells whether it was one: most
/// samples are, and printing an integer is several times cheaper.
fn append_integer(out: &mut Vec<u8>, value: f64) -> bool {
    // Up to here neighbouring floats are at most 1 apart, so that no digit can be left out.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.abs() >= EXACT_MAX || value.fract() != 0.0 || value == 0.0 && value.is_sign_negative()
    {
        return false;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53, checked above")]
    let whole = value as i64;
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    true
}

/// Appends the sign, or the whole text of what is not a number with digits.
fn begin(out: &mut Vec<u8>, value: f64) -> Option<Shortest> {
    if value.is_finite() {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        return Some(Shortest::of(value.abs()));
    }
    out.extend_from_slice(match value {
        f64::INFINITY => b"+Inf",
        f64::NEG_INFINITY => b"-Inf",
        _ => b"NaN",
    });
    None
}

/// The fewest digits that name a float: 0.`digits` × 10^`point`; no digits for zero.
struct Shortest {
    digits: [u8; 32],
    length: usize,
    point: i32,
}

impl Shortest {
    fn of(value: f64) -> Shortest {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value).as_bytes();
        let (mantissa, exponent) = match memchr::memchr(b'e', text) {
            Some(at) => (&text[..at], exponent_of(&text[at + 1..])),
            None => (text, 0),
        };
        let mut shortest = Shortest { digits: [0; 32], length: 0, point: exponent };
        let mut after_point = false;
        for &byte in mantissa {
            if byte == b'.' {
                after_point = true;
                continue;
            }
            let leading_zero = byte == b'0' && shortest.length == 0;
            if !leading_zero && shortest.length < shortest.digits.len() {
                shortest.digits[shortest.length] = byte;
                shortest.length += 1;
            }
            // A digit before the point raises it, a zero right after the point lowers it.
            shortest.point += i32::from(!after_point && !leading_zero);
            shortest.point -= i32::from(after_point && leading_zero);
        }
        while shortest.length > 0 && shortest.digits[shortest.length - 1] == b'0' {
            shortest.length -= 1;
        }
        shortest
    }

    fn digits(&self) -> &[u8] {
        &self.digits[..self.length]
    }

    fn append_fixed(&self, out: &mut Vec<u8>) {
        let digits = self.digits();
        if digits.is_empty() {
            return out.push(b'0');
        }
        let Ok(whole) = usize::try_from(self.point) else {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + self.point.unsigned_abs() as usize, b'0');
            return out.extend_from_slice(digits);
        };
        if whole == 0 {
            out.extend_from_slice(b"0.");
            out.extend_from_slice(digits);
        } else if whole < digits.len() {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        } else {
            out.extend_from_slice(digits);
            out.resize(out.len() + whole - digits.len(), b'0');
        }
    }

    fn append_exponent(&self, out: &mut Vec<u8>) {
        let digits = self.digits();
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let exponent = self.point - 1;
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        let magnitude = exponent.unsigned_abs();
        if magnitude < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(magnitude).as_bytes());
    }
}

/// The exponent of a printed float: a sign, if any, and at most three digits.
fn exponent_of(text: &[u8]) -> i32 {
    let digits = text.iter().filter(|it| it.is_ascii_digit());
    let magnitude = digits.fold(0, |all, &it| all * 10 + i32::from(it - b'0'));
    if text.first() == Some(&b'-') { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::{prop_oneof, proptest};

    use super::*;

    fn slow(value: f64) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(shortest) = begin(&mut out, value) {
            shortest.append_fixed(&mut out);
        }
        out
    }

    proptest! {
        #[test]
        fn integers_print_the_same_both_ways(
            whole in prop_oneof![any::<i64>(), -1000_i64..1000, -(1_i64 << 54)..1 << 54],
            zeros in 0..16_i32,
        ) {
            #[expect(clippy::cast_precision_loss, reason = "any float near it will do")]
            let value = whole as f64;
            for value in [value, (value / 10_f64.powi(zeros)).round() * 10_f64.powi(zeros)] {
                assert_eq!(text_of(append_f, value).into_bytes(), slow(value));
            }
        }
    }
}
