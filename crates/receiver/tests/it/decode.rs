//! Any bytes give an answer, never a panic; good ones give what was written.

use model::{Budget, Sample};
use proptest::prelude::*;
use receiver::decode::{
    DecodeError, ProtobufLabels, SERIES_MAX, WriteRequest, declared_bytes, decompress,
    walk as walk_within,
};
use testkit::remote_write::{TimeSeries, compress, encode};
use tsdb_core::db::LabelDecoder as _;

fn walk(bytes: &[u8]) -> Result<WriteRequest<'_>, DecodeError> {
    walk_within(bytes, &mut Budget::unlimited().reserve(0).unwrap())
}

/// Labels and samples of a walked request, in the form that was written.
fn read(bytes: &[u8]) -> Result<Vec<TimeSeries>, DecodeError> {
    let request = walk(bytes)?;
    let series = request.series.iter().map(|series| {
        let mut pairs = Vec::new();
        ProtobufLabels.decode(series.raw_labels, &mut pairs);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let start = series.sample_start as usize;
        let samples: &[Sample] = &request.samples[start..start + series.sample_count as usize];
        TimeSeries {
            labels: pairs.iter().map(|(name, value)| (text(name), text(value))).collect(),
            samples: samples.iter().map(|it| (it.timestamp_ms, it.value)).collect(),
        }
    });
    Ok(series.collect())
}

#[test]
fn a_lying_length_allocates_nothing() {
    let declares = |length: u64| {
        let mut body = Vec::new();
        let mut rest = length;
        while rest >= 0x80 {
            body.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        body.push(u8::try_from(rest).unwrap());
        body.extend_from_slice(&[0, b'x']);
        body
    };
    for lie in [u64::from(u32::MAX), 1 << 40, 64 << 20, 1 << 20] {
        let error = declared_bytes(&declares(lie), 32 << 20).unwrap_err();
        assert!(matches!(error, DecodeError::Snappy(_)), "{lie}: {error}");
    }
    let honest = compress(&vec![0; 33 << 20]);
    let error = declared_bytes(&honest, 32 << 20).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
}

#[test]
fn empty_series_cost_nothing_and_others_are_bounded() {
    let empty: Vec<u8> = [0x0a, 0].repeat(1 << 20);
    let budget = Budget::unlimited().child("requests", 8 << 20);
    let mut held = budget.reserve(empty.len()).unwrap();
    let request = walk_within(&empty, &mut held).unwrap();
    assert_eq!((request.series.len(), request.series.capacity()), (0, 0));
    assert_eq!(held.bytes(), empty.len());
    drop((request, held));
    // A series of an unknown field, one of an exemplar without labels, one of an empty label.
    let mixed = [0x0a, 2, 0x48, 7, 0x0a, 2, 0x1a, 0, 0x0a, 2, 0x0a, 0];
    assert_eq!(walk(&mixed).unwrap().series.len(), 1);

    let one = [0x0a, 2, 0x0a, 0];
    let body = one.repeat(1 << 16);
    let error = walk_within(&body, &mut budget.reserve(body.len()).unwrap()).unwrap_err();
    assert!(matches!(error, DecodeError::Memory(_)), "{error}");
    assert_eq!(budget.used_bytes(), 0);
    assert_eq!(walk(&one.repeat(SERIES_MAX)).unwrap().series.len(), SERIES_MAX);
    let error = walk(&one.repeat(SERIES_MAX + 1)).unwrap_err();
    assert_eq!(error, DecodeError::TooManySeries);
}

#[test]
fn what_a_walk_allocates_is_held_before() {
    let check = |series: &[TimeSeries]| {
        let bytes = encode(series);
        let budget = Budget::unlimited();
        let mut held = budget.reserve(0).unwrap();
        let request = walk_within(&bytes, &mut held).unwrap();
        let series_bytes = request.series.capacity() * size_of_val(&request.series[0]);
        let sample_bytes = request.samples.capacity() * size_of::<Sample>();
        assert!(held.bytes() >= series_bytes + sample_bytes, "{}", held.bytes());
        // And not beyond reason: a small request must not shut out others.
        let elements = request.series.capacity() + request.samples.capacity();
        assert!(held.bytes() <= 300 * elements, "{} for {elements}", held.bytes());
    };
    let labels = [("__name__", "up"), ("job", "x")];
    check(&vec![TimeSeries::new(&labels, &[(1, 1.0)]); 2000]);
    let many: Vec<(i64, f64)> = (0..100_000).map(|it| (it, 1.0)).collect();
    check(&[TimeSeries::new(&labels, &many)]);
    check(&[TimeSeries::new(&labels, &[])]);
}

#[test]
fn labels_behind_samples_are_still_labels() {
    // Samples first, then the labels of the same series, with an unknown field between them.
    let label = [0x0a, 1, b'a', 0x12, 1, b'1'];
    let mut series = vec![0x12, 2, 0x10, 5];
    for piece in [&[0x0a, 6][..], &label, &[0x48, 7], &[0x0a, 6], &[0x0a, 1, b'b', 0x12, 1, b'2']] {
        series.extend_from_slice(piece);
    }
    let mut body = vec![0x0a, u8::try_from(series.len()).unwrap()];
    body.extend_from_slice(&series);
    let request = walk(&body).unwrap();
    assert!(!request.series[0].is_cacheable);
    let read = read(&body).unwrap();
    let pairs: Vec<(&str, &str)> = read[0].labels.iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(pairs, [("a", "1"), ("b", "2")]);
    assert_eq!(read[0].samples, [(5, 0.0)]);
}

#[test]
fn a_request_of_version_2_is_not_taken_for_an_empty_one_of_version_1() {
    let body = [0x22, 0, 0x22, 1, b'a', 0x2a, 2, 0x0a, 0];
    assert_eq!(walk(&body).unwrap_err(), DecodeError::Version2);
}

fn series() -> impl Strategy<Value = TimeSeries> {
    // Labels of the plain form, and some too long for it.
    let label = ("[a-z_]{1,8}", prop_oneof![3 => ".{0,12}", 1 => "[a-zé]{100,150}"]);
    let sample = (any::<i64>(), any::<u64>());
    (prop::collection::vec(label, 1..6), prop::collection::vec(sample, 0..5)).prop_map(
        |(labels, samples)| TimeSeries {
            labels,
            samples: samples.into_iter().map(|(t, bits)| (t, f64::from_bits(bits))).collect(),
        },
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read(series in prop::collection::vec(series(), 0..8)) {
        let body = compress(&encode(&series));
        let unpacked = decompress(&body, declared_bytes(&body, 1 << 20).unwrap()).unwrap();
        let read = read(&unpacked).unwrap();
        prop_assert_eq!(read.len(), series.len());
        for (read, written) in read.iter().zip(&series) {
            prop_assert_eq!(&read.labels, &written.labels);
            let bits = |it: &TimeSeries| -> Vec<(i64, u64)> {
                it.samples.iter().map(|(t, v)| (*t, v.to_bits())).collect()
            };
            prop_assert_eq!(bits(read), bits(written));
        }
    }

    #[test]
    fn any_bytes_are_answered(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        series in prop::collection::vec(series(), 1..4),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let _any = walk(&bytes).map(|it| it.samples.len());
        if let Ok(declared) = declared_bytes(&bytes, 1 << 20) {
            let _any = decompress(&bytes, declared);
        }
        // A good request with one byte changed, and cut short.
        let mut damaged = encode(&series);
        let index = at.index(damaged.len());
        damaged[index] ^= flip;
        for bytes in [&damaged[..], &damaged[..index]] {
            if let Ok(request) = walk(bytes) {
                for series in &request.series {
                    ProtobufLabels.decode(series.raw_labels, &mut Vec::new());
                }
            }
        }
    }
}
