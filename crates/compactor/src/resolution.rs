//! How dense the samples of a block are.

use std::fmt;

/// How dense the samples of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Resolution {
    /// As scraped.
    Raw,
    /// One aggregate each 5 minutes.
    FiveMinutes,
    /// One aggregate each hour.
    OneHour,
}

impl Resolution {
    /// From the milliseconds that a meta names; none for a resolution nobody writes.
    pub(crate) fn from_ms(resolution_ms: i64) -> Option<Resolution> {
        match resolution_ms {
            0 => Some(Resolution::Raw),
            300_000 => Some(Resolution::FiveMinutes),
            3_600_000 => Some(Resolution::OneHour),
            _ => None,
        }
    }

    /// The milliseconds that a meta names.
    pub(crate) fn ms(self) -> i64 {
        match self {
            Resolution::Raw => 0,
            Resolution::FiveMinutes => 300_000,
            Resolution::OneHour => 3_600_000,
        }
    }

    /// What samples of this resolution are downsampled to; none for the coarsest.
    pub(crate) fn next(self) -> Option<Resolution> {
        match self {
            Resolution::Raw => Some(Resolution::FiveMinutes),
            Resolution::FiveMinutes => Some(Resolution::OneHour),
            Resolution::OneHour => None,
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resolution::Raw => "raw",
            Resolution::FiveMinutes => "5m",
            Resolution::OneHour => "1h",
        })
    }
}
