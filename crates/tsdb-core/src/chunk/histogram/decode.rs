//! Reads the histograms of a chunk one by one.

use model::histogram::CounterResetHint;
use model::histogram::buckets::{SCHEMA_MAX, is_known};
use model::{Columns, FloatHistogram, is_stale};

use crate::chunk::bits::{Reader, Xored};
use crate::chunk::histogram::kind::{Codec, Frame, Kind, Read};
use crate::chunk::histogram::layout::Layout;
use crate::chunk::histogram::{HEADER_BYTES, ResetHeader};
use crate::chunk::starts::Starts;
use crate::chunk::value::Timed;
use crate::codec::{Cursor, low_byte};
use crate::error::Damage;

/// Most bytes that the histograms of one chunk may take for what they have in common: a layout is
/// written once and decoded with each histogram, so that few bytes could ask for much memory.
const REPEATED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The bits of the count where the two above hold the reset header.
const COUNT_MASK_WITH_STARTS: u16 = 0x3fff;

/// The first bytes of a chunk.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) sample_count: u16,
    pub(super) reset: ResetHeader,
    starts: Starts,
}

impl Header {
    pub(super) fn read(
        what: &'static str,
        data: &[u8],
        has_starts: bool,
    ) -> Result<Header, Damage> {
        let mut cursor = Cursor::new(what, data);
        let count = cursor.u16()?;
        let flags = cursor.u8()?;
        Ok(if has_starts {
            Header {
                sample_count: count & COUNT_MASK_WITH_STARTS,
                reset: ResetHeader::from_byte(low_byte(u64::from(count >> 8))),
                starts: Starts::new(flags),
            }
        } else {
            Header {
                sample_count: count,
                reset: ResetHeader::from_byte(flags),
                starts: Starts::NONE,
            }
        })
    }
}

/// A place between two histograms of a chunk.
#[derive(Debug)]
pub(in crate::chunk) struct Decoder<'a, K: Kind> {
    reader: Reader<'a>,
    header: Header,
    /// Histograms read so far.
    index: u16,
    layout: Layout,
    numbers: K::Read,
    timestamp_ms: i64,
    delta_ms: i64,
    sum: Xored,
}

impl<'a, K: Kind> Decoder<'a, K> {
    /// Begins before the first histogram.
    pub(in crate::chunk) fn new(
        data: &'a [u8],
        has_starts: bool,
    ) -> Result<Decoder<'a, K>, Damage> {
        Ok(Decoder {
            header: Header::read(K::WHAT, data, has_starts)?,
            reader: Reader::new(data, HEADER_BYTES),
            index: 0,
            layout: Layout::default(),
            numbers: K::Read::new((0, 0)),
            timestamp_ms: 0,
            delta_ms: 0,
            sum: Xored::first(0),
        })
    }

    /// Reads the next histogram; false behind the last one.
    pub(in crate::chunk) fn advance(&mut self) -> Result<bool, Damage> {
        if self.index == self.header.sample_count {
            return Ok(false);
        }
        let read = if self.index == 0 { self.first() } else { self.next() };
        read.ok_or_else(|| self.reader.damage(K::WHAT))?;
        self.index += 1;
        Ok(true)
    }

    /// Reads the layout and the first histogram.
    fn first(&mut self) -> Option<()> {
        let reader = &mut self.reader;
        self.layout = Layout::read(reader).filter(|it| is_known(it.schema))?;
        let bits_each = K::Read::BUCKET_BITS_MIN;
        let counts = self.layout.bucket_counts(reader.remaining_bits(), bits_each)?;
        self.numbers = K::Read::new(counts);
        self.timestamp_ms = reader.varbit_int()?;
        self.numbers.first_counts(reader)?;
        self.sum = Xored::first(reader.bits(64)?);
        self.numbers.first_buckets(reader)?;
        self.header.starts.first(reader, self.timestamp_ms)
    }

    /// Reads any other histogram.
    fn next(&mut self) -> Option<()> {
        let reader = &mut self.reader;
        let before_ms = self.timestamp_ms;
        self.delta_ms = self.delta_ms.wrapping_add(reader.varbit_int()?);
        self.timestamp_ms = before_ms.wrapping_add(self.delta_ms);
        self.numbers.next_counts(reader)?;
        reader.xor(&mut self.sum)?;
        if !is_stale(self.sum.value()) {
            self.numbers.next_buckets(reader)?;
        }
        self.header.starts.next(reader, self.index, before_ms)
    }

    fn is_stale(&self) -> bool {
        is_stale(self.sum.value())
    }

    fn frame(&self) -> Frame<'_> {
        let hint = match (self.header.reset, self.index) {
            (ResetHeader::Gauge, _) => CounterResetHint::Gauge,
            // What the header says of the first one counts only where the chunk before is known.
            (_, 0 | 1) => CounterResetHint::Unknown,
            _ => CounterResetHint::NotReset,
        };
        Frame { layout: &self.layout, sum: self.sum.value(), hint }
    }

    /// What the chunk says about a reset before it.
    pub(in crate::chunk) fn reset_header(&self) -> ResetHeader {
        self.header.reset
    }

    /// Time of the histogram that was read last.
    pub(in crate::chunk) fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// Start timestamp of the histogram that was read last; 0 means none.
    pub(in crate::chunk) fn start_ms(&self) -> i64 {
        self.header.starts.start_ms
    }

    /// The histogram that was read last, as it is stored.
    pub(in crate::chunk) fn stored(&self) -> K {
        let frame = self.frame();
        if self.is_stale() { K::stale(frame.sum) } else { self.numbers.stored(frame) }
    }

    /// The histogram that was read last, with float counts and in a resolution that queries know.
    pub(in crate::chunk) fn float(&self) -> FloatHistogram {
        let frame = self.frame();
        if self.is_stale() {
            return FloatHistogram::stale(frame.sum);
        }
        let mut float = self.numbers.float(frame);
        if float.schema > SCHEMA_MAX {
            // Only buckets that do not match their spans are refused, and here they do.
            let _reduced = float.reduce_resolution(SCHEMA_MAX);
        }
        float
    }
}

/// Room for what the histograms of a chunk have in common.
#[derive(Debug, Default)]
struct Room {
    used_bytes: usize,
}

impl Room {
    /// Takes the room of the histogram that was read last.
    fn take<K: Kind>(&mut self, decoder: &Decoder<'_, K>) -> Result<(), Damage> {
        if !decoder.is_stale() {
            self.used_bytes += decoder.layout.repeated_bytes();
        }
        if self.used_bytes > REPEATED_BYTES_MAX {
            let reason = format!("its spans and bounds take over {REPEATED_BYTES_MAX} bytes");
            return Err(Damage::new(K::WHAT, HEADER_BYTES as u64, reason));
        }
        Ok(())
    }
}

/// Appends the histograms of an encoded chunk to `columns`, widened to float counts.
///
/// # Errors
/// When the data ends before the declared number of histograms, or a field is impossible. The
/// columns then hold the histograms before that place.
pub fn decode<K: Kind>(data: &[u8], has_starts: bool, columns: &mut Columns) -> Result<(), Damage> {
    let mut decoder = Decoder::<K>::new(data, has_starts)?;
    let mut room = Room::default();
    while decoder.advance()? {
        room.take(&decoder)?;
        let (timestamp_ms, start_ms) = (decoder.timestamp_ms(), decoder.start_ms());
        columns.push_histogram_since(timestamp_ms, decoder.float(), start_ms);
    }
    Ok(())
}

/// Appends the histograms of an encoded chunk to `samples`, as they are stored.
///
/// # Errors
/// As [`decode`].
pub fn decode_values<K: Kind>(
    data: &[u8],
    has_starts: bool,
    samples: &mut Vec<Timed>,
) -> Result<(), Damage> {
    let mut decoder = Decoder::<K>::new(data, has_starts)?;
    let mut room = Room::default();
    while decoder.advance()? {
        room.take(&decoder)?;
        let value = decoder.stored().into_value();
        samples.push(Timed { timestamp_ms: decoder.timestamp_ms(), value });
    }
    Ok(())
}

/// The most bytes that the decoded histograms of a chunk take, by its header and layout.
///
/// # Errors
/// When header or layout are damaged.
pub fn decoded_bytes_max<K: Kind>(data: &[u8], has_starts: bool) -> Result<usize, Damage> {
    let header = Header::read(K::WHAT, data, has_starts)?;
    if header.sample_count == 0 {
        return Ok(0);
    }
    let mut reader = Reader::new(data, HEADER_BYTES);
    let layout = Layout::read(&mut reader).ok_or_else(|| reader.damage(K::WHAT))?;
    let remaining_bits = reader.remaining_bits();
    let counts = layout.bucket_counts(remaining_bits, K::Read::BUCKET_BITS_MIN);
    let (positive, negative) = counts.ok_or_else(|| reader.damage(K::WHAT))?;
    // Each histogram and each bucket take a bit or more.
    let samples = usize::from(header.sample_count).min(remaining_bits);
    let buckets = samples.saturating_mul(positive + negative).min(remaining_bits);
    let repeated = samples.saturating_mul(layout.repeated_bytes()).min(REPEATED_BYTES_MAX);
    let own = samples * (size_of::<FloatHistogram>() + size_of::<i64>());
    // Lists that grow while buckets are joined take up to twice their size, and four places each.
    let is_reduced = layout.schema > SCHEMA_MAX;
    let grown = if is_reduced { 8 * buckets + repeated + samples * 16 * 8 } else { 0 };
    Ok(own + 8 * buckets + repeated + grown)
}
