//! The table of PromQL's functions: what they take, what they give, which are experimental.

use crate::ast::ValueType;

/// How many arguments a function takes beyond what its types say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variadic {
    /// One argument per type.
    Exact,
    /// The last type may be left out, and at most so many arguments follow the other types.
    Optional(usize),
    /// The last type may be left out and may stand any number of times.
    Unbounded,
}

/// The signature of a function.
#[derive(Debug)]
pub struct Function {
    /// The name.
    pub name: &'static str,
    /// Types of the arguments; the last one is that of all further arguments.
    pub arg_types: &'static [ValueType],
    /// How many arguments there may be.
    pub variadic: Variadic,
    /// What it evaluates to.
    pub return_type: ValueType,
    /// Whether it needs the option for experimental functions.
    pub experimental: bool,
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name
    }
}

impl Function {
    /// The least number of arguments.
    pub fn args_min(&self) -> usize {
        match self.variadic {
            Exact => self.arg_types.len(),
            Optional(_) | Unbounded => self.arg_types.len().saturating_sub(1),
        }
    }

    /// The greatest number of arguments; `None` without a limit.
    pub fn args_max(&self) -> Option<usize> {
        match self.variadic {
            Exact => Some(self.arg_types.len()),
            Optional(more) => Some(self.args_min() + more),
            Unbounded => None,
        }
    }

    /// The type of argument `index`, counted from 0.
    pub fn arg_type(&self, index: usize) -> Option<ValueType> {
        self.arg_types.get(index).or(self.arg_types.last()).copied()
    }
}

/// The function of this name.
pub fn find(name: &str) -> Option<&'static Function> {
    let index = FUNCTIONS.binary_search_by(|it| it.name.cmp(name)).ok()?;
    FUNCTIONS.get(index)
}

use ValueType::{Matrix as M, Scalar as S, String as T, Vector as V};
use Variadic::{Exact, Optional, Unbounded};

/// Every function of Prometheus 3.14, by name.
#[rustfmt::skip]
pub static FUNCTIONS: &[Function] = &[
    stable("abs", &[V], Exact, V),
    stable("absent", &[V], Exact, V),
    stable("absent_over_time", &[M], Exact, V),
    stable("acos", &[V], Exact, V),
    stable("acosh", &[V], Exact, V),
    stable("asin", &[V], Exact, V),
    stable("asinh", &[V], Exact, V),
    stable("atan", &[V], Exact, V),
    stable("atanh", &[V], Exact, V),
    stable("avg_over_time", &[M], Exact, V),
    stable("ceil", &[V], Exact, V),
    stable("changes", &[M], Exact, V),
    stable("clamp", &[V, S, S], Exact, V),
    stable("clamp_max", &[V, S], Exact, V),
    stable("clamp_min", &[V, S], Exact, V),
    stable("cos", &[V], Exact, V),
    stable("cosh", &[V], Exact, V),
    stable("count_over_time", &[M], Exact, V),
    stable("day_of_month", &[V], Optional(1), V),
    stable("day_of_week", &[V], Optional(1), V),
    stable("day_of_year", &[V], Optional(1), V),
    stable("days_in_month", &[V], Optional(1), V),
    stable("deg", &[V], Exact, V),
    stable("delta", &[M], Exact, V),
    stable("deriv", &[M], Exact, V),
    experimental("double_exponential_smoothing", &[M, S, S], Exact, V),
    experimental("end", &[], Exact, S),
    stable("exp", &[V], Exact, V),
    stable("first_over_time", &[M], Exact, V),
    stable("floor", &[V], Exact, V),
    stable("histogram_avg", &[V], Exact, V),
    stable("histogram_count", &[V], Exact, V),
    stable("histogram_fraction", &[S, S, V], Exact, V),
    stable("histogram_quantile", &[S, V], Exact, V),
    experimental("histogram_quantiles", &[V, T, S, S], Optional(9), V),
    stable("histogram_stddev", &[V], Exact, V),
    stable("histogram_stdvar", &[V], Exact, V),
    stable("histogram_sum", &[V], Exact, V),
    stable("hour", &[V], Optional(1), V),
    stable("idelta", &[M], Exact, V),
    stable("increase", &[M], Exact, V),
    experimental("info", &[V, V], Optional(1), V),
    stable("irate", &[M], Exact, V),
    stable("label_join", &[V, T, T, T], Unbounded, V),
    stable("label_replace", &[V, T, T, T, T], Exact, V),
    stable("last_over_time", &[M], Exact, V),
    stable("ln", &[V], Exact, V),
    stable("log10", &[V], Exact, V),
    stable("log2", &[V], Exact, V),
    experimental("mad_over_time", &[M], Exact, V),
    experimental("max_of", &[S, S], Exact, S),
    stable("max_over_time", &[M], Exact, V),
    experimental("min_of", &[S, S], Exact, S),
    stable("min_over_time", &[M], Exact, V),
    stable("minute", &[V], Optional(1), V),
    stable("month", &[V], Optional(1), V),
    stable("pi", &[], Exact, S),
    stable("predict_linear", &[M, S], Exact, V),
    stable("present_over_time", &[M], Exact, V),
    stable("quantile_over_time", &[S, M], Exact, V),
    stable("rad", &[V], Exact, V),
    experimental("range", &[], Exact, S),
    stable("rate", &[M], Exact, V),
    stable("resets", &[M], Exact, V),
    stable("round", &[V, S], Optional(1), V),
    stable("scalar", &[V], Exact, S),
    stable("sgn", &[V], Exact, V),
    stable("sin", &[V], Exact, V),
    stable("sinh", &[V], Exact, V),
    stable("sort", &[V], Exact, V),
    experimental("sort_by_label", &[V, T], Unbounded, V),
    experimental("sort_by_label_desc", &[V, T], Unbounded, V),
    stable("sort_desc", &[V], Exact, V),
    stable("sqrt", &[V], Exact, V),
    experimental("start", &[], Exact, S),
    experimental("start_timestamp", &[V], Exact, V),
    stable("stddev_over_time", &[M], Exact, V),
    stable("stdvar_over_time", &[M], Exact, V),
    experimental("step", &[], Exact, S),
    stable("sum_over_time", &[M], Exact, V),
    stable("tan", &[V], Exact, V),
    stable("tanh", &[V], Exact, V),
    stable("time", &[], Exact, S),
    stable("timestamp", &[V], Exact, V),
    experimental("ts_of_first_over_time", &[M], Exact, V),
    experimental("ts_of_last_over_time", &[M], Exact, V),
    experimental("ts_of_max_over_time", &[M], Exact, V),
    experimental("ts_of_min_over_time", &[M], Exact, V),
    stable("vector", &[S], Exact, V),
    stable("year", &[V], Optional(1), V),
];

const fn stable(
    name: &'static str,
    arg_types: &'static [ValueType],
    variadic: Variadic,
    return_type: ValueType,
) -> Function {
    Function { name, arg_types, variadic, return_type, experimental: false }
}

const fn experimental(
    name: &'static str,
    arg_types: &'static [ValueType],
    variadic: Variadic,
    return_type: ValueType,
) -> Function {
    Function { name, arg_types, variadic, return_type, experimental: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_function_is_found() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        for function in FUNCTIONS {
            assert_eq!(find(function.name), Some(function));
        }
        assert_eq!(find("nope"), None);
    }
}
