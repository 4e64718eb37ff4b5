//! Times and durations as Prometheus' HTTP API takes and gives them.

use crate::duration;
use crate::float::parse_go;
use crate::quote::GoQuoted;

/// Prometheus' own smallest and largest times, by the texts under which it accepts them.
const EXTREMES: [(&str, i64); 2] = [
    ("-292273086-05-16T16:47:06Z", -9_223_309_901_257_974_000),
    ("292277025-08-18T07:12:54.999999999Z", 9_223_309_901_257_974_999),
];

/// A parameter that is neither of the accepted forms, in Prometheus' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextTimeError {
    /// Not a time.
    #[error("cannot parse {} to a valid timestamp", GoQuoted(.0))]
    Time(String),
    /// Not a duration.
    #[error("cannot parse {} to a valid duration", GoQuoted(.0))]
    Duration(String),
    /// A duration of more nanoseconds than an `i64` holds.
    #[error("cannot parse {} to a valid duration. It overflows int64", GoQuoted(.0))]
    Overflow(String),
}

/// Parses a `time`, `start` or `end`: seconds since the Unix epoch as a float, or RFC 3339; in
/// milliseconds since the Unix epoch.
///
/// # Errors
/// [`TextTimeError::Time`]; also for what is no number and what no `i64` of milliseconds holds,
/// where Prometheus goes on with an accidental time.
pub fn parse_time_ms(text: &str) -> Result<i64, TextTimeError> {
    let refused = || TextTimeError::Time(text.chars().take(200).collect());
    if let Ok(seconds) = parse_go(text) {
        return seconds_to_ms(seconds).ok_or_else(refused);
    }
    let extreme = EXTREMES.iter().find(|(it, _)| *it == text).map(|(_, ms)| *ms);
    extreme.or_else(|| parse_rfc3339_ms(text)).ok_or_else(refused)
}

/// Parses a `step`, `timeout` or `lookback_delta`: seconds as a float, or a duration with units;
/// in nanoseconds, negative ones too.
///
/// # Errors
/// [`TextTimeError::Duration`] or [`TextTimeError::Overflow`]; NaN is refused.
pub fn parse_duration_ns(text: &str) -> Result<i64, TextTimeError> {
    let shown = || text.chars().take(200).collect();
    if let Ok(seconds) = parse_go(text) {
        if seconds.is_nan() {
            return Err(TextTimeError::Duration(shown()));
        }
        return float_to_i64(seconds * 1e9).ok_or_else(|| TextTimeError::Overflow(shown()));
    }
    let parsed = duration::parse_ms(text).map_err(|_| TextTimeError::Duration(shown()))?;
    Ok(parsed * 1_000_000)
}

/// Appends a time as the HTTP API's answers show it: seconds with up to three decimals.
pub fn append_json(out: &mut Vec<u8>, timestamp_ms: i64) {
    if timestamp_ms < 0 {
        out.push(b'-');
    }
    let magnitude = timestamp_ms.unsigned_abs();
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(magnitude / 1000).as_bytes());
    let rest = magnitude % 1000;
    if rest != 0 {
        out.push(b'.');
        for divisor in [100, 10, 1] {
            out.push(b"0123456789"[usize::try_from(rest / divisor % 10).unwrap_or_default()]);
        }
    }
}

fn seconds_to_ms(seconds: f64) -> Option<i64> {
    let whole = float_to_i64(seconds.trunc())?;
    // The fraction is rounded on its own, and cut to nanoseconds as Prometheus does it.
    let fraction = (seconds.fract() * 1000.0).round() / 1000.0;
    let nanoseconds = float_to_i64(fraction * 1e9)?;
    whole.checked_mul(1000)?.checked_add(nanoseconds.div_euclid(1_000_000))
}

/// The whole part of a float, if an `i64` holds it.
fn float_to_i64(value: f64) -> Option<i64> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if !(-BEYOND..BEYOND).contains(&value) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let whole = value as i64;
    Some(whole)
}

/// Parses RFC 3339 as Go reads it: one digit of an hour is enough, the fraction may follow a
/// comma; in milliseconds since the Unix epoch, finer digits cut. None for anything else.
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    take(&mut rest, b'-')?;
    let month = number(&mut rest, 2).filter(|it| (1..=12).contains(it))?;
    take(&mut rest, b'-')?;
    let day = number(&mut rest, 2).filter(|&it| 1 <= it && it <= days_of(year, month))?;
    take(&mut rest, b'T')?;
    let two = rest.get(1).is_some_and(u8::is_ascii_digit);
    let hour = number(&mut rest, if two { 2 } else { 1 }).filter(|it| *it < 24)?;
    take(&mut rest, b':')?;
    let minute = number(&mut rest, 2).filter(|it| *it < 60)?;
    take(&mut rest, b':')?;
    let second = number(&mut rest, 2).filter(|it| *it < 60)?;
    let fraction_ms = fraction_ms(&mut rest)?;
    let offset = offset_seconds(rest)?;
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset) * 1000 + fraction_ms)
}

fn take(rest: &mut &[u8], expected: u8) -> Option<()> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    (*first == expected).then_some(())
}

fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (text, after) = rest.split_at_checked(digits)?;
    *rest = after;
    text.iter().try_fold(0, |all, it| it.is_ascii_digit().then(|| all * 10 + i64::from(it - b'0')))
}

fn fraction_ms(rest: &mut &[u8]) -> Option<i64> {
    let [b'.' | b',', after @ ..] = *rest else { return Some(0) };
    let digits = after.iter().take_while(|it| it.is_ascii_digit()).count();
    let mut places = after[..digits].iter().chain(std::iter::repeat(&b'0'));
    *rest = &after[digits..];
    let ms = places.by_ref().take(3).fold(0, |all, it| all * 10 + i64::from(it - b'0'));
    (digits > 0).then_some(ms)
}

fn offset_seconds(rest: &[u8]) -> Option<i64> {
    let (sign, mut rest) = match rest {
        [b'Z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let hours = number(&mut rest, 2).filter(|it| *it <= 24)?;
    take(&mut rest, b':')?;
    let minutes = number(&mut rest, 2).filter(|it| *it <= 60)?;
    rest.is_empty().then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leap_days = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    let in_year: i64 = (1..month).map(|it| days_of(year, it)).sum();
    // 719162 days lie between 0001-01-01 and 1970-01-01.
    before * 365 + leap_days + in_year + day - 1 - 719_162
}
