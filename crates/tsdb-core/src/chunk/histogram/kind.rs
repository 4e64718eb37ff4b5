//! What differs between histograms with integer and with float counts.

use std::fmt;

use model::FloatHistogram;
use model::histogram::{CounterResetHint, Span};

use crate::chunk::Encoding;
use crate::chunk::bits::{Reader, Writer};
use crate::chunk::histogram::ResetHeader;
use crate::chunk::histogram::layout::Layout;
use crate::chunk::histogram::spans::Side;
use crate::chunk::value::Value;

/// A kind of histogram that has a chunk encoding: the two in `model`.
#[expect(private_bounds, reason = "no other type can have an encoding")]
pub trait Kind: Codec {}

/// A number in a bucket: a difference to the bucket before it, or a count.
pub(in crate::chunk) trait Number: Copy + PartialOrd + fmt::Debug {
    /// No observation.
    const ZERO: Self;

    /// The count of a bucket behind one with the count `before`.
    fn count(before: Self, bucket: Self) -> Self;

    /// What stands in a bucket with `count` behind one with the count `before`.
    fn bucket(before: Self, count: Self) -> Self;
}

/// What chunks need to know of a kind of histogram.
pub(in crate::chunk) trait Codec: Clone + fmt::Debug + Sized {
    /// What stands in its buckets.
    type Number: Number;
    /// Its numbers while a chunk is written.
    type Written: Written<Self>;
    /// Its numbers while a chunk is read.
    type Read: Read<Self>;
    /// The encoding of its chunks.
    const ENCODING: Encoding;
    /// What errors call its chunks.
    const WHAT: &'static str;

    /// Everything but its counts.
    fn view(&self) -> View<'_, Self::Number>;

    /// The histogram as the value of a sample.
    fn into_value(self) -> Value;

    /// A staleness marker: nothing but this sum.
    fn stale(sum: f64) -> Self;

    /// The header of a chunk that begins because its histogram did not fit into the one before.
    fn header_after_refusal(header: ResetHeader) -> ResetHeader;

    /// The header of a chunk that begins because the one before was full.
    fn header_of_next(header: ResetHeader) -> ResetHeader;
}

/// A histogram without its counts.
#[derive(Clone, Copy, Debug)]
pub(in crate::chunk) struct View<'a, N> {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) sum: f64,
    pub(super) positive: Side<'a, N>,
    pub(super) negative: Side<'a, N>,
    pub(super) custom_values: &'a [f64],
    pub(super) hint: CounterResetHint,
}

impl<N> View<'_, N> {
    pub(super) fn layout(&self) -> Layout {
        Layout {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive_spans: self.positive.spans.to_vec(),
            negative_spans: self.negative.spans.to_vec(),
            custom_values: self.custom_values.to_vec(),
        }
    }
}

/// The numbers of the histogram that was written last.
pub(in crate::chunk) trait Written<K: Codec>:
    Clone + fmt::Debug + Default
{
    /// Writes the counts of the first histogram.
    fn first_counts(&mut self, writer: &mut Writer, histogram: &K);

    /// Writes the buckets of the first histogram.
    fn first_buckets(
        &mut self,
        writer: &mut Writer,
        positive: &[K::Number],
        negative: &[K::Number],
    );

    /// Writes the counts of another one.
    fn next_counts(&mut self, writer: &mut Writer, histogram: &K);

    /// Writes the buckets of another one, which has the same spans.
    fn next_buckets(&mut self, writer: &mut Writer, positive: &[K::Number], negative: &[K::Number]);

    /// Whether the count of all observations is less than it was.
    fn count_fell(&self, histogram: &K) -> bool;

    /// Whether the count of the zero bucket is less than it was.
    fn zero_count_fell(&self, histogram: &K) -> bool;

    /// What stands in the positive buckets and in the negative ones.
    fn buckets(&self) -> (&[K::Number], &[K::Number]);
}

/// The numbers of the histogram that was read last.
pub(in crate::chunk) trait Read<K: Codec>: fmt::Debug {
    /// Bits that a bucket of the first histogram takes at least.
    const BUCKET_BITS_MIN: usize;

    /// Before the first histogram, which has this many positive and negative buckets.
    fn new(bucket_counts: (usize, usize)) -> Self;

    /// Reads the counts of the first histogram.
    fn first_counts(&mut self, reader: &mut Reader<'_>) -> Option<()>;

    /// Reads the buckets of the first histogram.
    fn first_buckets(&mut self, reader: &mut Reader<'_>) -> Option<()>;

    /// Reads the counts of another one.
    fn next_counts(&mut self, reader: &mut Reader<'_>) -> Option<()>;

    /// Reads the buckets of another one.
    fn next_buckets(&mut self, reader: &mut Reader<'_>) -> Option<()>;

    /// The histogram as it is stored.
    fn stored(&self, frame: Frame<'_>) -> K;

    /// The histogram with float counts.
    fn float(&self, frame: Frame<'_>) -> FloatHistogram;
}

/// What a histogram that was read has besides its counts.
#[derive(Clone, Copy, Debug)]
pub(in crate::chunk) struct Frame<'a> {
    pub(super) layout: &'a Layout,
    pub(super) sum: f64,
    pub(super) hint: CounterResetHint,
}

impl Frame<'_> {
    pub(super) fn positive_spans(&self) -> Vec<Span> {
        self.layout.positive_spans.clone()
    }

    pub(super) fn negative_spans(&self) -> Vec<Span> {
        self.layout.negative_spans.clone()
    }
}
