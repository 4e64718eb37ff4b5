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

/// Texts of one severity that are kept, many more than anybody reads: label values may be told in
/// them, so there may be as many as there are series.
const TEXTS_MAX: usize = 1000;

/// The remarks of one evaluation, each text once. Of very many texts the first in their order are
/// kept, whatever the order in which they are met.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    // By text without place.
    warnings: BTreeMap<String, Remark>,
    infos: BTreeMap<String, Remark>,
}

#[derive(Clone, Debug)]
struct Remark {
    span: Span,
    forced: Option<Forced>,
    /// How often it was made, where that is told.
    times: usize,
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
        self.warnings.is_empty() && self.infos.is_empty()
    }

    /// The warnings as the API shows them; `query` is the text that was parsed.
    pub fn warnings(&self, query: &str) -> Vec<String> {
        texts(&self.warnings, query)
    }

    /// The infos as the API shows them; `query` is the text that was parsed.
    pub fn infos(&self, query: &str) -> Vec<String> {
        texts(&self.infos, query)
    }

    /// Adds a remark. The same text at several places is kept at the last of them, whatever the
    /// order in which they are met.
    fn add(&mut self, severity: Severity, text: String, remark: Remark) {
        let remarks = match severity {
            Severity::Warning => &mut self.warnings,
            Severity::Info => &mut self.infos,
        };
        if let Some(known) = remarks.get_mut(&text) {
            known.merge(&remark);
            return;
        }
        // What is left out once comes after all that are kept from then on: it never comes back,
        // and what is kept has met all its likes.
        if remarks.len() >= TEXTS_MAX {
            if remarks.last_key_value().is_some_and(|(last, _)| *last < text) {
                return;
            }
            remarks.pop_last();
        }
        remarks.insert(text, remark);
    }
}

fn texts(remarks: &BTreeMap<String, Remark>, query: &str) -> Vec<String> {
    remarks.iter().map(|(text, remark)| remark.render(text, query)).collect()
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
    fn merge(&mut self, other: &Remark) {
        if other.span.start > self.span.start {
            self.span = other.span;
        }
        self.times += other.times;
        if let (Some(known), Some(new)) = (&mut self.forced, &other.forced) {
            known.merge(new);
        }
    }

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
        if self.times > 1 {
            let _ = write!(out, " ({} occurrences)", self.times);
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

/// A text with the metric that it is about, where that is known.
fn for_metric(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {metric:?}") }
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
    pub(crate) fn bad_bucket_label(&self, metric: &str, value: &str, span: Span) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {value:?}");
        self.warn(&for_metric(&text, metric), span);
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
        self.0.lock().add(Severity::Info, text, Remark { span, forced: None, times: 0 });
    }

    /// A classic histogram whose counts fell with growing bounds, at one step.
    pub(crate) fn forced_monotonicity(
        &self,
        buckets: ForcedMonotonicity,
        metric: &str,
        (time_ms, span): (i64, Span),
    ) {
        let text = "PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
                    (see https://prometheus.io/docs/prometheus/latest/querying/functions/\
                    #histogram_quantile)";
        let forced = Forced { buckets, first_ms: time_ms, last_ms: time_ms, samples: 1 };
        let remark = Remark { span, forced: Some(forced), times: 0 };
        self.0.lock().add(Severity::Info, for_metric(text, metric), remark);
    }

    /// Floats and histograms of one metric where only one kind can be evaluated.
    pub(crate) fn mixed_samples(&self, metric: &str, span: Span) {
        let text = format!("encountered a mix of histograms and floats for metric name {metric:?}");
        self.warn(&text, span);
    }

    /// Floats and histograms in one group of an aggregation.
    pub(crate) fn mixed_group(&self, span: Span) {
        self.warn("encountered a mix of histograms and floats for aggregation", span);
    }

    /// A classic and a native histogram with the same labels.
    pub(crate) fn classic_and_native(&self, metric: &str, span: Span) {
        let text = "vector contains a mix of classic and native histograms";
        self.warn(&for_metric(text, metric), span);
    }

    /// A function of counters was given a histogram that is a gauge.
    pub(crate) fn histogram_not_counter(&self, metric: &str, span: Span) {
        let text = format!("this native histogram metric is not a counter: {metric:?}");
        self.warn(&text, span);
    }

    /// A function of gauges was given a histogram that is a counter.
    pub(crate) fn histogram_not_gauge(&self, metric: &str, span: Span) {
        self.warn(&format!("this native histogram metric is not a gauge: {metric:?}"), span);
    }

    /// Exponential and custom buckets where they would have to be added.
    pub(crate) fn mixed_buckets(&self, metric: &str, span: Span) {
        let text = format!(
            "vector contains a mix of histograms with exponential and custom buckets schemas \
             for metric name {metric:?}"
        );
        self.warn(&text, span);
    }

    /// Exponential and custom buckets on the two sides of an operator.
    pub(crate) fn incompatible_buckets(&self, operator: &str, span: Span) {
        let text = format!("incompatible bucket layout encountered for binary operator {operator}");
        self.warn(&text, span);
    }

    /// Two kinds of samples that an operator does not combine.
    pub(crate) fn incompatible_types(&self, lhs: &str, operator: &str, rhs: &str, span: Span) {
        let text = format!(
            "incompatible sample types encountered for binary operator {operator:?}: \
             {lhs} {operator} {rhs}"
        );
        self.info(&text, span);
    }

    /// A histogram that an aggregation cannot take in.
    pub(crate) fn ignored_in_aggregation(&self, aggregation: &str, span: Span) {
        self.info(&format!("ignored histogram in {aggregation} aggregation"), span);
    }

    /// Histograms in a window of which only the floats are evaluated.
    pub(crate) fn ignored_in_range(&self, metric: &str, span: Span) {
        let text = format!(
            "ignored histograms in a range containing both floats and histograms for metric name \
             {metric:?}"
        );
        self.info(&text, span);
    }

    /// Histograms that disagree about a counter reset; `operation` is a noun.
    pub(crate) fn reset_collision(&self, operation: &str, span: Span) {
        let text = format!("conflicting counter resets during histogram {operation}");
        self.warn(&text, span);
    }

    /// Custom buckets whose bounds differed; `operation` is a noun.
    pub(crate) fn bounds_reconciled(&self, operation: &str, span: Span) {
        let text = format!("mismatched custom buckets were reconciled during {operation}");
        self.info(&text, span);
    }

    /// A histogram with observations that are not numbers; `what` says what became of the result.
    pub(crate) fn nan_observations(
        &self,
        (function, what): (&str, &str),
        metric: &str,
        span: Span,
    ) {
        let text = format!("input to {function} has NaN observations, {what}");
        self.info(&for_metric(&text, metric), span);
    }

    /// A ratio outside -1 to 1, and what is taken for it.
    pub(crate) fn invalid_ratio(&self, ratio: f64, taken: f64, span: Span) {
        let (ratio, taken) = (general(ratio), general(taken));
        let text =
            format!("ratio value should be between -1 and 1, got {ratio}, capping to {taken}");
        self.warn(&text, span);
    }

    /// A rate of something that is no counter by its type.
    pub(crate) fn possible_non_counter_type(&self, metric: &str, kind: &str, span: Span) {
        let text = format!(
            "metric might not be a counter, __type__ label is not set to \"counter\" or \
             \"histogram\", got {kind:?}: {metric:?}"
        );
        self.info(&text, span);
    }

    /// A sample that says it began before the one before it was taken.
    pub(crate) fn start_overlap(&self, metric: &str, times: usize, span: Span) {
        let text = format!(
            "PromQL warning: sample has start time that overlaps with previous sample timestamp \
             for metric {metric:?}"
        );
        let remark = Remark { span, forced: None, times };
        self.0.lock().add(Severity::Warning, text, remark);
    }

    fn info(&self, text: &str, span: Span) {
        let text = format!("PromQL info: {text}");
        self.0.lock().add(Severity::Info, text, Remark { span, forced: None, times: 0 });
    }

    fn warn(&self, text: &str, span: Span) {
        let text = format!("PromQL warning: {text}");
        self.0.lock().add(Severity::Warning, text, Remark { span, forced: None, times: 0 });
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
    fn of_very_many_texts_the_first_are_kept_in_whatever_order_they_come() {
        let told = |numbers: &mut dyn Iterator<Item = usize>| {
            let notes = Notes::default();
            numbers.for_each(|it| notes.mixed_samples(&format!("{it:05}"), Span::new(0, 1)));
            notes.take().warnings("x")
        };
        let rising = told(&mut (0..3 * TEXTS_MAX));
        assert_eq!(rising.len(), TEXTS_MAX);
        assert!(rising[TEXTS_MAX - 1].contains("\"00999\""), "{}", rising[TEXTS_MAX - 1]);
        assert_eq!(rising, told(&mut (0..3 * TEXTS_MAX).rev()));
    }

    #[test]
    fn repairs_are_summed_up() {
        let notes = Notes::default();
        for (time_ms, change) in [(60_000, 5.0), (0, 10.0)] {
            let buckets = ForcedMonotonicity { lowest: 0.1, highest: 2.0, largest_change: change };
            notes.forced_monotonicity(buckets, "", (time_ms, Span::new(0, 1)));
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
