//! Histograms of a coarser schema.

use crate::histogram::buckets::SCHEMA_MIN;
use crate::histogram::kahan::add_kahan;
use crate::histogram::schema::coarser_index;
use crate::histogram::spans::{Counts, Layout};
use crate::histogram::{Error, FloatHistogram, Span};

impl FloatHistogram {
    /// Joins buckets until the schema is `schema`.
    ///
    /// # Errors
    /// [`Error::Resolution`] when `schema` is finer than that of the histogram or one of them is
    /// not exponential.
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), Error> {
        self.check_reduction(schema)?;
        if schema == self.schema {
            return Ok(());
        }
        self.reduce_to(schema);
        Ok(())
    }

    /// A copy with the schema `schema`; what was known of resets holds for the same schema only.
    ///
    /// # Errors
    /// As those of [`FloatHistogram::reduce_resolution`].
    pub fn copy_to_schema(&self, schema: i32) -> Result<FloatHistogram, Error> {
        if schema == self.schema {
            return Ok(self.clone());
        }
        self.check_reduction(schema)?;
        let (positive_spans, positive_buckets) =
            reduced((&self.positive_spans, &self.positive_buckets), self.schema, schema);
        let (negative_spans, negative_buckets) =
            reduced((&self.negative_spans, &self.negative_buckets), self.schema, schema);
        Ok(FloatHistogram {
            schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: Vec::new(),
            counter_reset_hint: super::CounterResetHint::Unknown,
        })
    }

    fn check_reduction(&self, schema: i32) -> Result<(), Error> {
        let is_exponential = !self.uses_custom_buckets() && schema >= SCHEMA_MIN;
        if is_exponential && schema <= self.schema {
            return Ok(());
        }
        Err(Error::Resolution { from: self.schema, to: schema })
    }

    /// For schemas that were compared before.
    pub(super) fn reduce_to(&mut self, schema: i32) {
        let from = self.schema;
        let positive = reduced((&self.positive_spans, &self.positive_buckets), from, schema);
        (self.positive_spans, self.positive_buckets) = positive;
        let negative = reduced((&self.negative_spans, &self.negative_buckets), from, schema);
        (self.negative_spans, self.negative_buckets) = negative;
        self.schema = schema;
    }
}

/// Spans and counts of one side at a coarser schema.
pub(super) fn reduced(
    (spans, counts): (&[Span], &[f64]),
    from: i32,
    to: i32,
) -> (Vec<Span>, Vec<f64>) {
    let mut layout = Layout::default();
    let mut joined: Vec<f64> = Vec::with_capacity(counts.len());
    let mut last_index = None;
    for (index, count) in Counts::new(spans, counts) {
        let index = coarser_index(index, from, to);
        match joined.last_mut() {
            Some(last) if last_index == Some(index) => *last += count,
            _ => {
                layout.push(index);
                joined.push(count);
            }
        }
        last_index = Some(index);
    }
    (layout.spans, joined)
}

/// Spans, counts and what rounding took from each of them, at a coarser schema.
pub(super) fn reduced_kahan(
    (spans, counts, lost): (&[Span], &[f64], &[f64]),
    from: i32,
    to: i32,
) -> (Vec<Span>, Vec<f64>, Vec<f64>) {
    let mut layout = Layout::default();
    let mut joined: Vec<f64> = Vec::with_capacity(counts.len());
    let mut joined_lost: Vec<f64> = Vec::with_capacity(counts.len());
    let mut last_index = None;
    for ((index, count), lost) in Counts::new(spans, counts).zip(lost) {
        let index = coarser_index(index, from, to);
        match (joined.last_mut(), joined_lost.last_mut()) {
            (Some(sum), Some(sum_lost)) if last_index == Some(index) => {
                add_kahan(count, sum, sum_lost);
                add_kahan(*lost, sum, sum_lost);
            }
            _ => {
                layout.push(index);
                joined.push(count);
                joined_lost.push(*lost);
            }
        }
        last_index = Some(index);
    }
    (layout.spans, joined, joined_lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_joined() {
        let spans = [(0, 4), (0, 0), (3, 2)].map(|(offset, length)| Span { offset, length });
        let mut it = FloatHistogram {
            schema: 1,
            positive_spans: spans.to_vec(),
            positive_buckets: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            ..FloatHistogram::default()
        };
        let copy = it.copy_to_schema(0).unwrap();
        it.reduce_resolution(0).unwrap();
        assert_eq!(it, copy);
        // 0 | 1 2 | 3 … 7 8 become 0 | 1 | 2 … 4.
        let expected = [(0, 3), (1, 1)].map(|(offset, length)| Span { offset, length });
        assert_eq!(
            (&it.positive_spans[..], &it.positive_buckets[..]),
            (&expected[..], &[1.0, 5.0, 4.0, 11.0][..])
        );
        assert_eq!(it.reduce_resolution(1), Err(Error::Resolution { from: 0, to: 1 }));
        assert!(it.copy_to_schema(-53).is_err());
    }
}
