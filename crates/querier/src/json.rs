//! JSON answers, written row by row: floats as Go prints them, label sets escaped once.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use model::{FloatHistogram, Labels, Reservation};
use promql::engine::{Series, VectorSample};

use crate::limits::PIECE_BYTES;

/// Appends a text in quotes.
pub(crate) fn append_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => {
                out.extend_from_slice(&text.as_bytes()[plain..at]);
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
                plain = at + 1;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        out.extend_from_slice(escape);
        plain = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends texts as an array.
pub(crate) fn append_texts<'a>(out: &mut Vec<u8>, texts: impl IntoIterator<Item = &'a str>) {
    out.push(b'[');
    for (index, text) in texts.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append_text(out, text);
    }
    out.push(b']');
}

/// Appends a label set as an object.
pub(crate) fn append_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append_text(out, name);
        out.push(b':');
        append_text(out, value);
    }
    out.push(b'}');
}

/// Appends `[time,"value"]`.
fn append_point(out: &mut Vec<u8>, timestamp_ms: i64, value: f64) {
    out.push(b'[');
    model::text_time::append_json(out, timestamp_ms);
    out.extend_from_slice(b",\"");
    model::float::append_json(out, value);
    out.extend_from_slice(b"\"]");
}

/// Appends `[time,{"count":…,"sum":…,"buckets":[[rule,"lower","upper","count"],…]}]`: buckets that
/// are not empty, each with the rule of which of its bounds belong to it.
fn append_histogram(out: &mut Vec<u8>, timestamp_ms: i64, histogram: &FloatHistogram) {
    out.push(b'[');
    model::text_time::append_json(out, timestamp_ms);
    out.extend_from_slice(b",{\"count\":");
    append_number(out, histogram.count);
    out.extend_from_slice(b",\"sum\":");
    append_number(out, histogram.sum);
    let mut any = false;
    for bucket in histogram.all().filter(|it| it.count != 0.0) {
        out.extend_from_slice(if any { b"," } else { b",\"buckets\":[" });
        any = true;
        let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        };
        out.extend_from_slice(&[b'[', rule, b',']);
        append_number(out, bucket.lower);
        out.push(b',');
        append_number(out, bucket.upper);
        out.push(b',');
        append_number(out, bucket.count);
        out.push(b']');
    }
    out.extend_from_slice(if any { b"]}]" } else { b"}]" });
}

/// Appends a number as a text.
fn append_number(out: &mut Vec<u8>, value: f64) {
    out.push(b'"');
    model::float::append_json(out, value);
    out.push(b'"');
}

/// Appends one series of an instant vector.
pub(crate) fn append_sample(out: &mut Vec<u8>, at_ms: i64, sample: &VectorSample) {
    out.extend_from_slice(b"{\"metric\":");
    append_labels(out, &sample.labels);
    match &sample.histogram {
        Some(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            append_histogram(out, at_ms, histogram);
        }
        None => {
            out.extend_from_slice(b",\"value\":");
            append_point(out, at_ms, sample.value);
        }
    }
    out.push(b'}');
}

/// Appends one series of a matrix.
pub(crate) fn append_series(out: &mut Vec<u8>, series: &Series) {
    out.extend_from_slice(b"{\"metric\":");
    append_labels(out, &series.labels);
    let mut any = false;
    for (timestamp_ms, value) in series.points() {
        out.extend_from_slice(if any { b"," } else { b",\"values\":[" });
        any = true;
        append_point(out, timestamp_ms, value);
    }
    if any {
        out.push(b']');
    }
    let mut any = false;
    for (timestamp_ms, histogram) in series.histograms() {
        out.extend_from_slice(if any { b"," } else { b",\"histograms\":[" });
        any = true;
        append_histogram(out, timestamp_ms, histogram);
    }
    if any {
        out.push(b']');
    }
    out.push(b'}');
}

/// Appends `[time,"value"]` of a scalar, or of a text.
pub(crate) fn append_scalar(out: &mut Vec<u8>, at_ms: i64, value: f64) {
    append_point(out, at_ms, value);
}

/// Appends `[time,"text"]`.
pub(crate) fn append_string(out: &mut Vec<u8>, at_ms: i64, text: &str) {
    out.push(b'[');
    model::text_time::append_json(out, at_ms);
    out.push(b',');
    append_text(out, text);
    out.push(b']');
}

/// What is said about an answer besides its data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remarks {
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
}

impl Remarks {
    /// Appends the members after `data`, and the end of the envelope.
    pub(crate) fn append_end(&self, out: &mut Vec<u8>) {
        for (name, texts) in [("warnings", &self.warnings), ("infos", &self.infos)] {
            if !texts.is_empty() {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                append_texts(out, texts.iter().map(String::as_str));
            }
        }
        out.push(b'}');
    }
}

/// Rows that are written while they are sent.
pub(crate) struct Rows<T> {
    /// What comes before the first row.
    pub(crate) head: Vec<u8>,
    /// The rows.
    pub(crate) rows: VecDeque<T>,
    /// What comes after the last row.
    pub(crate) tail: Vec<u8>,
    /// The memory of the rows.
    pub(crate) reservation: Option<Reservation>,
}

impl<T: Send + 'static> Rows<T> {
    /// A body that writes a piece whenever the peer has taken the last one.
    pub(crate) fn into_body(self, append: fn(&mut Vec<u8>, i64, &T), at_ms: i64) -> Body {
        let state = (self, true, false);
        let pieces = stream::unfold(state, move |(mut rows, is_first, is_over)| async move {
            if is_over {
                return None;
            }
            let mut piece = std::mem::take(&mut rows.head);
            piece.reserve(PIECE_BYTES);
            let mut needs_comma = !is_first;
            while piece.len() < PIECE_BYTES {
                let Some(row) = rows.rows.pop_front() else { break };
                if needs_comma {
                    piece.push(b',');
                }
                needs_comma = true;
                append(&mut piece, at_ms, &row);
            }
            let is_over = rows.rows.is_empty();
            if is_over {
                piece.append(&mut rows.tail);
                rows.reservation = None;
            }
            let is_first = is_first && !needs_comma;
            Some((Ok::<_, Infallible>(Bytes::from(piece)), (rows, is_first, is_over)))
        });
        // Whoever compresses asks once more after the end.
        Body::from_stream(pieces.fuse())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use proptest::prelude::{any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let mut out = Vec::new();
            append_text(&mut out, &text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn pieces_join_to_one_text() {
        for count in [0_usize, 1, 2, 20_000] {
            let rows = Rows {
                head: b"[".to_vec(),
                rows: (0..count).collect(),
                tail: b"]".to_vec(),
                reservation: None,
            };
            let append = |out: &mut Vec<u8>, _: i64, row: &usize| {
                out.extend_from_slice(format!("{row:06}1").as_bytes());
            };
            let body = rows.into_body(append, 0).collect().await.unwrap().to_bytes();
            let text = String::from_utf8(body.to_vec()).unwrap();
            let items: Vec<&str> =
                text.trim_matches(['[', ']']).split(',').filter(|it| !it.is_empty()).collect();
            assert_eq!(items.len(), count);
        }
    }

    #[test]
    fn labels_and_points_look_as_prometheus_shows_them() {
        let labels = Labels::from_pairs([("b", "x\"\n\u{1}é"), ("__name__", "up")]).unwrap();
        let mut out = Vec::new();
        let sample = VectorSample { labels, value: 1e21, histogram: None };
        append_sample(&mut out, 1_435_781_451_050, &sample);
        let expected =
            r#"{"metric":{"__name__":"up","b":"x\"\n\u0001é"},"value":[1435781451.050,"1e+21"]}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
