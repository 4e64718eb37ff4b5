//! `--min-time` and `--max-time`: a moment, or a distance from now.

use crate::{duration, text_time};

/// A bound on time as a flag gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBound {
    /// Milliseconds since the Unix epoch.
    At(i64),
    /// Milliseconds from now, negative for the past.
    FromNow(i64),
}

/// A text that is neither a moment nor a distance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time: write 2025-09-01T00:00:00Z, or -6w for six weeks ago")]
pub struct NotATimeBound(String);

impl TimeBound {
    /// Reads RFC 3339 or a duration with an optional minus, such as `-6w`.
    ///
    /// # Errors
    /// [`NotATimeBound`] says what a bound looks like.
    pub fn parse(text: &str) -> Result<TimeBound, NotATimeBound> {
        let moment = text_time::parse_rfc3339_ms(text).map(TimeBound::At);
        let distance = || duration::parse_signed_ms(text).ok().map(TimeBound::FromNow);
        let refused = || NotATimeBound(text.chars().take(200).collect());
        moment.or_else(distance).ok_or_else(refused)
    }

    /// The bound at the moment `now_ms`; both in milliseconds since the Unix epoch.
    pub fn at(self, now_ms: i64) -> i64 {
        match self {
            TimeBound::At(at_ms) => at_ms,
            TimeBound::FromNow(distance_ms) => now_ms.saturating_add(distance_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_distances_are_read() {
        let check = |text, expected_ms| {
            assert_eq!(TimeBound::parse(text).map(|it| it.at(5)), Ok(expected_ms), "{text}");
        };
        check("2025-09-01T00:00:00Z", 1_756_684_800_000);
        check("-2w", -1_209_599_995);
        check("1h", 3_600_005);
        assert!(TimeBound::parse("yesterday").is_err());
        assert_eq!(TimeBound::FromNow(1).at(i64::MAX), i64::MAX);
    }
}
