//! What the gateway answers by HTTP besides metrics and health: the blocks that it has.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::blocks::Blocks;

#[derive(Clone)]
struct Shown {
    blocks: Arc<Blocks>,
    label: Arc<str>,
}

/// `GET /api/v1/blocks`: the metas of the loaded blocks, as Thanos answers.
pub(crate) fn routes(blocks: Arc<Blocks>, label: String) -> Router {
    let shown = Shown { blocks, label: Arc::from(label) };
    Router::new().route("/api/v1/blocks", get(list)).with_state(shown)
}

async fn list(State(shown): State<Shown>) -> Json<Value> {
    let now = shown.blocks.now();
    let metas: Vec<Value> =
        now.loaded.values().map(|it| serde_json::to_value(it.meta()).unwrap_or_default()).collect();
    let troubles: Vec<String> =
        now.broken.iter().map(|(id, it)| format!("{id}: {}", it.reason)).collect();
    let error = (!troubles.is_empty()).then(|| troubles.join("; "));
    Json(json!({
        "status": "success",
        "data": {"label": &*shown.label, "blocks": metas, "err": error},
    }))
}
