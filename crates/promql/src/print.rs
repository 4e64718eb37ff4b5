//! The canonical text of an expression: what Prometheus' `String()` gives.

use std::fmt::{self, Display, Formatter, Write};

use model::MatchOp;

use crate::ast::{
    Aggregate, At, Binary, Cardinality, DurationArg, DurationExpr, DurationKind, DurationOp, Expr,
    LabelMatcher, MatrixSelector, NumberLiteral, Subquery, Text, UnaryOp, VectorSelector,
};
use crate::duration::{format_ms, printed_ms};
use crate::quote::{push_quoted, quoted};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number(it) => it.fmt(f),
            Expr::String(it) => f.write_str(&quoted(it.value.as_bytes())),
            Expr::Vector(it) => it.fmt(f),
            Expr::Matrix(it) => it.fmt(f),
            Expr::Subquery(it) => write!(f, "{}{}", it.expr, SubquerySuffix(it)),
            Expr::Call(it) => {
                write!(f, "{}(", it.function.name)?;
                for (index, arg) in it.args.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    arg.fmt(f)?;
                }
                f.write_char(')')
            }
            Expr::Aggregate(it) => {
                write!(f, "{}(", AggregateHead(it))?;
                if let Some(param) = &it.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", it.expr)
            }
            Expr::Binary(it) => write!(f, "{} {} {}", it.lhs, BinaryHead(it), it.rhs),
            Expr::Unary(it) => write!(f, "{}{}", it.op.as_str(), it.expr),
            Expr::Paren(it) => write!(f, "({})", it.expr),
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.duration {
            return f.write_str(&model::float::format_promql_literal(self.value));
        }
        if self.value < 0.0 {
            f.write_char('-')?;
        }
        f.write_str(&format_ms(printed_ms(self.value.abs())))
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_selected(self, f)?;
        write_at(self.at, f)?;
        write_extension(self, f)?;
        write_offset(&self.offset, f)
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_selected(&self.selector, f)?;
        write!(f, "[{}]", self.range)?;
        write_extension(&self.selector, f)?;
        write_at(self.selector.at, f)?;
        write_offset(&self.selector.offset, f)
    }
}

/// The name and the matchers.
fn write_selected(selector: &VectorSelector, f: &mut Formatter<'_>) -> fmt::Result {
    let name = selector.name.as_ref();
    if let Some(name) = name {
        f.write_str(&name.to_str_lossy())?;
    }
    // A matcher that says what the name says already is left out.
    let is_name = |it: &LabelMatcher| {
        it.name == "__name__"
            && it.op == MatchOp::Equal
            && Some(&it.value) == name
            && !it.value.as_bytes().is_empty()
    };
    let shown = selector.matchers.iter().filter(|it| !is_name(it));
    let mut shown: Vec<String> = shown.map(ToString::to_string).collect();
    if shown.is_empty() {
        return Ok(());
    }
    shown.sort_unstable();
    write!(f, "{{{}}}", shown.join(","))
}

impl Display for LabelMatcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        push_label(&mut out, &self.name);
        out.push_str(match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        });
        push_quoted(&mut out, self.value.as_bytes());
        f.write_str(&out)
    }
}

/// Appends a label's name, in quotes unless it has the old, narrow form.
fn push_label(out: &mut String, name: &Text) {
    match name.as_str().filter(|it| is_plain_label(it)) {
        Some(plain) => out.push_str(plain),
        None => push_quoted(out, name.as_bytes()),
    }
}

fn is_plain_label(name: &str) -> bool {
    let begins = name.bytes().next().is_some_and(|it| it == b'_' || it.is_ascii_alphabetic());
    begins && name.bytes().all(|it| it == b'_' || it.is_ascii_alphanumeric())
}

/// Labels in parentheses, with a space before them.
struct Labels<'a>(&'a [String]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut out = String::from(" (");
        for (index, name) in self.0.iter().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            if is_plain_label(name) {
                out.push_str(name);
            } else {
                push_quoted(&mut out, name.as_bytes());
            }
        }
        out.push(')');
        f.write_str(&out)
    }
}

fn write_at(at: Option<At>, f: &mut Formatter<'_>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        Some(At::Time(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
    }
}

fn write_extension(selector: &VectorSelector, f: &mut Formatter<'_>) -> fmt::Result {
    match (selector.anchored, selector.smoothed) {
        (true, _) => f.write_str(" anchored"),
        (_, true) => f.write_str(" smoothed"),
        _ => Ok(()),
    }
}

fn write_offset(offset: &DurationArg, f: &mut Formatter<'_>) -> fmt::Result {
    match offset {
        DurationArg::Fixed(0) => Ok(()),
        DurationArg::Fixed(ms) if *ms < 0 => {
            write!(f, " offset -{}", format_ms(ms.saturating_neg()))
        }
        other => write!(f, " offset {other}"),
    }
}

impl Display for DurationArg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DurationArg::Fixed(ms) => f.write_str(&format_ms(*ms)),
            DurationArg::Expr(expr) => expr.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_char('(')?;
        }
        match &self.kind {
            DurationKind::Number(it) => it.fmt(f)?,
            DurationKind::Step => f.write_str("step()")?,
            DurationKind::Range => f.write_str("range()")?,
            DurationKind::Unary(UnaryOp::Plus, it) => it.fmt(f)?,
            DurationKind::Unary(UnaryOp::Minus, it) => write!(f, "-{it}")?,
            DurationKind::Binary(op @ (DurationOp::MinOf | DurationOp::MaxOf), lhs, rhs) => {
                write!(f, "{}({lhs}, {rhs})", op.as_str())?;
            }
            DurationKind::Binary(op, lhs, rhs) => write!(f, "{lhs} {} {rhs}", op.as_str())?,
        }
        if self.wrapped {
            f.write_char(')')?;
        }
        Ok(())
    }
}

/// What stands behind the expression of a subquery.
pub(crate) struct SubquerySuffix<'a>(pub(crate) &'a Subquery);

impl Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let subquery = self.0;
        write!(f, "[{}:", subquery.range)?;
        if subquery.step != DurationArg::Fixed(0) {
            subquery.step.fmt(f)?;
        }
        f.write_char(']')?;
        write_at(subquery.at, f)?;
        write_offset(&subquery.offset, f)
    }
}

/// The keyword of an aggregation with its labels.
pub(crate) struct AggregateHead<'a>(pub(crate) &'a Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let aggregate = self.0;
        f.write_str(aggregate.op.as_str())?;
        if aggregate.without {
            return write!(f, " without{} ", Labels(&aggregate.grouping));
        }
        if !aggregate.grouping.is_empty() {
            return write!(f, " by{} ", Labels(&aggregate.grouping));
        }
        Ok(())
    }
}

/// An operator with everything that says how its sides meet.
pub(crate) struct BinaryHead<'a>(pub(crate) &'a Binary);

impl Display for BinaryHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        let Some(matching) = &self.0.matching else { return Ok(()) };
        let group = match matching.cardinality {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !matching.labels.is_empty() || matching.on || group.is_some() {
            let keyword = if matching.on { "on" } else { "ignoring" };
            write!(f, " {keyword}{}", Labels(&matching.labels))?;
        }
        if let Some(group) = group {
            write!(f, " {group}{}", Labels(&matching.include))?;
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left == right => write!(f, " fill ({})", GoFloat(left)),
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", GoFloat(left))?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({})", GoFloat(right))?;
                }
                Ok(())
            }
        }
    }
}

/// A number as Go's `%v` prints it.
struct GoFloat(f64);

impl Display for GoFloat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        model::float::append_g(&mut text, self.0);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}
