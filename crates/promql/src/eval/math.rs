//! Functions of one number: arithmetic, trigonometry and the calendar.

use std::f64::consts::PI;

/// The function that PromQL calls `name`, where it takes one value and gives one.
pub(crate) fn function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "day_of_month" => |it| float(date(it).day),
        "day_of_week" => |it| float((days(it) + 4).rem_euclid(7)),
        "day_of_year" => |it| float(day_of_year(it)),
        "days_in_month" => |it| float(days_in_month(it)),
        "deg" => |it| it * 180.0 / PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "hour" => |it| float(seconds_of_day(it) / 3600),
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "minute" => |it| float(seconds_of_day(it) % 3600 / 60),
        "month" => |it| float(date(it).month),
        "rad" => |it| it * PI / 180.0,
        "sgn" => sign,
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        "year" => |it| float(date(it).year),
        _ => return None,
    })
}

/// Go's `math.Max`: a NaN wins unless the other is positive infinity; +0 is more than -0.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`: a NaN wins unless the other is negative infinity; -0 is less than +0.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

const DAY: i128 = 86_400;

/// A day of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

/// Seconds from the first moment of Go's calendar to 1970-01-01.
const CALENDAR_BEFORE_EPOCH: i128 = 9_223_372_028_741_760_000;

/// Whole seconds of a sample value, cut off towards zero. What is no 64-bit number is the smallest
/// one, and what lies before Go's calendar comes back 2^64 seconds later: both as Prometheus shows
/// it.
fn whole_seconds(value: f64) -> i128 {
    let seconds = i128::from(truncated(value));
    if seconds < -CALENDAR_BEFORE_EPOCH { seconds + (1 << 64) } else { seconds }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn truncated(value: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if value > -END && value < END { value as i64 } else { i64::MIN }
}

fn days(value: f64) -> i64 {
    i64::try_from(whole_seconds(value).div_euclid(DAY)).unwrap_or_default()
}

/// Seconds since midnight.
fn seconds_of_day(value: f64) -> i64 {
    i64::try_from(whole_seconds(value).rem_euclid(DAY)).unwrap_or_default()
}

fn date(value: f64) -> Date {
    from_days(days(value))
}

/// The date that lies `days` after 1970-01-01, by 400-year cycles that begin on the first of March.
fn from_days(days: i64) -> Date {
    let days = days + 719_468;
    let (cycle, of_cycle) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_cycle + 400 * cycle + i64::from(month <= 2);
    Date { year, month, day }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn length_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_in_month(value: f64) -> i64 {
    let date = date(value);
    length_of_month(date.year, date.month)
}

fn day_of_year(value: f64) -> i64 {
    let date = date(value);
    (1..date.month).map(|month| length_of_month(date.year, month)).sum::<i64>() + date.day
}

fn float(value: i64) -> f64 {
    crate::kernel::instant::float(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: f64) -> f64 {
        function(name).unwrap()(value)
    }

    #[test]
    fn the_calendar_is_right() {
        let leap = 1_709_210_096.0; // 2024-02-29T12:34:56Z
        let cases = [
            ("year", 2024.0),
            ("month", 2.0),
            ("day_of_month", 29.0),
            ("day_of_week", 4.0),
            ("day_of_year", 60.0),
            ("days_in_month", 29.0),
            ("hour", 12.0),
            ("minute", 34.0),
        ];
        for (name, expected) in cases {
            assert_eq!(of(name, leap), expected, "{name}");
        }
        assert_eq!(of("year", -0.5), 1970.0);
        assert_eq!(of("year", -1.0), 1969.0);
        assert_eq!(of("day_of_week", 0.0), 4.0);
        assert_eq!(of("day_of_year", f64::NAN), 339.0);
        assert_eq!(of("month", f64::INFINITY), 12.0);
    }

    #[test]
    fn extremes_follow_go() {
        assert!(max(f64::NAN, 1.0).is_nan());
        assert_eq!(max(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert_eq!(min(f64::NAN, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!(min(0.0, -0.0).is_sign_negative());
        assert!(max(-0.0, 0.0).is_sign_positive());
        assert_eq!(min(1.0, 2.0), 1.0);
    }
}
