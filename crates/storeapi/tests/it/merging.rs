//! What comes out of a merge.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use model::{Budget, Labels};
use proptest::prelude::{any, prop, proptest};
use storeapi::merge::{MergeOptions, Source, merge};
use storeapi::request::PartialResponse;
use storeapi::store::{AggrChunk, SeriesFrame, StoreSeries};
use storeapi::{Error, merge::normalize_chunks};

use crate::stores::{chunk, labels};

const WARN: MergeOptions =
    MergeOptions { partial_response: PartialResponse::Warn, batch_size: 3, limit: 0 };

fn source(name: &str, frames: Vec<Result<SeriesFrame, Error>>) -> Source {
    Source { name: name.to_owned(), frames: stream::iter(frames).boxed() }
}

fn series(value: &str, chunks: Vec<AggrChunk>) -> StoreSeries {
    StoreSeries { labels: labels(&[("a", value)]), chunks }
}

async fn run(sources: Vec<Source>, options: MergeOptions) -> Vec<Result<SeriesFrame, Error>> {
    merge(sources, options, &Budget::unlimited()).collect().await
}

fn flatten(frames: Vec<Result<SeriesFrame, Error>>) -> (Vec<StoreSeries>, Vec<String>) {
    let (mut all, mut warnings) = (Vec::new(), Vec::new());
    for frame in frames {
        match frame.unwrap() {
            SeriesFrame::Batch(batch) => all.extend(batch),
            SeriesFrame::Warning(text) => warnings.push(text),
        }
    }
    (all, warnings)
}

#[tokio::test]
async fn equal_series_become_one_and_equal_chunks_too() {
    let one = vec![
        Ok(SeriesFrame::Batch(vec![series("1", vec![chunk(0, 9, "x"), chunk(10, 19, "y")])])),
        Ok(SeriesFrame::Batch(vec![series("1", vec![chunk(20, 29, "z")])])),
    ];
    let two = vec![
        Ok(SeriesFrame::Warning("a block is missing".to_owned())),
        Ok(SeriesFrame::Batch(vec![
            series("1", vec![chunk(0, 9, "x"), chunk(10, 19, "other")]),
            series("2", vec![chunk(0, 9, "x")]),
        ])),
    ];
    let frames = run(vec![source("one", one), source("two", two)], WARN).await;
    let (all, warnings) = flatten(frames);
    let joined =
        vec![chunk(0, 9, "x"), chunk(10, 19, "other"), chunk(10, 19, "y"), chunk(20, 29, "z")];
    assert_eq!(all, [series("1", joined), series("2", vec![chunk(0, 9, "x")])]);
    assert_eq!(warnings, ["a block is missing"]);
}

#[tokio::test]
async fn a_disordered_stream_is_named_and_the_others_go_on() {
    let bad = || {
        let batch = vec![series("2", Vec::new()), series("1", Vec::new())];
        source("bad:10901", vec![Ok(SeriesFrame::Batch(batch))])
    };
    let good = || {
        let batch = vec![series("0", Vec::new()), series("3", Vec::new())];
        source("good:10901", vec![Ok(SeriesFrame::Batch(batch))])
    };
    let (all, warnings) = flatten(run(vec![bad(), good()], WARN).await);
    assert_eq!(all, [series("0", vec![]), series("2", vec![]), series("3", vec![])]);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("bad:10901: series out of order: "), "{warnings:?}");

    let abort = MergeOptions { partial_response: PartialResponse::Abort, ..WARN };
    let last = run(vec![bad(), good()], abort).await.pop().unwrap();
    assert!(matches!(last, Err(Error::Aborted(text)) if text.starts_with("bad:10901: ")));
}

#[tokio::test]
async fn a_failing_stream_is_a_warning_or_the_end() {
    let failing = || source("f", vec![Err(Error::Unavailable("gone".to_owned()))]);
    let good = || source("g", vec![Ok(SeriesFrame::Batch(vec![series("0", Vec::new())]))]);
    let (all, warnings) = flatten(run(vec![failing(), good()], WARN).await);
    assert_eq!((all.len(), warnings), (1, vec!["f: gone; its series are missing".to_owned()]));
    let abort = MergeOptions { partial_response: PartialResponse::Abort, ..WARN };
    let frames = run(vec![failing(), good()], abort).await;
    assert!(matches!(&*frames, [Err(Error::Unavailable(text))] if text == "f: gone"));

    // Our own memory is never a matter of warnings.
    let budget = Budget::unlimited().child("query", 10);
    let frames: Vec<_> = merge(vec![good()], WARN, &budget).collect().await;
    assert!(matches!(&*frames, [Err(Error::BudgetExceeded(_))]));
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn a_limit_ends_the_stream() {
    let batch = || (0..9).map(|it| series(&it.to_string(), Vec::new())).collect();
    let sources = || vec![source("a", vec![Ok(SeriesFrame::Batch(batch()))])];
    for limit in 1..9 {
        let (all, _) = flatten(run(sources(), MergeOptions { limit, ..WARN }).await);
        assert_eq!(all.len(), limit);
    }
    assert_eq!(run(Vec::new(), WARN).await.len(), 0);
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(
        content in prop::collection::vec(
            prop::collection::vec((0_u8..8, 0_u8..6, any::<bool>()), 0..20), 0..6),
    ) {
        let mut expected: BTreeMap<Labels, Vec<AggrChunk>> = BTreeMap::new();
        let mut sources = Vec::new();
        for (index, items) in content.iter().enumerate() {
            let mut items = items.clone();
            items.sort_unstable();
            let mut frames = vec![Vec::new()];
            for (name, time, cut) in items {
                let time = i64::from(time);
                let one = series(&name.to_string(), vec![chunk(time, time + 1, "x")]);
                expected.entry(one.labels.clone()).or_default().extend(one.chunks.clone());
                frames.last_mut().unwrap().push(one);
                if cut {
                    frames.push(Vec::new());
                }
            }
            let frames = frames.into_iter().map(|it| Ok(SeriesFrame::Batch(it))).collect();
            sources.push(source(&index.to_string(), frames));
        }
        expected.values_mut().for_each(normalize_chunks);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (all, warnings) = flatten(runtime.block_on(run(sources, WARN)));
        assert_eq!(warnings, Vec::<String>::new());
        let all: Vec<_> = all.into_iter().map(|it| (it.labels, it.chunks)).collect();
        assert_eq!(all, Vec::from_iter(expected));
    }
}
