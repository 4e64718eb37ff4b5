//! An expression over several indented lines, as the HTTP API's `format_query` gives it.

use std::fmt::{self, Write};

use crate::ast::Expr;
use crate::print::{AggregateHead, BinaryHead, SubquerySuffix};

/// What is longer is split over lines.
const LINE_BYTES_MAX: usize = 100;

/// The expression over as many lines as it needs.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    push(&mut out, expr, 0);
    out
}

fn push(out: &mut String, expr: &Expr, level: usize) {
    // Prometheus never indents a subquery that fits on its line.
    if !matches!(expr, Expr::Subquery(_) | Expr::Binary(_)) || (fits(expr) && !is_subquery(expr)) {
        indent(out, level);
    }
    if fits(expr) {
        push_text(out, format_args!("{expr}"));
        return;
    }
    match expr {
        Expr::Aggregate(it) => {
            push_text(out, format_args!("{}(\n", AggregateHead(it)));
            if let Some(param) = &it.param {
                push(out, param, level + 1);
                out.push_str(",\n");
            }
            push(out, &it.expr, level + 1);
            close(out, level);
        }
        Expr::Binary(it) => {
            push(out, &it.lhs, level + 1);
            out.push('\n');
            indent(out, level);
            push_text(out, format_args!("{}\n", BinaryHead(it)));
            push(out, &it.rhs, level + 1);
        }
        Expr::Call(it) => {
            push_text(out, format_args!("{}(\n", it.function.name));
            for (index, arg) in it.args.iter().enumerate() {
                out.push_str(if index > 0 { ",\n" } else { "" });
                push(out, arg, level + 1);
            }
            close(out, level);
        }
        Expr::Paren(it) => {
            out.push_str("(\n");
            push(out, &it.expr, level + 1);
            close(out, level);
        }
        Expr::Subquery(it) => {
            push(out, &it.expr, level);
            push_text(out, format_args!("{}", SubquerySuffix(it)));
        }
        Expr::Unary(it) => {
            out.push_str(it.op.as_str());
            // The indentation stands before the sign.
            let mut operand = String::new();
            push(&mut operand, &it.expr, level);
            out.push_str(operand.trim());
        }
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => {
            push_text(out, format_args!("{expr}"));
        }
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_))
}

fn close(out: &mut String, level: usize) {
    out.push('\n');
    indent(out, level);
    out.push(')');
}

fn indent(out: &mut String, level: usize) {
    for _ in 0..level {
        out.push_str("  ");
    }
}

fn push_text(out: &mut String, arguments: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(arguments);
}

/// Whether the canonical text is short enough for a line. Stops printing where it is not.
fn fits(expr: &Expr) -> bool {
    let mut left = Room(LINE_BYTES_MAX);
    write!(left, "{expr}").is_ok()
}

struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}
