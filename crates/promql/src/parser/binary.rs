//! Binary operators, and how the series of their sides meet.

use super::{Parsed, Parser, Tree, span_of};
use crate::ast::{Binary, BinaryOp, Cardinality, Expr, Span, UnaryOp, ValueType, VectorMatching};
use crate::quote::quoted;
use crate::token::Kind;

/// What stands between an operator and its right side.
struct Modifiers {
    return_bool: bool,
    matching: VectorMatching,
}

impl Parser<'_> {
    /// Reads an operator that binds strongly enough and its right side. Without one the left side
    /// comes back as an error.
    pub(super) fn binary(&mut self, lhs: Tree, precedence_min: u8) -> Parsed<Result<Tree, Tree>> {
        let Kind::Operator(op) = self.peek()?.kind else { return Ok(Err(lhs)) };
        let precedence = precedence(op);
        if precedence < precedence_min {
            return Ok(Err(lhs));
        }
        self.take()?;
        let modifiers = self.binary_modifiers()?;
        // All operators but the power group from the left.
        let rhs = self.expr(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
        let height = lhs.height.max(rhs.height);
        let (lhs, rhs) = (lhs.expr, rhs.expr);
        let span = lhs.span().to(rhs.span());
        let matching = modifiers.matching;
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if fills && !self.options.fill_modifiers {
            return self.problem(span, "binop fill modifiers are experimental and not enabled");
        }
        let scalars = [lhs.value_type(), rhs.value_type()] == [ValueType::Scalar; 2];
        let binary = Binary {
            op,
            lhs,
            rhs,
            matching: Some(matching),
            return_bool: modifiers.return_bool,
            value_type: if scalars { ValueType::Scalar } else { ValueType::Vector },
            span,
        };
        self.grow(Expr::Binary(Box::new(binary)), height).map(Ok)
    }

    fn binary_modifiers(&mut self) -> Parsed<Modifiers> {
        let return_bool = self.take_if(Kind::Bool)?.is_some();
        let mut matching = VectorMatching {
            cardinality: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let kind = self.peek()?.kind;
        if matches!(kind, Kind::On | Kind::Ignoring) {
            self.take()?;
            matching.on = kind == Kind::On;
            (matching.labels, _) = self.grouping()?;
            let kind = self.peek()?.kind;
            if matches!(kind, Kind::GroupLeft | Kind::GroupRight) {
                self.take()?;
                matching.cardinality = if kind == Kind::GroupLeft {
                    Cardinality::ManyToOne
                } else {
                    Cardinality::OneToMany
                };
                // Whatever can follow a modifier without labels goes on, all else is taken for
                // labels that are wrong.
                let next = self.peek()?.kind;
                if next == Kind::LeftParen || !(next.begins_expr() || next.is_fill()) {
                    (matching.include, _) = self.grouping()?;
                }
            }
        }
        self.fill(&mut matching)?;
        Ok(Modifiers { return_bool, matching })
    }

    fn fill(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        match self.peek()?.kind {
            Kind::Fill => {
                let value = Some(self.fill_value()?);
                (matching.fill_left, matching.fill_right) = (value, value);
            }
            Kind::FillLeft => {
                matching.fill_left = Some(self.fill_value()?);
                if self.peek()?.kind == Kind::FillRight {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            Kind::FillRight => {
                matching.fill_right = Some(self.fill_value()?);
                if self.peek()?.kind == Kind::FillLeft {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.take()?;
        self.expect(Kind::LeftParen)?;
        let sign = match self.peek()?.kind {
            Kind::Operator(BinaryOp::Add) => Some(UnaryOp::Plus),
            Kind::Operator(BinaryOp::Sub) => Some(UnaryOp::Minus),
            _ => None,
        };
        if sign.is_some() {
            self.take()?;
        }
        let value = match self.peek()?.kind {
            Kind::Number | Kind::Duration => self.number()?.value,
            _ => return Err(super::Failure::Unexpected),
        };
        self.expect(Kind::RightParen)?;
        Ok(if sign == Some(UnaryOp::Minus) { -value } else { value })
    }

    /// A list of labels in parentheses, and where it closes.
    pub(super) fn grouping(&mut self) -> Parsed<(Vec<String>, Span)> {
        const RULE: &str = "grouping opts";
        let parsed = self.expect(Kind::LeftParen);
        self.within(parsed, RULE, "\"(\"")?;
        let mut labels = Vec::new();
        loop {
            if let Some(close) = self.take_if(Kind::RightParen)? {
                return Ok((labels, span_of(close)));
            }
            let parsed = self.grouping_label();
            labels.push(self.within(parsed, RULE, "label")?);
            if let Some(close) = self.take_if(Kind::RightParen)? {
                return Ok((labels, span_of(close)));
            }
            let parsed = self.expect(Kind::Comma);
            self.within(parsed, RULE, "\",\" or \")\"")?;
        }
    }

    fn grouping_label(&mut self) -> Parsed<String> {
        let token = self.peek()?;
        let name = match token.kind {
            Kind::String => self.unquote(token).as_bytes().to_vec(),
            kind if kind.is_label_name() => token.text(self.text).to_vec(),
            _ => return Err(super::Failure::Unexpected),
        };
        self.ahead = None;
        match String::from_utf8(name) {
            Ok(name) if !name.is_empty() => Ok(name),
            other => {
                let bytes = other.map_or_else(|error| error.into_bytes(), String::into_bytes);
                let message = format!("invalid label name for grouping: {}", quoted(&bytes));
                self.problem(span_of(token), message)
            }
        }
    }
}

/// How strongly an operator binds, from 1; the sign is between the product and the power.
fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Gt
        | BinaryOp::Lt
        | BinaryOp::Ge
        | BinaryOp::Le
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => 7,
    }
}
