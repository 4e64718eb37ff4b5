//! Remote write 1.0 from its bytes: snappy once, then a walk over the protobuf that borrows.
//!
//! Every length is checked against what is there before it is used, and nothing is allocated by
//! a number that the sender declared.

mod protobuf;

use model::{BudgetExceeded, Reservation, Sample};
use tsdb_core::db::{LabelDecoder, Refused, WriteSeries};

use crate::decode::protobuf::{Fields, Value};

/// Fields of `prometheus.WriteRequest`.
const REQUEST_TIMESERIES: u32 = 1;
/// Fields of version 2 that version 1 does not have: symbols and time series.
const REQUEST_OF_VERSION_2: [u32; 2] = [4, 5];
/// Fields of `prometheus.TimeSeries`.
const SERIES_LABELS: u32 = 1;
const SERIES_SAMPLES: u32 = 2;
const SERIES_EXEMPLARS: u32 = 3;
const SERIES_HISTOGRAMS: u32 = 4;
/// Fields of `prometheus.Label`.
const LABEL_NAME: u32 = 1;
const LABEL_VALUE: u32 = 2;
/// Fields of `prometheus.Sample`.
const SAMPLE_VALUE: u32 = 1;
const SAMPLE_TIMESTAMP: u32 = 2;

/// Most bytes that snappy can make of one: a copy of 64 bytes takes three.
const SNAPPY_RATIO_MAX: u64 = 22;

/// Most series of a request: far more than any sender puts into one, and far fewer than would fit
/// into its bytes if most of them were empty.
pub const SERIES_MAX: usize = 1 << 19;

/// What an element takes in memory on its way into the head: itself, what the head notes on the
/// way to it (a hash of 16 bytes, where it is, and in which order it is visited), and what is
/// noted when it is refused, in a vector that may hold twice its content.
const SERIES_BYTES: usize = size_of::<WriteSeries<'_>>() + 64 + 2 * size_of::<Refused>();
const SAMPLE_BYTES: usize = size_of::<Sample>() + 2 * size_of::<Refused>();
/// Samples that there is room for at first, beyond one for each series.
const SAMPLES_MIN: usize = 64;

/// Why a body is not a write request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a snappy block, or a lying one.
    #[error("the body is not a whole snappy block: {0}")]
    Snappy(String),
    /// More bytes than a request may have.
    #[error(
        "the request has {declared_bytes} bytes, at most {bytes_max} are taken; send fewer \
         samples at a time"
    )]
    TooLarge {
        /// Bytes that it unpacks to.
        declared_bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// More series than a request may have.
    #[error("the request has more than {SERIES_MAX} series; send fewer at a time")]
    TooManySeries,
    /// Not a protobuf message of the expected form.
    #[error("malformed write request: {reason} at byte {offset} of the unpacked body")]
    Protobuf {
        /// What is wrong.
        reason: &'static str,
        /// Where.
        offset: usize,
    },
    /// There is no memory for what the request holds.
    #[error(transparent)]
    Memory(#[from] BudgetExceeded),
    /// A message of version 2 that was declared as version 1.
    #[error(
        "the body is a remote write 2.0 request but was sent as 1.0; this receiver takes 1.0: \
         set protobuf_message: prometheus.WriteRequest"
    )]
    Version2,
}

/// Unpacks a snappy block into a buffer of the caller's choice of account.
///
/// # Errors
/// Before anything is allocated when the declared length is a lie or beyond `bytes_max`.
pub fn declared_bytes(body: &[u8], bytes_max: u64) -> Result<usize, DecodeError> {
    let declared = snap::raw::decompress_len(body).map_err(|it| snappy(&it))?;
    let declared_bytes = declared as u64;
    if declared_bytes > SNAPPY_RATIO_MAX.saturating_mul(body.len() as u64) {
        let text = format!("{} bytes cannot unpack to {declared_bytes}", body.len());
        return Err(DecodeError::Snappy(text));
    }
    if declared_bytes > bytes_max {
        return Err(DecodeError::TooLarge { declared_bytes, bytes_max });
    }
    Ok(declared)
}

/// Unpacks a snappy block whose declared length was checked.
///
/// # Errors
/// When it is damaged.
pub fn decompress(body: &[u8], declared_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    let mut unpacked = vec![0; declared_bytes];
    let written = snap::raw::Decoder::new().decompress(body, &mut unpacked);
    let written = written.map_err(|it| snappy(&it))?;
    unpacked.truncate(written);
    Ok(unpacked)
}

fn snappy(error: &snap::Error) -> DecodeError {
    DecodeError::Snappy(error.to_string())
}

/// What a request holds, borrowed from its bytes.
#[derive(Debug, Default)]
pub struct WriteRequest<'a> {
    /// The series, those without samples among them; those with nothing at all are left out.
    pub series: Vec<WriteSeries<'a>>,
    /// The float samples of all series.
    pub samples: Vec<Sample>,
    /// Series that carry native histograms: index and how many.
    pub histograms: Vec<(u32, u32)>,
    /// Exemplars, of all series.
    pub exemplar_count: usize,
}

/// Walks a request. `held` is made to hold what the walk makes of it: an empty series takes two
/// bytes as it is sent and far more once it was walked. The series are counted first, so that
/// room for them is asked for and taken once.
///
/// # Errors
/// When it is not one, or there is no memory for it; nothing of it is used then.
pub fn walk<'a>(bytes: &'a [u8], held: &mut Reservation) -> Result<WriteRequest<'a>, DecodeError> {
    let series_count = count_series(bytes)?;
    held.grow(series_count * SERIES_BYTES)?;
    let mut request = WriteRequest::default();
    request.series.reserve_exact(series_count);
    let mut fields = Fields::new(bytes, 0);
    while let Some((number, value)) = fields.next()? {
        if number == REQUEST_TIMESERIES {
            let (series, offset) = value.bytes()?;
            if !series.is_empty() {
                walk_series(series, offset, (&mut request, held))?;
            }
        }
    }
    Ok(request)
}

/// Counts the series that are not empty; looks at the outermost fields alone.
fn count_series(bytes: &[u8]) -> Result<usize, DecodeError> {
    let (mut series_count, mut has_series, mut is_version_2) = (0, false, false);
    let mut fields = Fields::new(bytes, 0);
    while let Some((number, value)) = fields.next()? {
        if number == REQUEST_TIMESERIES {
            has_series = true;
            series_count += usize::from(!value.bytes()?.0.is_empty());
        } else if REQUEST_OF_VERSION_2.contains(&number) {
            is_version_2 = true;
        }
    }
    if is_version_2 && !has_series {
        return Err(DecodeError::Version2);
    }
    if series_count > SERIES_MAX {
        return Err(DecodeError::TooManySeries);
    }
    Ok(series_count)
}

/// Makes room for one more sample; what a vector that grows will hold is asked for before.
#[inline]
fn make_room(request: &mut WriteRequest<'_>, held: &mut Reservation) -> Result<(), DecodeError> {
    let (length, capacity) = (request.samples.len(), request.samples.capacity());
    if length == capacity {
        let more = capacity.max(request.series.capacity()).max(SAMPLES_MIN);
        held.grow(more * SAMPLE_BYTES)?;
        request.samples.reserve_exact(more);
    }
    Ok(())
}

fn walk_series<'a>(
    bytes: &'a [u8],
    offset: usize,
    (request, held): (&mut WriteRequest<'a>, &mut Reservation),
) -> Result<(), DecodeError> {
    let sample_start = count(request.samples.len())?;
    let mut histogram_count = 0_u32;
    // Labels come first and together from every known sender; what lies between the first and
    // the last of them is then the series' name.
    let plain = plain_labels(bytes);
    let (mut labels_start, mut labels_end) = ((plain > 0).then_some(0), plain);
    let mut is_contiguous = true;
    let mut fields = Fields::behind(bytes, plain, offset);
    loop {
        let start = fields.position();
        let Some((number, value)) = fields.next()? else { break };
        match number {
            SERIES_LABELS => {
                let (label, offset) = value.bytes()?;
                check_label(label, offset)?;
                is_contiguous &= labels_start.is_none() || labels_end == start;
                labels_start = labels_start.or(Some(start));
                labels_end = fields.position();
            }
            SERIES_SAMPLES => {
                let (sample, offset) = value.bytes()?;
                make_room(request, held)?;
                request.samples.push(walk_sample(sample, offset)?);
            }
            SERIES_EXEMPLARS => {
                value.bytes()?;
                request.exemplar_count += 1;
            }
            SERIES_HISTOGRAMS => {
                value.bytes()?;
                histogram_count = histogram_count.saturating_add(1);
            }
            _ => {}
        }
    }
    let raw_labels = match labels_start {
        Some(start) if is_contiguous => bytes.get(start..labels_end).unwrap_or_default(),
        _ => bytes,
    };
    let index = count(request.series.len())?;
    let sample_count = count(request.samples.len())? - sample_start;
    if histogram_count > 0 {
        request.histograms.push((index, histogram_count));
    } else if labels_start.is_none() && sample_count == 0 {
        // Nothing that could be taken or refused.
        return Ok(());
    }
    request.series.push(WriteSeries {
        raw_labels,
        is_cacheable: is_contiguous && labels_start.is_some(),
        sample_start,
        sample_count,
    });
    Ok(())
}

/// Bytes at the start of a series that hold labels in the form in which every known sender writes
/// them: name and value, in this order, each shorter than 128 bytes. Nothing in them is left to be
/// checked, and the walk over fields of any form goes on behind them.
fn plain_labels(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [0x0a, label_length @ ..=0x7f, behind @ ..] = rest {
        let Some((label, behind)) = behind.split_at_checked(usize::from(*label_length)) else {
            break;
        };
        if !is_plain_label(label) {
            break;
        }
        rest = behind;
    }
    bytes.len() - rest.len()
}

fn is_plain_label(label: &[u8]) -> bool {
    let [0x0a, name_length @ ..=0x7f, behind @ ..] = label else { return false };
    let Some([0x12, value_length, value @ ..]) = behind.get(usize::from(*name_length)..) else {
        return false;
    };
    value.len() == usize::from(*value_length) && *value_length < 0x80
}

/// Checks the form of a label, so that reading it later cannot fail.
fn check_label(bytes: &[u8], offset: usize) -> Result<(), DecodeError> {
    let mut fields = Fields::new(bytes, offset);
    while let Some((number, value)) = fields.next()? {
        if number == LABEL_NAME || number == LABEL_VALUE {
            value.bytes()?;
        }
    }
    Ok(())
}

fn walk_sample(bytes: &[u8], offset: usize) -> Result<Sample, DecodeError> {
    let mut sample = Sample::default();
    let mut fields = Fields::new(bytes, offset);
    while let Some((number, value)) = fields.next()? {
        match number {
            SAMPLE_VALUE => sample.value = f64::from_bits(value.fixed64()?),
            SAMPLE_TIMESTAMP => sample.timestamp_ms = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(sample)
}

/// A count or index of a request, which is far smaller than 4 GiB.
fn count(count: usize) -> Result<u32, DecodeError> {
    let reason = "more than 2^32 elements";
    u32::try_from(count).map_err(|_| DecodeError::Protobuf { reason, offset: 0 })
}

/// Reads the labels of a series from the bytes that [`walk`] found.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProtobufLabels;

impl LabelDecoder for ProtobufLabels {
    fn decode<'a>(&self, raw: &'a [u8], into: &mut Vec<(&'a [u8], &'a [u8])>) {
        let mut fields = Fields::new(raw, 0);
        // The walk has checked all of it: an error cannot come, and would end the labels.
        while let Ok(Some((number, value))) = fields.next() {
            if number != SERIES_LABELS {
                continue;
            }
            let Ok((label, _)) = value.bytes() else { return };
            let (mut name, mut text): (&[u8], &[u8]) = (&[], &[]);
            let mut fields = Fields::new(label, 0);
            while let Ok(Some((number, value))) = fields.next() {
                match (number, value) {
                    (LABEL_NAME, Value::Bytes(bytes, _)) => name = bytes,
                    (LABEL_VALUE, Value::Bytes(bytes, _)) => text = bytes,
                    _ => {}
                }
            }
            into.push((name, text));
        }
    }
}
