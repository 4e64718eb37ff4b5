//! All stores as one [`Store`]: who can have an answer is asked, the streams are merged, and who
//! does not answer is named.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use model::{Budget, Labels, Matcher, TimeRange};
use storeapi::merge::{MergeOptions, Source, merge, series_bytes};
use storeapi::request::{
    LabelsRequest, LabelsResponse, PartialResponse, SeriesRequest, Shard, StoreInfo,
};
use storeapi::resort::{LabelTransform, Resorter};
use storeapi::store::{SeriesFrame, SeriesFrames};
use storeapi::{Error, Store, StoreSeries};

use crate::endpoints::{Endpoints, Member};
use crate::limits::LATE_MS_MAX;

/// Asks many stores.
#[derive(Clone, Debug)]
pub(crate) struct Fanout {
    endpoints: Endpoints,
    /// Sets of conditions on `__address__`, of which a store must fulfil one; empty asks all.
    store_matchers: Arc<Vec<Vec<Matcher>>>,
    /// Labels that this querier says it has, when it is asked itself.
    selector_labels: Labels,
}

impl Fanout {
    pub(crate) fn new(endpoints: Endpoints, selector_labels: Labels) -> Fanout {
        Fanout { endpoints, store_matchers: Arc::default(), selector_labels }
    }

    /// The same, asking only stores whose address fulfils one of the sets.
    pub(crate) fn only(&self, store_matchers: Vec<Vec<Matcher>>) -> Fanout {
        Fanout { store_matchers: Arc::new(store_matchers), ..self.clone() }
    }

    /// The stores that may hold something of what is wanted.
    fn concerned(&self, range: TimeRange, matchers: &[Matcher]) -> Vec<Member> {
        let mut members = self.endpoints.members();
        members.retain(|it| self.is_chosen(&it.name) && may_hold(it, range, matchers));
        members
    }

    fn is_chosen(&self, name: &str) -> bool {
        let fulfils = |set: &Vec<Matcher>| {
            set.iter().filter(|it| it.name() == "__address__").all(|it| it.matches(name))
        };
        self.store_matchers.is_empty() || self.store_matchers.iter().any(fulfils)
    }

    async fn merged(&self, request: SeriesRequest, budget: Budget) -> Result<SeriesFrames, Error> {
        request.require_matchers()?;
        let members = self.concerned(request.range, &request.matchers);
        let opened = members.into_iter().map(|it| open(it, request.clone(), budget.clone()));
        let mut sources = Vec::new();
        for (name, opened) in join_all(opened).await {
            let frames = match opened {
                Ok(frames) => frames,
                // A source that fails at once: the merge knows what that means.
                Err(error) => stream::once(async move { Err(error) }).boxed(),
            };
            sources.push(Source { name, frames });
        }
        let options = MergeOptions::from(&request);
        Ok(merge(sources, options, &budget))
    }

    /// Joins the answers of all stores to a call for names or values.
    async fn joined<'a, F>(
        &'a self,
        request: &LabelsRequest,
        budget: &Budget,
        call: impl Fn(Member) -> F,
    ) -> Result<LabelsResponse, Error>
    where
        F: Future<Output = (String, Result<LabelsResponse, Error>)> + 'a,
    {
        let members = self.concerned(request.range, &request.matchers);
        let mut joined = LabelsResponse::default();
        let mut held = budget.reserve(0)?;
        for (name, answer) in join_all(members.into_iter().map(call)).await {
            match answer {
                Ok(mut answer) => {
                    held.grow(answer.size_bytes())?;
                    joined.values.append(&mut answer.values);
                    joined.warnings.append(&mut answer.warnings);
                }
                Err(error @ Error::BudgetExceeded(_)) => return Err(error),
                Err(error) if request.partial_response == PartialResponse::Abort => {
                    return Err(error.at(&name));
                }
                Err(error) => joined.warnings.push(error.at(&name).to_string()),
            }
        }
        joined.values.sort_unstable();
        joined.values.dedup();
        if request.limit > 0 {
            joined.values.truncate(request.limit);
        }
        Ok(joined)
    }
}

/// Whether a store may hold series of a range that fulfil the matchers, by what it said of itself.
/// A store that never said anything, or that was empty, may hold everything by now. What one said
/// that cannot be asked any more bounds only how old its samples are.
fn may_hold(member: &Member, range: TimeRange, matchers: &[Matcher]) -> bool {
    let Some(info) = &member.info else { return true };
    let is_current = member.obstacle.is_none();
    let mut held = held_range(info);
    if !is_current && !held.is_empty() {
        held.end_ms = i64::MAX;
    }
    if !held.is_empty() && !range.overlaps(held) {
        return false;
    }
    if !is_current || has_growing_label_sets(info) {
        return true;
    }
    let fulfils = |labels: &Labels| {
        matchers
            .iter()
            .all(|matcher| labels.get(matcher.name()).is_none_or(|value| matcher.matches(value)))
    };
    info.label_sets.is_empty() || info.label_sets.iter().any(fulfils)
}

/// Whether series with further external labels may have come since the store was asked: a receiver
/// has a set of labels for each tenant that it has met.
fn has_growing_label_sets(info: &StoreInfo) -> bool {
    info.component == "receive"
}

/// The time that a store may hold by now: whoever takes samples may have got newer ones since it
/// was asked, and older ones within the bound of late samples. One that was empty, and says so by
/// the greatest of all times as its first one, may have got samples of any time.
fn held_range(info: &StoreInfo) -> TimeRange {
    let held = TimeRange::new(info.min_time_ms, info.max_time_ms);
    if held.is_empty() || info.component == "store" {
        return held;
    }
    if info.min_time_ms == i64::MAX {
        return TimeRange::ALL;
    }
    TimeRange::new(held.start_ms.saturating_sub(LATE_MS_MAX), i64::MAX)
}

/// Why a store cannot be asked now, and the time that it holds when that is known.
fn unavailable(member: &Member) -> Option<Error> {
    let obstacle = member.obstacle.as_ref()?;
    let date = |time_ms| Timestamp::from_millisecond(time_ms).map(|it| it.to_string());
    let times = member.info.as_ref().map(|it| (date(it.min_time_ms), date(it.max_time_ms)));
    Some(Error::Unavailable(match times {
        Some((Ok(from), Ok(to))) => format!("{obstacle} (it holds {from} to {to})"),
        Some((Ok(from), Err(_))) => format!("{obstacle} (it holds {from} and later)"),
        _ => obstacle.clone(),
    }))
}

/// Opens the stream of one store; what the store cannot do itself is done here.
async fn open(
    member: Member,
    mut request: SeriesRequest,
    budget: Budget,
) -> (String, Result<SeriesFrames, Error>) {
    if let Some(error) = unavailable(&member) {
        return (member.name, Err(error));
    }
    let name = member.name;
    let info = member.info.unwrap_or_default();
    let mut dropped = Vec::new();
    if !info.supports_without_replica_labels {
        dropped = std::mem::take(&mut request.without_replica_labels);
    }
    let is_stripped_here = !dropped.is_empty();
    // The shard and the limit are of what is sent: with labels that are taken away only here, or
    // a shard that is picked only here, the store cannot apply them.
    let shard =
        if !info.supports_sharding || is_stripped_here { request.shard.take() } else { None };
    if is_stripped_here || shard.is_some() {
        request.limit = 0;
    }
    let frames = match member.store.series(request, budget.clone()).await {
        Ok(frames) => frames,
        Err(error) => return (name, Err(error)),
    };
    if is_stripped_here {
        return (name, stripped(frames, &dropped, shard, &budget).await);
    }
    let frames = match shard {
        Some(shard) => frames.map(move |frame| frame.map(|it| in_shard(it, &shard))).boxed(),
        None => frames,
    };
    (name, Ok(frames))
}

fn in_shard(frame: SeriesFrame, shard: &Shard) -> SeriesFrame {
    match frame {
        SeriesFrame::Batch(mut batch) => {
            batch.retain(|it| shard.keeps(&it.labels));
            SeriesFrame::Batch(batch)
        }
        warning @ SeriesFrame::Warning(_) => warning,
    }
}

/// Takes labels away and puts the series into their new order, which needs all of them.
async fn stripped(
    mut frames: SeriesFrames,
    dropped: &[String],
    shard: Option<Shard>,
    budget: &Budget,
) -> Result<SeriesFrames, Error> {
    let transform = LabelTransform::new(&Labels::empty(), dropped);
    let mut resorter = Resorter::new(budget)?;
    let mut warnings = Vec::new();
    while let Some(frame) = frames.next().await {
        let batch = match frame {
            Ok(SeriesFrame::Batch(batch)) => batch,
            Ok(warning) => {
                warnings.push(Ok(warning));
                continue;
            }
            Err(error) => {
                // What came before the failure is good, and the merge decides on the failure.
                warnings.push(Err(error));
                break;
            }
        };
        for series in batch {
            let labels = transform.apply(&series.labels);
            if shard.as_ref().is_none_or(|it| it.keeps(&labels)) {
                let bytes = series_bytes(&series);
                resorter.push(labels, series.chunks, bytes)?;
            }
        }
    }
    let (entries, reservation) = resorter.finish()?;
    let series = entries.into_iter().map(move |(labels, chunks)| {
        debug_assert!(reservation.bytes() < usize::MAX, "held as long as the series");
        Ok(SeriesFrame::Batch(vec![StoreSeries { labels, chunks }]))
    });
    // Warnings and failures come last: a failure ends the source in the merge.
    Ok(stream::iter(series.chain(warnings)).boxed())
}

/// What all members together say of themselves, never less than what [`may_hold`] takes them to
/// hold: whoever asks us decides by it whether we are asked, and with us every store behind us.
fn joined_info(members: Vec<Member>, selector_labels: &Labels) -> StoreInfo {
    let mut joined = StoreInfo {
        component: "query".to_owned(),
        min_time_ms: i64::MAX,
        max_time_ms: i64::MIN,
        supports_sharding: true,
        supports_without_replica_labels: true,
        ..StoreInfo::default()
    };
    // No label sets stand for all that there may be.
    let mut has_any_labels = false;
    for member in members {
        let Some(info) = member.info else {
            (joined.min_time_ms, joined.max_time_ms) = (i64::MIN, i64::MAX);
            has_any_labels = true;
            continue;
        };
        let is_current = member.obstacle.is_none();
        has_any_labels |=
            !is_current || info.label_sets.is_empty() || has_growing_label_sets(&info);
        let held = held_range(&info);
        let (min_time_ms, max_time_ms) = match info.max_time_ms {
            _ if held.is_empty() || held == TimeRange::ALL => (i64::MIN, i64::MAX),
            _ if !is_current => (info.min_time_ms, i64::MAX),
            known => (info.min_time_ms, known),
        };
        joined.min_time_ms = joined.min_time_ms.min(min_time_ms);
        joined.max_time_ms = joined.max_time_ms.max(max_time_ms);
        joined.label_sets.extend(info.label_sets);
        joined.tsdbs.extend(info.tsdbs);
    }
    if has_any_labels {
        joined.label_sets.clear();
        return joined;
    }
    if !selector_labels.is_empty() {
        joined.label_sets.push(selector_labels.clone());
    }
    joined.label_sets.sort();
    joined.label_sets.dedup();
    joined
}

impl Store for Fanout {
    fn name(&self) -> String {
        "querier".to_owned()
    }

    fn info(&self) -> StoreInfo {
        joined_info(self.endpoints.members(), &self.selector_labels)
    }

    fn series(
        &self,
        request: SeriesRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<SeriesFrames, Error>> {
        self.merged(request, budget).boxed()
    }

    fn label_names(
        &self,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        async move {
            let call = |member: Member| {
                let (request, budget) = (request.clone(), budget.clone());
                async move {
                    let answer = match unavailable(&member) {
                        Some(error) => Err(error),
                        None => member.store.label_names(request, budget).await,
                    };
                    (member.name, answer)
                }
            };
            self.joined(&request, &budget, call).await
        }
        .boxed()
    }

    fn label_values(
        &self,
        name: String,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        async move {
            if name.is_empty() {
                let text = "label name parameter cannot be empty";
                return Err(Error::InvalidArgument(text.to_owned()));
            }
            let call = |member: Member| {
                let (name, request, budget) = (name.clone(), request.clone(), budget.clone());
                async move {
                    let answer = match unavailable(&member) {
                        Some(error) => Err(error),
                        None => member.store.label_values(name, request, budget).await,
                    };
                    (member.name, answer)
                }
            };
            self.joined(&request, &budget, call).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use storeapi::memory::MemoryStore;

    use super::*;

    #[test]
    fn stores_are_passed_over_only_for_what_they_cannot_hold() {
        let labels = Labels::from_pairs([("replica", "a")]).unwrap();
        let member = |component: &str, min_time_ms, max_time_ms| Member {
            name: "s".to_owned(),
            store: Arc::new(MemoryStore::new("s", Labels::empty(), Vec::new())),
            info: Some(StoreInfo {
                component: component.to_owned(),
                label_sets: vec![labels.clone()],
                min_time_ms,
                max_time_ms,
                ..StoreInfo::default()
            }),
            obstacle: None,
            checked_ms: 0,
        };
        let check = |member: &Member, start_ms, end_ms, expected| {
            let range = TimeRange::new(start_ms, end_ms);
            assert_eq!(may_hold(member, range, &[]), expected, "{member:?} {range:?}");
        };
        let hour_ms = 3_600_000;
        let store = member("store", 10 * hour_ms, 20 * hour_ms);
        check(&store, 0, 9 * hour_ms, false);
        check(&store, 0, 10 * hour_ms, true);
        check(&store, 21 * hour_ms, 22 * hour_ms, false);
        let receiver = member("receive", 10 * hour_ms, 20 * hour_ms);
        check(&receiver, 0, 9 * hour_ms, true);
        check(&receiver, 0, hour_ms, false);
        check(&receiver, 21 * hour_ms, 22 * hour_ms, true);
        let empty = member("receive", i64::MAX, i64::MIN);
        check(&empty, 0, 1, true);
        let fresh = member("receive", i64::MAX, i64::MAX);
        check(&fresh, 0, 1, true);
        let unknown = Member { info: None, ..store.clone() };
        check(&unknown, 0, 1, true);
        let down = Member { obstacle: Some("it is down".to_owned()), ..store.clone() };
        check(&down, 0, 9 * hour_ms, false);
        check(&down, 21 * hour_ms, 22 * hour_ms, true);

        let holds = |member: &Member, value: &str| {
            may_hold(member, TimeRange::ALL, &[Matcher::equal("replica", value)])
        };
        assert!(holds(&store, "a") && !holds(&store, "b") && !holds(&store, ""));
        assert!(holds(&receiver, "b") && holds(&down, "b"));
        assert!(may_hold(&store, TimeRange::ALL, &[Matcher::equal("other", "b")]));
    }

    #[test]
    fn what_is_said_of_all_stores_hides_none_of_them() {
        let set = |value: &str| Labels::from_pairs([("replica", value)]).unwrap();
        let member = |label_sets: Vec<Labels>, min_time_ms| Member {
            name: "s".to_owned(),
            store: Arc::new(MemoryStore::new("s", Labels::empty(), Vec::new())),
            info: Some(StoreInfo {
                component: "store".to_owned(),
                label_sets,
                min_time_ms,
                max_time_ms: 100,
                ..StoreInfo::default()
            }),
            obstacle: None,
            checked_ms: 0,
        };
        let known = || vec![member(vec![set("a")], 10), member(vec![set("b")], 20)];
        let with = |other: Member| {
            let mut members = known();
            members.push(other);
            joined_info(members, &set("q"))
        };
        let all = joined_info(known(), &set("q"));
        assert_eq!(all.label_sets, [set("a"), set("b"), set("q")]);
        assert_eq!((all.min_time_ms, all.max_time_ms), (10, 100));

        let unlabeled = with(member(Vec::new(), 5));
        assert_eq!((unlabeled.label_sets, unlabeled.min_time_ms), (Vec::new(), 5));
        let unknown = with(Member { info: None, ..member(Vec::new(), 5) });
        assert_eq!(unknown.label_sets, Vec::<Labels>::new());
        assert_eq!((unknown.min_time_ms, unknown.max_time_ms), (i64::MIN, i64::MAX));
        let down = Member { obstacle: Some("it is down".to_owned()), ..member(vec![set("c")], 5) };
        let down = with(down);
        assert_eq!((down.label_sets, down.max_time_ms), (Vec::new(), i64::MAX));
        let empty = with(member(vec![set("c")], i64::MAX));
        assert_eq!((empty.min_time_ms, empty.max_time_ms), (i64::MIN, i64::MAX));
    }
}
