//! Remarks on an answer: warnings and infos with the place in the query that they speak of.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::ast::Span;
use crate::buckets::ForcedMonotonicity;
use crate::general::{general, general_rounded};

/// How much a remark matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The answer is probably not what was asked for.
    Warning,
    /// The answer may surprise.
    Info,
}

/// The remarks of one evaluation, each text once.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    /// By severity and text without place.
    remarks: BTreeMap<(Severity, String), Remark>,
}

#[derive(Clone, Debug)]
struct Remark {
    span: Span,
    forced: Option<Forced>,
}

/// What many repairs of classic histograms have in common.
#[derive(Clone, Debug)]
struct Forced {
    buckets: ForcedMonotonicity,
    first_ms: i64,
    last_ms: i64,
    samples: usize,
}

impl Annotations {
    /// Whether nothing was remarked.
    pub fn is_empty(&self) -> bool {
        self.remarks.is_empty()
    }

    /// The warnings as the API shows them; `query` is the text that was parsed.
    pub fn warnings(&self, query: &str) -> Vec<String> {
        self.texts(Severity::Warning, query)
    }

    /// The infos as the API shows them; `query` is the text that was parsed.
    pub fn infos(&self, query: &str) -> Vec<String> {
        self.texts(Severity::Info, query)
    }

    fn texts(&self, severity: Severity, query: &str) -> Vec<String> {
        let of_it = self.remarks.iter().filter(|((it, _), _)| *it == severity);
        of_it.map(|((_, text), remark)| remark.render(text, query)).collect()
    }

    /// Adds a remark. The same text at several places is kept at the last of them, whatever the
    /// order in which they are met.
    fn add(&mut self, severity: Severity, text: String, remark: Remark) {
        self.remarks
            .entry((severity, text))
            .and_modify(|known| {
                if remark.span.start > known.span.start {
                    known.span = remark.span;
                }
                if let (Some(known), Some(new)) = (&mut known.forced, &remark.forced) {
                    known.merge(new);
                }
            })
            .or_insert(remark);
    }
}

impl Forced {
    fn merge(&mut self, other: &Forced) {
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.samples += other.samples;
        let (known, new) = (&mut self.buckets, &other.buckets);
        known.lowest = known.lowest.min(new.lowest);
        known.highest = known.highest.max(new.highest);
        known.largest_change = known.largest_change.max(new.largest_change);
    }
}

impl Remark {
    fn render(&self, text: &str, query: &str) -> String {
        let mut out = text.to_owned();
        if let Some(forced) = &self.forced {
            let buckets = &forced.buckets;
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                general(buckets.lowest),
                general(buckets.highest),
                general_rounded(buckets.largest_change, 2),
                forced.samples,
                date(forced.first_ms),
                date(forced.last_ms),
            );
        }
        let _ = write!(out, " ({})", place(self.span, query));
        out
    }
}

fn date(time_ms: i64) -> String {
    Timestamp::from_second(time_ms / 1000)
        .map_or_else(|_| format!("{time_ms} ms"), |it| it.to_string())
}

/// `line:column` of the start of a span, both from 1, columns in bytes.
fn place(span: Span, query: &str) -> String {
    let start = usize::try_from(span.start).unwrap_or(usize::MAX);
    let Some(before) = query.as_bytes().get(..start) else { return "invalid position".to_owned() };
    if query.is_empty() {
        return "unknown position".to_owned();
    }
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    format!("{line}:{}", start - line_start + 1)
}

/// Where the operators of one query leave their remarks.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Annotations>);

impl Notes {
    /// All remarks so far.
    pub(crate) fn take(&self) -> Annotations {
        std::mem::take(&mut self.0.lock())
    }

    /// A quantile outside 0 to 1.
    pub(crate) fn invalid_quantile(&self, q: f64, span: Span) {
        let text = format!("quantile value should be between 0 and 1, got {}", general(q));
        self.warn(&text, span);
    }

    /// A classic bucket without a bound.
    pub(crate) fn bad_bucket_label(&self, value: &str, span: Span) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {value:?}");
        self.warn(&text, span);
    }

    /// `sort` in a range query.
    pub(crate) fn sort_in_range_query(&self, span: Span) {
        let text =
            "sort is ineffective for range queries since results are always ordered by labels";
        self.warn(text, span);
    }

    /// A rate of something that is no counter by its name.
    pub(crate) fn possible_non_counter(&self, metric: &str, span: Span) {
        let text = format!(
            "PromQL info: metric might not be a counter, \
             name does not end in _total/_sum/_count/_bucket: {metric:?}"
        );
        self.0.lock().add(Severity::Info, text, Remark { span, forced: None });
    }

    /// A classic histogram whose counts fell with growing bounds, at one step.
    pub(crate) fn forced_monotonicity(
        &self,
        buckets: ForcedMonotonicity,
        time_ms: i64,
        span: Span,
    ) {
        let text = "PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
                    (see https://prometheus.io/docs/prometheus/latest/querying/functions/\
                    #histogram_quantile)";
        let forced = Forced { buckets, first_ms: time_ms, last_ms: time_ms, samples: 1 };
        let remark = Remark { span, forced: Some(forced) };
        self.0.lock().add(Severity::Info, text.to_owned(), remark);
    }

    fn warn(&self, text: &str, span: Span) {
        let text = format!("PromQL warning: {text}");
        self.0.lock().add(Severity::Warning, text, Remark { span, forced: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_once_at_its_last_place() {
        let notes = Notes::default();
        notes.possible_non_counter("m", Span::new(12, 13));
        notes.possible_non_counter("m", Span::new(3, 4));
        let query = "rate(m[1m]) +\n rate(m[1m])";
        let infos = notes.take().infos(query);
        assert_eq!(infos.len(), 1);
        assert!(infos[0].ends_with(": \"m\" (1:13)"), "{infos:?}");
        assert_eq!(place(Span::new(15, 16), query), "2:2");
    }

    #[test]
    fn repairs_are_summed_up() {
        let notes = Notes::default();
        for (time_ms, change) in [(60_000, 5.0), (0, 10.0)] {
            let buckets = ForcedMonotonicity { lowest: 0.1, highest: 2.0, largest_change: change };
            notes.forced_monotonicity(buckets, time_ms, Span::new(0, 1));
        }
        let infos = notes.take().infos("x");
        assert!(
            infos[0].ends_with(
                ", from buckets 0.1 to 2, with a max diff of 10, over 2 samples \
                 from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (1:1)"
            ),
            "{infos:?}"
        );
    }
}
