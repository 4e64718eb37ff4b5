//! `/api/v1/compactor/…`: plan, jobs, backlog, quarantine and history as JSON; described in
//! `docs/api/compactor.md`.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use daemon::Clock;
use serde_json::{Value, json};

use crate::board::Board;
use crate::executor::Balance;
use crate::jobs::{Past, Running};
use crate::plan::{Job, Kind};
use crate::quarantine::Entry;
use crate::quarantine::text_of_time;

/// What handlers need.
#[derive(Clone, Debug)]
struct Seen {
    board: Board,
    clock: Arc<dyn Clock>,
}

/// The routes.
pub(crate) fn routes(board: Board, clock: Arc<dyn Clock>) -> Router {
    Router::new()
        .route("/api/v1/compactor/plan", get(plan))
        .route("/api/v1/compactor/jobs", get(jobs))
        .route("/api/v1/compactor/backlog", get(backlog))
        .route("/api/v1/compactor/quarantine", get(quarantine))
        .route("/api/v1/compactor/history", get(history))
        .with_state(Seen { board, clock })
}

fn success(data: &Value) -> Json<Value> {
    Json(json!({"status": "success", "data": data}))
}

async fn plan(State(seen): State<Seen>) -> Json<Value> {
    let sight = seen.board.see();
    let plan = &sight.plan;
    let mark =
        |id: model::BlockId, details: &str| json!({"block": id.to_string(), "details": details});
    success(&json!({
        "syncedAt": text_of_time(sight.synced_ms),
        "jobs": plan.jobs.iter().map(job_json).collect::<Vec<_>>(),
        "expired": plan.expired.iter().map(|it| mark(it.id, &it.details)).collect::<Vec<_>>(),
        "outdated": plan.garbage.iter().map(|it| json!({
            "block": it.id.to_string(), "replacedBy": it.replaced_by.to_string(),
        })).collect::<Vec<_>>(),
        "indexTooLarge": plan.too_large.iter().map(|it| json!({
            "block": it.id.to_string(), "sumBytes": it.sum_bytes, "maxBytes": it.max_bytes,
        })).collect::<Vec<_>>(),
    }))
}

async fn jobs(State(seen): State<Seen>) -> Json<Value> {
    let (sight, now_ms) = (seen.board.see(), seen.clock.now_ms());
    let jobs: Vec<Value> = sight.running.iter().map(|it| running_json(it, now_ms)).collect();
    success(&json!({"jobs": jobs}))
}

async fn backlog(State(seen): State<Seen>) -> Json<Value> {
    let sight = seen.board.see();
    let backlog = &sight.backlog;
    let held = sight
        .plan
        .held
        .iter()
        .map(|it| json!({"block": it.id.to_string(), "bytes": it.bytes, "reason": it.reason}));
    success(&json!({
        "compactions": backlog.compactions,
        "compactionBlocks": backlog.compaction_blocks,
        "compactionBytes": backlog.compaction_bytes,
        "downsamplings": backlog.downsamplings,
        "downsamplingBytes": backlog.downsampling_bytes,
        "heldBytes": sight.plan.held.iter().map(|it| it.bytes).sum::<u64>(),
        "held": held.collect::<Vec<_>>(),
    }))
}

async fn quarantine(State(seen): State<Seen>) -> Json<Value> {
    let sight = seen.board.see();
    let entries: Vec<Value> = sight.quarantine.iter().map(entry_json).collect();
    success(&json!({"entries": entries}))
}

async fn history(State(seen): State<Seen>) -> Json<Value> {
    let sight = seen.board.see();
    let jobs: Vec<Value> = sight.history.iter().map(past_json).collect();
    success(&json!({"jobs": jobs}))
}

fn job_json(job: &Job) -> Value {
    let mut value = json!({
        "job": job.name(),
        "group": job.group.to_string(),
        "resolution": job.group.resolution.to_string(),
        "labels": job.group.labels,
        "blocks": job.ids().map(|it| it.to_string()).collect::<Vec<_>>(),
        "minTime": job.sources.iter().map(|it| it.min_time_ms).min(),
        "maxTime": job.sources.iter().map(|it| it.max_time_ms).max(),
        "bytes": job.bytes,
        "reason": job.reason,
        "owed": job.is_owed,
    });
    match &job.kind {
        Kind::Compact { is_vertical, .. } => value["vertical"] = json!(is_vertical),
        Kind::Downsample { targets } => {
            value["targets"] = targets.iter().map(ToString::to_string).collect();
        }
    }
    value
}

fn running_json(running: &Running, now_ms: i64) -> Value {
    let mut value = job_json(&running.job);
    let done_bytes = running.progress.done_bytes().min(running.job.bytes);
    let elapsed_ms = now_ms.saturating_sub(running.started_ms).max(0);
    value["startedAt"] = json!(text_of_time(running.started_ms));
    value["elapsedSeconds"] = json!(elapsed_ms / 1000);
    value["doneBytes"] = json!(done_bytes);
    value["remainingSeconds"] = json!(remaining_seconds(elapsed_ms, done_bytes, running.job.bytes));
    value
}

/// How long a job goes on at the pace that it had so far; none when that cannot be told yet.
fn remaining_seconds(elapsed_ms: i64, done_bytes: u64, bytes: u64) -> Option<u64> {
    let elapsed_ms = u64::try_from(elapsed_ms).ok()?;
    let left_bytes = bytes.saturating_sub(done_bytes);
    let left_ms = u128::from(elapsed_ms) * u128::from(left_bytes) / u128::from(done_bytes.max(1));
    (done_bytes > 0).then(|| u64::try_from(left_ms / 1000).unwrap_or(u64::MAX))
}

fn past_json(past: &Past) -> Value {
    let mut value = job_json(&past.job);
    value["startedAt"] = json!(text_of_time(past.started_ms));
    value["endedAt"] = json!(text_of_time(past.ended_ms));
    match &past.result {
        Ok(outcome) => {
            value["outcome"] = json!(outcome.done.name());
            let made = outcome.outputs.iter().map(|it| it.to_string());
            value["made"] = made.collect::<Vec<_>>().into();
            value["samples"] = balance_json(&outcome.balance);
        }
        Err((name, text)) => {
            value["outcome"] = json!(name);
            value["error"] = json!(text);
        }
    }
    value
}

fn balance_json(balance: &Balance) -> Value {
    json!({
        "in": balance.in_samples,
        "out": balance.out_samples,
        "dropped": balance.dropped,
        "notes": balance.notes,
    })
}

fn entry_json(entry: &Entry) -> Value {
    json!({
        "subject": entry.subject,
        "cause": entry.cause.name(),
        "what": entry.what,
        "place": entry.place,
        "since": entry.since(),
        "command": entry.command,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_told_by_the_pace_so_far() {
        assert_eq!(remaining_seconds(10_000, 0, 100), None);
        assert_eq!(remaining_seconds(10_000, 25, 100), Some(30));
        assert_eq!(remaining_seconds(10_000, 100, 100), Some(0));
        assert_eq!(remaining_seconds(-1, 1, 100), None);
        assert_eq!(remaining_seconds(i64::MAX, 1, u64::MAX), Some(u64::MAX));
    }
}
