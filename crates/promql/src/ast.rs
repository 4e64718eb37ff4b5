//! The syntax tree of a PromQL expression.
//!
//! The parser gives a tree that is already checked: argument counts and types fit, modifiers stand
//! where they may stand, and its height is at most the parser's `Options::depth_max`, so that
//! code that walks it by recursion (also `drop`) has a bounded stack. Matchers are kept as text;
//! whoever evaluates compiles them. There is no node for step invariance: that is the evaluator's
//! own knowledge.

use std::borrow::Cow;
use std::fmt;

use model::regex::RegexError;
use model::{MatchOp, Matcher};

use crate::functions::Function;

/// A half-open range of byte positions in the text that was parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The range of `start..end`.
    pub fn new(start: u32, end: u32) -> Span {
        Span { start, end }
    }

    /// From the start of this to the end of the other.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start, end: other.end }
    }
}

/// What an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number per step.
    Scalar,
    /// An instant vector: series with one sample per step.
    Vector,
    /// A range vector: series with the samples of a window.
    Matrix,
    /// A text.
    String,
}

impl ValueType {
    /// The name in the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }

    /// The name in error texts.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

/// The value of a string literal. PromQL can write any bytes (`"\xff"`), so it need not be UTF-8.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(Vec<u8>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, unless it is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The text, with U+FFFD for what is not UTF-8.
    pub fn to_str_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Text {
        Text(bytes)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.as_bytes().to_vec())
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_str_lossy())
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `1.5`, `0x1f`, `1h30m`
    Number(NumberLiteral),
    /// `"text"`
    String(StringLiteral),
    /// `metric{label="value"} offset 5m @ end()`
    Vector(Box<VectorSelector>),
    /// `metric[5m]`
    Matrix(Box<MatrixSelector>),
    /// `(expression)[1h:5m]`
    Subquery(Box<Subquery>),
    /// `rate(…)`
    Call(Box<Call>),
    /// `sum by (job) (…)`
    Aggregate(Box<Aggregate>),
    /// `a + on (job) b`
    Binary(Box<Binary>),
    /// `-a`
    Unary(Box<Unary>),
    /// `(a)`
    Paren(Box<Paren>),
}

impl Expr {
    /// Where the expression stands.
    pub fn span(&self) -> Span {
        match self {
            Expr::Number(it) => it.span,
            Expr::String(it) => it.span,
            Expr::Vector(it) => it.span,
            Expr::Matrix(it) => it.span,
            Expr::Subquery(it) => it.span,
            Expr::Call(it) => it.span,
            Expr::Aggregate(it) => it.span,
            Expr::Binary(it) => it.span,
            Expr::Unary(it) => it.span,
            Expr::Paren(it) => it.span,
        }
    }

    /// What it evaluates to.
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Vector(_) | Expr::Aggregate(_) => ValueType::Vector,
            Expr::Matrix(_) | Expr::Subquery(_) => ValueType::Matrix,
            Expr::Call(it) => it.function.return_type,
            Expr::Binary(it) => it.value_type,
            Expr::Unary(it) => it.expr.value_type(),
            Expr::Paren(it) => it.expr.value_type(),
        }
    }

    /// The expression inside any number of parentheses.
    pub fn without_parens(&self) -> &Expr {
        let mut expr = self;
        while let Expr::Paren(paren) = expr {
            expr = &paren.expr;
        }
        expr
    }
}

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    /// The value; seconds where it was written as a duration.
    pub value: f64,
    /// Whether it was written as a duration (`5m`).
    pub duration: bool,
    /// Where it stands.
    pub span: Span,
}

/// A string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringLiteral {
    /// The value, escapes resolved.
    pub value: Text,
    /// Where it stands, quotes included.
    pub span: Span,
}

/// The condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMatcher {
    /// The label's name.
    pub name: Text,
    /// How it is compared.
    pub op: MatchOp,
    /// The text or the regular expression.
    pub value: Text,
    /// Whether a series without the label fulfils it.
    pub matches_empty: bool,
    /// Where it stands; the metric name's own place for the matcher that it stands for.
    pub span: Span,
}

impl LabelMatcher {
    /// The condition as storages take it; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// [`RegexError`] for a text that is no regular expression where one has to be.
    pub fn compile(&self) -> Result<Matcher, RegexError> {
        Matcher::new(self.op, &self.name.to_str_lossy(), &self.value.to_str_lossy())
    }
}

/// A time that stands in `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A timestamp in ms.
    Time(i64),
    /// The first step of the query.
    Start,
    /// The last step of the query.
    End,
}

/// A duration where a selector takes one.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationArg {
    /// Milliseconds. Zero as an offset is the same as none, zero as a subquery's step asks for the
    /// default step.
    Fixed(i64),
    /// Known once step and range of the query are; the duration module resolves it.
    Expr(Box<DurationExpr>),
}

impl DurationArg {
    /// The milliseconds, if they are known.
    pub fn fixed_ms(&self) -> Option<i64> {
        match self {
            DurationArg::Fixed(ms) => Some(*ms),
            DurationArg::Expr(_) => None,
        }
    }
}

/// Selects series.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name, when it was given; `matchers` has it too.
    pub name: Option<Text>,
    /// All conditions as given; the one of a name before the braces is the last.
    pub matchers: Vec<LabelMatcher>,
    /// `offset`: how far back to look, in ms.
    pub offset: DurationArg,
    /// `@`
    pub at: Option<At>,
    /// `anchored`
    pub anchored: bool,
    /// `smoothed`
    pub smoothed: bool,
    /// Where it stands, modifiers included (for a range selector: up to the bracket).
    pub span: Span,
}

/// Selects the samples of a window. The modifiers are those of `selector`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// Which series.
    pub selector: VectorSelector,
    /// The length of the window.
    pub range: DurationArg,
    /// Where it stands, modifiers included.
    pub span: Span,
}

/// Evaluates an instant vector at many times inside a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// The length of the window.
    pub range: DurationArg,
    /// The distance of the evaluations; 0 is the default step.
    pub step: DurationArg,
    /// `offset`
    pub offset: DurationArg,
    /// `@`
    pub at: Option<At>,
    /// Where it stands, modifiers included.
    pub span: Span,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Arguments, counted and typed as the function wants them.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub span: Span,
}

/// How an aggregation folds a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Avg,
    Bottomk,
    Count,
    CountValues,
    Group,
    LimitRatio,
    Limitk,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    Topk,
}

impl AggregateOp {
    /// The keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Avg => "avg",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::Count => "count",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Group => "group",
            AggregateOp::LimitRatio => "limit_ratio",
            AggregateOp::Limitk => "limitk",
            AggregateOp::Max => "max",
            AggregateOp::Min => "min",
            AggregateOp::Quantile => "quantile",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Sum => "sum",
            AggregateOp::Topk => "topk",
        }
    }

    /// The type of the parameter before the vector; `None` where there is none.
    pub fn parameter(self) -> Option<ValueType> {
        match self {
            AggregateOp::CountValues => Some(ValueType::String),
            AggregateOp::Bottomk
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio
            | AggregateOp::Quantile
            | AggregateOp::Topk => Some(ValueType::Scalar),
            _ => None,
        }
    }

    /// Whether it needs the option for experimental functions.
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

/// An aggregation over groups of series.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// How a group is folded.
    pub op: AggregateOp,
    /// What is aggregated, an instant vector.
    pub expr: Expr,
    /// The parameter, of [`AggregateOp::parameter`]'s type.
    pub param: Option<Expr>,
    /// The labels of `by` or `without`, as given.
    pub grouping: Vec<String>,
    /// Whether `grouping` is what is taken away.
    pub without: bool,
    /// Where it stands.
    pub span: Span,
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    /// `</`: keeps the part of a histogram below the scalar.
    TrimUpper,
    /// `>/`: keeps the part of a histogram above the scalar.
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// The operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Gt => ">",
            BinaryOp::Lt => "<",
            BinaryOp::Ge => ">=",
            BinaryOp::Le => "<=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Gt | BinaryOp::Lt | BinaryOp::Ge | BinaryOp::Le
        )
    }

    /// Whether it is `and`, `or` or `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// How many series of one side meet how many of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// One with one.
    OneToOne,
    /// `group_left`: many of the left with one of the right.
    ManyToOne,
    /// `group_right`: one of the left with many of the right.
    OneToMany,
    /// The set operators.
    ManyToMany,
}

impl Cardinality {
    /// The name in the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        }
    }
}

/// How the series of two instant vectors find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    /// How many meet how many.
    pub cardinality: Cardinality,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether `labels` is `on`.
    pub on: bool,
    /// Labels of the one side that `group_left` or `group_right` puts into the result.
    pub include: Vec<String>,
    /// `fill_left`: what stands for a missing series of the left side.
    pub fill_left: Option<f64>,
    /// `fill_right`: what stands for a missing series of the right side.
    pub fill_right: Option<f64>,
}

/// A binary operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// The left side.
    pub lhs: Expr,
    /// The right side.
    pub rhs: Expr,
    /// How the series meet; set exactly when both sides are instant vectors.
    pub matching: Option<VectorMatching>,
    /// `bool`: a comparison gives 0 or 1 and filters nothing.
    pub return_bool: bool,
    /// Scalar when both sides are, else vector.
    pub value_type: ValueType,
    /// Where it stands.
    pub span: Span,
}

/// A sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

impl UnaryOp {
    /// The sign as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            UnaryOp::Plus => "+",
            UnaryOp::Minus => "-",
        }
    }
}

/// A sign before a scalar or an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    /// The sign.
    pub op: UnaryOp,
    /// What it stands before.
    pub expr: Expr,
    /// Where it stands.
    pub span: Span,
}

/// An expression in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Expr,
    /// Where it stands, parentheses included.
    pub span: Span,
}

/// A duration that is computed. Numbers are seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    /// What it is.
    pub kind: DurationKind,
    /// Whether it stands in parentheses.
    pub wrapped: bool,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of [`DurationExpr`].
#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    /// A number or duration.
    Number(NumberLiteral),
    /// `step()`: the step of the query; 0 in an instant query.
    Step,
    /// `range()`: from the first step of the query to the last.
    Range,
    /// A sign.
    Unary(UnaryOp, Box<DurationExpr>),
    /// An operation on two.
    Binary(DurationOp, Box<DurationExpr>, Box<DurationExpr>),
}

/// An operator of duration expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

impl DurationOp {
    /// The operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            DurationOp::Add => "+",
            DurationOp::Sub => "-",
            DurationOp::Mul => "*",
            DurationOp::Div => "/",
            DurationOp::Mod => "%",
            DurationOp::Pow => "^",
            DurationOp::MinOf => "min_of",
            DurationOp::MaxOf => "max_of",
        }
    }
}
