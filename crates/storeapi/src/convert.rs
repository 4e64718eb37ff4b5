//! Messages of the protocol into checked requests and back; besides the server and the client,
//! which hand them on, the only file that knows the generated types.
//!
//! What Thanos answers with an error is an error here; what it takes, is taken: unknown fields,
//! unknown aggregates, hints, limits below 0. A negative batch size or resolution, on which Thanos
//! panics, counts as 0.

use model::{Labels, MatchOp, Matcher, TimeRange};

use crate::error::Error;
use crate::pb::thanos as pb;
use crate::pb::thanos::info as pb_info;
use crate::request::{
    Aggregate, LabelsRequest, LabelsResponse, PartialResponse, SeriesRequest, Shard, StoreInfo,
    TsdbInfo,
};

/// Most matchers in one request; each may hold a compiled expression.
const MATCHERS_MAX: usize = 1024;

/// A checked `SeriesRequest`.
pub(crate) fn series_request(request: pb::SeriesRequest) -> Result<SeriesRequest, Error> {
    let hints = request.query_hints.unwrap_or_default();
    let step_ms = if request.step != 0 { request.step } else { hints.step_millis };
    let range_ms =
        if request.range != 0 { request.range } else { hints.range.unwrap_or_default().millis };
    Ok(SeriesRequest {
        range: TimeRange::new(request.min_time, request.max_time),
        matchers: matchers(&request.matchers)?,
        resolution_max_ms: request.max_resolution_window.max(0),
        aggregates: request.aggregates.iter().filter_map(|it| aggregate(*it)).collect(),
        partial_response: partial_response(
            request.partial_response_disabled,
            request.partial_response_strategy,
        ),
        skip_chunks: request.skip_chunks,
        shard: shard(request.shard_info)?,
        without_replica_labels: request.without_replica_labels,
        limit: count(request.limit),
        batch_size: count(request.response_batch_size),
        step_ms: step_ms.max(0),
        range_ms: range_ms.max(0),
    })
}

/// The message of a checked request.
pub(crate) fn series_request_message(request: &SeriesRequest) -> pb::SeriesRequest {
    pb::SeriesRequest {
        min_time: request.range.start_ms,
        max_time: request.range.end_ms,
        matchers: matcher_messages(&request.matchers),
        max_resolution_window: request.resolution_max_ms,
        aggregates: request.aggregates.iter().map(|it| aggregate_number(*it)).collect(),
        partial_response_disabled: request.partial_response == PartialResponse::Abort,
        partial_response_strategy: strategy(request.partial_response),
        skip_chunks: request.skip_chunks,
        shard_info: request.shard.as_ref().map(shard_message),
        without_replica_labels: request.without_replica_labels.clone(),
        limit: number(request.limit),
        response_batch_size: number(request.batch_size),
        step: request.step_ms,
        range: request.range_ms,
        hints: None,
        query_hints: None,
    }
}

/// A checked `LabelNamesRequest`.
pub(crate) fn names_request(request: pb::LabelNamesRequest) -> Result<LabelsRequest, Error> {
    Ok(LabelsRequest {
        range: TimeRange::new(request.start, request.end),
        matchers: matchers(&request.matchers)?,
        partial_response: partial_response(
            request.partial_response_disabled,
            request.partial_response_strategy,
        ),
        without_replica_labels: request.without_replica_labels,
        limit: count(request.limit),
    })
}

/// The message of a checked request.
pub(crate) fn names_request_message(request: &LabelsRequest) -> pb::LabelNamesRequest {
    pb::LabelNamesRequest {
        partial_response_disabled: request.partial_response == PartialResponse::Abort,
        partial_response_strategy: strategy(request.partial_response),
        start: request.range.start_ms,
        end: request.range.end_ms,
        hints: None,
        matchers: matcher_messages(&request.matchers),
        without_replica_labels: request.without_replica_labels.clone(),
        limit: number(request.limit),
    }
}

/// The label and the checked rest of a `LabelValuesRequest`.
pub(crate) fn values_request(
    request: pb::LabelValuesRequest,
) -> Result<(String, LabelsRequest), Error> {
    let rest = LabelsRequest {
        range: TimeRange::new(request.start, request.end),
        matchers: matchers(&request.matchers)?,
        partial_response: partial_response(
            request.partial_response_disabled,
            request.partial_response_strategy,
        ),
        without_replica_labels: request.without_replica_labels,
        limit: count(request.limit),
    };
    Ok((request.label, rest))
}

/// The message of a checked request.
pub(crate) fn values_request_message(
    label: String,
    request: &LabelsRequest,
) -> pb::LabelValuesRequest {
    pb::LabelValuesRequest {
        label,
        partial_response_disabled: request.partial_response == PartialResponse::Abort,
        partial_response_strategy: strategy(request.partial_response),
        start: request.range.start_ms,
        end: request.range.end_ms,
        hints: None,
        matchers: matcher_messages(&request.matchers),
        without_replica_labels: request.without_replica_labels.clone(),
        limit: number(request.limit),
    }
}

/// The answer to `LabelNames`.
pub(crate) fn names_response_message(response: LabelsResponse) -> pb::LabelNamesResponse {
    pb::LabelNamesResponse { names: response.values, warnings: response.warnings, hints: None }
}

/// The answer to `LabelNames`, sorted and each name once, whatever the peer did.
pub(crate) fn names_response(message: pb::LabelNamesResponse) -> LabelsResponse {
    labels_response(message.names, message.warnings)
}

/// The answer to `LabelValues`.
pub(crate) fn values_response_message(response: LabelsResponse) -> pb::LabelValuesResponse {
    pb::LabelValuesResponse { values: response.values, warnings: response.warnings, hints: None }
}

/// The answer to `LabelValues`, sorted and each value once, whatever the peer did.
pub(crate) fn values_response(message: pb::LabelValuesResponse) -> LabelsResponse {
    labels_response(message.values, message.warnings)
}

/// What a peer says of itself.
///
/// # Errors
/// `Aborted` when a label set has a label twice.
pub(crate) fn store_info(message: pb_info::InfoResponse) -> Result<StoreInfo, Error> {
    // A component that is no store serves no time at all.
    let store = message.store.unwrap_or(pb_info::StoreInfo {
        min_time: i64::MAX,
        max_time: i64::MIN,
        ..pb_info::StoreInfo::default()
    });
    Ok(StoreInfo {
        component: message.component_type,
        label_sets: message.label_sets.into_iter().map(label_set).collect::<Result<_, _>>()?,
        min_time_ms: store.min_time,
        max_time_ms: store.max_time,
        supports_sharding: store.supports_sharding,
        supports_without_replica_labels: store.supports_without_replica_labels,
        tsdbs: store.tsdb_infos.into_iter().map(tsdb_info).collect::<Result<_, _>>()?,
    })
}

fn tsdb_info(message: pb_info::TsdbInfo) -> Result<TsdbInfo, Error> {
    Ok(TsdbInfo {
        labels: label_set(message.labels.unwrap_or_default())?,
        min_time_ms: message.min_time,
        max_time_ms: message.max_time,
    })
}

/// What we say of ourselves.
pub(crate) fn store_info_message(info: StoreInfo) -> pb_info::InfoResponse {
    let tsdb = |it: TsdbInfo| pb_info::TsdbInfo {
        labels: Some(label_set_message(&it.labels)),
        min_time: it.min_time_ms,
        max_time: it.max_time_ms,
    };
    pb_info::InfoResponse {
        label_sets: info.label_sets.iter().map(label_set_message).collect(),
        component_type: info.component,
        store: Some(pb_info::StoreInfo {
            min_time: info.min_time_ms,
            max_time: info.max_time_ms,
            supports_sharding: info.supports_sharding,
            supports_without_replica_labels: info.supports_without_replica_labels,
            tsdb_infos: info.tsdbs.into_iter().map(tsdb).collect(),
            supports_projections: false,
        }),
        ..pb_info::InfoResponse::default()
    }
}

fn matchers(messages: &[pb::LabelMatcher]) -> Result<Vec<Matcher>, Error> {
    if messages.len() > MATCHERS_MAX {
        let text = format!("{} matchers, at most {MATCHERS_MAX} are taken", messages.len());
        return Err(Error::InvalidArgument(text));
    }
    messages.iter().map(matcher).collect()
}

fn matcher(message: &pb::LabelMatcher) -> Result<Matcher, Error> {
    let op = match message.r#type {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        other => {
            return Err(Error::InvalidArgument(format!("unrecognized label matcher type {other}")));
        }
    };
    Matcher::new(op, &message.name, &message.value)
        .map_err(|error| Error::InvalidArgument(error.to_string()))
}

fn matcher_messages(matchers: &[Matcher]) -> Vec<pb::LabelMatcher> {
    let message = |it: &Matcher| pb::LabelMatcher {
        r#type: match it.op() {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        },
        name: it.name().to_owned(),
        value: it.value().to_owned(),
    };
    matchers.iter().map(message).collect()
}

fn aggregate(number: i32) -> Option<Aggregate> {
    match number {
        0 => Some(Aggregate::Raw),
        1 => Some(Aggregate::Count),
        2 => Some(Aggregate::Sum),
        3 => Some(Aggregate::Min),
        4 => Some(Aggregate::Max),
        5 => Some(Aggregate::Counter),
        _ => None,
    }
}

fn aggregate_number(aggregate: Aggregate) -> i32 {
    match aggregate {
        Aggregate::Raw => 0,
        Aggregate::Count => 1,
        Aggregate::Sum => 2,
        Aggregate::Min => 3,
        Aggregate::Max => 4,
        Aggregate::Counter => 5,
    }
}

/// Both ways of saying that nothing may be missing count, whatever the other one says.
fn partial_response(disabled: bool, strategy: i32) -> PartialResponse {
    if disabled || strategy == pb::PartialResponseStrategy::Abort as i32 {
        return PartialResponse::Abort;
    }
    PartialResponse::Warn
}

fn strategy(partial_response: PartialResponse) -> i32 {
    match partial_response {
        PartialResponse::Warn => 0,
        PartialResponse::Abort => 1,
    }
}

fn shard(message: Option<pb::ShardInfo>) -> Result<Option<Shard>, Error> {
    let Some(message) = message else { return Ok(None) };
    if message.total_shards <= 1 {
        return Ok(None);
    }
    let negative = |_| Error::InvalidArgument(format!("shard index {}", message.shard_index));
    Ok(Some(Shard {
        index: u64::try_from(message.shard_index).map_err(negative)?,
        total: u64::try_from(message.total_shards).map_err(negative)?,
        by: message.by,
        labels: message.labels,
    }))
}

fn shard_message(shard: &Shard) -> pb::ShardInfo {
    pb::ShardInfo {
        shard_index: i64::try_from(shard.index).unwrap_or(i64::MAX),
        total_shards: i64::try_from(shard.total).unwrap_or(i64::MAX),
        by: shard.by,
        labels: shard.labels.clone(),
    }
}

/// A limit or size, where everything below 1 means "none".
fn count(number: i64) -> usize {
    if number <= 0 {
        return 0;
    }
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn labels_response(mut values: Vec<String>, warnings: Vec<String>) -> LabelsResponse {
    if !values.is_sorted() {
        values.sort_unstable();
    }
    values.dedup();
    LabelsResponse { values, warnings }
}

fn label_set(message: pb::LabelSet) -> Result<Labels, Error> {
    let pairs = message.labels.into_iter().map(|it| (it.name, it.value));
    Labels::from_pairs(pairs).map_err(|error| Error::Aborted(format!("label set: {error}")))
}

fn label_set_message(labels: &Labels) -> pb::LabelSet {
    let label =
        |(name, value): (&str, &str)| pb::Label { name: name.to_owned(), value: value.to_owned() };
    pb::LabelSet { labels: labels.iter().map(label).collect() }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::Value;

    use super::*;

    /// What became of a recorded request: its status, as far as the form of the request decides.
    fn recorded(call: &Value) -> Result<(), Error> {
        let text = call["request_hex"].as_str().unwrap();
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..text.len()).step_by(2).map(digit).collect();
        let bytes = bytes.as_slice();
        let unreadable = |error: prost::DecodeError| Error::Internal(error.to_string());
        match call["method"].as_str().unwrap() {
            "/thanos.Store/Series" => {
                let message = pb::SeriesRequest::decode(bytes).map_err(unreadable)?;
                let request = series_request(message)?;
                let again = series_request(series_request_message(&request))?;
                assert_eq!(format!("{again:?}"), format!("{request:?}"));
            }
            "/thanos.Store/LabelNames" => {
                let message = pb::LabelNamesRequest::decode(bytes).map_err(unreadable)?;
                let request = names_request(message)?;
                let again = names_request(names_request_message(&request))?;
                assert_eq!(format!("{again:?}"), format!("{request:?}"));
            }
            _ => {
                let message = pb::LabelValuesRequest::decode(bytes).map_err(unreadable)?;
                let (label, request) = values_request(message)?;
                let (_, again) = values_request(values_request_message(label, &request))?;
                assert_eq!(format!("{again:?}"), format!("{request:?}"));
            }
        }
        Ok(())
    }

    #[test]
    fn recorded_requests_are_taken_and_refused_as_thanos_does() {
        let Some(shared) = testkit::golden::shared_or_skip() else { return };
        let mut count = 0;
        for file in ["store", "receive", "querier-store-api"] {
            let path = shared.join("golden/storeapi").join(format!("{file}.jsonl.gz"));
            for call in testkit::golden::read_jsonl_gz(&path) {
                let method = call["method"].as_str().unwrap();
                let is_ours = method.starts_with("/thanos.Store/") && !method.ends_with("Nope");
                // What depends on the store or on hints is the store's affair.
                let message = call["status"]["message"].as_str().unwrap_or_default();
                let of_the_store = ["hints", "no matchers", "label name parameter"];
                if !is_ours || of_the_store.iter().any(|it| message.contains(it)) {
                    continue;
                }
                count += 1;
                let code = match recorded(&call) {
                    Ok(()) => "OK",
                    Err(Error::InvalidArgument(_)) => "InvalidArgument",
                    Err(Error::Internal(_)) => "Internal",
                    Err(other) => panic!("{}: {other}", call["name"]),
                };
                assert_eq!(call["status"]["name"], code, "{} in {file}", call["name"]);
            }
        }
        assert!(count > 500, "only {count} calls");
    }

    #[test]
    fn recorded_infos_come_back() {
        let Some(shared) = testkit::golden::shared_or_skip() else { return };
        for (file, component, sets) in [("store", "store", 2), ("querier-store-api", "query", 4)] {
            let path = shared.join("golden/storeapi").join(format!("{file}.jsonl.gz"));
            let calls = testkit::golden::read_jsonl_gz(&path);
            let call = calls.iter().find(|it| it["method"] == "/thanos.info.Info/Info").unwrap();
            let text = call["frames"][0].as_str().unwrap();
            let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..text.len()).step_by(2).map(digit).collect();
            let message = pb_info::InfoResponse::decode(bytes.as_slice()).unwrap();
            let info = store_info(message).unwrap();
            assert_eq!((info.component.as_str(), info.label_sets.len()), (component, sets));
            assert_eq!(info.min_time_ms, 1_699_999_200_000);
            assert!(info.supports_sharding && info.supports_without_replica_labels);
            assert_eq!(store_info(store_info_message(info.clone())).unwrap(), info);
        }
    }

    #[test]
    fn odd_numbers_are_taken_as_thanos_means_them() {
        let request = pb::SeriesRequest {
            limit: -1,
            response_batch_size: -1,
            max_resolution_window: -1,
            aggregates: vec![0, 99, 5],
            partial_response_disabled: true,
            shard_info: Some(pb::ShardInfo { total_shards: 1, ..Default::default() }),
            ..Default::default()
        };
        let request = series_request(request).unwrap();
        assert_eq!((request.limit, request.batch_size, request.resolution_max_ms), (0, 0, 0));
        assert_eq!(request.aggregates, [Aggregate::Raw, Aggregate::Counter]);
        assert_eq!(request.partial_response, PartialResponse::Abort);
        assert_eq!(request.shard, None);
    }

    #[test]
    fn bad_matchers_and_shards_are_refused() {
        let check = |kind: i32, value: &str| {
            let matcher =
                pb::LabelMatcher { r#type: kind, name: "a".to_owned(), value: value.to_owned() };
            let request = pb::SeriesRequest { matchers: vec![matcher], ..Default::default() };
            series_request(request).unwrap_err()
        };
        assert!(matches!(check(2, "("), Error::InvalidArgument(_)));
        let text = check(9, "x").to_string();
        assert_eq!(text, "unrecognized label matcher type 9");
        let shard = pb::ShardInfo { shard_index: -1, total_shards: 2, ..Default::default() };
        let request = pb::SeriesRequest { shard_info: Some(shard), ..Default::default() };
        assert!(matches!(series_request(request), Err(Error::InvalidArgument(_))));
    }
}
