//! The querier from outside: its HTTP API over stores in memory, against recorded answers.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod api;
mod completeness;
mod golden_grafana;
mod golden_http;
mod lifetime;
mod service;
mod world;
