//! Expressions: prefixes, what is between parentheses, and the modifiers behind.

use super::{Failure, Parsed, Parser, Tree, span_of};
use crate::ast::{
    At, BinaryOp, Call, DurationArg, Expr, MatrixSelector, NumberLiteral, Paren, Span,
    StringLiteral, Subquery, Unary, UnaryOp,
};
use crate::functions::{self, Function};
use crate::quote::quoted;
use crate::token::{Kind, Token};
use crate::{duration, number};

/// A sign binds weaker than a power and stronger than a product.
const UNARY_PRECEDENCE: u8 = 6;

impl Parser<'_> {
    /// An expression whose operators all bind at least as strongly as `precedence_min`.
    pub(super) fn expr(&mut self, precedence_min: u8) -> Parsed<Tree> {
        self.enter()?;
        let mut tree = self.prefix()?;
        loop {
            tree = self.modifiers(tree)?;
            match self.binary(tree, precedence_min)? {
                Ok(next) => tree = next,
                Err(whole) => {
                    self.leave();
                    return Ok(whole);
                }
            }
        }
    }

    fn prefix(&mut self) -> Parsed<Tree> {
        let token = self.peek()?;
        match token.kind {
            Kind::Operator(BinaryOp::Add) => self.unary(UnaryOp::Plus),
            Kind::Operator(BinaryOp::Sub) => self.unary(UnaryOp::Minus),
            Kind::LeftParen => self.paren(),
            Kind::Number | Kind::Duration => {
                let literal = self.number()?;
                Ok(leaf(Expr::Number(literal)))
            }
            Kind::String => {
                self.ahead = None;
                let value = self.unquote(token);
                Ok(leaf(Expr::String(StringLiteral { value, span: span_of(token) })))
            }
            Kind::LeftBrace => Ok(leaf(Expr::Vector(Box::new(self.vector_selector()?)))),
            Kind::Aggregate(op) => self.aggregate_or_selector(op),
            kind if kind.is_function_name() => self.call_or_selector(),
            kind if kind.is_metric_name() => {
                Ok(leaf(Expr::Vector(Box::new(self.vector_selector()?))))
            }
            _ => Err(Failure::Unexpected),
        }
    }

    fn unary(&mut self, op: UnaryOp) -> Parsed<Tree> {
        let sign = span_of(self.take()?);
        let Tree { expr, height } = self.expr(UNARY_PRECEDENCE)?;
        if let Expr::Number(mut literal) = expr {
            if op == UnaryOp::Minus {
                literal.value = -literal.value;
            }
            literal.span = sign.to(literal.span);
            return Ok(Tree { expr: Expr::Number(literal), height });
        }
        let span = sign.to(expr.span());
        self.grow(Expr::Unary(Box::new(Unary { op, expr, span })), height)
    }

    fn paren(&mut self) -> Parsed<Tree> {
        let open = span_of(self.take()?);
        let Tree { expr, height } = self.expr(0)?;
        let close = span_of(self.expect(Kind::RightParen)?);
        self.grow(Expr::Paren(Box::new(Paren { expr, span: open.to(close) })), height)
    }

    /// A number or a duration, which the next token must be.
    pub(super) fn number(&mut self) -> Parsed<NumberLiteral> {
        let token = self.take()?;
        // Both kinds of token are ASCII.
        let text = std::str::from_utf8(token.text(self.text)).unwrap_or_default();
        let span = span_of(token);
        if token.kind == Kind::Number {
            return match number::parse(text) {
                Ok(value) => Ok(NumberLiteral { value, duration: false, span }),
                Err(message) => self.problem(span, message),
            };
        }
        match duration::parse_ns(text) {
            Ok(ns) => {
                let value = duration::seconds_of_ns(ns);
                Ok(NumberLiteral { value, duration: true, span })
            }
            Err(error) => self.problem(span, error.to_string()),
        }
    }

    /// A name: of a function if a parenthesis follows, else of a metric.
    fn call_or_selector(&mut self) -> Parsed<Tree> {
        let name = self.take()?;
        if self.peek()?.kind != Kind::LeftParen {
            return Ok(leaf(Expr::Vector(Box::new(self.selector_named(name)?))));
        }
        let (args, height, close) = self.call_args()?;
        let function = self.function(name)?;
        let call = Call { function, args, span: span_of(name).to(close) };
        self.grow(Expr::Call(Box::new(call)), height)
    }

    fn function(&mut self, name: Token) -> Parsed<&'static Function> {
        let text = name.text(self.text);
        let found = std::str::from_utf8(text).ok().and_then(functions::find);
        let Some(function) = found else {
            let message = format!("unknown function with name {}", quoted(text));
            return self.problem(span_of(name), message);
        };
        if function.experimental && !self.options.experimental_functions {
            let message = format!("function {} is not enabled", quoted(text));
            return self.problem(span_of(name), message);
        }
        Ok(function)
    }

    /// Arguments in parentheses, with the height of the highest and the closing parenthesis.
    pub(super) fn call_args(&mut self) -> Parsed<(Vec<Expr>, usize, Span)> {
        self.expect(Kind::LeftParen)?;
        let mut args = Vec::new();
        let mut height_max = 0;
        if let Some(close) = self.take_if(Kind::RightParen)? {
            return Ok((args, height_max, span_of(close)));
        }
        loop {
            let Tree { expr, height } = self.expr(0)?;
            args.push(expr);
            height_max = height_max.max(height);
            if let Some(close) = self.take_if(Kind::RightParen)? {
                return Ok((args, height_max, span_of(close)));
            }
            let comma = self.expect(Kind::Comma)?;
            if !self.peek()?.kind.begins_expr() {
                let message = "trailing commas not allowed in function call args";
                return self.problem(span_of(comma), message);
            }
        }
    }

    /// Everything that stands behind an expression and belongs to it.
    fn modifiers(&mut self, mut tree: Tree) -> Parsed<Tree> {
        loop {
            match self.peek()?.kind {
                Kind::Offset => self.offset(&mut tree.expr)?,
                Kind::At => self.at(&mut tree.expr)?,
                Kind::Anchored => self.anchored(&mut tree.expr)?,
                Kind::Smoothed => self.smoothed(&mut tree.expr)?,
                Kind::LeftBracket => tree = self.range_or_subquery(tree)?,
                _ => return Ok(tree),
            }
        }
    }

    fn offset(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.take()?;
        let parsed = self.offset_duration();
        let (duration, end) =
            self.within(parsed, "offset", "number, duration, step(), or range()")?;
        let span = expr.span();
        let Some(target) = modified(expr) else {
            let message = "offset modifier must be preceded by an instant vector selector or \
                           range vector selector or a subquery";
            return self.problem(span, message);
        };
        if *target.offset != DurationArg::Fixed(0) {
            return self.problem(span, "offset may not be set multiple times");
        }
        *target.offset = duration;
        target.span.end = end;
        Ok(())
    }

    fn at(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.take()?;
        let parsed = self.at_time();
        let (time, end) = self.within(parsed, "@", "timestamp")?;
        let span = expr.span();
        let at = match time {
            AtTime::Seconds(seconds) => {
                // The bounds are 2^63 either way, as those of Prometheus.
                if !(-9_223_372_036_854_775_808.0 < seconds
                    && seconds < 9_223_372_036_854_775_808.0)
                {
                    let shown = shown_seconds(seconds);
                    let message = format!("timestamp out of bounds for @ modifier: {shown}");
                    return self.problem(span, message);
                }
                At::Time(duration::saturating_i64((seconds * 1000.0).round()))
            }
            AtTime::Start => At::Start,
            AtTime::End => At::End,
        };
        let Some(target) = modified(expr) else {
            let message = "@ modifier must be preceded by an instant vector selector or range \
                           vector selector or a subquery";
            return self.problem(span, message);
        };
        if target.at.is_some() {
            return self.problem(span, "@ <timestamp> may not be set multiple times");
        }
        *target.at = Some(at);
        target.span.end = end;
        Ok(())
    }

    fn at_time(&mut self) -> Parsed<(AtTime, u32)> {
        let token = self.peek()?;
        match token.kind {
            Kind::Number | Kind::Duration => {
                let literal = self.number()?;
                Ok((AtTime::Seconds(literal.value), literal.span.end))
            }
            Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                self.ahead = None;
                if !matches!(self.peek()?.kind, Kind::Number | Kind::Duration) {
                    return Err(Failure::Unexpected);
                }
                let literal = self.number()?;
                let sign = if op == BinaryOp::Sub { -1.0 } else { 1.0 };
                Ok((AtTime::Seconds(sign * literal.value), literal.span.end))
            }
            Kind::Start | Kind::EndFunction => {
                self.ahead = None;
                self.expect(Kind::LeftParen)?;
                let close = span_of(self.expect(Kind::RightParen)?);
                let start = token.kind == Kind::Start;
                Ok((if start { AtTime::Start } else { AtTime::End }, close.end))
            }
            _ => Err(Failure::Unexpected),
        }
    }

    fn anchored(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.take()?;
        let span = expr.span();
        if !self.options.extended_range_selectors {
            return self.problem(span, "anchored modifier is experimental and not enabled");
        }
        let selector = match expr {
            Expr::Vector(it) => &mut **it,
            Expr::Matrix(it) => &mut it.selector,
            Expr::Subquery(_) => {
                return self.problem(span, "anchored modifier is not supported for subqueries");
            }
            _ => return self.problem(span, "anchored modifier not implemented"),
        };
        if selector.smoothed {
            let message = "anchored and smoothed modifiers cannot be used together";
            return self.problem(span, message);
        }
        selector.anchored = true;
        Ok(())
    }

    fn smoothed(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.take()?;
        let span = expr.span();
        if !self.options.extended_range_selectors {
            return self.problem(span, "smoothed modifier is experimental and not enabled");
        }
        let selector = match expr {
            Expr::Vector(it) => &mut **it,
            Expr::Matrix(it) => &mut it.selector,
            Expr::Subquery(_) => {
                return self.problem(span, "smoothed modifier is not supported for subqueries");
            }
            _ => return self.problem(span, "smoothed modifier not implemented"),
        };
        if selector.anchored {
            let message = "anchored and smoothed modifiers cannot be used together";
            return self.problem(span, message);
        }
        selector.smoothed = true;
        Ok(())
    }

    fn range_or_subquery(&mut self, tree: Tree) -> Parsed<Tree> {
        let open = span_of(self.take()?);
        let parsed = self.positive_duration();
        let expected = "number, duration, step(), or range()";
        let range = self.within(parsed, "subquery or range selector", expected)?;
        if let Some(close) = self.take_if(Kind::RightBracket)? {
            return self.range_selector(tree, range, open.to(span_of(close)));
        }
        if self.take_if(Kind::Colon)?.is_none() {
            return Err(self.unexpected("subquery or range", "\":\" or \"]\""));
        }
        let mut step = DurationArg::Fixed(0);
        if self.peek()?.kind != Kind::RightBracket {
            let expected = "number, duration, step(), range(), or \"]\"";
            let parsed = self.positive_duration();
            step = self.within(parsed, "subquery selector", expected)?;
        }
        let parsed = self.expect(Kind::RightBracket);
        let close = span_of(self.within(parsed, "subquery selector", "\"]\"")?);
        let span = tree.expr.span().to(close);
        let offset = DurationArg::Fixed(0);
        let subquery = Subquery { expr: tree.expr, range, step, offset, at: None, span };
        self.grow(Expr::Subquery(Box::new(subquery)), tree.height)
    }

    fn range_selector(&mut self, tree: Tree, range: DurationArg, brackets: Span) -> Parsed<Tree> {
        let Expr::Vector(selector) = tree.expr else {
            return self.problem(brackets, "ranges only allowed for vector selectors");
        };
        if selector.offset != DurationArg::Fixed(0) {
            return self.problem(brackets, "no offset modifiers allowed before range");
        }
        if selector.at.is_some() {
            return self.problem(brackets, "no @ modifiers allowed before range");
        }
        let span = selector.span.to(brackets);
        let matrix = MatrixSelector { selector: *selector, range, span };
        Ok(leaf(Expr::Matrix(Box::new(matrix))))
    }

    /// A tree one higher than its highest child.
    pub(super) fn grow(&mut self, expr: Expr, height: usize) -> Parsed<Tree> {
        self.check_height(height + 1)?;
        Ok(Tree { expr, height: height + 1 })
    }
}

enum AtTime {
    Seconds(f64),
    Start,
    End,
}

/// What modifiers change in a selector or subquery.
struct Modified<'a> {
    offset: &'a mut DurationArg,
    at: &'a mut Option<At>,
    span: &'a mut Span,
}

fn modified(expr: &mut Expr) -> Option<Modified<'_>> {
    match expr {
        Expr::Vector(it) => {
            Some(Modified { offset: &mut it.offset, at: &mut it.at, span: &mut it.span })
        }
        Expr::Matrix(it) => Some(Modified {
            offset: &mut it.selector.offset,
            at: &mut it.selector.at,
            span: &mut it.span,
        }),
        Expr::Subquery(it) => {
            Some(Modified { offset: &mut it.offset, at: &mut it.at, span: &mut it.span })
        }
        _ => None,
    }
}

pub(super) fn leaf(expr: Expr) -> Tree {
    Tree { expr, height: 1 }
}

/// Go's `%f`.
fn shown_seconds(seconds: f64) -> String {
    if seconds.is_infinite() {
        return if seconds > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    format!("{seconds:.6}")
}
