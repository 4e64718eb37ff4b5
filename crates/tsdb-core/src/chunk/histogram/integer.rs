//! Histograms with integer counts: every number is the change of its change.

use model::histogram::integer::{absolute, count_to_float};
use model::{FloatHistogram, Histogram};

use crate::chunk::Encoding;
use crate::chunk::bits::{Reader, Writer};
use crate::chunk::histogram::ResetHeader;
use crate::chunk::histogram::kind::{Codec, Frame, Kind, Number, Read, View, Written};
use crate::chunk::histogram::spans::Side;
use crate::chunk::value::Value;

impl Number for i64 {
    const ZERO: i64 = 0;

    fn count(before: i64, bucket: i64) -> i64 {
        before.wrapping_add(bucket)
    }

    fn bucket(before: i64, count: i64) -> i64 {
        count.wrapping_sub(before)
    }
}

impl Kind for Histogram {}

impl Codec for Histogram {
    type Number = i64;
    type Written = IntegerState;
    type Read = IntegerState;
    const ENCODING: Encoding = Encoding::Histogram;
    const WHAT: &'static str = "histogram chunk";

    fn view(&self) -> View<'_, i64> {
        View {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive: Side { spans: &self.positive_spans, buckets: &self.positive_deltas },
            negative: Side { spans: &self.negative_spans, buckets: &self.negative_deltas },
            custom_values: &self.custom_values,
            hint: self.counter_reset_hint,
        }
    }

    fn into_value(self) -> Value {
        Value::Histogram(Box::new(self))
    }

    fn stale(sum: f64) -> Histogram {
        Histogram { sum, ..Histogram::default() }
    }

    fn header_after_refusal(header: ResetHeader) -> ResetHeader {
        header
    }

    fn header_of_next(header: ResetHeader) -> ResetHeader {
        header
    }
}

/// A number, and how it changed from the histogram before.
#[derive(Clone, Copy, Debug, Default)]
struct Changing {
    value: i64,
    change: i64,
}

impl Changing {
    /// Moves on to `value` and answers the change of the change.
    fn write(&mut self, value: i64) -> i64 {
        let change = value.wrapping_sub(self.value);
        let change_of_change = change.wrapping_sub(self.change);
        *self = Changing { value, change };
        change_of_change
    }

    /// Moves on by the change of the change.
    fn read(&mut self, change_of_change: i64) {
        self.change = self.change.wrapping_add(change_of_change);
        self.value = self.value.wrapping_add(self.change);
    }
}

/// The numbers of the histogram that was read or written last.
#[derive(Clone, Debug, Default)]
pub(in crate::chunk) struct IntegerState {
    count: Changing,
    zero_count: Changing,
    /// What stands in the buckets: first the positive ones, then the negative ones.
    buckets: Vec<i64>,
    /// How these changed from the histogram before.
    changes: Vec<i64>,
    positive: usize,
}

impl IntegerState {
    fn halves(&self) -> (&[i64], &[i64]) {
        self.buckets.split_at(self.positive)
    }
}

impl Written<Histogram> for IntegerState {
    fn first_counts(&mut self, writer: &mut Writer, histogram: &Histogram) {
        self.count = Changing { value: histogram.count.cast_signed(), change: 0 };
        self.zero_count = Changing { value: histogram.zero_count.cast_signed(), change: 0 };
        writer.put_varbit_uint(histogram.count);
        writer.put_varbit_uint(histogram.zero_count);
    }

    fn first_buckets(&mut self, writer: &mut Writer, positive: &[i64], negative: &[i64]) {
        self.positive = positive.len();
        self.buckets = [positive, negative].concat();
        self.changes = vec![0; self.buckets.len()];
        for bucket in &self.buckets {
            writer.put_varbit_int(*bucket);
        }
    }

    fn next_counts(&mut self, writer: &mut Writer, histogram: &Histogram) {
        let count = self.count.write(histogram.count.cast_signed());
        let zero_count = self.zero_count.write(histogram.zero_count.cast_signed());
        // Readers take no counts from a staleness marker.
        let is_stale = histogram.is_stale();
        writer.put_varbit_int(if is_stale { 0 } else { count });
        writer.put_varbit_int(if is_stale { 0 } else { zero_count });
    }

    fn next_buckets(&mut self, writer: &mut Writer, positive: &[i64], negative: &[i64]) {
        let states = self.buckets.iter_mut().zip(&mut self.changes);
        for ((bucket, change), new) in states.zip(positive.iter().chain(negative)) {
            let mut state = Changing { value: *bucket, change: *change };
            writer.put_varbit_int(state.write(*new));
            (*bucket, *change) = (state.value, state.change);
        }
    }

    fn count_fell(&self, histogram: &Histogram) -> bool {
        histogram.count < self.count.value.cast_unsigned()
    }

    fn zero_count_fell(&self, histogram: &Histogram) -> bool {
        histogram.zero_count < self.zero_count.value.cast_unsigned()
    }

    fn buckets(&self) -> (&[i64], &[i64]) {
        self.halves()
    }
}

impl Read<Histogram> for IntegerState {
    const BUCKET_BITS_MIN: usize = 1;

    fn new((positive, negative): (usize, usize)) -> IntegerState {
        let zeros = vec![0; positive + negative];
        IntegerState { buckets: zeros.clone(), changes: zeros, positive, ..Default::default() }
    }

    fn first_counts(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        self.count.value = reader.varbit_uint()?.cast_signed();
        self.zero_count.value = reader.varbit_uint()?.cast_signed();
        Some(())
    }

    fn first_buckets(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        for bucket in &mut self.buckets {
            *bucket = reader.varbit_int()?;
        }
        Some(())
    }

    fn next_counts(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        self.count.read(reader.varbit_int()?);
        self.zero_count.read(reader.varbit_int()?);
        Some(())
    }

    fn next_buckets(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        for (bucket, change) in self.buckets.iter_mut().zip(&mut self.changes) {
            *change = change.wrapping_add(reader.varbit_int()?);
            *bucket = bucket.wrapping_add(*change);
        }
        Some(())
    }

    fn stored(&self, frame: Frame<'_>) -> Histogram {
        let (positive, negative) = self.halves();
        Histogram {
            schema: frame.layout.schema,
            zero_threshold: frame.layout.zero_threshold,
            zero_count: self.zero_count.value.cast_unsigned(),
            count: self.count.value.cast_unsigned(),
            sum: frame.sum,
            positive_spans: frame.positive_spans(),
            negative_spans: frame.negative_spans(),
            positive_deltas: positive.to_vec(),
            negative_deltas: negative.to_vec(),
            custom_values: frame.layout.custom_values.clone(),
            counter_reset_hint: frame.hint,
        }
    }

    fn float(&self, frame: Frame<'_>) -> FloatHistogram {
        let (positive, negative) = self.halves();
        FloatHistogram {
            schema: frame.layout.schema,
            zero_threshold: frame.layout.zero_threshold,
            zero_count: count_to_float(self.zero_count.value.cast_unsigned()),
            count: count_to_float(self.count.value.cast_unsigned()),
            sum: frame.sum,
            positive_spans: frame.positive_spans(),
            negative_spans: frame.negative_spans(),
            positive_buckets: absolute(positive).collect(),
            negative_buckets: absolute(negative).collect(),
            custom_values: frame.layout.custom_values.clone(),
            counter_reset_hint: frame.hint,
        }
    }
}
