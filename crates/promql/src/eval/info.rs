//! `info()`: series with the labels of the info metrics that describe where they come from.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use model::time::METRIC_NAME;
use model::{Columns, Labels, MatchOp, Matcher};

use crate::ast::{At, Expr, LabelMatcher, VectorSelector};
use crate::error::Error;
use crate::eval::merge::{SAME_LABELSET, joined};
use crate::eval::source::{Series as _, Stored};
use crate::eval::{Blocking, Context, Evaluator, Held, Stream, collect, duration_ms};
use crate::kernel::Windows;
use crate::kernel::instant::{Take, look_up};
use crate::row::{Grid, Row};
use crate::storage::SelectHints;

/// The labels that say which info series belongs to a series.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The info metric that is meant where none is named.
const TARGET_INFO: &str = "target_info";

impl<'a> Evaluator<'a> {
    pub(crate) fn info(
        &self,
        vector: &'a Expr,
        selector: Option<&'a Expr>,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let matchers: &[LabelMatcher] = match selector.map(Expr::without_parens) {
            Some(Expr::Vector(selector)) => &selector.matchers,
            _ => &[],
        };
        let compiled: Result<Vec<Matcher>, _> =
            matchers.iter().map(LabelMatcher::compile).collect();
        let compiled = compiled.map_err(|error| Error::execution(error.to_string()))?;
        let (names, data): (Vec<Matcher>, Vec<Matcher>) =
            compiled.into_iter().partition(|it| it.name() == METRIC_NAME);
        let (at, offset_ms) = reference(vector)?;
        let windows = Windows {
            offset_ms,
            at_ms: self.context.at_ms(at),
            ..Windows::plain(grid, self.context.options.lookback_ms)
        };
        let wanted = Wanted { names: effective_names(names)?, data, windows };
        let base = self.vector(vector, grid)?;
        let context = Arc::clone(self.context);
        let rows = Blocking::new(move || {
            let base = collect(&context, base.rows)?;
            let mut reservation = base.reservation;
            let infos = wanted.read(&context, &base.rows)?;
            let bytes: usize = infos.iter().map(Row::size_bytes).sum();
            reservation.grow(bytes)?;
            let mut enriched = Enriched { rows: Vec::new(), places: HashMap::new() };
            let by_key = by_key(&infos);
            for row in &base.rows {
                context.cancel.check()?;
                wanted.enrich(row, &by_key, &mut enriched)?;
            }
            reservation.grow(enriched.rows.iter().map(Row::size_bytes).sum())?;
            Ok(Held::charged(enriched.rows, reservation))
        });
        joined(self.context, Stream::new(rows, false))
    }
}

/// The time and the offset of the first selector in an expression: info series are taken from the
/// same time.
fn reference(expr: &Expr) -> Result<(Option<At>, i64), Error> {
    let mut subqueries = Vec::new();
    let Some(selector) = first_selector(expr, &mut subqueries) else { return Ok((None, 0)) };
    let (mut at, mut offset_ms) = (selector.at, duration_ms(&selector.offset)?);
    for subquery in subqueries.iter().rev() {
        // What is pinned to a time does not move with what stands around it.
        if at.is_some() {
            break;
        }
        offset_ms = offset_ms.saturating_add(duration_ms(&subquery.offset)?);
        at = subquery.at;
    }
    Ok((at, offset_ms))
}

fn first_selector<'a>(
    expr: &'a Expr,
    subqueries: &mut Vec<&'a crate::ast::Subquery>,
) -> Option<&'a VectorSelector> {
    match expr {
        Expr::Number(_) | Expr::String(_) => None,
        Expr::Vector(selector) => Some(selector),
        Expr::Matrix(matrix) => Some(&matrix.selector),
        Expr::Subquery(subquery) => {
            subqueries.push(subquery);
            let found = first_selector(&subquery.expr, subqueries);
            if found.is_none() {
                subqueries.pop();
            }
            found
        }
        Expr::Paren(it) => first_selector(&it.expr, subqueries),
        Expr::Unary(it) => first_selector(&it.expr, subqueries),
        Expr::Call(it) => it.args.iter().find_map(|arg| first_selector(arg, subqueries)),
        Expr::Aggregate(it) => first_selector(&it.expr, subqueries)
            .or_else(|| it.param.as_ref().and_then(|it| first_selector(it, subqueries))),
        Expr::Binary(it) => {
            first_selector(&it.lhs, subqueries).or_else(|| first_selector(&it.rhs, subqueries))
        }
    }
}

/// The conditions on the names of info metrics: any that ends in `_info` where only some are
/// excluded, `target_info` where nothing is said.
fn effective_names(names: Vec<Matcher>) -> Result<Vec<Matcher>, Error> {
    if names.iter().any(|it| matches!(it.op(), MatchOp::Equal | MatchOp::Regex)) {
        return Ok(names);
    }
    let (op, value) = match names.is_empty() {
        true => (MatchOp::Equal, TARGET_INFO),
        false => (MatchOp::Regex, ".+_info"),
    };
    let first = Matcher::new(op, METRIC_NAME, value)
        .map_err(|error| Error::execution(error.to_string()))?;
    Ok([first].into_iter().chain(names).collect())
}

/// Which info series are wanted, and of what time.
struct Wanted {
    names: Vec<Matcher>,
    /// Conditions on other labels, which also say which labels are taken.
    data: Vec<Matcher>,
    windows: Windows,
}

/// Info series of a metric and of values of the identifying labels.
type ByKey<'a> = HashMap<Labels, Vec<&'a Row>>;

impl Wanted {
    /// Whether a series is an info series itself, which stays as it is.
    fn is_info(&self, labels: &Labels) -> bool {
        self.names.iter().all(|it| it.matches(labels.metric_name()))
    }

    /// The info series of `rows`; their values are the times of their samples in ms.
    fn read(&self, context: &Arc<Context>, rows: &[Row]) -> Result<Vec<Row>, Error> {
        let mut matchers = Vec::new();
        for name in IDENTIFYING {
            let plain = rows.iter().filter(|row| !self.is_info(&row.labels));
            let values: HashSet<&str> = plain.filter_map(|row| row.labels.get(name)).collect();
            if values.is_empty() {
                continue;
            }
            let mut values: Vec<String> = values.into_iter().map(escaped).collect();
            values.sort_unstable();
            let matcher = Matcher::new(MatchOp::Regex, name, &values.join("|"));
            matchers.push(matcher.map_err(|error| Error::execution(error.to_string()))?);
        }
        if matchers.is_empty() {
            return Ok(Vec::new());
        }
        matchers.extend(self.data.iter().chain(&self.names).cloned());
        let hints = SelectHints { function: Some("info"), ..SelectHints::default() };
        let range = self.windows.time_range();
        let stream = context.storage.select(&matchers, range, &hints, &context.budget)?;
        let mut stored = Stored::new(context, stream, false);
        let (mut columns, mut infos) = (Columns::default(), Vec::new());
        let mut pace = context.pace();
        let mut reservation = context.reservation()?;
        while let Some(labels) = stored.next(&mut columns)? {
            let mut row = Row::default();
            row.reset(labels, self.windows.grid.steps);
            reservation.grow(row.size_bytes())?;
            if columns.histograms.iter().any(|it| !it.is_stale()) {
                let labels = &row.labels;
                let text = "this should be an info metric, with float samples";
                return Err(Error::execution(format!("{text}: {labels}")));
            }
            look_up(Take::Timestamp, &self.windows, &mut columns, &mut row, &mut pace)?;
            infos.push(row);
        }
        Ok(infos)
    }

    /// Puts a series with the labels of its info series into `enriched`.
    fn enrich(&self, row: &Row, infos: &ByKey<'_>, enriched: &mut Enriched) -> Result<(), Error> {
        if self.is_info(&row.labels) {
            return enriched.put(row.labels.clone(), row, None);
        }
        let key = key_of(&row.labels);
        let mut metrics: Vec<&[&Row]> = Vec::new();
        for (info_key, rows) in infos {
            if info_key.without(|name| name == METRIC_NAME) == key {
                metrics.push(rows);
            }
        }
        // The same labels mostly come of many neighbouring steps.
        for step in row.filled().iter() {
            let Some(labels) = self.labels_at(step, &row.labels, &metrics)? else { continue };
            enriched.put(labels, row, Some(step))?;
        }
        Ok(())
    }

    /// The labels of a series at a step; `None` where it has to have info and has none.
    fn labels_at(
        &self,
        step: usize,
        base: &Labels,
        metrics: &[&[&Row]],
    ) -> Result<Option<Labels>, Error> {
        let mut builder = base.to_builder();
        let mut added: HashMap<&str, &str> = HashMap::new();
        let mut any = false;
        for rows in metrics {
            let Some(info) = newest(rows, step)? else { continue };
            any = true;
            for (name, value) in &info.labels {
                let is_wanted =
                    self.data.is_empty() || self.data.iter().any(|it| it.name() == name);
                if name == METRIC_NAME || !is_wanted {
                    continue;
                }
                if added.get(name).is_some_and(|known| *known != value) {
                    return Err(Error::execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.insert(name, value);
                    builder.set(name, value);
                }
            }
        }
        let must_match = self.data.iter().any(|it| !it.matches(""));
        Ok((any || !must_match).then(|| builder.build()))
    }
}

/// The info series whose sample is the newest at a step.
fn newest<'a>(rows: &[&'a Row], step: usize) -> Result<Option<&'a Row>, Error> {
    let mut newest: Option<&Row> = None;
    for row in rows.iter().filter(|row| row.present.get(step)) {
        match newest {
            Some(known) if known.values[step] > row.values[step] => {}
            Some(known) if known.values[step] == row.values[step] => {
                let at_ms = model::float::format_f(row.values[step] * 1000.0);
                let (known, new) = (&known.labels, &row.labels);
                return Err(Error::execution(format!(
                    "found duplicate series for info metric: existing {known} @ {at_ms}, \
                     new {new} @ {at_ms}"
                )));
            }
            _ => newest = Some(row),
        }
    }
    Ok(newest)
}

fn key_of(labels: &Labels) -> Labels {
    labels.without(|name| !IDENTIFYING.contains(&name))
}

fn by_key(infos: &[Row]) -> ByKey<'_> {
    let mut by_key: ByKey<'_> = HashMap::new();
    for row in infos {
        let is_key = |name: &str| name == METRIC_NAME || IDENTIFYING.contains(&name);
        let key = row.labels.without(|name| !is_key(name));
        by_key.entry(key).or_default().push(row);
    }
    by_key
}

/// A text as a regular expression that matches it alone.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for it in text.chars() {
        if "\\.+*?()|[]{}^$".contains(it) {
            out.push('\\');
        }
        out.push(it);
    }
    out
}

/// The rows of the result by their labels.
struct Enriched {
    rows: Vec<Row>,
    places: HashMap<Labels, usize>,
}

impl Enriched {
    /// Puts what a series holds at a step, or at all of them, into the row of these labels.
    fn put(&mut self, labels: Labels, row: &Row, step: Option<usize>) -> Result<(), Error> {
        let place = *self.places.entry(labels.clone()).or_insert_with(|| {
            let mut new = Row::default();
            new.reset(labels, row.values.len());
            new.drop_name = row.drop_name;
            self.rows.push(new);
            self.rows.len() - 1
        });
        let target = &mut self.rows[place];
        let steps = match step {
            Some(step) => vec![step],
            None => row.filled().iter().collect(),
        };
        for step in steps {
            if target.at(step).is_some() {
                return Err(Error::execution(SAME_LABELSET));
            }
            match row.at(step) {
                Some(crate::row::Sample::Float(value)) => target.put(step, value),
                Some(crate::row::Sample::Histogram(histogram)) => {
                    let place = target.histograms.partition_point(|(at, _)| *at < step);
                    target.histograms.insert(place, (step, Arc::clone(histogram)));
                }
                None => {}
            }
        }
        Ok(())
    }
}
