//! `count_values`: one series per value that occurs, counting the series that have it.

use std::sync::Arc;

use hashbrown::HashMap;
use model::Labels;
use model::float::format_f;

use crate::ast::{Aggregate, Expr};
use crate::error::Error;
use crate::eval::keys::Subset;
use crate::eval::{Blocking, Evaluator, Held, Stream};
use crate::quote::quoted;
use crate::row::{Grid, Row};

impl<'a> Evaluator<'a> {
    pub(crate) fn count_values(
        &self,
        aggregate: &'a Aggregate,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let label = match aggregate.param.as_ref().map(Expr::without_parens) {
            Some(Expr::String(label)) => label,
            _ => return Err(Error::execution("count_values needs the name of a label")),
        };
        let name = label.value.as_str().filter(|it| !it.is_empty()).ok_or_else(|| {
            let shown = quoted(label.value.as_bytes());
            Error::execution(format!("invalid label name {shown}"))
        })?;
        let name = name.to_owned();
        let mut grouping = aggregate.grouping.clone();
        if !aggregate.without {
            grouping.push(name.clone());
        }
        let subset = Subset::new(&grouping, !aggregate.without);
        let names_gone = !subset.contains(model::time::METRIC_NAME);
        let mut input = self.vector(&aggregate.expr, grid)?.rows;
        let context = Arc::clone(self.context);
        let rows = Blocking::new(move || {
            let mut reservation = context.reservation()?;
            let mut rows: Vec<Row> = Vec::new();
            let mut places: HashMap<Labels, usize> = HashMap::new();
            let mut row = Row::default();
            while input.next(&mut row)? {
                let mut builder = row.labels.to_builder();
                // Neighbouring steps mostly have the same value: its text is made once.
                let mut last: Option<(u64, usize)> = None;
                for (step, value) in row.iter() {
                    context.cancel.check()?;
                    let place = match last {
                        Some((bits, place)) if bits == value.to_bits() => place,
                        _ => {
                            builder.set(&name, &format_f(value));
                            let labels = subset.labels(&builder.build());
                            if let Some(place) = places.get(&labels) {
                                *place
                            } else {
                                reservation
                                    .grow(9 * grid.steps + labels.size_bytes() + ENTRY_BYTES)?;
                                let mut row = Row::default();
                                row.reset(labels.clone(), grid.steps);
                                rows.push(row);
                                places.insert(labels, rows.len() - 1);
                                rows.len() - 1
                            }
                        }
                    };
                    last = Some((value.to_bits(), place));
                    let counted = rows[place].values[step] + 1.0;
                    rows[place].put(step, counted);
                }
            }
            Ok(Held::charged(rows, reservation))
        });
        Ok(Stream::new(rows, names_gone))
    }
}

/// Bytes of a row and its table entry beside values and labels.
const ENTRY_BYTES: usize = size_of::<Row>() + 48;
