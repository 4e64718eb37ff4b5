//! `query` and `query_range`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use model::TimeRange;
use promql::ast::Expr;
use promql::{Answer, Cancel, Engine, QueryResult, Session};
use storeapi::request::PartialResponse;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{Instrument as _, debug, info_span, warn};

use crate::api::params::Params;
use crate::api::respond;
use crate::app::{App, millis};
use crate::fanout::Fanout;
use crate::json::{self, Remarks, Rows};
use crate::limits::RANGE_STEPS_MAX;
use crate::status::{ApiError, Call, Kind};
use crate::storage::{Job, Progress, QueryStorage, SelectOptions, fetch};

const TIMED_OUT: &str = "query timed out in query execution";
const QUEUED_TOO_LONG: &str = "query timed out in query queue";
const TRUNCATED: &str = "results truncated due to limit";

/// When to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    At(i64),
    Range { range: TimeRange, step_ms: i64 },
}

/// A query after its parameters were checked.
struct Query {
    text: String,
    expr: Expr,
    times: Times,
    timeout: Duration,
    lookback_ms: i64,
    /// Most series to show; 0 is no limit.
    limit: usize,
    has_stats: bool,
    /// A value of `stats` that is on its way out.
    odd_stats: Option<String>,
    options: SelectOptions,
    fanout: Fanout,
}

/// What came of a query.
struct Outcome {
    answer: Answer,
    progress: Arc<Progress>,
    queued: Duration,
    evaluated: Duration,
}

pub(crate) async fn instant(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::of(request).await?;
    let at_ms = params.optional_time_ms("time")?.unwrap_or_else(|| app.clock.now_ms());
    answer(&app, &params, Times::At(at_ms)).await
}

pub(crate) async fn range(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::of(request).await?;
    let range = TimeRange::new(params.time_ms("start")?, params.time_ms("end")?);
    if range.is_empty() {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = step_ms(&params, range, app.query.default_step)?;
    if range.end_ms.abs_diff(range.start_ms) / step_ms.unsigned_abs()
        > RANGE_STEPS_MAX.unsigned_abs()
    {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the \
             query resolution (?step=XX)",
        ));
    }
    answer(&app, &params, Times::Range { range, step_ms }).await
}

/// The step of a range query; one that is absent makes 250 steps, of at least `default_step`.
fn step_ms(params: &Params, range: TimeRange, default_step: Duration) -> Result<i64, ApiError> {
    let Some(step_ns) = params.optional_duration_ns("step")? else {
        let length_seconds = range.end_ms.abs_diff(range.start_ms) / 1000;
        let step_seconds = i64::try_from(length_seconds / 250).unwrap_or(i64::MAX / 1000);
        return Ok((step_seconds.saturating_mul(1000)).max(millis(default_step)).max(1));
    };
    if step_ns <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive \
                   integer";
        return Err(ApiError::parameter("step", why));
    }
    match step_ns / 1_000_000 {
        0 => Err(ApiError::parameter("step", "a step must be at least one millisecond")),
        step_ms => Ok(step_ms),
    }
}

async fn answer(app: &Arc<App>, params: &Params, times: Times) -> Result<Response, ApiError> {
    let query = checked(app, params, times)?;
    let span = info_span!("query", text = query.text);
    async move {
        let outcome = run(app, &query).await.inspect_err(|error| match error.kind {
            Kind::Internal => warn!(query = query.text, error = error.message, "a query failed"),
            _ => debug!(query = query.text, error = error.message, "a query was not answered"),
        })?;
        Ok(shown(app, &query, outcome))
    }
    .instrument(span)
    .await
}

fn checked(app: &App, params: &Params, times: Times) -> Result<Query, ApiError> {
    let mut timeout = app.query.timeout;
    if let Some(timeout_ns) = params.optional_duration_ns("timeout")? {
        let asked = Duration::from_nanos(u64::try_from(timeout_ns).unwrap_or(0));
        timeout = timeout.min(asked);
    }
    let lookback = params.optional_duration_ns("lookback_delta").map_err(|error| {
        let why = error.message.split_once(": ").map_or("", |(_, why)| why).to_owned();
        ApiError::bad_data(format!("error parsing lookback delta duration: {why}"))
    })?;
    let lookback_ms = lookback.map(|it| it / 1_000_000).filter(|it| *it > 0);
    let limit = params.limit()?;
    match params.text("engine").as_str() {
        "" | "prometheus" | "thanos" => {}
        other => return Err(ApiError::bad_data(format!("'{other}' bad engine"))),
    }
    let text = params.text("query");
    let expr = promql::parser::parse(params.bytes("query"), &app.parser_options())
        .map_err(|error| ApiError::parameter("query", error))?;
    Ok(Query {
        expr,
        text,
        times,
        timeout,
        lookback_ms: lookback_ms.unwrap_or_else(|| millis(app.query.lookback)),
        limit,
        has_stats: params.has("stats"),
        odd_stats: Some(params.text("stats")).filter(|it| !matches!(&**it, "" | "true" | "all")),
        options: super::select::options(app, params)?,
        fanout: super::select::fanout(app, params)?,
    })
}

/// Runs a query on one of the threads for them, and its fetches here.
async fn run(app: &Arc<App>, query: &Query) -> Result<Outcome, ApiError> {
    if query.timeout.is_zero() {
        return Err(ApiError::new(Kind::Timeout, TIMED_OUT));
    }
    let begun = app.clock.monotonic();
    let permit = tokio::time::timeout(query.timeout, Arc::clone(&app.gate).acquire_owned()).await;
    let queued = app.clock.monotonic().saturating_sub(begun);
    app.metrics.waited.observe(queued.as_secs_f64());
    let permit = match permit {
        Ok(Ok(permit)) => permit,
        Ok(Err(_)) => return Err(ApiError::new(Kind::Internal, "the querier is stopping")),
        Err(_) => return Err(ApiError::new(Kind::Timeout, QUEUED_TOO_LONG)),
    };
    let progress = Arc::new(Progress::default());
    let (storage, jobs) = QueryStorage::new(query.options.clone(), Arc::clone(&progress));
    let session = Session {
        storage: Arc::new(storage),
        workers: Arc::new(app.pool.clone()),
        budget: app.request_budget(),
        cancel: Cancel::new(),
    };
    let stops = StopsWhenDropped(session.cancel.clone());
    let answer = evaluate(app, query, session, permit)?;
    let left = query.timeout.saturating_sub(queued);
    let driven = drive(&query.fanout, jobs, answer, &progress);
    let answer = match tokio::time::timeout(left, driven).await {
        Ok(answer) => answer,
        Err(_) => {
            progress.time_is_over();
            return Err(ApiError::new(Kind::Timeout, TIMED_OUT));
        }
    };
    drop(stops);
    let Some(answer) = answer else {
        return Err(ApiError::new(Kind::Internal, "the query failed inside, see the log"));
    };
    let call = match query.times {
        Times::At(_) => Call::Instant,
        Times::Range { .. } => Call::Other,
    };
    let answer = answer.map_err(|error| ApiError::of_query(&error, call))?;
    app.metrics.samples.inc_by(answer.stats.samples);
    let evaluated = app.clock.monotonic().saturating_sub(begun).saturating_sub(queued);
    Ok(Outcome { answer, progress, queued, evaluated })
}

/// Tells the engine to stop when nobody waits for the answer any more.
struct StopsWhenDropped(Cancel);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

type Evaluated = Result<Answer, promql::Error>;

/// Hands a query to its thread; the permit is given back when the thread is done with it.
fn evaluate(
    app: &Arc<App>,
    query: &Query,
    session: Session,
    permit: OwnedSemaphorePermit,
) -> Result<oneshot::Receiver<Evaluated>, ApiError> {
    let engine = Engine::new(promql::Options {
        lookback_ms: query.lookback_ms,
        subquery_step_ms: millis(app.query.default_evaluation_interval),
        samples_max: app.query.samples_max,
        delayed_name_removal: app.query.features.delayed_name_removal,
        // Not sent between stores and queriers.
        use_start_timestamps: false,
        type_and_unit_labels: app.query.features.type_and_unit_labels,
    });
    let (sender, receiver) = oneshot::channel();
    let (expr, times) = (query.expr.clone(), query.times);
    let running = app.metrics.in_flight.clone();
    let task = move || {
        let _permit = permit;
        let _running = CountsRunning::new(running);
        let answer = match times {
            Times::At(at_ms) => engine.instant(&expr, at_ms, &session),
            Times::Range { range, step_ms } => engine.range(&expr, range, step_ms, &session),
        };
        // Nobody is there any more when the client has gone.
        let _ = sender.send(answer);
    };
    if !app.pool.run_query(Box::new(task)) {
        return Err(ApiError::new(Kind::Internal, "no thread is left for the query"));
    }
    Ok(receiver)
}

struct CountsRunning(prometheus_client::metrics::gauge::Gauge);

impl CountsRunning {
    fn new(gauge: prometheus_client::metrics::gauge::Gauge) -> CountsRunning {
        gauge.inc();
        CountsRunning(gauge)
    }
}

impl Drop for CountsRunning {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Fetches what the engine asks for until it has its answer; none when the engine panicked.
async fn drive(
    fanout: &Fanout,
    mut jobs: mpsc::Receiver<Job>,
    mut answer: oneshot::Receiver<Evaluated>,
    progress: &Progress,
) -> Option<Evaluated> {
    let mut fetches = FuturesUnordered::new();
    loop {
        tokio::select! {
            answer = &mut answer => return answer.ok(),
            Some(job) = jobs.recv() => fetches.push(fetch(fanout, job, progress)),
            Some(()) = fetches.next(), if !fetches.is_empty() => {}
        }
    }
}

/// The answer as it is sent: its rows are written while the peer takes them.
fn shown(app: &App, query: &Query, outcome: Outcome) -> Response {
    let Outcome { answer, progress, queued, evaluated } = outcome;
    let missing = progress.warnings();
    let is_complete = missing.is_empty();
    if !is_complete {
        app.metrics.incomplete.inc();
    }
    let mut remarks = Remarks { warnings: missing, infos: answer.annotations.infos(&query.text) };
    remarks.warnings.extend(answer.annotations.warnings(&query.text));
    remarks.warnings.extend(query.odd_stats.as_deref().map(|value| {
        let value = model::quote::go_quote(value);
        format!(
            "value {value} for parameter \"stats\" is deprecated and will be rejected in the next \
             major release, use \"true\" or \"all\""
        )
    }));
    remarks.warnings.truncate(crate::limits::WARNINGS_MAX);
    remarks.infos.truncate(crate::limits::WARNINGS_MAX);

    let at_ms = match query.times {
        Times::At(at_ms) => at_ms,
        Times::Range { range, .. } => range.end_ms,
    };
    let (head, tail) = ends(&answer.result);
    let mut tail = tail.to_vec();
    if query.has_stats {
        append_stats(&mut tail, answer.stats.samples, queued, evaluated);
    }
    tail.push(b'}');
    let head = head.as_bytes().to_vec();
    let reservation = Some(answer.reservation);
    let body = match answer.result {
        QueryResult::Scalar(value) => {
            let mut body = head;
            json::append_scalar(&mut body, at_ms, value);
            finished(body, &tail, &remarks)
        }
        QueryResult::String(text) => {
            let mut body = head;
            json::append_string(&mut body, at_ms, &text);
            finished(body, &tail, &remarks)
        }
        QueryResult::Vector(rows) => {
            let rows = limited(rows.into(), query.limit, &mut remarks);
            remarks.append_end(&mut tail);
            Rows { head, rows, tail, reservation }.into_body(json::append_sample, at_ms)
        }
        QueryResult::Matrix(rows) => {
            let rows = limited(rows.into(), query.limit, &mut remarks);
            remarks.append_end(&mut tail);
            let append = |out: &mut Vec<u8>, _: i64, it: &_| json::append_series(out, it);
            Rows { head, rows, tail, reservation }.into_body(append, at_ms)
        }
    };
    respond(body, is_complete)
}

fn ends(result: &QueryResult) -> (String, &'static [u8]) {
    let (name, open, close) = match result {
        QueryResult::Scalar(_) => ("scalar", "", ""),
        QueryResult::String(_) => ("string", "", ""),
        QueryResult::Vector(_) => ("vector", "[", "]"),
        QueryResult::Matrix(_) => ("matrix", "[", "]"),
    };
    let head =
        format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{name}\",\"result\":{open}");
    (head, close.as_bytes())
}

fn finished(mut body: Vec<u8>, tail: &[u8], remarks: &Remarks) -> Body {
    body.extend_from_slice(tail);
    remarks.append_end(&mut body);
    Body::from(body)
}

fn limited<T>(mut rows: VecDeque<T>, limit: usize, remarks: &mut Remarks) -> VecDeque<T> {
    if limit > 0 && rows.len() > limit {
        rows.truncate(limit);
        remarks.warnings.push(TRUNCATED.to_owned());
    }
    rows
}

fn append_stats(out: &mut Vec<u8>, samples: u64, queued: Duration, evaluated: Duration) {
    let (queued, evaluated) = (queued.as_secs_f64(), evaluated.as_secs_f64());
    let total = queued + evaluated;
    let text = format!(
        ",\"stats\":{{\"timings\":{{\"evalTotalTime\":{evaluated},\"execQueueTime\":{queued},\
         \"execTotalTime\":{total}}},\"samples\":{{\"totalQueryableSamples\":{samples}}}}}"
    );
    out.extend_from_slice(text.as_bytes());
}

/// The partial response that a caller chose.
pub(super) fn partial_response(app: &App, params: &Params) -> Result<PartialResponse, ApiError> {
    Ok(if params.switch("partial_response", app.query.partial_response)? {
        PartialResponse::Warn
    } else {
        PartialResponse::Abort
    })
}
