//! Calls about the querier itself, and those whose data nobody collects yet: well-formed and
//! empty, so that Grafana and others find what they look for.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::params::Params;
use crate::api::success;
use crate::app::App;
use crate::endpoints::Member;
use crate::json::{Remarks, append_text};
use crate::status::ApiError;

fn plain(data: &Value) -> Response {
    success(data.to_string().as_bytes(), &Remarks::default(), true)
}

/// No exemplars are kept yet. Times may be anything that is a time: Grafana's probe sends
/// milliseconds.
pub(crate) async fn exemplars(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::of(request).await?;
    params.optional_time_ms("start")?;
    params.optional_time_ms("end")?;
    promql::parser::parse(params.bytes("query"), &app.parser_options())
        .map_err(|error| ApiError::parameter("query", error))?;
    Ok(plain(&json!([])))
}

pub(crate) async fn format_query(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::of(request).await?;
    let expr = promql::parser::parse(params.bytes("query"), &app.parser_options())
        .map_err(|error| ApiError::parameter("query", error))?;
    let mut data = Vec::new();
    append_text(&mut data, &promql::pretty::pretty(&expr));
    Ok(success(&data, &Remarks::default(), true))
}

pub(crate) async fn metadata(request: Request) -> Result<Response, ApiError> {
    let params = Params::of(request).await?;
    for name in ["limit", "limit_per_metric"] {
        if params.has(name) && params.text(name).parse::<i64>().is_err() {
            return Err(ApiError::bad_data(format!("{name} must be a number")));
        }
    }
    Ok(plain(&json!({})))
}

pub(crate) async fn rules() -> Response {
    plain(&json!({"groups": []}))
}

pub(crate) async fn alerts() -> Response {
    plain(&json!({"alerts": []}))
}

pub(crate) async fn targets() -> Response {
    plain(&json!({"activeTargets": [], "droppedTargets": []}))
}

/// Stores by their kind, as Thanos shows them.
pub(crate) async fn stores(State(app): State<Arc<App>>) -> Response {
    let mut kinds: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for member in app.endpoints.members() {
        let component = member.info.as_ref().map(|it| it.component.clone());
        let kind = component.filter(|it| !it.is_empty()).unwrap_or_else(|| "unknown".to_owned());
        kinds.entry(kind).or_default().push(shown(&member));
    }
    plain(&json!(kinds))
}

fn shown(member: &Member) -> Value {
    let info = member.info.clone().unwrap_or_default();
    let label_set = |labels: &model::Labels| -> Value {
        labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    };
    json!({
        "name": member.name,
        "lastCheck": date(member.checked_ms),
        "lastError": member.obstacle,
        "labelSets": info.label_sets.iter().map(label_set).collect::<Vec<_>>(),
        "minTime": info.min_time_ms,
        "maxTime": info.max_time_ms,
    })
}

fn date(time_ms: i64) -> String {
    Timestamp::from_millisecond(time_ms).map_or_else(|_| String::new(), |it| it.to_string())
}

/// No `features` here: Grafana would take us for Mimir.
pub(crate) async fn build_info() -> Response {
    plain(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": option_env!("AION_REVISION").unwrap_or_default(),
        "branch": option_env!("AION_BRANCH").unwrap_or_default(),
        "buildUser": "",
        "buildDate": option_env!("AION_BUILD_DATE").unwrap_or_default(),
        "goVersion": concat!("rust ", env!("CARGO_PKG_RUST_VERSION")),
    }))
}

pub(crate) async fn runtime_info(State(app): State<Arc<App>>) -> Response {
    let directory = std::env::current_dir().map(|it| it.display().to_string());
    plain(&json!({
        "startTime": date(app.started_ms),
        "serverTime": date(app.clock.now_ms()),
        "CWD": directory.unwrap_or_default(),
        "GOMAXPROCS": std::thread::available_parallelism().map_or(1, usize::from),
    }))
}

pub(crate) async fn flags(State(app): State<Arc<App>>) -> Response {
    plain(&json!(app.shown_flags))
}

/// What is to be found here, for a person with a browser or curl.
pub(crate) async fn index(State(app): State<Arc<App>>) -> Response {
    let members = app.endpoints.members();
    let stores: String = members
        .iter()
        .map(|it| match &it.obstacle {
            Some(obstacle) => format!("  {obstacle}\n"),
            None => format!("  {}: answers\n", it.name),
        })
        .collect();
    let text = format!(
        "aion query {version}: PromQL over all stores.\n\n\
         Grafana: add a data source of type Prometheus with this address as its URL, HTTP method \
         POST,\n  Prometheus type Thanos, version 0.31.x.\n\n\
         curl 'http://THIS/api/v1/query?query=up'\n\n\
         /api/v1/query, /api/v1/query_range   PromQL\n\
         /api/v1/series, /api/v1/labels, /api/v1/label/NAME/values\n\
         /api/v1/stores   the stores that are asked\n\
         /api/v1/status/buildinfo, /api/v1/status/flags, /api/v1/status/runtimeinfo\n\
         /-/healthy, /-/ready, /metrics\n\n\
         Stores:\n{stores}",
        version = env!("CARGO_PKG_VERSION"),
    );
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
