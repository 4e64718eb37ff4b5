//! What the engine asks of whatever holds the samples.
//!
//! A select is a blocking pull of one series at a time, decoded into columns. The querier feeds it
//! from asynchronous fetches over bounded channels; a test feeds it from vectors.

use std::fmt;

use model::{Budget, Columns, Labels, Matcher, TimeRange};

/// What the engine will do with the samples; the storage may use it and may ignore it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelectHints {
    /// Step of the query in ms; 0 for an instant query.
    pub step_ms: i64,
    /// Window of the range selector in ms; 0 for an instant selector.
    pub range_ms: i64,
    /// The innermost function or aggregation around the selector, as PromQL spells it.
    pub function: Option<&'static str>,
    /// Labels of the aggregation around the selector.
    pub grouping: Vec<String>,
    /// Whether `grouping` is `by` (true) or `without` (false).
    pub by: bool,
}

/// Where a select stops being able to go on.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The caller gave up.
    #[error("query was canceled")]
    Canceled,
    /// The deadline of the query passed.
    #[error("query timed out")]
    Timeout,
    /// A memory bound was passed.
    #[error(transparent)]
    Budget(#[from] model::BudgetExceeded),
    /// The storage failed; the text names the store.
    #[error("{0}")]
    Failed(String),
}

/// A stream of series, sorted by labels, each set of labels once.
pub trait SeriesStream: Send {
    /// Pulls the next series: clears `columns`, fills it with the samples inside the selected
    /// range, and answers the labels; `None` at the end. Blocks until the series is whole.
    ///
    /// # Errors
    /// [`StorageError`]; the stream is over then.
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, StorageError>;
}

/// Holds samples.
///
/// The engine opens all selects of a query before it pulls from any, and then pulls from them in
/// an order of its own, mostly one to its end before the next. So none may wait for another one to
/// be pulled, and what is fetched ahead of the pull must be bounded for each.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens a stream of the series that fulfil all `matchers`, with the samples of `range` (both
    /// ends inclusive). Buffers of the stream are charged to `budget`.
    ///
    /// # Errors
    /// [`StorageError`] when the select cannot be begun.
    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
        budget: &Budget,
    ) -> Result<Box<dyn SeriesStream>, StorageError>;
}
