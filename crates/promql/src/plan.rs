//! What a query will ask of the storage, told without reading anything.

use std::sync::Arc;

use model::{Budget, Columns, Labels, Matcher, TimeRange};
use parking_lot::Mutex;

use crate::ast::{Expr, ValueType};
use crate::cancel::Cancel;
use crate::engine::{Engine, Session};
use crate::error::Error;
use crate::storage::{SelectHints, SeriesStream, Storage, StorageError};
use crate::workers::SingleThread;

/// A select that a query will make.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The conditions.
    pub matchers: Vec<Matcher>,
    /// The samples that are needed, both ends inclusive.
    pub range: TimeRange,
    /// What is done with them.
    pub hints: SelectHints,
}

impl Engine {
    /// The selects of a query, in the order in which they are opened. `step_ms` is 0 for an
    /// instant query, whose time is the start of `range`.
    ///
    /// The query is evaluated over a storage that holds nothing, so the answer cannot differ from
    /// what evaluation really does.
    ///
    /// # Errors
    /// [`Error`] where the query would fail whatever the storage holds.
    pub fn selections(
        &self,
        expr: &Expr,
        range: TimeRange,
        step_ms: i64,
    ) -> Result<Vec<Selection>, Error> {
        let recorder = Arc::new(Recorder::default());
        let session = Session {
            storage: Arc::clone(&recorder) as Arc<dyn Storage>,
            workers: Arc::new(SingleThread),
            budget: Budget::unlimited(),
            cancel: Cancel::new(),
        };
        if step_ms == 0 || expr.value_type() == ValueType::String {
            self.instant(expr, range.start_ms, &session)?;
        } else {
            self.range(expr, range, step_ms, &session)?;
        }
        Ok(std::mem::take(&mut recorder.selections.lock()))
    }
}

/// A storage without series that remembers what it was asked.
#[derive(Debug, Default)]
struct Recorder {
    selections: Mutex<Vec<Selection>>,
}

impl Storage for Recorder {
    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
        _: &Budget,
    ) -> Result<Box<dyn SeriesStream>, StorageError> {
        let matchers = matchers.to_vec();
        self.selections.lock().push(Selection { matchers, range, hints: hints.clone() });
        Ok(Box::new(NoSeries))
    }
}

struct NoSeries;

impl SeriesStream for NoSeries {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, StorageError> {
        columns.clear();
        Ok(None)
    }
}
