//! The parser of Go's RE2 syntax, with Go's error texts.
//!
//! No recursion: open groups lie on a stack of frames. What is refused follows from Go's
//! `regexp/syntax` with the flags `Perl | DotNL`, which is what Prometheus parses with.

use std::collections::HashSet;

use crate::regex::RegexError;
use crate::regex::ast::{Ast, Look, Node, NodeId};
use crate::regex::{class, escape};

/// Highest count of a repetition, also when nested repetitions are multiplied.
const REPEAT_MAX: u32 = 1000;
/// Highest tree.
const HEIGHT_MAX: u32 = 1000;
/// Most instructions, Go's bound: 128 MiB of 40 bytes each.
const SIZE_MAX: u64 = (128 << 20) / 40;

const MISSING_OPERAND: &str = "missing argument to repetition operator";
const PERL: &str = "invalid or unsupported Perl syntax";
const NESTS: &str = "expression nests too deeply";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_newline: bool,
}

/// An open group, or the whole expression.
#[derive(Debug)]
struct Frame<'p> {
    /// Flags to go back to when the group closes.
    outer: Flags,
    capture: bool,
    alternatives: Vec<NodeId>,
    items: Vec<NodeId>,
    /// Where the alternative began, and the flags there: together they decide its meaning.
    begin: (usize, Flags),
    seen: HashSet<(&'p str, Flags)>,
}

struct Parser<'p> {
    pattern: &'p str,
    at: usize,
    flags: Flags,
    ast: Ast,
    frames: Vec<Frame<'p>>,
    /// Where the repetition just before this place began.
    last_repeat: Option<usize>,
}

/// Parses an expression.
pub(super) fn parse(pattern: &str) -> Result<Ast, RegexError> {
    let flags = Flags { fold: false, multi_line: false, dot_newline: true };
    let mut parser =
        Parser { pattern, at: 0, flags, ast: Ast::default(), frames: vec![], last_repeat: None };
    parser.open(false);
    while parser.at < pattern.len() {
        let repeat = parser.step()?;
        parser.last_repeat = repeat;
    }
    parser.finish()
}

impl<'p> Parser<'p> {
    fn rest(&self) -> &'p str {
        &self.pattern[self.at..]
    }

    fn error<T>(&self, reason: &'static str, quoted: &str) -> Result<T, RegexError> {
        Err(RegexError::new(reason, quoted))
    }

    /// Reads one piece; tells where it began if it was a repetition.
    fn step(&mut self) -> Result<Option<usize>, RegexError> {
        let begin = self.at;
        match self.pattern.as_bytes()[begin] {
            b'(' if self.rest().starts_with("(?") => self.perl_group()?,
            b'(' => {
                self.at += 1;
                self.open(true);
            }
            b'|' => {
                self.close_alternative(true)?;
                self.at += 1;
                self.frame().begin = (begin + 1, self.flags);
            }
            b')' => self.close()?,
            b'^' => {
                let line = self.flags.multi_line;
                self.look(if line { Look::StartLine } else { Look::StartText }, 1)?;
            }
            b'$' => {
                let line = self.flags.multi_line;
                self.look(if line { Look::EndLine } else { Look::EndText }, 1)?;
            }
            b'.' => {
                let newline = class::from_code_points(&[(0x0a, 0x0a)]);
                let every = self.flags.dot_newline;
                let class = if every { class::any() } else { class::negated(newline, true) };
                self.item(Node::Class(class), 1)?;
            }
            b'[' => {
                let (class, length) = escape::bracket_class(self.rest(), self.flags.fold)?;
                self.item(Node::Class(class), length)?;
            }
            b'*' => return self.repeat(0, None, 1),
            b'+' => return self.repeat(1, None, 1),
            b'?' => return self.repeat(0, Some(1), 1),
            b'{' => return self.counted(),
            b'\\' => self.backslash()?,
            _ => {
                let next = self.rest().chars().next().unwrap_or_default();
                self.literal(u32::from(next), next.len_utf8())?;
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> &mut Frame<'p> {
        if self.frames.is_empty() {
            self.open(false);
        }
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn open(&mut self, capture: bool) {
        self.frames.push(Frame {
            outer: self.flags,
            capture,
            alternatives: Vec::new(),
            items: Vec::new(),
            begin: (self.at, self.flags),
            seen: HashSet::new(),
        });
    }

    fn item(&mut self, node: Node, length: usize) -> Result<(), RegexError> {
        let id = self.ast.push(node);
        self.frame().items.push(id);
        self.at += length;
        self.check(id)
    }

    fn check(&self, id: NodeId) -> Result<(), RegexError> {
        if self.ast.size(id) > SIZE_MAX {
            return self.error("expression too large", self.pattern);
        }
        if self.ast.height(id) > HEIGHT_MAX {
            return self.error(NESTS, self.pattern);
        }
        Ok(())
    }

    fn look(&mut self, look: Look, length: usize) -> Result<(), RegexError> {
        self.item(Node::Look(look), length)
    }

    fn literal(&mut self, code: u32, length: usize) -> Result<(), RegexError> {
        // A surrogate can only be written as an escape; as a text it is the replacement character.
        let code = char::from_u32(code).map_or(0xfffd, u32::from);
        let exact = class::from_code_points(&[(code, code)]);
        let class = class::folded(exact.clone(), self.flags.fold);
        let alone = class.ranges().len() == 1 && class == exact;
        let node = match char::from_u32(code) {
            Some(only) if alone => Node::Text(only.to_string()),
            _ => Node::Class(class),
        };
        self.item(node, length)
    }

    fn backslash(&mut self) -> Result<(), RegexError> {
        let rest = self.rest();
        match rest.as_bytes().get(1) {
            Some(b'A') => return self.look(Look::StartText, 2),
            Some(b'z') => return self.look(Look::EndText, 2),
            Some(b'b') => return self.look(Look::WordBoundary, 2),
            Some(b'B') => return self.look(Look::NotWordBoundary, 2),
            Some(b'C') => return self.error("invalid escape sequence", &rest[..2]),
            Some(b'Q') => return self.quoted(),
            _ => {}
        }
        let fold = self.flags.fold;
        if let Some((class, length)) = escape::unicode_class(rest, fold)? {
            return self.item(Node::Class(class), length);
        }
        if let Some((class, length)) = escape::perl_class(rest, fold) {
            return self.item(Node::Class(class), length);
        }
        let (code, length) = escape::single(rest)?;
        self.literal(code, length)
    }

    /// `\Q…\E`, where the end may be missing.
    fn quoted(&mut self) -> Result<(), RegexError> {
        let text = &self.rest()[2..];
        let (text, end) = match text.find(r"\E") {
            Some(length) => (&text[..length], self.at + length + 4),
            None => (text, self.pattern.len()),
        };
        for each in text.chars() {
            self.literal(u32::from(each), 0)?;
        }
        self.at = end;
        Ok(())
    }

    /// `{n}`, `{n,}`, `{n,m}`; anything else is a literal brace.
    fn counted(&mut self) -> Result<Option<usize>, RegexError> {
        let Some((min, max, length)) = counts(self.rest()) else {
            self.literal(u32::from('{'), 1)?;
            return Ok(None);
        };
        let over = |count: Option<u32>| count.is_some_and(|it| it > REPEAT_MAX);
        if over(Some(min)) || over(max) || max.is_some_and(|max| max < min) {
            return self.error("invalid repeat count", &self.rest()[..length]);
        }
        self.repeat(min, max, length)
    }

    fn repeat(
        &mut self,
        min: u32,
        max: Option<u32>,
        length: usize,
    ) -> Result<Option<usize>, RegexError> {
        let begin = self.at;
        self.at += length;
        self.at += usize::from(self.rest().starts_with('?'));
        let quoted = &self.pattern[begin..self.at];
        if let Some(last) = self.last_repeat {
            let both = &self.pattern[last..self.at];
            return self.error("invalid nested repetition operator", both);
        }
        let Some(sub) = self.frame().items.pop() else {
            return self.error(MISSING_OPERAND, quoted);
        };
        let id = self.ast.push(Node::Repeat { sub, min, max });
        self.frame().items.push(id);
        self.check(id)?;
        let many = min >= 2 || max.is_some_and(|max| max >= 2);
        if many && !self.repeat_is_valid(id, REPEAT_MAX) {
            return self.error("invalid repeat count", quoted);
        }
        Ok(Some(begin))
    }

    /// Whether no path down from a node multiplies counted repetitions beyond `limit`.
    fn repeat_is_valid(&self, id: NodeId, limit: u32) -> bool {
        let mut open = vec![(id, limit)];
        while let Some((id, limit)) = open.pop() {
            match self.ast.node(id) {
                Node::Repeat { sub, min, max } => {
                    // Go spells `*`, `+` and `?` by operators of their own, which do not count.
                    let plain = matches!((min, max), (0 | 1, None) | (0, Some(1)));
                    let count = if plain { 1 } else { max.unwrap_or(*min) };
                    if count > limit {
                        return false;
                    }
                    if plain || count > 0 {
                        open.push((*sub, limit / count.max(1)));
                    }
                }
                Node::Concat(items) | Node::Alternate(items) => {
                    open.extend(items.iter().map(|&it| (it, limit)));
                }
                Node::Capture(sub) => open.push((*sub, limit)),
                Node::Empty | Node::Text(_) | Node::Class(_) | Node::Look(_) => {}
            }
        }
        true
    }

    /// `(?P<name>`, `(?<name>`, `(?flags)`, `(?flags:`.
    fn perl_group(&mut self) -> Result<(), RegexError> {
        let rest = self.rest();
        let name_at = match rest.as_bytes() {
            [_, _, b'P', b'<', _, ..] => 4,
            [_, _, b'<', _, ..] => 3,
            _ => return self.flag_group(),
        };
        const NAME: &str = "invalid named capture";
        let Some(end) = rest.find('>') else { return self.error(NAME, rest) };
        let name = &rest[name_at..end];
        if name.is_empty() || !name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_') {
            return self.error(NAME, &rest[..=end]);
        }
        self.at += end + 1;
        self.open(true);
        Ok(())
    }

    fn flag_group(&mut self) -> Result<(), RegexError> {
        let rest = self.rest();
        let mut flags = self.flags;
        let (mut on, mut saw_flag) = (true, false);
        let mut length = 2;
        for each in rest[2..].chars() {
            length += each.len_utf8();
            match each {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => {}
                '-' if on => {
                    (on, saw_flag) = (false, false);
                    continue;
                }
                ':' | ')' if on || saw_flag => {
                    self.at += length;
                    if each == ':' {
                        self.open(false);
                        self.frame().begin.1 = flags;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            saw_flag = true;
        }
        self.error(PERL, &rest[..length])
    }

    /// Ends the alternative being read; one that was there already, letter by letter and under
    /// the same flags, is left out.
    fn close_alternative(&mut self, more: bool) -> Result<(), RegexError> {
        let at = self.at;
        let pattern = self.pattern;
        let frame = self.frame();
        let items = std::mem::take(&mut frame.items);
        let (begin, flags) = frame.begin;
        let key = (&pattern[begin..at], flags);
        if frame.seen.contains(&key) {
            return Ok(());
        }
        if more {
            frame.seen.insert(key);
        }
        let id = self.ast.concat(items);
        self.frame().alternatives.push(id);
        self.check(id)
    }

    fn close(&mut self) -> Result<(), RegexError> {
        self.close_alternative(false)?;
        if self.frames.len() < 2 {
            return self.error("unexpected )", self.pattern);
        }
        let Some(frame) = self.frames.pop() else {
            return self.error("unexpected )", self.pattern);
        };
        self.flags = frame.outer;
        let mut id = self.ast.alternate(frame.alternatives);
        self.check(id)?;
        if frame.capture {
            id = self.ast.push(Node::Capture(id));
            self.check(id)?;
        }
        self.at += 1;
        self.frame().items.push(id);
        Ok(())
    }

    fn finish(mut self) -> Result<Ast, RegexError> {
        self.close_alternative(false)?;
        if self.frames.len() > 1 {
            return self.error("missing closing )", self.pattern);
        }
        let alternatives = std::mem::take(&mut self.frame().alternatives);
        let root = self.ast.alternate(alternatives);
        self.check(root)?;
        // Prometheus compiles the expression once more between anchors, one level deeper.
        let wrapped = matches!(self.ast.node(root), Node::Concat(_));
        if self.ast.height(root) + u32::from(!wrapped) > HEIGHT_MAX {
            return self.error(NESTS, &format!("^(?s:{})$", self.pattern));
        }
        self.ast.set_root(root);
        Ok(self.ast)
    }
}

/// The counts of `{n}`, `{n,}` or `{n,m}` at the front of a text, and the length of the whole.
fn counts(text: &str) -> Option<(u32, Option<u32>, usize)> {
    let bytes = text.as_bytes();
    let (min, mut at) = count(bytes, 1)?;
    let mut max = Some(min);
    if bytes.get(at) == Some(&b',') {
        at += 1;
        if bytes.get(at) == Some(&b'}') {
            max = None;
        } else {
            let (count, end) = count(bytes, at)?;
            (max, at) = (Some(count), end);
        }
    }
    (bytes.get(at) == Some(&b'}')).then_some((min, max, at + 1))
}

/// A count without leading zeros; one that is far too large comes back as the largest.
fn count(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let digits = bytes.get(at..)?.iter().take_while(|it| it.is_ascii_digit()).count();
    if digits == 0 || (digits > 1 && bytes[at] == b'0') {
        return None;
    }
    let text = std::str::from_utf8(&bytes[at..at + digits]).ok()?;
    Some((text.parse().unwrap_or(u32::MAX), at + digits))
}
