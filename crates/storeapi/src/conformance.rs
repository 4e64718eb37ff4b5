//! What every [`Store`] must do, whatever lies behind it: one suite that all of them pass.
//!
//! The suite is told what the store holds and asks for it in many ways; the answers are compared
//! with a plain filter over that content. The order of every stream is checked on the way.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::StreamExt as _;
use model::{Budget, Labels, MatchOp, Matcher, TimeRange};

use crate::error::Error;
use crate::request::{LabelsRequest, PartialResponse, SeriesRequest, Shard};
use crate::store::{SeriesFrame, Store, StoreSeries};

/// One series that the store under test holds.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its whole labels, external ones among them.
    pub labels: Labels,
    /// Times of its samples in ms, increasing.
    pub timestamps_ms: Vec<i64>,
}

/// What a stream brought.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Series in the order in which they came, equal labels in a row joined.
    pub series: Vec<StoreSeries>,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// Reads a whole Series call and checks the order of the stream.
///
/// # Errors
/// The error of the call; `Internal` with both label sets when the stream is out of order.
pub async fn collect(store: &dyn Store, request: SeriesRequest) -> Result<Collected, Error> {
    let mut frames = store.series(request, Budget::unlimited()).await?;
    let mut collected = Collected::default();
    while let Some(frame) = frames.next().await {
        let batch = match frame? {
            SeriesFrame::Warning(text) => {
                collected.warnings.push(text);
                continue;
            }
            SeriesFrame::Batch(batch) => batch,
        };
        for series in batch {
            match collected.series.last_mut() {
                Some(last) if last.labels == series.labels => last.chunks.extend(series.chunks),
                Some(last) if last.labels > series.labels => {
                    let text = format!("{} came after {}", series.labels, last.labels);
                    return Err(Error::Internal(text));
                }
                _ => collected.series.push(series),
            }
        }
    }
    Ok(collected)
}

/// Runs the whole suite. `external` are the labels that the store adds to its series.
///
/// # Panics
/// With the request and the difference, as tests do.
pub async fn check(store: &dyn Store, held: &[Held], external: &Labels) {
    check_info(store, held);
    for seed in 0..200 {
        check_series(store, held, &mut Draw(seed)).await;
    }
    for seed in 0..50 {
        check_labels(store, held, external, &mut Draw(seed)).await;
    }
    check_limits(store, held).await;
}

fn check_info(store: &dyn Store, held: &[Held]) {
    let info = store.info();
    let times = || held.iter().flat_map(|it| &it.timestamps_ms).copied();
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return };
    assert!(info.min_time_ms <= first, "Info begins at {} after {first}", info.min_time_ms);
    assert!(info.max_time_ms >= last, "Info ends at {} before {last}", info.max_time_ms);
}

async fn check_series(store: &dyn Store, held: &[Held], draw: &mut Draw) {
    let Some(request) = draw.series_request(held) else { return };
    let expected = expected_series(held, &request);
    let collected = collect(store, request.clone()).await;
    let collected = collected.unwrap_or_else(|error| panic!("{request:?}: {error}"));
    assert_eq!(collected.warnings, Vec::<String>::new(), "{request:?}");
    let labels: Vec<&Labels> = collected.series.iter().map(|it| &it.labels).collect();
    let wanted: Vec<&Labels> = expected.keys().collect();
    assert_eq!(labels, wanted, "{request:?}");
    for series in &collected.series {
        check_chunks(series, &expected[&series.labels], &request);
    }
}

fn check_chunks(series: &StoreSeries, times: &BTreeSet<i64>, request: &SeriesRequest) {
    if request.skip_chunks {
        assert!(series.chunks.is_empty(), "chunks of {} in spite of skip_chunks", series.labels);
        return;
    }
    for chunk in &series.chunks {
        let span = TimeRange::new(chunk.min_time_ms, chunk.max_time_ms);
        assert!(!span.is_empty(), "a chunk of {} ends before it begins: {span:?}", series.labels);
        assert!(
            request.range.overlaps(span),
            "a chunk of {} at {span:?} is outside of {:?}",
            series.labels,
            request.range
        );
    }
    for time in times {
        let is_there = series
            .chunks
            .iter()
            .any(|it| TimeRange::new(it.min_time_ms, it.max_time_ms).contains(*time));
        assert!(is_there, "no chunk of {} for the sample at {time}: {request:?}", series.labels);
    }
}

/// Sent labels with the times of the samples inside of the range.
fn expected_series(held: &[Held], request: &SeriesRequest) -> BTreeMap<Labels, BTreeSet<i64>> {
    let mut expected: BTreeMap<Labels, BTreeSet<i64>> = BTreeMap::new();
    for series in held {
        let is_wanted = request.matchers.iter().all(|it| it.matches_labels(&series.labels));
        let sent = series
            .labels
            .without(|name| request.without_replica_labels.iter().any(|it| it == name));
        let is_in_shard = request.shard.as_ref().is_none_or(|it| it.keeps(&sent));
        let times = series.timestamps_ms.iter().filter(|it| request.range.contains(**it));
        let times: BTreeSet<i64> = times.copied().collect();
        if is_wanted && is_in_shard && !times.is_empty() {
            expected.entry(sent).or_default().extend(times);
        }
    }
    expected
}

async fn check_labels(store: &dyn Store, held: &[Held], external: &Labels, draw: &mut Draw) {
    let Some(series_request) = draw.series_request(held) else { return };
    let names: Vec<&str> = held.iter().flat_map(|it| it.labels.iter()).map(|it| it.0).collect();
    let Some(name) = draw.pick(&names).map(|it| (*it).to_owned()) else { return };
    let request = LabelsRequest {
        range: TimeRange::ALL,
        matchers: series_request.matchers,
        partial_response: PartialResponse::Abort,
        without_replica_labels: series_request.without_replica_labels,
        limit: 0,
    };
    let matching =
        || held.iter().filter(|it| request.matchers.iter().all(|m| m.matches_labels(&it.labels)));
    let is_kept = |name: &str| {
        external.get(name).is_none() || !request.without_replica_labels.iter().any(|it| it == name)
    };
    let values = matching().filter_map(|it| it.labels.get(&name)).filter(|_| is_kept(&name));
    let values: BTreeSet<&str> = values.collect();
    let answer = store.label_values(name.clone(), request.clone(), Budget::unlimited()).await;
    let answer = answer.unwrap_or_else(|error| panic!("values of {name}, {request:?}: {error}"));
    assert_eq!(answer.values, Vec::from_iter(values), "values of {name}, {request:?}");

    let names: BTreeSet<&str> = matching()
        .flat_map(|it| it.labels.iter())
        .map(|it| it.0)
        .filter(|it| is_kept(it))
        .collect();
    let answer = store.label_names(request.clone(), Budget::unlimited()).await;
    let answer = answer.unwrap_or_else(|error| panic!("names, {request:?}: {error}"));
    assert_eq!(answer.values, Vec::from_iter(names), "names, {request:?}");
}

async fn check_limits(store: &dyn Store, held: &[Held]) {
    let all = Matcher::new(MatchOp::NotEqual, "__name__", "");
    let Ok(all) = all else { return };
    let mut request = SeriesRequest::new(TimeRange::ALL, vec![all]);
    let whole = expected_series(held, &request);
    for limit in [1, 2, whole.len()] {
        request.limit = limit;
        let collected = collect(store, request.clone()).await;
        let collected = collected.unwrap_or_else(|error| panic!("{request:?}: {error}"));
        let labels: Vec<&Labels> = collected.series.iter().map(|it| &it.labels).collect();
        let wanted: Vec<&Labels> = whole.keys().take(limit).collect();
        assert_eq!(labels, wanted, "{request:?}");
    }
}

/// A reproducible sequence of choices (SplitMix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    fn series_request(&mut self, held: &[Held]) -> Option<SeriesRequest> {
        let mut matchers = Vec::new();
        let named = self.pick(held)?.labels.metric_name().to_owned();
        matchers.push(match self.below(3) {
            0 if !named.is_empty() => Matcher::equal("__name__", &named),
            1 => Matcher::new(MatchOp::Regex, "__name__", ".+").ok()?,
            _ => Matcher::new(MatchOp::NotEqual, "__name__", "").ok()?,
        });
        for _ in 0..self.below(3) {
            let labels = &self.pick(held)?.labels;
            let index = self.below(labels.len());
            let (name, value) = labels.iter().nth(index)?;
            matchers.push(self.matcher(name, value)?);
        }
        let times: Vec<i64> = held.iter().flat_map(|it| &it.timestamps_ms).copied().collect();
        let (a, b) = (*self.pick(&times)?, *self.pick(&times)?);
        let range = match self.below(4) {
            0 => TimeRange::ALL,
            1 => TimeRange::new(a, a),
            _ => TimeRange::new(a.min(b), a.max(b)),
        };
        let mut request = SeriesRequest::new(range, matchers);
        request.partial_response = PartialResponse::Abort;
        request.skip_chunks = self.below(4) == 0;
        request.batch_size = self.below(5);
        if self.below(3) == 0 {
            let labels = &self.pick(held)?.labels;
            let index = self.below(labels.len());
            let (name, _) = labels.iter().nth(index).filter(|(name, _)| *name != "__name__")?;
            request.without_replica_labels = vec![name.to_owned()];
        }
        if self.below(4) == 0 {
            let labels = self.pick(held)?.labels.iter().map(|(name, _)| name.to_owned());
            let labels = labels.take(2).collect();
            let (index, by) = (self.next() % 2, self.below(2) == 0);
            request.shard = Some(Shard { index, total: 2, by, labels });
        }
        Some(request)
    }

    fn matcher(&mut self, name: &str, value: &str) -> Option<Matcher> {
        match self.below(6) {
            0 => Some(Matcher::equal(name, value)),
            1 => Matcher::new(MatchOp::NotEqual, name, value).ok(),
            2 => Matcher::new(MatchOp::Regex, name, ".*").ok(),
            3 => Matcher::new(MatchOp::NotRegex, name, "[^a-z]*").ok(),
            4 => Matcher::new(MatchOp::Regex, name, "[a-m].*|").ok(),
            _ => Some(Matcher::equal(name, "")),
        }
    }
}
