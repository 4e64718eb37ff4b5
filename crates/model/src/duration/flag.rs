//! Durations as Prometheus (`15d`, `1h30m`) and Go (`1.5s`, `500ms`) write them, in one reader.

use std::time::Duration;

/// Units and their length in nanoseconds; a longer unit before its own prefix.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
    ("w", 7 * 86_400 * 1_000_000_000),
    ("y", 365 * 86_400 * 1_000_000_000),
];

/// Digits of a number in a duration; more are no duration but a mistake.
const DIGITS_MAX: usize = 18;

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration such as 15d, 2h30m, 90s or 500ms")]
pub struct NotADuration(String);

/// Reads a duration: numbers with units one after the other, or a plain `0`.
///
/// A day has 24 hours and a year 365 days, as in Prometheus; fractions are allowed, as in Go.
///
/// # Errors
/// [`NotADuration`] says what a duration looks like.
pub fn parse_flag(text: &str) -> Result<Duration, NotADuration> {
    let refused = || NotADuration(text.chars().take(200).collect());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut nanoseconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() || nanoseconds == 0 && text.is_empty() {
        let (part, after) = part(rest).ok_or_else(refused)?;
        nanoseconds = nanoseconds.checked_add(part).ok_or_else(refused)?;
        rest = after;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// One number with its unit, in nanoseconds, and what follows it.
fn part(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() || whole.len() + fraction.len() > DIGITS_MAX {
        return None;
    }
    let unit_end = rest.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let number: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let nanoseconds = number.checked_mul(u128::from(*unit))? / scale;
    Some((u64::try_from(nanoseconds).ok()?, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected_ms: Option<u64>) {
        let expected = expected_ms.map(Duration::from_millis);
        assert_eq!(parse_flag(text).ok(), expected, "{text:?}");
    }

    #[test]
    fn durations_are_read() {
        check("0", Some(0));
        check("0s", Some(0));
        check("0d", Some(0));
        check("500ms", Some(500));
        check("2h", Some(7_200_000));
        check("2h30m", Some(9_000_000));
        check("2m0s", Some(120_000));
        check("1.5s", Some(1_500));
        check(".5s", Some(500));
        check("15d", Some(15 * 86_400_000));
        check("1w", Some(7 * 86_400_000));
        check("1y", Some(365 * 86_400_000));
        check("1000us", Some(1));
        check("1000µs", Some(1));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "5", "h", "2x", "-1s", "1s ", "1 s", ".s", "99999999999y", "2h30"] {
            check(text, None);
        }
        check(&"9".repeat(1000), None);
    }
}
