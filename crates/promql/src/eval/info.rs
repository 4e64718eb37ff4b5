//! `info()`: series with the labels of the info metrics that describe where they come from.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use model::time::METRIC_NAME;
use model::{Columns, Labels, MatchOp, Matcher, Reservation};

use crate::ast::{At, Expr, LabelMatcher, VectorSelector};
use crate::error::Error;
use crate::eval::merge::{SAME_LABELSET, joined};
use crate::eval::source::{Series as _, Stored};
use crate::eval::{Blocking, Collected, Context, Evaluator, Held, Stream, collect, duration_ms};
use crate::kernel::Windows;
use crate::kernel::instant::{Take, look_up};
use crate::row::{Grid, Row, Sample};
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
            let mut infos = wanted.read(&context, &base.rows)?;
            let by_key = by_key(&infos.rows, &mut infos.reservation)?;
            let mut enriched = Enriched::new(&context)?;
            for row in &base.rows {
                context.cancel.check()?;
                wanted.enrich(row, &by_key, &mut enriched)?;
            }
            Ok(Held::charged(enriched.rows, enriched.reservation))
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

/// Info series by the values of the identifying labels; those of one metric stand together. All
/// are in the order in which they were read.
type ByKey<'a> = HashMap<Labels, Vec<Vec<&'a Row>>>;

impl Wanted {
    /// Whether a series is an info series itself, which stays as it is.
    fn is_info(&self, labels: &Labels) -> bool {
        self.names.iter().all(|it| it.matches(labels.metric_name()))
    }

    /// The info series of `rows`; their values are the times of their samples in ms.
    fn read(&self, context: &Arc<Context>, rows: &[Row]) -> Result<Collected, Error> {
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
        let mut reservation = context.reservation()?;
        if matchers.is_empty() {
            return Ok(Collected { rows: Vec::new(), reservation });
        }
        matchers.extend(self.data.iter().chain(&self.names).cloned());
        let hints = SelectHints { function: Some("info"), ..SelectHints::default() };
        let range = self.windows.time_range();
        let stream = context.storage.select(&matchers, range, &hints, &context.budget)?;
        let mut stored = Stored::new(context, stream, false);
        let (mut columns, mut infos) = (Columns::default(), Vec::new());
        let mut pace = context.pace();
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
        Ok(Collected { rows: infos, reservation })
    }

    /// Puts a series with the labels of its info series into `enriched`.
    fn enrich(&self, row: &Row, infos: &ByKey<'_>, enriched: &mut Enriched) -> Result<(), Error> {
        if self.is_info(&row.labels) {
            let place = enriched.place(row.labels.clone(), row)?;
            return row.filled().iter().try_for_each(|step| enriched.put(place, row, step));
        }
        let metrics = infos.get(&key_of(&row.labels)).map(Vec::as_slice).unwrap_or_default();
        // The same labels mostly come of many neighbouring steps.
        let (mut before, mut now): (Vec<Option<&Row>>, Vec<Option<&Row>>) = Default::default();
        let mut known: Option<Option<usize>> = None;
        for step in row.filled().iter() {
            now.clear();
            for rows in metrics {
                now.push(newest(rows, step)?);
            }
            let place = match known.filter(|_| are_same(&before, &now)) {
                Some(place) => place,
                None => {
                    let labels = self.labels_with(&row.labels, &now)?;
                    labels.map(|labels| enriched.place(labels, row)).transpose()?
                }
            };
            if let Some(place) = place {
                enriched.put(place, row, step)?;
            }
            known = Some(place);
            std::mem::swap(&mut before, &mut now);
        }
        Ok(())
    }

    /// The labels of a series with those of its info series, one of each metric; `None` where it
    /// has to have info and has none.
    fn labels_with(&self, base: &Labels, infos: &[Option<&Row>]) -> Result<Option<Labels>, Error> {
        let mut builder = base.to_builder();
        let mut added: HashMap<&str, &str> = HashMap::new();
        let mut any = false;
        for info in infos.iter().flatten() {
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

/// Bytes that a series takes in the map of all, if it is alone under its key.
const BY_KEY_BYTES: usize = 2 * size_of::<(Labels, Vec<Vec<&Row>>)>() + 4 * size_of::<Vec<&Row>>();

fn by_key<'a>(infos: &'a [Row], reservation: &mut Reservation) -> Result<ByKey<'a>, Error> {
    let mut by_key: ByKey<'_> = HashMap::new();
    // Where the series of a metric stand among those of its key.
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for row in infos {
        let key = key_of(&row.labels);
        let is_key = |name: &str| name == METRIC_NAME || IDENTIFYING.contains(&name);
        let with_name = row.labels.without(|name| !is_key(name));
        reservation.grow(key.size_bytes() + with_name.size_bytes() + BY_KEY_BYTES)?;
        let metrics = by_key.entry(key).or_default();
        let place = *places.entry(with_name).or_insert_with(|| {
            metrics.push(Vec::new());
            metrics.len() - 1
        });
        metrics[place].push(row);
    }
    Ok(by_key)
}

/// Whether these are the same series, by their places in memory.
fn are_same(before: &[Option<&Row>], now: &[Option<&Row>]) -> bool {
    let place = |it: &Option<&Row>| it.map(std::ptr::from_ref);
    before.iter().map(place).eq(now.iter().map(place))
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
    reservation: Reservation,
}

/// Bytes of a table entry for a label set that is shared.
const ENTRY_BYTES: usize = 48;

impl Enriched {
    fn new(context: &Context) -> Result<Enriched, Error> {
        let reservation = context.reservation()?;
        Ok(Enriched { rows: Vec::new(), places: HashMap::new(), reservation })
    }

    /// The row of these labels, for what a series holds.
    fn place(&mut self, labels: Labels, of: &Row) -> Result<usize, Error> {
        if let Some(place) = self.places.get(&labels) {
            return Ok(*place);
        }
        let mut row = Row::default();
        row.reset(labels.clone(), of.values.len());
        row.drop_name = of.drop_name;
        row.histograms.reserve(of.histograms.len());
        self.reservation.grow(row.size_bytes() + ENTRY_BYTES)?;
        self.rows.push(row);
        self.places.insert(labels, self.rows.len() - 1);
        Ok(self.rows.len() - 1)
    }

    /// Puts what a series holds at a step into a row.
    fn put(&mut self, place: usize, row: &Row, step: usize) -> Result<(), Error> {
        let target = &mut self.rows[place];
        if target.at(step).is_some() {
            return Err(Error::execution(SAME_LABELSET));
        }
        match row.at(step) {
            Some(Sample::Float(value)) => target.put(step, value),
            Some(Sample::Histogram(histogram)) => {
                let place = target.histograms.partition_point(|(at, _)| *at < step);
                target.histograms.insert(place, (step, Arc::clone(histogram)));
            }
            None => {}
        }
        Ok(())
    }
}
