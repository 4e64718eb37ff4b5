//! Durations of ranges, steps and offsets, which may be expressions.

use super::{Failure, Parsed, Parser, span_of};
use crate::ast::{
    BinaryOp, DurationArg, DurationExpr, DurationKind, DurationOp, NumberLiteral, Span, UnaryOp,
};
use crate::duration::{is_out_of_range, literal_ms};
use crate::token::{Kind, Token};

/// A sign binds weaker than a power and stronger than a product.
const UNARY_PRECEDENCE: u8 = 3;

impl Parser<'_> {
    /// A duration that must be positive if it is known already.
    pub(super) fn positive_duration(&mut self) -> Parsed<DurationArg> {
        let expr = self.duration_expr(0)?;
        if let DurationKind::Number(literal) = &expr.kind
            && literal.value <= 0.0
        {
            return self.problem(literal.span, "duration must be greater than 0");
        }
        Ok(argument(expr))
    }

    /// The duration of an offset, and where it ends.
    ///
    /// One term with at most one sign is all of it: `foo offset 1m + 2m` adds 2m to the samples.
    /// Only behind a parenthesis or a second sign the expression goes on.
    pub(super) fn offset_duration(&mut self) -> Parsed<(DurationArg, u32)> {
        let first = self.peek()?;
        let Some(op) = sign(first.kind) else {
            return if first.kind == Kind::LeftParen {
                let expr = self.duration_expr(0)?;
                let end = self.duration_end(&expr);
                Ok((argument(expr), end))
            } else {
                let (expr, end) = self.duration_term(true)?;
                Ok((argument(expr), end))
            };
        };
        self.ahead = None;
        let token = self.peek()?;
        if sign(token.kind).is_some() {
            let operand = self.duration_expr(UNARY_PRECEDENCE)?;
            let signed = self.signed(op, span_of(first), operand)?;
            let expr = self.duration_operators(signed, 0)?;
            let end = self.duration_end(&expr);
            return Ok((argument(expr), end));
        }
        if matches!(token.kind, Kind::Number | Kind::Duration) {
            let literal = self.number()?;
            let end = literal.span.end;
            let expr = self.signed(op, span_of(first), number(literal))?;
            return Ok((argument(expr), end));
        }
        if token.kind == Kind::LeftParen {
            self.ahead = None;
            let inner = self.duration_expr(0)?;
            let close = self.expect(Kind::RightParen)?;
            let inner_span = inner.span;
            let expr = self.signed(op, span_of(first), wrapped(inner, inner_span))?;
            return Ok((argument(expr), span_of(close).end));
        }
        let (operand, end) = self.duration_term(false)?;
        let span = span_of(first).to(operand.span);
        let kind = DurationKind::Unary(op, Box::new(operand));
        let expr = DurationExpr { kind, wrapped: false, span };
        self.allow_duration_expr(&expr)?;
        Ok((argument(expr), end))
    }

    fn duration_expr(&mut self, precedence_min: u8) -> Parsed<DurationExpr> {
        self.enter()?;
        let first = self.peek()?;
        let mut expr = match (first.kind, sign(first.kind)) {
            (_, Some(op)) => {
                self.ahead = None;
                let operand = self.duration_expr(UNARY_PRECEDENCE)?;
                self.signed(op, span_of(first), operand)?
            }
            (Kind::LeftParen, _) => {
                self.ahead = None;
                let inner = self.duration_expr(0)?;
                self.expect(Kind::RightParen)?;
                self.allow_duration_expr(&inner)?;
                let span = span_of(first).to(inner.span);
                wrapped(inner, span)
            }
            _ => self.duration_term(true)?.0,
        };
        expr = self.duration_operators(expr, precedence_min)?;
        self.leave();
        Ok(expr)
    }

    /// Everything that goes on behind a first operand.
    fn duration_operators(
        &mut self,
        mut lhs: DurationExpr,
        precedence_min: u8,
    ) -> Parsed<DurationExpr> {
        let mut height = self.depth;
        loop {
            let token = self.peek()?;
            let Some((op, precedence)) = operator(token.kind) else { return Ok(lhs) };
            if precedence < precedence_min {
                return Ok(lhs);
            }
            self.ahead = None;
            height += 1;
            self.check_height(height)?;
            let next_min = if op == DurationOp::Pow { precedence } else { precedence + 1 };
            let rhs = self.duration_expr(next_min)?;
            self.allow_duration_expr(&lhs)?;
            lhs = self.operation(op, token, lhs, rhs)?;
        }
    }

    fn operation(
        &mut self,
        op: DurationOp,
        token: Token,
        lhs: DurationExpr,
        rhs: DurationExpr,
    ) -> Parsed<DurationExpr> {
        let rhs_is_zero = matches!(&rhs.kind, DurationKind::Number(it) if it.value == 0.0);
        if rhs_is_zero && op == DurationOp::Div {
            return self.problem(span_of(token), "division by zero");
        }
        if rhs_is_zero && op == DurationOp::Mod {
            return self.problem(span_of(token), "modulo by zero");
        }
        let span = lhs.span.to(rhs.span);
        let kind = DurationKind::Binary(op, Box::new(lhs), Box::new(rhs));
        Ok(DurationExpr { kind, wrapped: false, span })
    }

    /// A literal or a function, and where it ends. `allow` asks for the option where it is one.
    fn duration_term(&mut self, allow: bool) -> Parsed<(DurationExpr, u32)> {
        let token = self.peek()?;
        let start = span_of(token);
        let (kind, span, end) = match token.kind {
            Kind::Number | Kind::Duration => {
                let literal = self.number()?;
                self.check_literal(&literal, literal.span)?;
                let end = literal.span.end;
                return Ok((number(literal), end));
            }
            Kind::Step | Kind::Range => {
                self.ahead = None;
                self.expect(Kind::LeftParen)?;
                let close = span_of(self.expect(Kind::RightParen)?);
                let step = token.kind == Kind::Step;
                let kind = if step { DurationKind::Step } else { DurationKind::Range };
                (kind, start.to(close), close.end)
            }
            Kind::MinOf | Kind::MaxOf => {
                self.ahead = None;
                self.expect(Kind::LeftParen)?;
                let lhs = self.duration_expr(0)?;
                self.expect(Kind::Comma)?;
                let rhs = self.duration_expr(0)?;
                let close = span_of(self.expect(Kind::RightParen)?);
                let min = token.kind == Kind::MinOf;
                let op = if min { DurationOp::MinOf } else { DurationOp::MaxOf };
                let span = lhs.span.to(rhs.span);
                (DurationKind::Binary(op, Box::new(lhs), Box::new(rhs)), span, close.end)
            }
            _ => return Err(Failure::Unexpected),
        };
        let expr = DurationExpr { kind, wrapped: false, span };
        if allow {
            self.allow_duration_expr(&expr)?;
        }
        Ok((expr, end))
    }

    /// A sign before an operand: part of a literal, dropped if it is a plus, else a node.
    fn signed(&mut self, op: UnaryOp, at: Span, operand: DurationExpr) -> Parsed<DurationExpr> {
        if let DurationKind::Number(mut literal) = operand.kind {
            if op == UnaryOp::Minus {
                literal.value = -literal.value;
            }
            self.check_literal(&literal, at)?;
            literal.span = at.to(literal.span);
            return Ok(number(literal));
        }
        if op == UnaryOp::Plus {
            return Ok(operand);
        }
        let span = at.to(operand.span);
        let kind = DurationKind::Unary(op, Box::new(operand));
        Ok(DurationExpr { kind, wrapped: false, span })
    }

    fn check_literal(&mut self, literal: &NumberLiteral, at: Span) -> Parsed<()> {
        if is_out_of_range(literal.value) {
            return self.problem(at, "duration out of range");
        }
        Ok(())
    }

    fn allow_duration_expr(&mut self, expr: &DurationExpr) -> Parsed<()> {
        if self.options.duration_expressions {
            return Ok(());
        }
        self.problem(expr.span, "experimental duration expression is not enabled")
    }

    /// Where an expression ends that the next token stands behind.
    fn duration_end(&self, expr: &DurationExpr) -> u32 {
        let behind = self.ahead.map_or(self.text.len(), |it| it.start);
        let before = self.text.get(..behind).unwrap_or_default();
        let end = before.iter().rposition(|it| !it.is_ascii_whitespace()).map_or(0, |it| it + 1);
        u32::try_from(end).unwrap_or(u32::MAX).max(expr.span.end)
    }
}

fn sign(kind: Kind) -> Option<UnaryOp> {
    match kind {
        Kind::Operator(BinaryOp::Add) => Some(UnaryOp::Plus),
        Kind::Operator(BinaryOp::Sub) => Some(UnaryOp::Minus),
        _ => None,
    }
}

/// An operator of duration expressions and how strongly it binds; the sign is between the product
/// and the power.
fn operator(kind: Kind) -> Option<(DurationOp, u8)> {
    let Kind::Operator(op) = kind else { return None };
    match op {
        BinaryOp::Add => Some((DurationOp::Add, 1)),
        BinaryOp::Sub => Some((DurationOp::Sub, 1)),
        BinaryOp::Mul => Some((DurationOp::Mul, 2)),
        BinaryOp::Div => Some((DurationOp::Div, 2)),
        BinaryOp::Mod => Some((DurationOp::Mod, 2)),
        BinaryOp::Pow => Some((DurationOp::Pow, 4)),
        _ => None,
    }
}

fn number(literal: NumberLiteral) -> DurationExpr {
    let span = literal.span;
    DurationExpr { kind: DurationKind::Number(literal), wrapped: false, span }
}

/// Marks parentheses. A literal has no room for the mark and gets a plus around it, which is not
/// printed.
fn wrapped(expr: DurationExpr, span: Span) -> DurationExpr {
    if matches!(expr.kind, DurationKind::Number(_)) {
        let kind = DurationKind::Unary(UnaryOp::Plus, Box::new(expr));
        return DurationExpr { kind, wrapped: true, span };
    }
    DurationExpr { wrapped: true, ..expr }
}

fn argument(expr: DurationExpr) -> DurationArg {
    match expr.kind {
        DurationKind::Number(literal) => DurationArg::Fixed(literal_ms(literal.value)),
        _ => DurationArg::Expr(Box::new(expr)),
    }
}
