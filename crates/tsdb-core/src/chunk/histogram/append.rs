//! Writes a chunk of histograms, one after the other.

use bytes::Bytes;
use model::histogram::buckets::{Indices, bucket_count, is_custom};
use model::histogram::{CounterResetHint, Span};
use model::is_stale;

use crate::block::ChunkData;
use crate::chunk::bits::{Writer, WrittenWindow};
use crate::chunk::histogram::decode::Decoder;
use crate::chunk::histogram::kind::{Kind, View, Written};
use crate::chunk::histogram::layout::Layout;
use crate::chunk::histogram::spans::{self, Difference, Side};
use crate::chunk::histogram::{HEADER_BYTES, ResetHeader, SAMPLES_MAX};
use crate::error::Damage;

/// An open chunk of histograms: takes them at its end.
///
/// All histograms of a chunk have one layout. One that has further buckets makes the chunk be
/// written again with them; one that lacks empty ones gets them.
#[derive(Clone, Debug)]
pub struct Appender<K: Kind> {
    writer: Writer,
    layout: Layout,
    header: ResetHeader,
    sample_count: u16,
    timestamp_ms: i64,
    delta_ms: i64,
    sum: f64,
    sum_window: WrittenWindow,
    numbers: K::Written,
}

/// What became of an appended histogram.
#[derive(Debug)]
pub enum Appended<K: Kind> {
    /// It is in the chunk.
    InPlace,
    /// It is in the chunk, which was written again with further buckets.
    Recoded,
    /// It could not go into the chunk, which is finished: a counter was reset, or schema, zero
    /// threshold or custom bounds changed, or one is a gauge or stale and the other is not, or the
    /// chunk is full. It begins this one.
    NewChunk(Box<Appender<K>>),
}

/// Whether a histogram can go into a chunk.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// It can, where the positive and negative spans differ like this.
    Fits(Difference, Difference),
    /// It cannot: the header that a chunk behind this one gets.
    Refused(ResetHeader),
}

impl<K: Kind> Appender<K> {
    /// An empty chunk.
    pub fn new() -> Appender<K> {
        Appender {
            writer: Writer::default(),
            layout: Layout::default(),
            header: ResetHeader::Unknown,
            sample_count: 0,
            timestamp_ms: 0,
            delta_ms: 0,
            sum: 0.0,
            sum_window: WrittenWindow::default(),
            numbers: K::Written::default(),
        }
    }

    /// An open chunk with the histograms of an encoded one, as after a restart.
    ///
    /// # Errors
    /// When `data` is damaged.
    pub fn rebuild(data: &[u8]) -> Result<Appender<K>, Damage> {
        let mut decoder = Decoder::<K>::new(data, false)?;
        let mut appender = Appender::new();
        while decoder.advance()? {
            appender.copy(&decoder);
        }
        Ok(appender)
    }

    /// Takes over the histogram that was read last from a chunk all of whose histograms come from
    /// there, and what that chunk says about a reset.
    pub(in crate::chunk) fn copy(&mut self, decoder: &Decoder<'_, K>) {
        let histogram = decoder.stored();
        self.write(decoder.timestamp_ms(), &histogram, histogram.view());
        self.header = decoder.reset_header();
    }

    /// Appends a histogram. `before` is the chunk before this one, if it is known: it tells
    /// whether the first histogram of this one follows a counter reset.
    ///
    /// The order of timestamps is the caller's business. Where spans and buckets of the histogram
    /// do not match, what has no counterpart is left out.
    pub fn append(
        &mut self,
        before: Option<&Appender<K>>,
        timestamp_ms: i64,
        histogram: &K,
    ) -> Appended<K> {
        let mut view = histogram.view();
        let (mut positive_spans, mut negative_spans) = (Vec::new(), Vec::new());
        view.positive = fitted(view.positive, &mut positive_spans);
        view.negative = fitted(view.negative, &mut negative_spans);
        if self.sample_count == 0 {
            self.begin(before, timestamp_ms, histogram, view);
            return Appended::InPlace;
        }
        if self.sample_count == SAMPLES_MAX {
            let mut next = Box::new(Appender::new());
            next.begin(Some(self), timestamp_ms, histogram, view);
            return Appended::NewChunk(next);
        }
        match self.judge(histogram, view) {
            Verdict::Fits(positive, negative) => {
                self.insert(timestamp_ms, histogram, view, (positive, negative))
            }
            Verdict::Refused(header) => {
                let mut next = Box::new(Appender::new());
                next.write(timestamp_ms, histogram, view);
                next.header = K::header_after_refusal(header);
                Appended::NewChunk(next)
            }
        }
    }

    /// Number of histograms.
    pub fn sample_count(&self) -> u16 {
        self.sample_count
    }

    /// Whether there is no histogram yet.
    pub fn is_empty(&self) -> bool {
        self.sample_count == 0
    }

    /// Time of the last histogram in ms; 0 while there is none.
    pub fn last_timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// What the chunk says about a counter reset before it.
    pub fn reset_header(&self) -> ResetHeader {
        self.header
    }

    /// Says what is known about a counter reset before the chunk, instead of what was found.
    pub fn set_reset_header(&mut self, header: ResetHeader) {
        self.header = header;
    }

    /// Bytes of the encoded chunk as it is now, header included.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.writer.size_bytes()
    }

    /// The encoded chunk as it is now; the chunk stays open.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_bytes());
        out.extend_from_slice(&self.sample_count.to_be_bytes());
        out.push(self.header.to_byte());
        self.writer.write_to(&mut out);
        out
    }

    /// The chunk as it is now, whose first histogram is at `first_ms`; `None` while it is empty.
    pub fn to_chunk(&self, first_ms: i64) -> Option<ChunkData> {
        (!self.is_empty()).then(|| ChunkData {
            encoding: K::ENCODING,
            min_time_ms: first_ms,
            max_time_ms: self.timestamp_ms,
            data: Bytes::from(self.to_bytes()),
        })
    }

    /// Writes the first histogram, and what is known about a reset before it.
    fn begin(
        &mut self,
        before: Option<&Appender<K>>,
        timestamp_ms: i64,
        histogram: &K,
        view: View<'_, K::Number>,
    ) {
        self.write(timestamp_ms, histogram, view);
        self.header = match (view.hint, before) {
            (CounterResetHint::Gauge, _) => ResetHeader::Gauge,
            (CounterResetHint::Reset, _) => ResetHeader::Reset,
            (_, None) => ResetHeader::Unknown,
            (_, Some(before)) => match before.judge_counter(histogram, view) {
                Verdict::Fits(..) => ResetHeader::NotReset,
                Verdict::Refused(header) => K::header_of_next(header),
            },
        };
    }

    fn judge(&self, histogram: &K, view: View<'_, K::Number>) -> Verdict {
        if view.hint == CounterResetHint::Gauge {
            self.judge_gauge(view)
                .map_or(Verdict::Refused(ResetHeader::Gauge), |(a, b)| Verdict::Fits(a, b))
        } else {
            self.judge_counter(histogram, view)
        }
    }

    fn judge_counter(&self, histogram: &K, view: View<'_, K::Number>) -> Verdict {
        if self.header == ResetHeader::Gauge {
            return Verdict::Refused(ResetHeader::NotReset);
        }
        if view.hint == CounterResetHint::Reset {
            return Verdict::Refused(ResetHeader::Reset);
        }
        if is_stale(view.sum) {
            return Verdict::Fits(Difference::default(), Difference::default());
        }
        if is_stale(self.sum) {
            return Verdict::Refused(ResetHeader::Unknown);
        }
        if self.numbers.count_fell(histogram) {
            return Verdict::Refused(ResetHeader::Reset);
        }
        if !self.has_schema_of(view) {
            return Verdict::Refused(ResetHeader::Unknown);
        }
        if !self.has_bounds_of(view) || self.numbers.zero_count_fell(histogram) {
            return Verdict::Refused(ResetHeader::Reset);
        }
        let (positive, negative) = self.sides();
        let positive = spans::compare(positive, view.positive);
        match (positive, positive.and_then(|_| spans::compare(negative, view.negative))) {
            (Some(positive), Some(negative)) => Verdict::Fits(positive, negative),
            _ => Verdict::Refused(ResetHeader::Reset),
        }
    }

    /// How the spans differ; `None` when the gauge cannot go into the chunk.
    fn judge_gauge(&self, view: View<'_, K::Number>) -> Option<(Difference, Difference)> {
        if self.header != ResetHeader::Gauge {
            return None;
        }
        if is_stale(view.sum) {
            return Some((Difference::default(), Difference::default()));
        }
        if is_stale(self.sum) || !self.has_schema_of(view) || !self.has_bounds_of(view) {
            return None;
        }
        let (positive, negative) = self.sides();
        let positive = spans::compare_spans(positive, view.positive);
        Some((positive, spans::compare_spans(negative, view.negative)))
    }

    #[expect(clippy::float_cmp, reason = "any other threshold is another one")]
    fn has_schema_of(&self, view: View<'_, K::Number>) -> bool {
        self.layout.schema == view.schema && self.layout.zero_threshold == view.zero_threshold
    }

    fn has_bounds_of(&self, view: View<'_, K::Number>) -> bool {
        !is_custom(view.schema) || self.layout.custom_values == view.custom_values
    }

    /// The buckets of the histogram that was written last.
    fn sides(&self) -> (Side<'_, K::Number>, Side<'_, K::Number>) {
        let (positive, negative) = self.numbers.buckets();
        (
            Side { spans: &self.layout.positive_spans, buckets: positive },
            Side { spans: &self.layout.negative_spans, buckets: negative },
        )
    }

    /// Writes a histogram that fits, after buckets were added to it or to the chunk.
    fn insert(
        &mut self,
        timestamp_ms: i64,
        histogram: &K,
        view: View<'_, K::Number>,
        (positive, negative): (Difference, Difference),
    ) -> Appended<K> {
        let adds = positive.adds || negative.adds;
        let lacks = positive.lacks || negative.lacks;
        let (positive_spans, negative_spans, positive_buckets, negative_buckets);
        let mut view = view;
        if lacks {
            let (chunk_positive, chunk_negative) = self.sides();
            let all = view.hint == CounterResetHint::Gauge;
            // Where nothing is new to the chunk, its own spans will do; otherwise each side that
            // lacks buckets, of gauges both sides, get the spans of both.
            let spans = |difference: Difference, chunk: Side<'_, _>, new: Side<'_, _>| match () {
                () if all || (adds && difference.lacks) => spans::union(chunk, new),
                () if adds => new.spans.to_vec(),
                () => chunk.spans.to_vec(),
            };
            positive_spans = spans(positive, chunk_positive, view.positive);
            negative_spans = spans(negative, chunk_negative, view.negative);
            positive_buckets = spans::moved(view.positive, &positive_spans);
            negative_buckets = spans::moved(view.negative, &negative_spans);
            view.positive = Side { spans: &positive_spans, buckets: &positive_buckets };
            view.negative = Side { spans: &negative_spans, buckets: &negative_buckets };
        }
        if adds {
            self.recode(view);
        }
        self.write(timestamp_ms, histogram, view);
        if adds { Appended::Recoded } else { Appended::InPlace }
    }

    /// Writes the chunk again, with the spans of `view`.
    fn recode(&mut self, view: View<'_, K::Number>) {
        let data = self.to_bytes();
        let mut recoded = Appender::new();
        // These are our own bytes.
        let Ok(mut decoder) = Decoder::<K>::new(&data, false) else { return };
        while let Ok(true) = decoder.advance() {
            let histogram = decoder.stored();
            let mut old = histogram.view();
            let positive = spans::moved(old.positive, view.positive.spans);
            let negative = spans::moved(old.negative, view.negative.spans);
            old.positive = Side { spans: view.positive.spans, buckets: &positive };
            old.negative = Side { spans: view.negative.spans, buckets: &negative };
            recoded.write(decoder.timestamp_ms(), &histogram, old);
        }
        assert_eq!(recoded.sample_count, self.sample_count, "a chunk of ours could not be read");
        recoded.header = self.header;
        *self = recoded;
    }

    /// Writes a histogram whose spans are those of the chunk, if it is not the first one; of a
    /// staleness marker only its sum.
    fn write(&mut self, timestamp_ms: i64, histogram: &K, view: View<'_, K::Number>) {
        if is_stale(view.sum) {
            let stale = K::stale(view.sum);
            self.write_numbers(timestamp_ms, &stale, stale.view());
        } else {
            self.write_numbers(timestamp_ms, histogram, view);
        }
    }

    fn write_numbers(&mut self, timestamp_ms: i64, histogram: &K, view: View<'_, K::Number>) {
        let (positive, negative) = (view.positive.buckets, view.negative.buckets);
        let writer = &mut self.writer;
        if self.sample_count == 0 {
            self.layout = view.layout();
            self.layout.write(writer);
            writer.put_varbit_int(timestamp_ms);
            self.numbers.first_counts(writer, histogram);
            writer.put(view.sum.to_bits(), 64);
            self.numbers.first_buckets(writer, positive, negative);
        } else {
            let delta_ms = timestamp_ms.wrapping_sub(self.timestamp_ms);
            writer.put_varbit_int(delta_ms.wrapping_sub(self.delta_ms));
            self.delta_ms = delta_ms;
            self.numbers.next_counts(writer, histogram);
            writer.put_xor(&mut self.sum_window, view.sum.to_bits(), self.sum.to_bits());
            self.numbers.next_buckets(writer, positive, negative);
        }
        self.timestamp_ms = timestamp_ms;
        self.sum = view.sum;
        // The caller keeps it below SAMPLES_MAX.
        self.sample_count = self.sample_count.saturating_add(1);
    }
}

impl<K: Kind> Default for Appender<K> {
    fn default() -> Appender<K> {
        Appender::new()
    }
}

/// A side as it is, or, where spans and buckets do not match, what they have in common; `spans`
/// then holds its spans.
fn fitted<'a, N>(side: Side<'a, N>, spans: &'a mut Vec<Span>) -> Side<'a, N> {
    if bucket_count(side.spans) == side.buckets.len() as u64 {
        return side;
    }
    *spans = spans::spans_of(Indices::new(side.spans).take(side.buckets.len()));
    let count = usize::try_from(bucket_count(spans)).unwrap_or(side.buckets.len());
    Side { spans, buckets: side.buckets.get(..count).unwrap_or(side.buckets) }
}
