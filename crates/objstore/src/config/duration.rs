//! Durations as Prometheus and Thanos write them: `90s`, `1m30s`, `2h`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Reads a duration as Prometheus does.
fn parse(text: &str) -> Option<Duration> {
    let duration_ms = u64::try_from(model::duration::parse_ms(text).ok()?).ok()?;
    Some(Duration::from_millis(duration_ms))
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
