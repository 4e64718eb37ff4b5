//! Durations as Prometheus writes them in flags, configuration and queries: `1h30m`, `15d`.

mod flag;

pub use crate::duration::flag::{NotADuration, parse_flag};
use crate::quote::GoQuoted;

/// Units from the largest to the smallest, in milliseconds, and whether the printer uses the
/// unit only when nothing smaller is left over.
const UNITS: [(&str, i64, bool); 7] = [
    ("y", 365 * DAY_MS, true),
    ("w", 7 * DAY_MS, true),
    ("d", DAY_MS, false),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1000, false),
    ("ms", 1, false),
];
const DAY_MS: i64 = 86_400_000;

/// Longest duration in milliseconds: an `i64` of nanoseconds, about 292 years.
pub const DURATION_MS_MAX: i64 = i64::MAX / 1_000_000;

/// A text that is not a duration, in Prometheus' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("empty duration string")]
    Empty,
    /// Not numbers with units in falling order.
    #[error("not a valid duration string: {}", GoQuoted(.text))]
    Invalid {
        /// What was to be parsed.
        text: String,
    },
    /// A unit that does not exist.
    #[error("unknown unit {} in duration {}", GoQuoted(.unit), GoQuoted(.text))]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// What was to be parsed.
        text: String,
    },
    /// Longer than [`DURATION_MS_MAX`].
    #[error("duration out of range")]
    OutOfRange,
}

/// Parses a duration without a sign, in milliseconds; `0` needs no unit.
///
/// # Errors
/// [`DurationError`] in the words of Prometheus' `model.ParseDuration`.
pub fn parse_ms(text: &str) -> Result<i64, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let invalid = || DurationError::Invalid { text: text.to_owned() };
    let (mut rest, mut total_ms, mut units_left) = (text, 0_i64, &UNITS[..]);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
        let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = &rest[..rest.find(|it: char| it.is_ascii_digit()).unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        if unit.is_empty() {
            return Err(invalid());
        }
        let Some(place) = units_left.iter().position(|(name, ..)| *name == unit) else {
            let known = UNITS.iter().any(|(name, ..)| *name == unit);
            let (unit, text) = (unit.to_owned(), text.to_owned());
            return Err(if known { invalid() } else { DurationError::UnknownUnit { unit, text } });
        };
        let part_ms = i64::try_from(count).ok().and_then(|it| it.checked_mul(units_left[place].1));
        total_ms = part_ms
            .and_then(|it| it.checked_add(total_ms))
            .filter(|&it| it <= DURATION_MS_MAX)
            .ok_or(DurationError::OutOfRange)?;
        units_left = &units_left[place + 1..];
    }
    Ok(total_ms)
}

/// Parses a duration that may have a leading minus, in milliseconds.
///
/// # Errors
/// As [`parse_ms`], naming the text after the sign.
pub fn parse_signed_ms(text: &str) -> Result<i64, DurationError> {
    match text.strip_prefix('-') {
        Some(magnitude) => parse_ms(magnitude).map(|it| -it),
        None => parse_ms(text),
    }
}

/// A duration as Prometheus prints it; years and weeks only when they come out even.
pub fn format_ms(duration_ms: i64) -> String {
    if duration_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::with_capacity(16);
    if duration_ms < 0 {
        text.push('-');
    }
    let mut rest = duration_ms.unsigned_abs();
    for (name, unit_ms, exact) in UNITS {
        let unit_ms = unit_ms.unsigned_abs();
        if rest < unit_ms || (exact && !rest.is_multiple_of(unit_ms)) {
            continue;
        }
        text.push_str(itoa::Buffer::new().format(rest / unit_ms));
        text.push_str(name);
        rest %= unit_ms;
    }
    text
}
