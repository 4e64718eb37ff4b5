//! Our codec against prost's: the same bytes, the same messages, and no panic on any bytes.

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use prost::Message as _;

use super::SeriesResponse;
use crate::store::{AggrChunk, Aggregates, Chunk, ChunkEncoding, SeriesFrame, StoreSeries};
use model::Labels;

#[expect(unreachable_pub, reason = "generated code, of which one message is used")]
mod plain {
    #![allow(dead_code, reason = "not every message is needed here")]
    include!(concat!(env!("OUT_DIR"), "/plain/thanos.rs"));
}

fn to_prost(frame: &SeriesResponse) -> plain::SeriesResponse {
    use plain::series_response::Result as Kind;
    let result = match frame {
        SeriesResponse::Other => None,
        SeriesResponse::Series(series) => Some(Kind::Series(series_to_prost(series))),
        SeriesResponse::Frame(SeriesFrame::Warning(text)) => Some(Kind::Warning(text.clone())),
        SeriesResponse::Frame(SeriesFrame::Batch(batch)) => {
            let series = batch.iter().map(series_to_prost).collect();
            Some(Kind::Batch(plain::SeriesBatch { series }))
        }
    };
    plain::SeriesResponse { result }
}

fn series_to_prost(series: &StoreSeries) -> plain::Series {
    let label = |(name, value): (&str, &str)| plain::Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let chunk = |chunk: &Option<Chunk>| {
        chunk.as_ref().map(|chunk| plain::Chunk {
            r#type: match chunk.encoding {
                ChunkEncoding::Xor => 0,
                ChunkEncoding::Histogram => 1,
                ChunkEncoding::FloatHistogram => 2,
            },
            data: chunk.data.clone(),
            hash: 0,
        })
    };
    let none = Aggregates::default();
    let aggregates = |it: &AggrChunk| {
        let parts = it.aggregates.as_deref().unwrap_or(&none);
        plain::AggrChunk {
            min_time: it.min_time_ms,
            max_time: it.max_time_ms,
            raw: chunk(&it.raw),
            count: chunk(&parts.count),
            sum: chunk(&parts.sum),
            min: chunk(&parts.min),
            max: chunk(&parts.max),
            counter: chunk(&parts.counter),
        }
    };
    plain::Series {
        labels: series.labels.iter().map(label).collect(),
        chunks: series.chunks.iter().map(aggregates).collect(),
    }
}

fn chunk() -> impl Strategy<Value = Option<Chunk>> {
    let encoding = prop_oneof![
        Just(ChunkEncoding::Xor),
        Just(ChunkEncoding::Histogram),
        Just(ChunkEncoding::FloatHistogram)
    ];
    let data = prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let chunk = (encoding, data).prop_map(|(encoding, data)| Chunk { encoding, data });
    prop::option::of(chunk)
}

fn series() -> impl Strategy<Value = StoreSeries> {
    let labels = prop::collection::btree_map("[a-zé]{1,5}", "[ -~é]{1,9}", 0..6)
        .prop_map(|pairs| Labels::from_pairs(pairs).unwrap());
    let aggregates = (chunk(), chunk(), chunk(), chunk(), chunk(), chunk());
    let aggr_chunk = (any::<i64>(), any::<i64>(), aggregates).prop_map(
        |(min_time_ms, max_time_ms, (raw, count, sum, min, max, counter))| {
            let aggregates = Aggregates { count, sum, min, max, counter };
            let aggregates = (aggregates != Aggregates::default()).then(|| Box::new(aggregates));
            AggrChunk { min_time_ms, max_time_ms, raw, aggregates }
        },
    );
    let chunks = prop::collection::vec(aggr_chunk, 0..4);
    (labels, chunks).prop_map(|(labels, chunks)| StoreSeries { labels, chunks })
}

fn response() -> impl Strategy<Value = SeriesResponse> {
    prop_oneof![
        prop::collection::vec(series(), 1..5)
            .prop_map(|batch| SeriesResponse::Frame(SeriesFrame::Batch(batch))),
        series().prop_map(SeriesResponse::Series),
        any::<String>().prop_map(|text| SeriesResponse::Frame(SeriesFrame::Warning(text))),
    ]
}

/// What a response is once it was read: both forms of series become a batch.
fn normal(response: SeriesResponse) -> SeriesResponse {
    match response {
        SeriesResponse::Series(series) => SeriesResponse::Frame(SeriesFrame::Batch(vec![series])),
        other => other,
    }
}

proptest! {
    #[test]
    fn we_write_what_prost_writes_and_read_it_back(response in response()) {
        let mut bytes = Vec::new();
        let mut foretold = 0;
        response.encode(&mut bytes, |_, length| foretold = length);
        assert_eq!(foretold, bytes.len());
        assert_eq!(bytes, to_prost(&response).encode_to_vec());
        assert_eq!(SeriesResponse::decode(&Bytes::from(bytes)).unwrap(), normal(response));
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        if let Ok(SeriesResponse::Frame(frame)) = SeriesResponse::decode(&bytes) {
            // Where prost refuses (a lone surrogate is impossible, a deep group is not), we may
            // be more tolerant, but what both take must agree.
            let Ok(theirs) = plain::SeriesResponse::decode(bytes) else { return Ok(()) };
            if let SeriesFrame::Warning(text) = frame {
                let expected = plain::series_response::Result::Warning(text);
                assert_eq!(theirs.result, Some(expected));
            }
        }
    }

    #[test]
    fn a_damaged_message_never_panics(
        response in response(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        response.encode(&mut bytes, |_, _| {});
        if bytes.is_empty() {
            return Ok(());
        }
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = SeriesResponse::decode(&Bytes::from(bytes.clone()));
        bytes.truncate(cut.index(bytes.len()));
        let _ = SeriesResponse::decode(&Bytes::from(bytes));
    }
}

#[test]
fn labels_out_of_order_are_sorted_and_repeated_ones_refused() {
    let series = |pairs: &[(&str, &str)]| {
        let label = |(name, value): &(&str, &str)| plain::Label {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        let series =
            plain::Series { labels: pairs.iter().map(label).collect(), chunks: Vec::new() };
        let result = Some(plain::series_response::Result::Series(series));
        SeriesResponse::decode(&plain::SeriesResponse { result }.encode_to_vec().into())
    };
    let labels = Labels::from_pairs([("a", "1"), ("b", "2")]).unwrap();
    let expected = StoreSeries { labels, chunks: Vec::new() };
    let expected = SeriesResponse::Frame(SeriesFrame::Batch(vec![expected]));
    assert_eq!(series(&[("b", "2"), ("a", "1")]), Ok(expected));
    assert!(series(&[("a", "2"), ("a", "1")]).is_err());
    assert!(series(&[("", "1")]).is_err());
    assert!(series(&[("b", "1"), ("", "1")]).is_err());
}

#[test]
fn chunk_data_are_slices_of_the_message() {
    let chunk = Chunk { encoding: ChunkEncoding::Xor, data: Bytes::from(vec![7; 100]) };
    let chunk = AggrChunk { raw: Some(chunk), ..AggrChunk::default() };
    let series = StoreSeries { labels: Labels::empty(), chunks: vec![chunk] };
    let mut bytes = Vec::new();
    SeriesResponse::Frame(SeriesFrame::Batch(vec![series])).encode(&mut bytes, |_, _| {});
    let message = Bytes::from(bytes);
    let Ok(SeriesResponse::Frame(SeriesFrame::Batch(batch))) = SeriesResponse::decode(&message)
    else {
        panic!("not a batch");
    };
    let data = &batch[0].chunks[0].raw.as_ref().unwrap().data;
    assert!(message.as_ptr_range().contains(&data.as_ptr()));
}

#[test]
fn every_recorded_frame_is_read_and_written_again() {
    let Some(shared) = testkit::golden::shared_or_skip() else { return };
    let files = ["store", "receive", "querier-store-api", "querier-partial"];
    let mut count = 0;
    for file in files {
        let path = shared.join("golden/storeapi").join(format!("{file}.jsonl.gz"));
        for call in testkit::golden::read_jsonl_gz(&path) {
            if call["method"] != "/thanos.Store/Series" {
                continue;
            }
            for frame in call["frames"].as_array().into_iter().flatten() {
                check_recorded(&hex(frame.as_str().unwrap()), call["name"].as_str().unwrap());
                count += 1;
            }
        }
    }
    assert!(count > 1000, "only {count} frames");
}

fn check_recorded(bytes: &[u8], name: &str) {
    use plain::series_response::Result as Kind;
    let mut theirs = plain::SeriesResponse::decode(bytes).unwrap();
    // The hash is optional and not kept.
    let all = match &mut theirs.result {
        Some(Kind::Series(series)) => std::slice::from_mut(series),
        Some(Kind::Batch(batch)) => batch.series.as_mut_slice(),
        _ => &mut [],
    };
    for chunk in all.iter_mut().flat_map(|it| &mut it.chunks) {
        let parts = [
            &mut chunk.raw,
            &mut chunk.count,
            &mut chunk.sum,
            &mut chunk.min,
            &mut chunk.max,
            &mut chunk.counter,
        ];
        parts.into_iter().flatten().for_each(|it| it.hash = 0);
    }
    let ours = SeriesResponse::decode(&Bytes::copy_from_slice(bytes));
    let ours = ours.unwrap_or_else(|error| panic!("{name}: {error}"));
    let form = match (&theirs.result, ours) {
        (Some(Kind::Series(_)), SeriesResponse::Frame(SeriesFrame::Batch(mut batch))) => {
            SeriesResponse::Series(batch.remove(0))
        }
        (_, ours) => ours,
    };
    let mut written = Vec::new();
    form.encode(&mut written, |_, _| {});
    assert_eq!(plain::SeriesResponse::decode(written.as_slice()).unwrap(), theirs, "{name}");
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}
