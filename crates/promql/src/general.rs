//! Floats as Go's `%g` prints them, for texts that must equal Prometheus'.

/// `%g`: the shortest digits that read back as the value.
pub(crate) fn general(value: f64) -> String {
    let mut text = Vec::with_capacity(24);
    model::float::append_g(&mut text, value);
    String::from_utf8(text).unwrap_or_default()
}

/// A number as OpenMetrics writes it in labels: never without a point or an exponent.
pub(crate) fn open_metrics(value: f64) -> String {
    let text = if value == 0.0 { "0".to_owned() } else { general(value) };
    if value.is_finite() && !text.contains(['.', 'e']) { text + ".0" } else { text }
}

/// `%.{digits}g`: at most so many significant digits, without zeros at the end.
pub(crate) fn general_rounded(value: f64, digits: usize) -> String {
    if let Some(text) = not_finite(value) {
        return text.to_owned();
    }
    let text = format!("{value:.*e}", digits.saturating_sub(1));
    layout(&text, digits)
}

fn not_finite(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        None
    }
}

/// Lays the digits of Rust's `1.25e-7` out as `%g` does: with an exponent of at least two digits
/// below 1e-4 and from 10^`exponent_from` on, plainly between.
fn layout(scientific: &str, exponent_from: usize) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let mut digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    while digits.len() > 1 && digits.ends_with('0') {
        digits.pop();
    }
    let from = i32::try_from(exponent_from).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= from {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}e{mark}{:02}", exponent.unsigned_abs());
    }
    if exponent < 0 {
        let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0));
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = usize::try_from(exponent + 1).unwrap_or(0);
    if digits.len() <= whole {
        let zeros = "0".repeat(whole - digits.len());
        return format!("{sign}{digits}{zeros}");
    }
    let (before, after) = digits.split_at(whole);
    format!("{sign}{before}.{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_in_go() {
        let cases = [
            (0.0, "0"),
            (-1.0, "-1"),
            (0.1, "0.1"),
            (-0.1, "-0.1"),
            (1e30, "1e+30"),
            (1_000_000.0, "1e+06"),
            (100_000.0, "100000"),
            (1.5, "1.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ];
        for (value, text) in cases {
            assert_eq!(general(value), text);
        }
        assert_eq!(general_rounded(5.0, 2), "5");
        assert_eq!(general_rounded(10.0, 2), "10");
        assert_eq!(general_rounded(100.0, 2), "1e+02");
        assert_eq!(general_rounded(0.123, 2), "0.12");
    }
}
