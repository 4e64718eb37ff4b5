//! `--min-time` and `--max-time`: a moment, or a distance from now.

use model::{duration, text_time};

/// A bound on time as a flag gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Milliseconds since the Unix epoch.
    At(i64),
    /// Milliseconds from now, negative for the past.
    FromNow(i64),
}

impl Bound {
    /// Reads RFC 3339 or a duration with an optional minus.
    pub(crate) fn parse(text: &str) -> Result<Bound, String> {
        if let Some(at_ms) = text_time::parse_rfc3339_ms(text) {
            return Ok(Bound::At(at_ms));
        }
        duration::parse_signed_ms(text).map(Bound::FromNow).map_err(|_| {
            format!("{text:?} is neither a time such as 2025-09-01T00:00:00Z nor one such as -30d")
        })
    }

    /// The bound at a moment, in milliseconds since the Unix epoch.
    pub(crate) fn at(self, now_ms: i64) -> i64 {
        match self {
            Bound::At(at_ms) => at_ms,
            Bound::FromNow(distance_ms) => now_ms.saturating_add(distance_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_distances_are_read() {
        assert_eq!(Bound::parse("2025-09-01T00:00:00Z"), Ok(Bound::At(1_756_684_800_000)));
        assert_eq!(Bound::parse("-2w").map(|it| it.at(0)), Ok(-1_209_600_000));
        assert_eq!(Bound::parse("1h").map(|it| it.at(5)), Ok(3_600_005));
        assert!(Bound::parse("yesterday").is_err());
    }
}
