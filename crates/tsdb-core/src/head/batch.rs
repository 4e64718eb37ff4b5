//! What a write brings, borrowed from the request, and what became of it, sample by sample.

use std::fmt;

use model::{Labels, Sample, Tenant};

/// Longest label set that is taken, in bytes of names and values.
pub const LABELS_BYTES_MAX: usize = 1 << 20;

/// Turns the bytes in which a sender wrote labels into pairs.
pub trait LabelDecoder {
    /// Appends the name and value of every label, as sent: not sorted, not checked.
    fn decode<'a>(&self, raw: &'a [u8], into: &mut Vec<(&'a [u8], &'a [u8])>);
}

/// One series of a write.
#[derive(Clone, Copy, Debug)]
pub struct WriteSeries<'a> {
    /// The labels as sent. Equal bytes mean equal labels.
    pub raw_labels: &'a [u8],
    /// Whether the bytes are the labels alone, so that they will come again.
    pub is_cacheable: bool,
    /// Index of its first sample.
    pub sample_start: u32,
    /// Number of its samples.
    pub sample_count: u32,
}

/// A write of one tenant.
#[derive(Clone, Copy)]
pub struct WriteBatch<'a> {
    /// Whose it is.
    pub tenant: &'a Tenant,
    /// The series; the same one may come several times.
    pub series: &'a [WriteSeries<'a>],
    /// The samples of all series.
    pub samples: &'a [Sample],
    /// Reads the labels.
    pub decoder: &'a dyn LabelDecoder,
    /// Samples behind this time are refused.
    pub latest_ms: i64,
}

impl fmt::Debug for WriteBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (series, samples) = (self.series.len(), self.samples.len());
        write!(f, "{series} series with {samples} samples of tenant {}", self.tenant)
    }
}

impl<'a> WriteBatch<'a> {
    /// The samples of a series of the batch; none when its indices lie.
    pub(crate) fn samples_of(&self, series: &WriteSeries<'_>) -> &'a [Sample] {
        let start = series.sample_start as usize;
        let end = start.saturating_add(series.sample_count as usize);
        self.samples.get(start..end).unwrap_or_default()
    }

    /// The labels of a series, checked and sorted.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn labels_of(&self, series: &WriteSeries<'_>) -> Result<Labels, LabelProblem> {
        let mut pairs = Vec::new();
        self.decoder.decode(series.raw_labels, &mut pairs);
        check_labels(&pairs)
    }
}

/// Why a label set is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelProblem {
    /// There is no label at all.
    #[error("the series has no labels")]
    None,
    /// A label without a name.
    #[error("a label name is empty")]
    EmptyName,
    /// The same name twice.
    #[error("label name {0:?} is not unique")]
    Duplicate(String),
    /// A name or value that is not UTF-8.
    #[error("label {0:?} is not valid UTF-8")]
    NotUtf8(String),
    /// More bytes than a series may have.
    #[error("the labels take {0} bytes, at most {LABELS_BYTES_MAX} are taken")]
    TooLong(usize),
}

/// Why a sample is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The labels of its series are refused.
    #[error(transparent)]
    Labels(#[from] LabelProblem),
    /// Older than the newest sample of its series, and not one that is there.
    #[error("out of order sample: the newest of the series is at {newest_ms}")]
    OutOfOrder {
        /// Time of the series' newest sample.
        newest_ms: i64,
    },
    /// There is a sample with this time and another value.
    #[error("duplicate sample: there is one at this time with value {existing}")]
    Duplicate {
        /// The value that is there and stays.
        existing: f64,
    },
    /// More than half a block older than the newest sample of the tenant.
    #[error("out of bounds: older than {bound_ms}, half a block before the tenant's newest sample")]
    TooOld {
        /// The oldest time that would have been taken.
        bound_ms: i64,
    },
    /// Older than what was cut into blocks, and not a sample that is there.
    #[error("out of bounds: samples before {low_ms} are in blocks already, and this is not there")]
    BelowCut {
        /// End of the last cut.
        low_ms: i64,
    },
    /// Too far in the future.
    #[error("out of bounds: too far in the future, samples until {latest_ms} are taken")]
    TooFarAhead {
        /// The newest time that would have been taken.
        latest_ms: i64,
    },
}

/// A sample, or with its labels a whole series, that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Index of the series in the batch.
    pub series: u32,
    /// Index of the sample in the batch; none when the whole series is refused.
    pub sample: Option<u32>,
    /// Why.
    pub refusal: Refusal,
}

/// What became of a write; samples that are in none of these numbers were refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteOutcome {
    /// Samples taken.
    pub accepted: usize,
    /// Samples that were there already, equal to the bit: successes.
    pub duplicates: usize,
    /// All others, each with its reason, by series and sample.
    pub refused: Vec<Refused>,
    /// Series that were not known before.
    pub series_created: usize,
}

/// The label set of pairs in any order; empty values are absent labels.
pub(crate) fn check_labels(pairs: &[(&[u8], &[u8])]) -> Result<Labels, LabelProblem> {
    let size_bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size_bytes > LABELS_BYTES_MAX {
        return Err(LabelProblem::TooLong(size_bytes));
    }
    let mut texts = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let lossy = || LabelProblem::NotUtf8(String::from_utf8_lossy(name).into_owned());
        let name = std::str::from_utf8(name).map_err(|_| lossy())?;
        let value = std::str::from_utf8(value).map_err(|_| lossy())?;
        texts.push((name, value));
    }
    if !texts.is_sorted_by(|a, b| a.0 < b.0) {
        texts.sort_unstable();
    }
    for (index, (name, _)) in texts.iter().enumerate() {
        if name.is_empty() {
            return Err(LabelProblem::EmptyName);
        }
        if index > 0 && texts[index - 1].0 == *name {
            return Err(LabelProblem::Duplicate((*name).to_owned()));
        }
    }
    let labels = Labels::from_sorted(texts);
    if labels.is_empty() { Err(LabelProblem::None) } else { Ok(labels) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Result<String, LabelProblem> {
        let bytes: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        check_labels(&bytes).map(|it| it.to_string())
    }

    #[test]
    fn labels_are_sorted_and_checked() {
        assert_eq!(check(&[("b", "2"), ("a", "1")]).unwrap(), r#"{a="1", b="2"}"#);
        assert_eq!(check(&[("b", ""), ("a", "1")]).unwrap(), r#"{a="1"}"#);
        assert_eq!(check(&[("a", "1"), ("", "1")]), Err(LabelProblem::EmptyName));
        assert_eq!(check(&[]), Err(LabelProblem::None));
        assert_eq!(check(&[("a", "")]), Err(LabelProblem::None));
        let twice = Err(LabelProblem::Duplicate("a".to_owned()));
        assert_eq!(check(&[("a", "1"), ("b", "1"), ("a", "1")]), twice);
        let bad = check_labels(&[(b"a", b"\xff")]);
        assert_eq!(bad, Err(LabelProblem::NotUtf8("a".to_owned())));
        let long = "x".repeat(LABELS_BYTES_MAX);
        assert_eq!(check(&[("a", &long)]), Err(LabelProblem::TooLong(LABELS_BYTES_MAX + 1)));
    }
}
