//! Aggregations.

use super::{Parsed, Parser, Tree, span_of};
use crate::ast::{Aggregate, AggregateOp, Expr, Span};
use crate::parser::expr::leaf;
use crate::token::Kind;

impl Parser<'_> {
    /// An aggregation's keyword, which without what belongs to one is a metric's name.
    pub(super) fn aggregate_or_selector(&mut self, op: AggregateOp) -> Parsed<Tree> {
        let keyword = self.take()?;
        if !matches!(self.peek()?.kind, Kind::LeftParen | Kind::By | Kind::Without) {
            return Ok(leaf(Expr::Vector(Box::new(self.selector_named(keyword)?))));
        }
        let parsed = self.aggregate(op, span_of(keyword));
        self.within(parsed, "aggregation", "")
    }

    fn aggregate(&mut self, op: AggregateOp, keyword: Span) -> Parsed<Tree> {
        let before = self.aggregate_modifier()?;
        let (args, height, close) = self.call_args()?;
        let mut end = close;
        let modifier = match before {
            Some((grouping, without, _)) => Some((grouping, without)),
            None => self.aggregate_modifier()?.map(|(grouping, without, close)| {
                end = close;
                (grouping, without)
            }),
        };
        let (grouping, without) = modifier.unwrap_or_default();
        let span = keyword.to(end);
        let (param, expr) = self.aggregate_args(op, args, span)?;
        let aggregate = Aggregate { op, expr, param, grouping, without, span };
        self.grow(Expr::Aggregate(Box::new(aggregate)), height)
    }

    /// `by` or `without` with its labels, and where its parenthesis closes.
    fn aggregate_modifier(&mut self) -> Parsed<Option<(Vec<String>, bool, Span)>> {
        let kind = self.peek()?.kind;
        if !matches!(kind, Kind::By | Kind::Without) {
            return Ok(None);
        }
        self.take()?;
        let (labels, close) = self.grouping()?;
        Ok(Some((labels, kind == Kind::Without, close)))
    }

    fn aggregate_args(
        &mut self,
        op: AggregateOp,
        args: Vec<Expr>,
        span: Span,
    ) -> Parsed<(Option<Expr>, Expr)> {
        if args.is_empty() {
            return self.problem(span, "no arguments for aggregate expression provided");
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let name = op.as_str();
            let message = format!(
                "{name}() is experimental and must be enabled with \
                 --enable-feature=promql-experimental-functions"
            );
            return self.problem(span, message);
        }
        let wanted = if op.parameter().is_some() { 2 } else { 1 };
        let got = args.len();
        let mut args = args.into_iter();
        match (args.next(), args.next(), args.next()) {
            (Some(expr), None, None) if wanted == 1 => Ok((None, expr)),
            (Some(param), Some(expr), None) if wanted == 2 => Ok((Some(param), expr)),
            _ => {
                let message = format!(
                    "wrong number of arguments for aggregate expression provided, expected \
                     {wanted}, got {got}"
                );
                self.problem(span, message)
            }
        }
    }
}
