//! `absent` and `absent_over_time`: one series where there is none.

use std::sync::Arc;

use hashbrown::HashSet;
use model::time::METRIC_NAME;
use model::{Labels, LabelsBuilder, MatchOp};

use crate::ast::{Expr, LabelMatcher};
use crate::error::Error;
use crate::eval::{Blocking, Evaluator, Held, Stream};
use crate::row::{Grid, Presence, Row};

impl Evaluator<'_> {
    /// 1 at every step at which `input` has no series.
    pub(crate) fn absent(
        &self,
        input: Stream,
        arg: Option<&Expr>,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let labels = labels_of(arg);
        let context = Arc::clone(self.context);
        let mut rows = input.rows;
        let rows = Blocking::new(move || {
            let mut absent = Presence::all(grid.steps);
            let mut row = Row::default();
            while rows.next(&mut row)? {
                context.cancel.check()?;
                absent.subtract(&row.filled());
            }
            let row =
                Row { labels, values: vec![1.0; grid.steps], present: absent, ..Row::default() };
            Ok(Held::new(if row.present.is_empty() { Vec::new() } else { vec![row] }))
        });
        Ok(Stream::new(rows, true))
    }
}

/// The labels that every series of a selector would have: those compared with `=` once and in no
/// other way. Nothing is known of other expressions.
fn labels_of(arg: Option<&Expr>) -> Labels {
    let matchers: &[LabelMatcher] = match arg.map(Expr::without_parens) {
        Some(Expr::Vector(selector)) => &selector.matchers,
        Some(Expr::Matrix(matrix)) => &matrix.selector.matchers,
        _ => &[],
    };
    let mut labels = LabelsBuilder::default();
    let mut seen = HashSet::new();
    for matcher in matchers {
        let name = matcher.name.to_str_lossy();
        if name == METRIC_NAME {
            continue;
        }
        if matcher.op == MatchOp::Equal && seen.insert(name.clone()) {
            labels.set(&name, &matcher.value.to_str_lossy());
        } else {
            labels.remove(&name);
        }
    }
    labels.build()
}
