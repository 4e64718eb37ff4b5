//! Selectors: which series and samples are asked of the storage, and instant vectors of them.

use std::sync::Arc;

use model::time::METRIC_NAME;
use model::{MatchOp, Matcher, TimeRange};

use crate::ast::{LabelMatcher, Span, VectorSelector};
use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::batch::{Batches, Kernel, Work};
use crate::eval::source::Stored;
use crate::eval::{Context, Evaluator, Stream, duration_ms};
use crate::kernel::extended::smooth;
use crate::kernel::instant::{Take, look_up};
use crate::kernel::{Beside, Windows, drop_stale};
use crate::row::Grid;
use crate::storage::SelectHints;

/// The nearest function or aggregation around an expression.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Around<'a> {
    pub(crate) function: Option<&'static str>,
    pub(crate) grouping: &'a [String],
    pub(crate) by: bool,
}

impl Evaluator<'_> {
    /// The windows of a selector over `grid`; `range_ms` is the lookback delta for an instant
    /// vector.
    pub(crate) fn windows(
        &self,
        selector: &VectorSelector,
        range_ms: i64,
        grid: Grid,
    ) -> Result<Windows, Error> {
        let beside = match (selector.anchored, selector.smoothed) {
            (true, _) => Beside::Anchored,
            (_, true) => Beside::Smoothed,
            _ => Beside::Nothing,
        };
        Ok(Windows {
            offset_ms: duration_ms(&selector.offset)?,
            at_ms: self.context.at_ms(selector.at),
            beside,
            lookback_ms: self.context.options.lookback_ms,
            ..Windows::plain(grid, range_ms)
        })
    }

    /// Opens a select of the samples that `windows` show.
    pub(crate) fn select(
        &self,
        selector: &VectorSelector,
        windows: &Windows,
        is_range: bool,
    ) -> Result<Stored, Error> {
        let matchers: Result<Vec<Matcher>, _> =
            selector.matchers.iter().map(LabelMatcher::compile).collect();
        let matchers = matchers.map_err(|error| Error::execution(error.to_string()))?;
        let hints = SelectHints {
            step_ms: if windows.grid.steps > 1 { windows.grid.step_ms } else { 0 },
            range_ms: if is_range { windows.range_ms } else { 0 },
            function: self.around.function,
            grouping: self.around.grouping.to_vec(),
            by: self.around.by,
        };
        let context = self.context;
        let range: TimeRange = windows.time_range();
        let stream = context.storage.select(&matchers, range, &hints, &context.budget)?;
        Ok(Stored::new(context, stream, self.statistics.are_enough()))
    }

    /// The newest sample of each series at every step.
    pub(crate) fn instant_selector(
        &self,
        selector: &VectorSelector,
        take: Take,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let windows = self.windows(selector, self.context.options.lookback_ms, grid)?;
        let series = self.select(selector, &windows, false)?;
        let (context, span) = (Arc::clone(self.context), selector.span);
        let kernel = LookUp { windows, take, context, span };
        let rows = Batches::new(self.context, kernel, Box::new(series), grid.steps);
        Ok(Stream::new(rows, has_one_name(selector)))
    }
}

/// Whether all series of a selector have the same metric name.
pub(crate) fn has_one_name(selector: &VectorSelector) -> bool {
    selector.matchers.iter().any(|it| {
        it.name == METRIC_NAME && it.op == MatchOp::Equal && !it.value.as_bytes().is_empty()
    })
}

/// Looks every step up in one series.
struct LookUp {
    windows: Windows,
    take: Take,
    context: Arc<Context>,
    span: Span,
}

impl Kernel for LookUp {
    fn evaluate(&self, work: &mut Work, pace: &mut Pace) -> Result<(), Error> {
        let Work { labels, columns, row, account, .. } = work;
        row.reset(labels.clone(), self.windows.grid.steps);
        account.begin_row();
        if self.windows.beside == Beside::Smoothed && self.take == Take::Value {
            drop_stale(columns);
            let remarks = smooth(&self.windows, columns, (row, account), pace)?;
            remarks.leave(&self.context.notes, labels.metric_name(), self.span);
            return Ok(());
        }
        look_up(self.take, &self.windows, columns, row, pace)
    }
}
