//! Histograms with float counts: every number is the XOR with the one before.

use model::FloatHistogram;

use crate::chunk::Encoding;
use crate::chunk::bits::{Reader, Writer, WrittenWindow, Xored};
use crate::chunk::histogram::ResetHeader;
use crate::chunk::histogram::kind::{Codec, Frame, Kind, Number, Read, View, Written};
use crate::chunk::histogram::spans::Side;
use crate::chunk::value::Value;

impl Number for f64 {
    const ZERO: f64 = 0.0;

    fn count(_before: f64, bucket: f64) -> f64 {
        bucket
    }

    fn bucket(_before: f64, count: f64) -> f64 {
        count
    }
}

impl Kind for FloatHistogram {}

impl Codec for FloatHistogram {
    type Number = f64;
    type Written = FloatWritten;
    type Read = FloatRead;
    const ENCODING: Encoding = Encoding::FloatHistogram;
    const WHAT: &'static str = "float histogram chunk";

    fn view(&self) -> View<'_, f64> {
        View {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive: Side { spans: &self.positive_spans, buckets: &self.positive_buckets },
            negative: Side { spans: &self.negative_spans, buckets: &self.negative_buckets },
            custom_values: &self.custom_values,
            hint: self.counter_reset_hint,
        }
    }

    fn into_value(self) -> Value {
        Value::FloatHistogram(Box::new(self))
    }

    fn stale(sum: f64) -> FloatHistogram {
        FloatHistogram { sum, ..FloatHistogram::default() }
    }

    fn header_after_refusal(header: ResetHeader) -> ResetHeader {
        match header {
            ResetHeader::NotReset => ResetHeader::Unknown,
            other => other,
        }
    }

    fn header_of_next(header: ResetHeader) -> ResetHeader {
        match header {
            ResetHeader::Reset => ResetHeader::Reset,
            _ => ResetHeader::NotReset,
        }
    }
}

/// The numbers of the histogram that was written last.
#[derive(Clone, Debug, Default)]
pub(in crate::chunk) struct FloatWritten {
    counts: [f64; 2],
    count_windows: [WrittenWindow; 2],
    /// First the positive buckets, then the negative ones.
    buckets: Vec<f64>,
    windows: Vec<WrittenWindow>,
    positive: usize,
}

fn put(writer: &mut Writer, window: &mut WrittenWindow, float: &mut f64, new: f64) {
    writer.put_xor(window, new.to_bits(), float.to_bits());
    *float = new;
}

impl Written<FloatHistogram> for FloatWritten {
    fn first_counts(&mut self, writer: &mut Writer, histogram: &FloatHistogram) {
        self.counts = [histogram.count, histogram.zero_count];
        for count in self.counts {
            writer.put(count.to_bits(), 64);
        }
    }

    fn first_buckets(&mut self, writer: &mut Writer, positive: &[f64], negative: &[f64]) {
        self.positive = positive.len();
        self.buckets = [positive, negative].concat();
        self.windows = vec![WrittenWindow::default(); self.buckets.len()];
        for bucket in &self.buckets {
            writer.put(bucket.to_bits(), 64);
        }
    }

    fn next_counts(&mut self, writer: &mut Writer, histogram: &FloatHistogram) {
        let new = [histogram.count, histogram.zero_count];
        for ((count, window), new) in self.counts.iter_mut().zip(&mut self.count_windows).zip(new) {
            put(writer, window, count, new);
        }
    }

    fn next_buckets(&mut self, writer: &mut Writer, positive: &[f64], negative: &[f64]) {
        let states = self.buckets.iter_mut().zip(&mut self.windows);
        for ((bucket, window), new) in states.zip(positive.iter().chain(negative)) {
            put(writer, window, bucket, *new);
        }
    }

    fn count_fell(&self, histogram: &FloatHistogram) -> bool {
        histogram.count < self.counts[0]
    }

    fn zero_count_fell(&self, histogram: &FloatHistogram) -> bool {
        histogram.zero_count < self.counts[1]
    }

    fn buckets(&self) -> (&[f64], &[f64]) {
        self.buckets.split_at(self.positive)
    }
}

/// The numbers of the histogram that was read last.
#[derive(Debug)]
pub(in crate::chunk) struct FloatRead {
    counts: [Xored; 2],
    /// First the positive buckets, then the negative ones.
    buckets: Vec<Xored>,
    positive: usize,
}

impl Read<FloatHistogram> for FloatRead {
    const BUCKET_BITS_MIN: usize = 64;

    fn new((positive, negative): (usize, usize)) -> FloatRead {
        let zero = Xored::first(0);
        FloatRead { counts: [zero; 2], buckets: vec![zero; positive + negative], positive }
    }

    fn first_counts(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        for count in &mut self.counts {
            *count = Xored::first(reader.bits(64)?);
        }
        Some(())
    }

    fn first_buckets(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        for bucket in &mut self.buckets {
            *bucket = Xored::first(reader.bits(64)?);
        }
        Some(())
    }

    fn next_counts(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        self.counts.iter_mut().try_for_each(|it| reader.xor(it))
    }

    fn next_buckets(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        self.buckets.iter_mut().try_for_each(|it| reader.xor(it))
    }

    fn stored(&self, frame: Frame<'_>) -> FloatHistogram {
        self.float(frame)
    }

    fn float(&self, frame: Frame<'_>) -> FloatHistogram {
        let (positive, negative) = self.buckets.split_at(self.positive);
        FloatHistogram {
            schema: frame.layout.schema,
            zero_threshold: frame.layout.zero_threshold,
            zero_count: self.counts[1].value(),
            count: self.counts[0].value(),
            sum: frame.sum,
            positive_spans: frame.positive_spans(),
            negative_spans: frame.negative_spans(),
            positive_buckets: positive.iter().map(Xored::value).collect(),
            negative_buckets: negative.iter().map(Xored::value).collect(),
            custom_values: frame.layout.custom_values.clone(),
            counter_reset_hint: frame.hint,
        }
    }
}
