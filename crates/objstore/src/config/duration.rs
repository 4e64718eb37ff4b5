//! Durations as Prometheus and Thanos write them: `90s`, `1m30s`, `2h`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Units from the largest, with their length in ms.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration: numbers with units, each unit once, from the largest; `0` needs none.
pub(super) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut from, mut total_ms) = (text, 0, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|it: char| it.is_ascii_digit()).unwrap_or(rest.len());
        let at = UNITS.iter().position(|(name, _)| *name == &rest[..unit])?;
        if at < from {
            return None;
        }
        from = at + 1;
        total_ms = total_ms.checked_add(number.checked_mul(UNITS[at].1)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(Duration::from_millis(total_ms))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let bad = || de::Error::custom(format!("{text:?} is no duration, write for example 1m30s"));
    parse(&text).map(Some).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_prometheus_reads_them() {
        let check = |text, ms: Option<u64>| {
            assert_eq!(parse(text), ms.map(Duration::from_millis), "{text}");
        };
        check("90s", Some(90_000));
        check("1m30s", Some(90_000));
        check("1h0m0s5ms", Some(3_600_005));
        check("1y", Some(31_536_000_000));
        check("0", Some(0));
        for bad in ["", "5", "s", "1s1m", "1s1s", "-1s", "1.5s", "99999999999999999999s", "1x"] {
            check(bad, None);
        }
    }
}
