//! Bodies of remote write 1.0, written by hand so that a test can also write wrong ones.

/// A series of a request: labels in the order given, samples as (timestamp_ms, value).
#[derive(Clone, Debug, Default)]
pub struct TimeSeries {
    /// Pairs of name and value.
    pub labels: Vec<(String, String)>,
    /// Pairs of time in ms and value.
    pub samples: Vec<(i64, f64)>,
}

impl TimeSeries {
    /// A series from borrowed pairs.
    pub fn new(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        TimeSeries { labels: labels.collect(), samples: samples.to_vec() }
    }
}

/// The headers that Prometheus sends with a body.
pub const HEADERS: &[(&str, &str)] = &[
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

/// A `prometheus.WriteRequest`, not compressed.
pub fn encode(series: &[TimeSeries]) -> Vec<u8> {
    let mut out = Vec::new();
    for one in series {
        let mut labels = Vec::new();
        encode_labels(&mut labels, one.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        push_series(&mut out, &labels, &one.samples);
    }
    out
}

/// Appends one series whose labels were encoded before, the fast way for load generators.
pub fn push_series(out: &mut Vec<u8>, encoded_labels: &[u8], samples: &[(i64, f64)]) {
    let mut encoded_samples = Vec::with_capacity(samples.len() * 20);
    for (timestamp_ms, value) in samples {
        let mut sample = Vec::with_capacity(20);
        sample.push(0x09);
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(0x10);
        push_varint(&mut sample, timestamp_ms.cast_unsigned());
        push_field(&mut encoded_samples, 0x12, &sample);
    }
    out.push(0x0a);
    push_varint(out, wide(encoded_labels.len() + encoded_samples.len()));
    out.extend_from_slice(encoded_labels);
    out.extend_from_slice(&encoded_samples);
}

/// Appends labels as fields of a `TimeSeries`.
pub fn encode_labels<'a>(out: &mut Vec<u8>, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (name, value) in labels {
        let mut label = Vec::with_capacity(name.len() + value.len() + 6);
        push_field(&mut label, 0x0a, name.as_bytes());
        push_field(&mut label, 0x12, value.as_bytes());
        push_field(out, 0x0a, &label);
    }
}

/// The snappy block form in which a body travels.
///
/// # Panics
/// When the body is larger than snappy can name (4 GiB).
pub fn compress(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap_or_else(|error| panic!("{error}"))
}

fn push_field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    push_varint(out, wide(bytes.len()));
    out.extend_from_slice(bytes);
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
