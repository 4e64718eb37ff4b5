//! Function calls that give an instant vector.

use crate::ast::{Call, Expr};
use crate::error::Error;
use crate::eval::mapped::{Mapped, MappedByStep};
use crate::eval::merge::without_names;
use crate::eval::scalar::Scalars;
use crate::eval::select::Around;
use crate::eval::{Evaluator, Rows, Stream, math};
use crate::kernel::RangeFunction;
use crate::kernel::instant::{Take, seconds};
use crate::native::variance;
use crate::row::{Grid, Presence, Row};

impl<'a> Evaluator<'a> {
    pub(crate) fn call(&self, call: &'a Call, grid: Grid) -> Result<Stream, Error> {
        let name = call.function.name;
        let around = Around { function: Some(name), ..Around::default() };
        let statistics = self.statistics.below_function(name);
        let below = Evaluator { statistics, ..self.below(around) };
        if name == "absent_over_time" {
            let present = below.range_call(RangeFunction::Present, call, grid)?;
            return self.absent(present, call.args.first(), grid);
        }
        if let Some(function) = RangeFunction::find(name) {
            return below.range_call(function, call, grid);
        }
        if name.starts_with("histogram_") {
            return below.histogram_call(call, grid);
        }
        match (name, call.args.as_slice()) {
            ("vector", [value]) => below.constant_vector(value, grid),
            ("timestamp", [vector]) => below.timestamps(vector, grid),
            ("start_timestamp", [vector]) => below.start_timestamps(vector, grid),
            ("absent", [vector]) => {
                let input = below.vector(vector, grid)?;
                self.absent(input, Some(vector), grid)
            }
            ("sort" | "sort_desc", [vector]) => {
                below.sorted(vector, name == "sort_desc", (call.span, grid))
            }
            ("sort_by_label" | "sort_by_label_desc", [vector, labels @ ..]) => {
                let descending = name == "sort_by_label_desc";
                below.sorted_by_label(vector, (labels, descending), (call.span, grid))
            }
            ("label_replace", [vector, ..]) => below.label_replace(call, vector, grid),
            ("label_join", [vector, ..]) => below.label_join(call, vector, grid),
            ("info", [vector, selector @ ..]) => below.info(vector, selector.first(), grid),
            ("clamp" | "clamp_min" | "clamp_max", [vector, bounds @ ..]) => {
                below.clamp(name, vector, (bounds, grid))
            }
            ("round", [vector, to_nearest @ ..]) => below.round(vector, to_nearest.first(), grid),
            (_, []) => below.date_of_step(name, grid),
            (_, [vector]) => {
                let change = math::function(name).ok_or_else(|| {
                    Error::execution(format!("{name}() is no function of these arguments"))
                })?;
                below.mapped(vector, change, grid)
            }
            _ => Err(Error::execution(format!("{name}() is no function of these arguments"))),
        }
    }

    /// The functions of histograms. A function of their own, like others here: what is deeply
    /// nested shall take little of the stack.
    fn histogram_call(&self, call: &'a Call, grid: Grid) -> Result<Stream, Error> {
        let name = call.function.name;
        match (name, call.args.as_slice()) {
            ("histogram_quantile", [q, vector]) => self.histogram_quantile(q, vector, grid),
            ("histogram_fraction", [lower, upper, vector]) => {
                self.histogram_fraction((lower, upper), vector, grid)
            }
            ("histogram_quantiles", [vector, label, quantiles @ ..]) => {
                self.histogram_quantiles(vector, label, (quantiles, grid))
            }
            ("histogram_avg", [it]) => self.of_native(it, |it| it.sum / it.count, grid),
            ("histogram_count", [it]) => self.of_native(it, |it| it.count, grid),
            ("histogram_stddev", [it]) => self.of_native(it, |it| variance(it).sqrt(), grid),
            ("histogram_stdvar", [it]) => self.of_native(it, variance, grid),
            ("histogram_sum", [it]) => self.of_native(it, |it| it.sum, grid),
            _ => Err(Error::execution(format!("{name}() is no function of these arguments"))),
        }
    }

    /// A vector whose values are changed one by one; metric names go.
    fn mapped(
        &self,
        vector: &'a Expr,
        change: impl Fn(f64) -> f64 + Send + 'static,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let input = self.vector(vector, grid)?;
        let distinct = input.distinct_without_name;
        let rows = Mapped { input: input.rows, change };
        without_names(self.context, Stream::new(rows, distinct))
    }

    /// A vector whose values are changed by a rule of their step, or taken out; names go.
    fn mapped_by_step(
        &self,
        vector: &'a Expr,
        change: impl Fn(usize, f64) -> Option<f64> + Send + 'static,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let input = self.vector(vector, grid)?;
        let distinct = input.distinct_without_name;
        let rows = MappedByStep::new(self.context, input.rows, change);
        without_names(self.context, Stream::new(rows, distinct))
    }

    /// `vector(s)`: one series without labels.
    fn constant_vector(&self, value: &'a Expr, grid: Grid) -> Result<Stream, Error> {
        let values = match self.scalar(value, grid)? {
            Scalars::Same(value) => vec![value; grid.steps],
            Scalars::Each(values) => values,
        };
        let row = Row { values, present: Presence::all(grid.steps), ..Row::default() };
        Ok(Stream { distinct_without_name: true, ..Stream::of(vec![row]) })
    }

    /// The date functions without an argument: of the step's own time.
    fn date_of_step(&self, name: &str, grid: Grid) -> Result<Stream, Error> {
        let change = math::function(name).ok_or_else(|| {
            Error::execution(format!("{name}() is no function of these arguments"))
        })?;
        self.context.hold_row(grid.steps)?;
        let times = (0..grid.steps).map(|step| change(seconds(grid.time_ms(step)).floor()));
        let row =
            Row { values: times.collect(), present: Presence::all(grid.steps), ..Row::default() };
        Ok(Stream { distinct_without_name: true, ..Stream::of(vec![row]) })
    }

    /// `timestamp()`: of the sample where a selector stands there, of the step otherwise.
    fn timestamps(&self, vector: &'a Expr, grid: Grid) -> Result<Stream, Error> {
        if let Expr::Vector(selector) = vector.without_parens() {
            let stream = self.instant_selector(selector, Take::Timestamp, grid)?;
            return without_names(self.context, stream);
        }
        let input = self.vector(vector, grid)?;
        let distinct = input.distinct_without_name;
        let rows = StepTimes { input: input.rows, grid };
        without_names(self.context, Stream::new(rows, distinct))
    }

    /// `start_timestamp()`: of the sample where a selector stands there and start timestamps are
    /// in use; nothing otherwise.
    fn start_timestamps(&self, vector: &'a Expr, grid: Grid) -> Result<Stream, Error> {
        let in_use = self.context.options.use_start_timestamps;
        match vector {
            Expr::Vector(selector) if in_use => {
                let stream = self.instant_selector(selector, Take::Start, grid)?;
                without_names(self.context, stream)
            }
            _ => Ok(Stream::new(Drained { input: Some(self.vector(vector, grid)?.rows) }, true)),
        }
    }

    fn clamp(
        &self,
        name: &str,
        vector: &'a Expr,
        (bounds, grid): (&'a [Expr], Grid),
    ) -> Result<Stream, Error> {
        let bounds =
            bounds.iter().map(|it| self.scalar(it, grid)).collect::<Result<Vec<_>, _>>()?;
        let infinite = |value| Scalars::Same(value);
        let (lower, upper) = match (name, bounds.as_slice()) {
            ("clamp", [lower, upper]) => (lower.clone(), upper.clone()),
            ("clamp_min", [lower]) => (lower.clone(), infinite(f64::INFINITY)),
            ("clamp_max", [upper]) => (infinite(f64::NEG_INFINITY), upper.clone()),
            _ => return Err(Error::execution(format!("{name}() was given too few bounds"))),
        };
        let change = move |step, value| {
            let (lower, upper) = (lower.at(step), upper.at(step));
            // Crossed bounds leave nothing.
            if upper < lower { None } else { Some(math::max(lower, math::min(upper, value))) }
        };
        self.mapped_by_step(vector, change, grid)
    }

    fn round(
        &self,
        vector: &'a Expr,
        to_nearest: Option<&'a Expr>,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let to_nearest = match to_nearest {
            Some(to_nearest) => self.scalar(to_nearest, grid)?,
            None => Scalars::Same(1.0),
        };
        let change = move |step, value: f64| {
            // The inverse first: it rounds less often.
            let inverse = 1.0 / to_nearest.at(step);
            Some((value * inverse + 0.5).floor() / inverse)
        };
        self.mapped_by_step(vector, change, grid)
    }
}

/// The time of every step that holds anything.
struct StepTimes {
    input: Box<dyn Rows>,
    grid: Grid,
}

impl Rows for StepTimes {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        let any = self.input.next(row)?;
        if any {
            row.present = row.filled().into_owned();
            row.histograms.clear();
            for (step, value) in row.values.iter_mut().enumerate() {
                *value = seconds(self.grid.time_ms(step));
            }
        }
        Ok(any)
    }
}

/// Reads its input and gives nothing.
struct Drained {
    input: Option<Box<dyn Rows>>,
}

impl Rows for Drained {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        if let Some(mut input) = self.input.take() {
            while input.next(row)? {}
        }
        Ok(false)
    }
}
