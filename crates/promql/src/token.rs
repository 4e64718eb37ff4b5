//! The words of PromQL.

use crate::ast::{AggregateOp, BinaryOp};
use crate::quote::quoted;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    End,
    Comma,
    Colon,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    LeftParen,
    RightParen,
    /// `=`
    Equal,
    /// `=~`
    EqualRegex,
    /// `!~`
    NotEqualRegex,
    /// `@`
    At,
    Number,
    Duration,
    String,
    Identifier,
    MetricIdentifier,
    /// `!=` is here, also where it compares a label.
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
    EndFunction,
    MaxOf,
    MinOf,
    Range,
    Start,
    Step,
}

/// A token: its kind and the bytes where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Kind {
    /// Whether an expression can begin with it.
    pub(crate) fn begins_expr(self) -> bool {
        matches!(
            self,
            Kind::Operator(BinaryOp::Add | BinaryOp::Sub)
                | Kind::Number
                | Kind::Duration
                | Kind::String
                | Kind::LeftParen
                | Kind::LeftBrace
        ) || self.is_metric_name()
    }

    /// Whether it says what stands for missing series.
    pub(crate) fn is_fill(self) -> bool {
        matches!(self, Kind::Fill | Kind::FillLeft | Kind::FillRight)
    }

    /// Whether it can stand for a metric's name.
    pub(crate) fn is_metric_name(self) -> bool {
        matches!(
            self,
            Kind::Identifier
                | Kind::MetricIdentifier
                | Kind::Operator(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
                | Kind::Aggregate(_)
                | Kind::Anchored
                | Kind::By
                | Kind::Fill
                | Kind::FillLeft
                | Kind::FillRight
                | Kind::Offset
                | Kind::Smoothed
                | Kind::Without
                | Kind::EndFunction
                | Kind::MaxOf
                | Kind::MinOf
                | Kind::Range
                | Kind::Start
                | Kind::Step
        )
    }

    /// Whether it can stand for a label's name in a list of labels.
    pub(crate) fn is_label_name(self) -> bool {
        let only_here = matches!(
            self,
            Kind::Bool
                | Kind::GroupLeft
                | Kind::GroupRight
                | Kind::Ignoring
                | Kind::On
                | Kind::Operator(BinaryOp::Atan2)
        );
        only_here || (self.is_metric_name() && self != Kind::Without)
    }

    /// Whether it is a function's name when a parenthesis follows.
    pub(crate) fn is_function_name(self) -> bool {
        matches!(
            self,
            Kind::Identifier
                | Kind::EndFunction
                | Kind::MaxOf
                | Kind::MinOf
                | Kind::Range
                | Kind::Start
                | Kind::Step
        )
    }
}

/// The keyword that a word is, in any case; `inf` and `nan` are numbers.
pub(crate) fn keyword(word: &[u8]) -> Option<Kind> {
    const LONGEST: usize = "count_values".len();
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let kind = match lower.as_slice() {
        b"and" => Kind::Operator(BinaryOp::And),
        b"or" => Kind::Operator(BinaryOp::Or),
        b"unless" => Kind::Operator(BinaryOp::Unless),
        b"atan2" => Kind::Operator(BinaryOp::Atan2),
        b"sum" => Kind::Aggregate(AggregateOp::Sum),
        b"avg" => Kind::Aggregate(AggregateOp::Avg),
        b"count" => Kind::Aggregate(AggregateOp::Count),
        b"min" => Kind::Aggregate(AggregateOp::Min),
        b"max" => Kind::Aggregate(AggregateOp::Max),
        b"group" => Kind::Aggregate(AggregateOp::Group),
        b"stddev" => Kind::Aggregate(AggregateOp::Stddev),
        b"stdvar" => Kind::Aggregate(AggregateOp::Stdvar),
        b"topk" => Kind::Aggregate(AggregateOp::Topk),
        b"bottomk" => Kind::Aggregate(AggregateOp::Bottomk),
        b"count_values" => Kind::Aggregate(AggregateOp::CountValues),
        b"quantile" => Kind::Aggregate(AggregateOp::Quantile),
        b"limitk" => Kind::Aggregate(AggregateOp::Limitk),
        b"limit_ratio" => Kind::Aggregate(AggregateOp::LimitRatio),
        b"offset" => Kind::Offset,
        b"smoothed" => Kind::Smoothed,
        b"anchored" => Kind::Anchored,
        b"by" => Kind::By,
        b"without" => Kind::Without,
        b"on" => Kind::On,
        b"ignoring" => Kind::Ignoring,
        b"group_left" => Kind::GroupLeft,
        b"group_right" => Kind::GroupRight,
        b"fill" => Kind::Fill,
        b"fill_left" => Kind::FillLeft,
        b"fill_right" => Kind::FillRight,
        b"bool" => Kind::Bool,
        b"start" => Kind::Start,
        b"end" => Kind::EndFunction,
        b"inf" | b"nan" => Kind::Number,
        other => return duration_keyword(other),
    };
    Some(kind)
}

/// The keyword of a duration expression that a word in lower case is.
pub(crate) fn duration_keyword(lower: &[u8]) -> Option<Kind> {
    match lower {
        b"step" => Some(Kind::Step),
        b"range" => Some(Kind::Range),
        b"max_of" => Some(Kind::MaxOf),
        b"min_of" => Some(Kind::MinOf),
        _ => None,
    }
}

impl Token {
    /// The text of the token.
    pub(crate) fn text<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        input.get(self.start..self.end).unwrap_or_default()
    }

    /// How an error names the token.
    pub(crate) fn describe(&self, input: &[u8]) -> String {
        let text = self.text(input);
        let plain = || String::from_utf8_lossy(text);
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Number => format!("number {}", shortened(text)),
            Kind::Duration => format!("duration {}", shortened(text)),
            Kind::String => format!("string {}", shortened(text)),
            Kind::Identifier => format!("identifier {}", quoted(text)),
            Kind::MetricIdentifier => format!("metric identifier {}", quoted(text)),
            Kind::Operator(_) | Kind::At | Kind::EqualRegex | Kind::NotEqualRegex => {
                format!("<op:{}>", plain())
            }
            Kind::Aggregate(_) => format!("<aggr:{}>", plain()),
            Kind::Anchored
            | Kind::Bool
            | Kind::By
            | Kind::Fill
            | Kind::FillLeft
            | Kind::FillRight
            | Kind::GroupLeft
            | Kind::GroupRight
            | Kind::Ignoring
            | Kind::Offset
            | Kind::On
            | Kind::Smoothed
            | Kind::Without => format!("<{}>", plain()),
            _ => shortened(text),
        }
    }
}

/// The text in quotes, cut after ten characters when it has more than ten bytes.
fn shortened(text: &[u8]) -> String {
    const SHOWN_CHARS_MAX: usize = 10;
    if text.len() <= SHOWN_CHARS_MAX {
        return quoted(text);
    }
    let mut end = 0;
    for _ in 0..SHOWN_CHARS_MAX {
        end +=
            crate::lexer::decode(text.get(end..).unwrap_or_default()).map_or(0, |(_, width)| width);
    }
    format!("{}...", quoted(text.get(..end).unwrap_or_default()))
}
