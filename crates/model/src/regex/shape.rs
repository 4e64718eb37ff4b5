//! What an expression comes down to when it is no more than a comparison of texts.

use crate::regex::ast::{Ast, Look, Node, NodeId};
use crate::regex::class;

/// Most texts that a product of choices (`(a|b)(c|d)`) may be spelled out to.
const PRODUCT_MAX: usize = 256;
/// Longest text that a repetition is spelled out to, and longest prefix that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// A kind of expression that needs no engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One of these texts; sorted, unique.
    Set(Vec<String>),
    /// `prefix.*suffix`, and with `gap_bytes_min` 1 `prefix.+suffix`; both ends may be empty.
    Ends { prefix: String, suffix: String, gap_bytes_min: usize },
    /// `.*text.*`, where either side may be `.+`.
    Contains { text: String, before_bytes_min: usize, after_bytes_min: usize },
}

impl Shape {
    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Shape::Set(texts) => match &texts[..] {
                [one] => one == text,
                _ => texts.binary_search_by(|it| it.as_str().cmp(text)).is_ok(),
            },
            // A gap of at least one byte between two whole texts is at least one character.
            Shape::Ends { prefix, suffix, gap_bytes_min } => {
                text.len() >= prefix.len() + suffix.len() + gap_bytes_min
                    && text.starts_with(&**prefix)
                    && text.ends_with(&**suffix)
            }
            Shape::Contains { text: part, before_bytes_min, after_bytes_min } => {
                let end = text.len().saturating_sub(*after_bytes_min);
                let inner = text.as_bytes().get(*before_bytes_min..end);
                inner.is_some_and(|it| memchr::memmem::find(it, part.as_bytes()).is_some())
            }
        }
    }

    pub(super) fn prefix(&self) -> String {
        match self {
            Shape::Set(texts) => match (texts.first(), texts.last()) {
                // Between the first and the last in order, all share what those two share.
                (Some(first), Some(last)) => shared(first, last).to_owned(),
                _ => String::new(),
            },
            Shape::Ends { prefix, .. } => prefix.clone(),
            Shape::Contains { .. } => String::new(),
        }
    }

    pub(super) fn matches_everything(&self) -> bool {
        matches!(self, Shape::Ends { prefix, suffix, gap_bytes_min: 0 }
            if prefix.is_empty() && suffix.is_empty())
    }

    pub(super) fn matches_non_empty(&self) -> bool {
        matches!(self, Shape::Ends { prefix, suffix, gap_bytes_min: 1 }
            if prefix.is_empty() && suffix.is_empty())
    }
}

/// The shape of an expression, if it has one.
pub(super) fn classify(ast: &Ast) -> Option<Shape> {
    let items = unanchored(ast);
    if let Some(shape) = ends(ast, &items) {
        return Some(shape);
    }
    let mut texts = spell_concat(ast, &items)?;
    texts.sort_unstable();
    texts.dedup();
    Some(Shape::Set(texts))
}

/// A literal that every match begins with.
pub(super) fn required_prefix(ast: &Ast) -> String {
    let mut prefix = String::new();
    begin(ast, ast.root(), &mut prefix);
    prefix
}

/// The items of the whole expression without anchors at its ends, which say nothing new.
fn unanchored(ast: &Ast) -> Vec<NodeId> {
    let root = inside(ast, ast.root());
    let items = match ast.node(root) {
        Node::Concat(items) => &items[..],
        _ => &[root][..],
    };
    let is = |id: NodeId, look| matches!(ast.node(id), Node::Look(it) if *it == look);
    let begin = items.iter().take_while(|&&it| is(it, Look::StartText)).count();
    let end = items.iter().rev().take_while(|&&it| is(it, Look::EndText)).count();
    items.get(begin..items.len() - end).unwrap_or_default().to_vec()
}

fn inside(ast: &Ast, mut id: NodeId) -> NodeId {
    while let Node::Capture(sub) = ast.node(id) {
        id = *sub;
    }
    id
}

#[derive(PartialEq)]
enum Part {
    Text(String),
    Gap(usize),
}

/// The shapes made of at most three texts and gaps.
fn ends(ast: &Ast, items: &[NodeId]) -> Option<Shape> {
    let mut parts: Vec<Part> = Vec::new();
    for &item in items {
        let part = part(ast, inside(ast, item))?;
        match (parts.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(after)) => before.push_str(&after),
            (Some(Part::Gap(before)), Part::Gap(after)) => *before += after,
            (_, part) => parts.push(part),
        }
        // Two characters are not two bytes.
        if parts.len() > 3 || matches!(parts.last(), Some(Part::Gap(2..))) {
            return None;
        }
    }
    let ends = |prefix: &str, gap: &usize, suffix: &str| Shape::Ends {
        prefix: prefix.to_owned(),
        suffix: suffix.to_owned(),
        gap_bytes_min: *gap,
    };
    Some(match &parts[..] {
        [Part::Gap(gap)] => ends("", gap, ""),
        [Part::Text(text), Part::Gap(gap)] => ends(text, gap, ""),
        [Part::Gap(gap), Part::Text(text)] => ends("", gap, text),
        [Part::Text(before), Part::Gap(gap), Part::Text(after)] => ends(before, gap, after),
        [Part::Gap(before), Part::Text(text), Part::Gap(after)] => Shape::Contains {
            text: text.clone(),
            before_bytes_min: *before,
            after_bytes_min: *after,
        },
        _ => return None,
    })
}

fn part(ast: &Ast, id: NodeId) -> Option<Part> {
    match ast.node(id) {
        Node::Text(text) => Some(Part::Text(text.clone())),
        Node::Repeat { sub, min: min @ (0 | 1), max: None } => {
            let every =
                matches!(ast.node(inside(ast, *sub)), Node::Class(it) if *it == class::any());
            every.then_some(Part::Gap(usize::from(*min == 1)))
        }
        _ => None,
    }
}

/// All texts that a node matches, if they are few. Depth is bounded by the parser.
fn spell(ast: &Ast, id: NodeId) -> Option<Vec<String>> {
    match ast.node(id) {
        Node::Empty => Some(vec![String::new()]),
        Node::Text(text) => Some(vec![text.clone()]),
        Node::Capture(sub) => spell(ast, *sub),
        Node::Look(_) => None,
        Node::Class(class) => {
            let ranges = class.ranges().iter().map(|it| it.start()..=it.end());
            let texts: Vec<String> =
                ranges.flatten().take(PRODUCT_MAX + 1).map(String::from).collect();
            (texts.len() <= PRODUCT_MAX).then_some(texts)
        }
        Node::Concat(items) => spell_concat(ast, items),
        Node::Alternate(items) => {
            // Every alternative is spelled in the pattern; only products make more.
            let most = items.len() + PRODUCT_MAX;
            let mut all = Vec::new();
            for &item in items {
                all.append(&mut spell(ast, item)?);
                if all.len() > most {
                    return None;
                }
            }
            Some(all)
        }
        Node::Repeat { sub, min, max } => {
            let max = (*max)?;
            let once = spell(ast, *sub)?;
            if let ([only], true) = (&once[..], *min == max) {
                return Some(vec![only.repeat(usize::try_from(max).ok()?)]);
            }
            let mut power = vec![String::new()];
            let mut all = if *min == 0 { power.clone() } else { Vec::new() };
            for count in 1..=max {
                power = product(power, &once)?;
                if count >= *min {
                    all.extend_from_slice(&power);
                }
                if all.len() > PRODUCT_MAX {
                    return None;
                }
            }
            Some(all)
        }
    }
}

fn spell_concat(ast: &Ast, items: &[NodeId]) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    for &item in items {
        all = product(all, &spell(ast, item)?)?;
    }
    Some(all)
}

fn product(before: Vec<String>, after: &[String]) -> Option<Vec<String>> {
    if let [only] = &before[..]
        && only.is_empty()
    {
        return Some(after.to_vec());
    }
    if let [one] = after {
        let length = before.first().map_or(0, String::len) + one.len();
        let cheap = before.len() == 1 || length <= TEXT_BYTES_MAX;
        return cheap.then(|| before.into_iter().map(|it| it + one).collect());
    }
    if before.len() * after.len() > PRODUCT_MAX {
        return None;
    }
    let pairs = before.iter().flat_map(|first| after.iter().map(move |next| (first, next)));
    let all: Vec<String> = pairs.map(|(first, next)| [&**first, next].concat()).collect();
    all.iter().all(|it| it.len() <= TEXT_BYTES_MAX).then_some(all)
}

/// Appends what every match of a node begins with; true when that is all that it matches.
fn begin(ast: &Ast, id: NodeId, out: &mut String) -> bool {
    if out.len() > TEXT_BYTES_MAX {
        return false;
    }
    match ast.node(id) {
        Node::Empty => true,
        Node::Text(text) => {
            out.push_str(text);
            true
        }
        Node::Class(_) => false,
        // Nothing stands before the first character; anywhere else a condition is not a text,
        // but it takes none either.
        Node::Look(_) => true,
        Node::Capture(sub) => begin(ast, *sub, out),
        Node::Concat(items) => items.iter().all(|&it| begin(ast, it, out)),
        Node::Alternate(items) => begin_any(ast, items, out),
        Node::Repeat { min: 0, .. } => false,
        Node::Repeat { sub, min, max } => {
            (0..*min).all(|_| begin(ast, *sub, out)) && *max == Some(*min)
        }
    }
}

fn begin_any(ast: &Ast, items: &[NodeId], out: &mut String) -> bool {
    let mut common: Option<String> = None;
    for &item in items {
        let mut prefix = String::new();
        begin(ast, item, &mut prefix);
        common = Some(match common {
            None => prefix,
            Some(common) => shared(&common, &prefix).to_owned(),
        });
        if common.as_deref() == Some("") {
            return false;
        }
    }
    out.push_str(&common.unwrap_or_default());
    false
}

/// The longest text that both begin with.
fn shared<'t>(one: &'t str, other: &str) -> &'t str {
    let mut ends = one.char_indices().zip(other.chars());
    match ends.find(|((_, a), b)| a != b) {
        Some(((at, _), _)) => &one[..at],
        None => &one[..one.len().min(other.len())],
    }
}
