//! The bounds of the querier, each by its name.

use std::time::Duration;

/// Most steps between the first and the last point of a range query, in Prometheus' words.
pub(crate) const RANGE_STEPS_MAX: i64 = 11_000;
/// Most bytes of a form in a request body.
pub(crate) const FORM_BYTES_MAX: usize = 10 << 20;
/// Most values of one repeated parameter, such as `match[]`.
pub(crate) const VALUES_MAX: usize = 1000;
/// Selects that a query may have open at once; the engine opens one for each selector.
pub(crate) const SELECTS_MAX: usize = 1024;
/// Frames of a select that were fetched and wait for the engine.
pub(crate) const FRAMES_WAITING_MAX: usize = 4;
/// Most warnings, and most infos, in one answer.
pub(crate) const WARNINGS_MAX: usize = 100;
/// A JSON answer is sent in pieces of about this size.
pub(crate) const PIECE_BYTES: usize = 64 << 10;
/// Tasks of queries that wait for a thread; more are run by the query's own thread.
pub(crate) const TASKS_WAITING_MAX: usize = 1024;
/// How often a thread without work looks whether the process stops.
pub(crate) const IDLE: Duration = Duration::from_millis(200);
/// How often each endpoint is asked what it holds.
pub(crate) const INFO_INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait for a connection to a store.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Share of the process' memory that one query may hold: one part of so many.
pub(crate) const QUERY_MEMORY_PART: usize = 4;
/// How much older than what a receiver said it holds a late sample may be: half of the longest
/// block that receivers usually cut, and as much again.
pub(crate) const LATE_MS_MAX: i64 = 2 * 3_600_000;
