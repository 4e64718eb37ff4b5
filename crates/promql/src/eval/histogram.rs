//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction` of classic and native
//! histograms, and the functions that take one number from a native one.

use std::sync::Arc;

use hashbrown::HashMap;
use model::{FloatHistogram, Labels, Reservation};

use crate::ast::{Expr, Span};
use crate::buckets::{self, Bucket, ForcedMonotonicity};
use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::account::work_of;
use crate::eval::merge::{joined, without_names};
use crate::eval::scalar::Scalars;
use crate::eval::{Blocking, Context, Evaluator, Held, ROW_BYTES, Rows, Stream};
use crate::general::open_metrics;
use crate::native::{self, NanRemark};
use crate::row::{Grid, Row};

/// The label that holds the upper bound of a bucket.
const BUCKET: &str = "le";

/// What reads all histograms of a vector and has the native ones answer.
type Reading = dyn FnOnce(&Context, &[Question]) -> Result<Histograms, Error> + Send;

/// What is asked of every histogram.
enum Question {
    Quantile(Scalars),
    Fraction { lower: Scalars, upper: Scalars },
}

impl Question {
    fn classic(&self, step: usize, it: &mut Vec<Bucket>) -> (f64, Option<ForcedMonotonicity>) {
        match self {
            Question::Quantile(q) => buckets::quantile(q.at(step), it),
            Question::Fraction { lower, upper } => {
                (buckets::fraction(lower.at(step), upper.at(step), it), None)
            }
        }
    }

    fn native(&self, step: usize, it: &FloatHistogram) -> (f64, Option<NanRemark>) {
        match self {
            Question::Quantile(q) => native::quantile(q.at(step), it),
            Question::Fraction { lower, upper } => {
                native::fraction(lower.at(step), upper.at(step), it)
            }
        }
    }
}

impl<'a> Evaluator<'a> {
    pub(crate) fn histogram_quantile(
        &self,
        q: &'a Expr,
        vector: &'a Expr,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let questions = [Question::Quantile(self.checked_quantiles(q, grid)?)];
        let (input, distinct) = self.histograms(vector, grid)?;
        let context = Arc::clone(self.context);
        let rows = Blocking::new(move || {
            let histograms = input(&context, &questions)?;
            let mut answers = Answers::new(&histograms, grid);
            let asked = (0, &questions[0]);
            answers.ask(&context, &histograms, asked, |_, labels| labels.clone())?;
            Ok(Held::charged(answers.rows, histograms.reservation))
        });
        without_names(self.context, Stream::new(rows, distinct))
    }

    pub(crate) fn histogram_fraction(
        &self,
        (lower, upper): (&'a Expr, &'a Expr),
        vector: &'a Expr,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let (lower, upper) = (self.scalar(lower, grid)?, self.scalar(upper, grid)?);
        let questions = [Question::Fraction { lower, upper }];
        let (input, distinct) = self.histograms(vector, grid)?;
        let context = Arc::clone(self.context);
        let rows = Blocking::new(move || {
            let histograms = input(&context, &questions)?;
            let mut answers = Answers::new(&histograms, grid);
            let asked = (0, &questions[0]);
            answers.ask(&context, &histograms, asked, |_, labels| labels.clone())?;
            Ok(Held::charged(answers.rows, histograms.reservation))
        });
        without_names(self.context, Stream::new(rows, distinct))
    }

    /// Several quantiles at once, told apart by a label.
    pub(crate) fn histogram_quantiles(
        &self,
        vector: &'a Expr,
        label: &'a Expr,
        (quantiles, grid): (&'a [Expr], Grid),
    ) -> Result<Stream, Error> {
        let label = match label.without_parens() {
            Expr::String(text) => text.value.to_str_lossy().into_owned(),
            _ => return Err(Error::execution("histogram_quantiles() needs the name of a label")),
        };
        let questions: Vec<Question> = quantiles
            .iter()
            .map(|q| Ok(Question::Quantile(self.checked_quantiles(q, grid)?)))
            .collect::<Result<_, Error>>()?;
        let (input, _) = self.histograms(vector, grid)?;
        let context = Arc::clone(self.context);
        let rows = Blocking::new(move || {
            let mut histograms = input(&context, &questions)?;
            let mut rows = Vec::new();
            for (asked, question) in questions.iter().enumerate() {
                let mut answers = Answers::new(&histograms, grid);
                answers.ask(&context, &histograms, (asked, question), |step, labels| {
                    let Question::Quantile(q) = question else { return labels.clone() };
                    labels.to_builder().set(&label, &open_metrics(q.at(step))).build()
                })?;
                let bytes = answers.rows.iter().map(Row::size_bytes).sum();
                histograms.reservation.grow(bytes)?;
                rows.append(&mut answers.rows);
            }
            Ok(Held::charged(rows, histograms.reservation))
        });
        let named = joined(self.context, Stream::new(rows, false))?;
        without_names(self.context, named)
    }

    fn checked_quantiles(&self, q: &'a Expr, grid: Grid) -> Result<Scalars, Error> {
        let quantiles = self.scalar(q, grid)?;
        for value in quantiles.values().iter().filter(|it| !(0.0..=1.0).contains(*it)) {
            self.context.notes.invalid_quantile(*value, q.span());
        }
        Ok(quantiles)
    }

    /// What reads all histograms of a vector, and whether they differ in more than their names.
    fn histograms(&self, vector: &'a Expr, grid: Grid) -> Result<(Box<Reading>, bool), Error> {
        let input = self.vector(vector, grid)?;
        let distinct = input.distinct_without_name;
        let span = vector.span();
        let read = move |context: &Context, questions: &[Question]| {
            Histograms::read(context, input.rows, (span, questions))
        };
        Ok((Box::new(read), distinct))
    }

    /// A function that takes one number from every native histogram; floats go.
    pub(crate) fn of_native(
        &self,
        vector: &'a Expr,
        function: fn(&FloatHistogram) -> f64,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let input = self.vector(vector, grid)?;
        let distinct = input.distinct_without_name;
        let rows = OfNative { input: input.rows, function };
        without_names(self.context, Stream::new(rows, distinct))
    }
}

struct OfNative {
    input: Box<dyn Rows>,
    function: fn(&FloatHistogram) -> f64,
}

impl Rows for OfNative {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        while self.input.next(row)? {
            row.present.clear(row.values.len());
            for (step, histogram) in std::mem::take(&mut row.histograms) {
                row.put(step, (self.function)(&histogram));
            }
            if !row.present.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Histograms by their labels, classic ones without `le`.
///
/// Native histograms are large and have answered by the time that they are here; whether their
/// answers count is known once all buckets of classic ones are.
struct Histograms {
    series: Vec<Histogram>,
    span: Span,
    reservation: Reservation,
}

struct Histogram {
    labels: Labels,
    buckets: Vec<(f64, Row)>,
    /// What the native histograms answered to each question, in order of the steps.
    native: Vec<Vec<NativeAnswer>>,
}

/// What a native histogram answered at a step.
struct NativeAnswer {
    step: usize,
    value: f64,
    remark: Option<NanRemark>,
}

impl Histogram {
    fn buckets_at(&self, step: usize, buckets: &mut Vec<Bucket>) {
        buckets.clear();
        let present = self.buckets.iter().filter(|(_, row)| row.present.get(step));
        buckets
            .extend(present.map(|(upper, row)| Bucket { upper: *upper, count: row.values[step] }));
    }
}

impl Histograms {
    fn read(
        context: &Context,
        mut input: Box<dyn Rows>,
        (span, questions): (Span, &[Question]),
    ) -> Result<Histograms, Error> {
        let mut pace = context.pace();
        let mut read = Histograms { series: Vec::new(), span, reservation: context.reservation()? };
        // The metric name counts here, unlike in groups and joins.
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut row = Row::default();
        while input.next(&mut row)? {
            context.cancel.check()?;
            let steps = row.values.len();
            if !row.histograms.is_empty() {
                let native = read.native_answers(&row, questions, &mut pace)?;
                row.histograms = Vec::new();
                read.place(&mut places, row.labels.clone(), steps)?.native = native;
            }
            if row.present.is_empty() {
                continue;
            }
            let bound = row.labels.get(BUCKET).unwrap_or_default();
            let Some(upper) = parse_bound(bound) else {
                context.notes.bad_bucket_label(shown_name(context, &row.labels), bound, span);
                continue;
            };
            let labels = row.labels.without(|name| name == BUCKET);
            read.reservation.grow(row.size_bytes())?;
            let histogram = read.place(&mut places, labels, steps)?;
            histogram.buckets.push((upper, std::mem::take(&mut row)));
        }
        Ok(read)
    }

    /// Asks the native histograms of a row.
    fn native_answers(
        &mut self,
        row: &Row,
        questions: &[Question],
        pace: &mut Pace,
    ) -> Result<Vec<Vec<NativeAnswer>>, Error> {
        let answers = questions.len().saturating_mul(row.histograms.len());
        self.reservation.grow(answers.saturating_mul(size_of::<NativeAnswer>()))?;
        let mut all = Vec::with_capacity(questions.len());
        for question in questions {
            let mut answers = Vec::with_capacity(row.histograms.len());
            for (step, histogram) in &row.histograms {
                pace.spend(work_of(histogram))?;
                let (value, remark) = question.native(*step, histogram);
                answers.push(NativeAnswer { step: *step, value, remark });
            }
            all.push(answers);
        }
        Ok(all)
    }

    /// The histogram of these labels, charged with the row that will come of it.
    fn place(
        &mut self,
        places: &mut HashMap<Labels, usize>,
        labels: Labels,
        steps: usize,
    ) -> Result<&mut Histogram, Error> {
        let place = match places.get(&labels) {
            Some(place) => *place,
            None => {
                let row = size_of::<Row>() + steps.saturating_mul(ROW_BYTES);
                self.reservation.grow(row + labels.size_bytes() + ENTRY_BYTES)?;
                places.insert(labels.clone(), self.series.len());
                self.series.push(Histogram { labels, buckets: Vec::new(), native: Vec::new() });
                self.series.len() - 1
            }
        };
        Ok(&mut self.series[place])
    }
}

/// Bytes of a histogram and its table entry beside its rows.
const ENTRY_BYTES: usize = size_of::<Histogram>() + 48;

/// The metric name for remarks: Prometheus has taken it away by then unless that is delayed.
fn shown_name<'l>(context: &Context, labels: &'l Labels) -> &'l str {
    if context.options.delayed_name_removal { labels.metric_name() } else { "" }
}

/// The answers to one question.
struct Answers {
    rows: Vec<Row>,
    steps: usize,
    grid: Grid,
}

impl Answers {
    fn new(histograms: &Histograms, grid: Grid) -> Answers {
        Answers { rows: Vec::with_capacity(histograms.series.len()), steps: grid.steps, grid }
    }

    /// Asks every histogram at every step; `labels` names the row of an answer.
    fn ask(
        &mut self,
        context: &Context,
        histograms: &Histograms,
        (asked, question): (usize, &Question),
        labels: impl Fn(usize, &Labels) -> Labels,
    ) -> Result<(), Error> {
        let mut buckets = Vec::new();
        for series in &histograms.series {
            let first = self.rows.len();
            let native = series.native.get(asked).map(Vec::as_slice).unwrap_or_default();
            let mut native = native.iter().peekable();
            for step in 0..self.steps {
                series.buckets_at(step, &mut buckets);
                let native = native.next_if(|it| it.step == step);
                if buckets.is_empty() && native.is_none() {
                    continue;
                }
                context.cancel.check()?;
                let at = (step, series, histograms.span);
                let Some(value) = self.answer(context, question, (native, &mut buckets), at) else {
                    continue;
                };
                let labels = labels(step, &series.labels);
                let known = self.rows[first..].iter().rposition(|row| row.labels == labels);
                let place = known.map_or(self.rows.len(), |known| first + known);
                if known.is_none() {
                    let mut row = Row::default();
                    row.reset(labels, self.steps);
                    self.rows.push(row);
                }
                self.rows[place].put(step, value);
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        context: &Context,
        question: &Question,
        (native, buckets): (Option<&NativeAnswer>, &mut Vec<Bucket>),
        (step, series, span): (usize, &Histogram, Span),
    ) -> Option<f64> {
        let (notes, name) = (&context.notes, shown_name(context, &series.labels));
        let Some(native) = native else {
            let (value, forced) = question.classic(step, buckets);
            if let Some(forced) = forced {
                notes.forced_monotonicity(forced, name, (self.grid.time_ms(step), span));
            }
            return Some(value);
        };
        if !buckets.is_empty() {
            // Both kinds under the same labels: neither is believed.
            notes.classic_and_native(name, span);
            return None;
        }
        let text = native.remark.map(|remark| match remark {
            NanRemark::NanQuantile => ("histogram_quantile", "result is NaN"),
            NanRemark::SkewedQuantile => ("histogram_quantile", "result is skewed higher"),
            NanRemark::ExcludedFromFractions => {
                ("histogram_fraction", "which are excluded from all fractions")
            }
        });
        if let Some(text) = text {
            notes.nan_observations(text, name, span);
        }
        Some(native.value)
    }
}

/// The number in a `le` label, by Go's rules where they differ from Rust's: too large a number is
/// none.
fn parse_bound(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let named = text.bytes().any(|it| it.eq_ignore_ascii_case(&b'n'));
    (value.is_finite() || named).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_numbers() {
        assert_eq!(parse_bound("+Inf"), Some(f64::INFINITY));
        assert_eq!(parse_bound("0.5"), Some(0.5));
        assert_eq!(parse_bound("1e400"), None);
        assert_eq!(parse_bound(""), None);
        assert_eq!(parse_bound("x"), None);
    }
}
