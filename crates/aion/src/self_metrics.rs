//! The process' own metrics as a remote write, so that there is something to see at once.

use std::collections::BTreeMap;

/// One sample with its labels, the name among them, sorted.
#[derive(Debug, PartialEq)]
struct Series {
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The body of a remote write 1.0 with every sample of a text in the format 0.0.4, as a scrape of
/// `instance` at `timestamp_ms` would store it, and `up` beside them.
pub(crate) fn remote_write(text: &str, instance: &str, timestamp_ms: i64) -> Vec<u8> {
    let mut request = Vec::with_capacity(text.len() * 2);
    let up =
        Series { labels: BTreeMap::from([("__name__".to_owned(), "up".to_owned())]), value: 1.0 };
    for mut series in text.lines().filter_map(parse).chain([up]) {
        for (name, value) in [("job", "aion"), ("instance", instance)] {
            series.labels.insert(name.to_owned(), value.to_owned());
        }
        let encoded = encode(&series, timestamp_ms);
        push_bytes(&mut request, 1, &encoded);
    }
    request
}

/// Reads a sample line as this process writes them; none for comments.
fn parse(line: &str) -> Option<Series> {
    if line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let mut labels = BTreeMap::from([("__name__".to_owned(), name.to_owned())]);
    let mut rest = rest;
    if let Some(mut pairs) = rest.strip_prefix('{') {
        while !pairs.starts_with('}') {
            let (name, quoted) = pairs.split_once("=\"")?;
            let (value, after) = unquote(quoted)?;
            labels.insert(name.to_owned(), value);
            pairs = after.strip_prefix(',').unwrap_or(after);
        }
        rest = pairs.strip_prefix('}')?;
    }
    let value = rest.trim_start().split(' ').next()?;
    Some(Series { labels, value: value.parse().ok()? })
}

/// What stands up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    loop {
        match characters.next()? {
            (index, '"') => return Some((value, &quoted[index + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, other) => value.push(other),
        }
    }
}

/// A `TimeSeries` message: labels in field 1 (name 1, value 2), samples in field 2 (value 1,
/// timestamp 2).
fn encode(series: &Series, timestamp_ms: i64) -> Vec<u8> {
    let mut message = Vec::with_capacity(256);
    for (name, value) in &series.labels {
        let mut label = Vec::with_capacity(name.len() + value.len() + 4);
        push_bytes(&mut label, 1, name.as_bytes());
        push_bytes(&mut label, 2, value.as_bytes());
        push_bytes(&mut message, 1, &label);
    }
    let mut sample = vec![1 << 3 | 1];
    sample.extend_from_slice(&series.value.to_le_bytes());
    sample.push(2 << 3);
    push_varint(&mut sample, timestamp_ms.cast_unsigned());
    push_bytes(&mut message, 2, &sample);
    message
}

fn push_bytes(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(field << 3 | 2);
    // A usize has at most 64 bits wherever this compiles.
    push_varint(to, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    to.extend_from_slice(bytes);
}

fn push_varint(to: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            to.push(low & 0x7f);
            return;
        }
        to.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        assert_eq!(parse(line), Some(Series { labels: labels.collect(), value }), "{line}");
    }

    #[test]
    fn lines_are_read() {
        check("a_total 1", &[("__name__", "a_total")], 1.0);
        check(
            "a_bucket{le=\"+Inf\",x=\"a\\\"b\\\\c\\nd,e}\"} 2.5",
            &[("__name__", "a_bucket"), ("le", "+Inf"), ("x", "a\"b\\c\nd,e}")],
            2.5,
        );
        check("a{} +Inf", &[("__name__", "a")], f64::INFINITY);
        for other in ["# HELP a b", "", "a", "a{x=\"1} 2", "a{x} 2", "a x"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_series_is_one_message() {
        let series = Series {
            labels: BTreeMap::from([("__name__".to_owned(), "a".to_owned())]),
            value: 1.5,
        };
        let mut expected = vec![0x0a, 13, 0x0a, 8];
        expected.extend_from_slice(b"__name__");
        expected.extend_from_slice(&[0x12, 1, b'a', 0x12, 12, 0x09]);
        expected.extend_from_slice(&1.5_f64.to_le_bytes());
        expected.extend_from_slice(&[0x10, 0xac, 0x02]);
        assert_eq!(encode(&series, 300), expected);
    }

    #[test]
    fn every_series_has_a_job_and_up_is_among_them() {
        let body = remote_write("# TYPE a gauge\na 1\n", "localhost:10902", 1);
        let holds = |part: &[u8]| body.windows(part.len()).any(|it| it == part);
        assert!(holds(b"up") && holds(b"localhost:10902") && holds(b"aion"));
        assert_eq!(body.iter().filter(|it| **it == b'\x0a').count() / 2, 7, "two series");
    }
}
