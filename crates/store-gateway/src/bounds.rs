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
    /// Parses RFC 3339 or a signed duration such as `-6w`.
    pub(crate) fn parse(text: &str) -> Result<Bound, String> {
        let moment = text_time::parse_rfc3339_ms(text).map(Bound::At);
        let distance = || duration::parse_signed_ms(text).ok().map(Bound::FromNow);
        moment.or_else(distance).ok_or_else(|| {
            format!("{text:?} is no time: write 2025-09-01T00:00:00Z, or -6w for six weeks ago")
        })
    }

    /// The bound now, in milliseconds since the Unix epoch.
    pub(crate) fn at(self, now_ms: i64) -> i64 {
        match self {
            Bound::At(at_ms) => at_ms,
            Bound::FromNow(distance_ms) => now_ms.saturating_add(distance_ms),
        }
    }
}
