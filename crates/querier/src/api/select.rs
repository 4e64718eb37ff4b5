//! `series`, `labels`, `label/<name>/values`, and the parameters about where to read.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use futures_util::future::try_join_all;
use futures_util::stream::StreamExt as _;
use model::{Budget, Labels, Matcher};
use promql::parser;
use serde::Deserialize;
use storeapi::Store as _;
use storeapi::merge::{MergeOptions, Source, merge};
use storeapi::request::{LabelsRequest, SeriesRequest, Shard};
use storeapi::store::SeriesFrame;

use crate::api::params::{Params, unescaped_name};
use crate::api::query::partial_response;
use crate::api::success;
use crate::app::{App, millis};
use crate::fanout::Fanout;
use crate::json::{Remarks, append_labels, append_texts};
use crate::status::{ApiError, Kind};
use crate::storage::SelectOptions;

const TRUNCATED: &str = "results truncated due to limit";

/// What a caller chose about reading.
pub(super) fn options(app: &App, params: &Params) -> Result<SelectOptions, ApiError> {
    check_resolution(params)?;
    let is_deduplicated = params.switch("dedup", true)?;
    let named: Vec<String> = params
        .all("replicaLabels[]")?
        .into_iter()
        .map(|it| String::from_utf8_lossy(it).into_owned())
        .filter(|it| !it.is_empty())
        .collect();
    let replica_labels = match (is_deduplicated, named.is_empty()) {
        (false, _) => Vec::new(),
        (true, true) => app.query.replica_labels.clone(),
        (true, false) => named,
    };
    Ok(SelectOptions {
        partial_response: partial_response(app, params)?,
        replica_labels,
        shard: shard(params)?,
    })
}

/// `max_source_resolution` is checked and has no effect: samples are read as they were taken.
fn check_resolution(params: &Params) -> Result<(), ApiError> {
    const NAME: &str = "max_source_resolution";
    if !params.has(NAME) || params.bytes(NAME) == b"auto" {
        return Ok(());
    }
    let resolution_ns = params.optional_duration_ns(NAME).map_err(|error| {
        let why = error.message.split_once(": ").map_or("", |(_, why)| why).to_owned();
        ApiError::bad_data(format!("'{NAME}' parameter: {why}"))
    })?;
    if resolution_ns.is_some_and(|it| it < 0) {
        let text = format!("negative '{NAME}' is not accepted. Try a positive integer");
        return Err(ApiError::bad_data(text));
    }
    Ok(())
}

fn shard(params: &Params) -> Result<Option<Shard>, ApiError> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(default)]
        shard_index: u64,
        #[serde(default)]
        total_shards: u64,
        #[serde(default)]
        by: bool,
        #[serde(default)]
        labels: Vec<String>,
    }
    if !params.has("shard_info") {
        return Ok(None);
    }
    let info: Info = serde_json::from_slice(params.bytes("shard_info")).map_err(|error| {
        ApiError::bad_data(format!("could not unmarshal parameter shard_info: {error}"))
    })?;
    let shard = Shard {
        index: info.shard_index,
        total: info.total_shards,
        by: info.by,
        labels: info.labels,
    };
    Ok(Some(shard).filter(|it| it.total > 1))
}

/// The stores that a caller chose by `storeMatch[]`.
pub(super) fn fanout(app: &App, params: &Params) -> Result<Fanout, ApiError> {
    let texts = params.all("storeMatch[]")?;
    let mut sets = Vec::new();
    for text in texts {
        if text.is_empty() {
            let why = "unknown position: parse error: no expression found in input";
            return Err(ApiError::bad_data(why));
        }
        sets.push(selector(text).map_err(ApiError::bad_data)?.matchers);
    }
    Ok(if sets.is_empty() { app.fanout.clone() } else { app.fanout.only(sets) })
}

struct Selector {
    matchers: Vec<Matcher>,
    matches_everything: bool,
}

fn selector(text: &[u8]) -> Result<Selector, String> {
    let parsed = parser::parse_selector(text, &parser::Options::stable());
    let parsed = parsed.map_err(|error| error.to_string())?;
    let matches_everything = parsed.iter().all(|it| it.matches_empty);
    let mut matchers = Vec::with_capacity(parsed.len());
    for it in parsed {
        let (name, value) = (it.name.to_str_lossy(), it.value.to_str_lossy());
        matchers.push(Matcher::new(it.op, &name, &value).map_err(|error| error.to_string())?);
    }
    Ok(Selector { matchers, matches_everything })
}

/// The selectors of `match[]`; `match` is what an old Grafana sent.
fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, String> {
    let mut texts = params.all("match[]").map_err(|error| error.message)?;
    if texts.is_empty() {
        texts = params.all("match").map_err(|error| error.message)?;
    }
    let mut sets = Vec::with_capacity(texts.len());
    for text in texts {
        let selector = selector(text)?;
        if selector.matches_everything {
            return Err("match[] must contain at least one non-empty matcher".to_owned());
        }
        sets.push(selector.matchers);
    }
    Ok(sets)
}

/// Waits for the stores as long as a query may take.
async fn in_time<T>(
    app: &App,
    answer: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let timeout: Duration = app.query.timeout;
    let too_late = |_| ApiError::new(Kind::Timeout, format!("no answer within {timeout:?}"));
    tokio::time::timeout(timeout, answer).await.map_err(too_late)?
}

pub(crate) async fn series(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::of(request).await?;
    let limit = params.limit()?;
    let range = params.range(app.clock.now_ms(), millis(app.query.default_metadata_range))?;
    let sets = selectors(&params).map_err(|why| ApiError::parameter("match[]", why))?;
    if sets.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (options, fanout) = (options(&app, &params)?, fanout(&app, &params)?);
    let requests = sets.into_iter().map(|matchers| SeriesRequest {
        skip_chunks: true,
        partial_response: options.partial_response,
        without_replica_labels: options.replica_labels.clone(),
        limit: if limit == 0 { 0 } else { limit.saturating_add(1) },
        batch_size: 1024,
        ..SeriesRequest::new(range, matchers)
    });
    let budget = app.request_budget();
    let found = in_time(&app, collected(&fanout, requests, limit, &budget)).await?;
    let is_complete = found.warnings.is_empty();
    let mut remarks = Remarks { warnings: found.warnings, infos: Vec::new() };
    let mut series = found.series;
    if limit > 0 && series.len() > limit {
        series.truncate(limit);
        remarks.warnings.push(TRUNCATED.to_owned());
    }
    let mut data = vec![b'['];
    for (index, labels) in series.iter().enumerate() {
        if index > 0 {
            data.push(b',');
        }
        append_labels(&mut data, labels);
    }
    data.push(b']');
    Ok(success(&data, &remarks, is_complete))
}

struct Found {
    series: Vec<Labels>,
    warnings: Vec<String>,
    _reservation: model::Reservation,
}

/// The label sets that any of the requests selects, each once, in order.
async fn collected(
    fanout: &Fanout,
    requests: impl Iterator<Item = SeriesRequest>,
    limit: usize,
    budget: &Budget,
) -> Result<Found, ApiError> {
    let of_stores = |error: storeapi::Error| ApiError::of_stores(&error);
    let requests: Vec<SeriesRequest> = requests.collect();
    let options = MergeOptions {
        partial_response: requests.first().map_or_else(Default::default, |it| it.partial_response),
        batch_size: 1024,
        limit: if limit == 0 { 0 } else { limit.saturating_add(1) },
    };
    let opened = requests.into_iter().map(|it| fanout.series(it, budget.clone()));
    let streams = try_join_all(opened).await.map_err(of_stores)?;
    let sources =
        streams.into_iter().map(|frames| Source { name: "match[]".to_owned(), frames }).collect();
    let reservation = budget.reserve(0).map_err(|it| of_stores(it.into()))?;
    let mut found = Found { series: Vec::new(), warnings: Vec::new(), _reservation: reservation };
    let mut frames = merge(sources, options, budget);
    while let Some(frame) = frames.next().await {
        match frame.map_err(of_stores)? {
            SeriesFrame::Warning(text) => found.warnings.push(text),
            SeriesFrame::Batch(batch) => {
                // Each label set is held once as it is and once as JSON.
                let bytes = batch.iter().map(|it| 32 + 3 * it.labels.size_bytes()).sum();
                found._reservation.grow(bytes).map_err(|it| of_stores(it.into()))?;
                found.series.extend(batch.into_iter().map(|it| it.labels));
            }
        }
    }
    found.warnings.sort_unstable();
    found.warnings.dedup();
    Ok(found)
}

pub(crate) async fn names(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::of(request).await?;
    labels(&app, &params, None).await
}

pub(crate) async fn values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::of(request).await?;
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    labels(&app, &params, Some(unescaped_name(&name))).await
}

/// Names, or the values of the label `name`.
async fn labels(app: &App, params: &Params, name: Option<String>) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let range = params.range(app.clock.now_ms(), millis(app.query.default_metadata_range))?;
    let mut sets = selectors(params).map_err(ApiError::bad_data)?;
    if sets.is_empty() {
        sets.push(Vec::new());
    }
    let fanout = fanout(app, params)?;
    let partial_response = partial_response(app, params)?;
    let budget = app.request_budget();
    let calls = sets.into_iter().map(|matchers| {
        let request = LabelsRequest {
            range,
            matchers,
            partial_response,
            without_replica_labels: Vec::new(),
            limit: if limit == 0 { 0 } else { limit.saturating_add(1) },
        };
        match name.clone() {
            None => fanout.label_names(request, budget.clone()),
            Some(name) => fanout.label_values(name, request, budget.clone()),
        }
    });
    let answers = in_time(app, async {
        try_join_all(calls).await.map_err(|error| ApiError::of_stores(&error))
    });
    let (mut values, mut warnings) = (Vec::new(), Vec::new());
    let answers = answers.await?;
    // Each text is held once as it is and once as JSON.
    let bytes = answers.iter().map(|it| 2 * it.size_bytes()).sum();
    let _held = budget.reserve(bytes).map_err(|error| ApiError::of_stores(&error.into()))?;
    for mut answer in answers {
        values.append(&mut answer.values);
        warnings.append(&mut answer.warnings);
    }
    values.sort_unstable();
    values.dedup();
    warnings.sort_unstable();
    warnings.dedup();
    let is_complete = warnings.is_empty();
    if limit > 0 && values.len() > limit {
        values.truncate(limit);
        warnings.push(TRUNCATED.to_owned());
    }
    let mut data = Vec::new();
    append_texts(&mut data, values.iter().map(String::as_str));
    Ok(success(&data, &Remarks { warnings, infos: Vec::new() }, is_complete))
}
