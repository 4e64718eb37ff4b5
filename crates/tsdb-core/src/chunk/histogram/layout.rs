//! What all histograms of a chunk have in common: schema, zero bucket, spans and custom bounds.

use model::histogram::Span;
use model::histogram::buckets::{bucket_count, is_custom};

use crate::chunk::bits::{Reader, Writer};

/// A custom bound is written as thousandths up to this many.
const THOUSANDTHS_MAX: f64 = 33_554_430.0;
/// A zero threshold of 2^(n - 244) is the byte n, for n from 1 to 254.
const THRESHOLD_BIAS: i64 = 244;
const THRESHOLD_IN_FULL: u64 = 255;

/// The layout of a chunk's histograms.
#[derive(Clone, Debug, Default)]
pub(in crate::chunk) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive_spans: Vec<Span>,
    pub(super) negative_spans: Vec<Span>,
    pub(super) custom_values: Vec<f64>,
}

impl Layout {
    /// Reads it from the start of a chunk; `None` when it ends early or is impossible. What it
    /// allocates is bounded by the bits that are there.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Layout> {
        let zero_threshold = read_threshold(reader)?;
        let schema = i32::try_from(reader.varbit_int()?).ok()?;
        let positive_spans = read_spans(reader)?;
        let negative_spans = read_spans(reader)?;
        let custom_values = if is_custom(schema) { read_bounds(reader)? } else { Vec::new() };
        Some(Layout { schema, zero_threshold, positive_spans, negative_spans, custom_values })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        put_threshold(writer, self.zero_threshold);
        writer.put_varbit_int(i64::from(self.schema));
        for spans in [&self.positive_spans, &self.negative_spans] {
            writer.put_varbit_uint(spans.len() as u64);
            for span in spans {
                writer.put_varbit_uint(u64::from(span.length));
                writer.put_varbit_int(i64::from(span.offset));
            }
        }
        if is_custom(self.schema) {
            writer.put_varbit_uint(self.custom_values.len() as u64);
            for bound in &self.custom_values {
                put_bound(writer, *bound);
            }
        }
    }

    /// Number of positive and of negative buckets, when there are at least `bits_each` bits for
    /// each of them: every bucket of the first histogram takes that many.
    pub(super) fn bucket_counts(
        &self,
        remaining_bits: usize,
        bits_each: usize,
    ) -> Option<(usize, usize)> {
        let positive = usize::try_from(bucket_count(&self.positive_spans)).ok()?;
        let negative = usize::try_from(bucket_count(&self.negative_spans)).ok()?;
        let fits = positive.checked_add(negative)? <= remaining_bits / bits_each;
        fits.then_some((positive, negative))
    }

    /// Bytes that each decoded histogram takes for what they have in common.
    pub(super) fn repeated_bytes(&self) -> usize {
        8 * (self.positive_spans.len() + self.negative_spans.len() + self.custom_values.len())
    }
}

fn read_spans(reader: &mut Reader<'_>) -> Option<Vec<Span>> {
    let count = reader.varbit_uint()?;
    let mut spans = Vec::new();
    for _ in 0..count {
        let length = u32::try_from(reader.varbit_uint()?).ok()?;
        let offset = i32::try_from(reader.varbit_int()?).ok()?;
        spans.push(Span { offset, length });
    }
    Some(spans)
}

fn read_bounds(reader: &mut Reader<'_>) -> Option<Vec<f64>> {
    let count = reader.varbit_uint()?;
    let mut bounds = Vec::new();
    for _ in 0..count {
        bounds.push(match reader.varbit_uint()? {
            0 => f64::from_bits(reader.bits(64)?),
            thousandths => model::histogram::integer::count_to_float(thousandths - 1) / 1000.0,
        });
    }
    Some(bounds)
}

fn put_bound(writer: &mut Writer, bound: f64) {
    match thousandths(bound) {
        Some(thousandths) => writer.put_varbit_uint(thousandths + 1),
        None => {
            writer.put(0, 1);
            writer.put(bound.to_bits(), 64);
        }
    }
}

/// A bound as a whole number of thousandths, if it is one and small enough.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a whole number of at most 26 bits, and not negative"
)]
fn thousandths(bound: f64) -> Option<u64> {
    let scaled = bound * 1000.0;
    let whole = scaled.round();
    let is_whole = (0.0..=THOUSANDTHS_MAX).contains(&scaled) && whole / 1000.0 == bound;
    is_whole.then_some(whole as u64)
}

/// The power of two that a byte of the zero threshold stands for, as the bits of a float.
fn threshold_of(byte: u64) -> f64 {
    let exponent = i64::try_from(byte).unwrap_or_default() - THRESHOLD_BIAS;
    f64::from_bits((exponent + 1023).cast_unsigned() << 52)
}

fn read_threshold(reader: &mut Reader<'_>) -> Option<f64> {
    Some(match reader.bits(8)? {
        0 => 0.0,
        THRESHOLD_IN_FULL => f64::from_bits(reader.bits(64)?),
        byte => threshold_of(byte),
    })
}

fn put_threshold(writer: &mut Writer, threshold: f64) {
    if threshold == 0.0 {
        writer.put(0, 8);
        return;
    }
    let bits = threshold.to_bits();
    let byte = (bits >> 52).cast_signed() - 1023 + THRESHOLD_BIAS;
    let is_power_of_two = bits.trailing_zeros() >= 52;
    match u64::try_from(byte) {
        Ok(byte @ 1..THRESHOLD_IN_FULL) if is_power_of_two => writer.put(byte, 8),
        _ => {
            writer.put(THRESHOLD_IN_FULL, 8);
            writer.put(bits, 64);
        }
    }
}
