//! `count_values`: one series per value that occurs, counting the series that have it.

use std::sync::Arc;

use hashbrown::HashMap;
use model::float::format_f;
use model::{Labels, Reservation};

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
            let mut counts = Counts {
                steps: grid.steps,
                rows: Vec::new(),
                places: HashMap::new(),
                reservation: context.reservation()?,
            };
            let mut row = Row::default();
            while input.next(&mut row)? {
                let mut builder = row.labels.to_builder();
                for (step, histogram) in &row.histograms {
                    context.cancel.check()?;
                    builder.set(&name, &histogram.to_string());
                    let place = counts.place(subset.labels(&builder.build()))?;
                    counts.add(place, *step);
                }
                // Neighbouring steps mostly have the same value: its text is made once.
                let mut last: Option<(u64, usize)> = None;
                for (step, value) in row.iter() {
                    context.cancel.check()?;
                    let place = match last {
                        Some((bits, place)) if bits == value.to_bits() => place,
                        _ => {
                            builder.set(&name, &format_f(value));
                            counts.place(subset.labels(&builder.build()))?
                        }
                    };
                    last = Some((value.to_bits(), place));
                    counts.add(place, step);
                }
            }
            Ok(Held::charged(counts.rows, counts.reservation))
        });
        Ok(Stream::new(rows, names_gone))
    }
}

/// The rows of the values that were met.
struct Counts {
    steps: usize,
    rows: Vec<Row>,
    places: HashMap<Labels, usize>,
    reservation: Reservation,
}

impl Counts {
    /// Where the row of these labels is.
    fn place(&mut self, labels: Labels) -> Result<usize, Error> {
        if let Some(place) = self.places.get(&labels) {
            return Ok(*place);
        }
        self.reservation.grow(9 * self.steps + labels.size_bytes() + ENTRY_BYTES)?;
        let mut row = Row::default();
        row.reset(labels.clone(), self.steps);
        self.rows.push(row);
        self.places.insert(labels, self.rows.len() - 1);
        Ok(self.rows.len() - 1)
    }

    fn add(&mut self, place: usize, step: usize) {
        let counted = self.rows[place].values[step] + 1.0;
        self.rows[place].put(step, counted);
    }
}

/// Bytes of a row and its table entry beside values and labels.
const ENTRY_BYTES: usize = size_of::<Row>() + 48;
