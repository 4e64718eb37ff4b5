//! A simulation of Thompson's automaton over characters.
//!
//! Slower than automata over bytes, but its size is the size of the expression with its counted
//! repetitions written out: a class of a thousand ranges is one instruction. It answers for
//! expressions that are too large or too high for the other engine, in time and space linear in
//! the product of both sizes.

use parking_lot::Mutex;
use regex_syntax::hir::ClassUnicode;

use crate::regex::ast::{Ast, Look, Node, NodeId};

/// Most instructions of one expression.
const STEPS_MAX: usize = 1 << 20;

#[derive(Debug)]
enum Step {
    Char(char),
    Class(u32),
    Look(Look),
    Split(u32, u32),
    Jump(u32),
    Match,
}

/// A compiled expression, anchored at both ends.
#[derive(Debug)]
pub(super) struct Nfa {
    steps: Vec<Step>,
    classes: Vec<ClassUnicode>,
    /// Working memory of the last match, for the next one.
    spare: Mutex<Option<Scratch>>,
}

#[derive(Debug)]
struct Scratch {
    now: Vec<u32>,
    next: Vec<u32>,
    open: Vec<u32>,
    /// Number of the round in which a step was last reached.
    reached: Vec<u32>,
    round: u32,
}

impl Nfa {
    /// Compiles a tree; nothing when it needs too many instructions.
    pub(super) fn new(ast: &Ast) -> Option<Nfa> {
        let mut nfa = Nfa { steps: Vec::new(), classes: Vec::new(), spare: Mutex::new(None) };
        let mut class_of = vec![None; ast.nodes().len()];
        nfa.emit(ast, ast.root(), &mut class_of)?;
        nfa.push(Step::Match)?;
        Some(nfa)
    }

    fn push(&mut self, step: Step) -> Option<u32> {
        let at = u32::try_from(self.steps.len()).ok().filter(|_| self.steps.len() < STEPS_MAX)?;
        self.steps.push(step);
        Some(at)
    }

    fn here(&self) -> Option<u32> {
        u32::try_from(self.steps.len()).ok()
    }

    /// Writes a node's steps; the depth of the recursion is bounded by the parser.
    fn emit(&mut self, ast: &Ast, id: NodeId, class_of: &mut [Option<u32>]) -> Option<()> {
        match ast.node(id) {
            Node::Empty => {}
            Node::Text(text) => {
                for each in text.chars() {
                    self.push(Step::Char(each))?;
                }
            }
            Node::Class(class) => {
                let index = match class_of[id] {
                    Some(index) => index,
                    None => {
                        self.classes.push(class.clone());
                        *class_of[id].insert(u32::try_from(self.classes.len() - 1).ok()?)
                    }
                };
                self.push(Step::Class(index))?;
            }
            Node::Look(look) => drop(self.push(Step::Look(*look))?),
            Node::Capture(sub) => self.emit(ast, *sub, class_of)?,
            Node::Concat(items) => {
                for &item in items {
                    self.emit(ast, item, class_of)?;
                }
            }
            Node::Alternate(items) => self.emit_alternate(ast, items, class_of)?,
            Node::Repeat { sub, min, max } => {
                for _ in 0..*min {
                    self.emit(ast, *sub, class_of)?;
                }
                self.emit_optional(ast, *sub, max.map(|max| max - min), class_of)?;
            }
        }
        Some(())
    }

    fn emit_alternate(
        &mut self,
        ast: &Ast,
        items: &[NodeId],
        class_of: &mut [Option<u32>],
    ) -> Option<()> {
        let mut jumps = Vec::with_capacity(items.len());
        for (index, &item) in items.iter().enumerate() {
            let last = index + 1 == items.len();
            let split = if last { None } else { Some(self.push(Step::Split(0, 0))?) };
            self.emit(ast, item, class_of)?;
            if let Some(split) = split {
                jumps.push(self.push(Step::Jump(0))?);
                self.steps[split as usize] = Step::Split(split + 1, self.here()?);
            }
        }
        let end = self.here()?;
        for jump in jumps {
            self.steps[jump as usize] = Step::Jump(end);
        }
        Some(())
    }

    /// Writes a node up to `most` times, or any number of times.
    fn emit_optional(
        &mut self,
        ast: &Ast,
        sub: NodeId,
        most: Option<u32>,
        class_of: &mut [Option<u32>],
    ) -> Option<()> {
        let mut splits = Vec::new();
        for _ in 0..most.unwrap_or(1) {
            splits.push(self.push(Step::Split(0, 0))?);
            self.emit(ast, sub, class_of)?;
        }
        if let (None, Some(&split)) = (most, splits.first()) {
            self.push(Step::Jump(split))?;
        }
        let end = self.here()?;
        for split in splits {
            self.steps[split as usize] = Step::Split(split + 1, end);
        }
        Some(())
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        let taken = self.spare.lock().take();
        let mut scratch = taken.unwrap_or_else(|| Scratch::new(self.steps.len()));
        let matched = self.run(text, &mut scratch);
        *self.spare.lock() = Some(scratch);
        matched
    }

    fn run(&self, text: &str, scratch: &mut Scratch) -> bool {
        let mut characters = text.chars().peekable();
        scratch.begin_round();
        scratch.next.clear();
        let mut matched = self.reach(0, (None, characters.peek().copied()), scratch);
        while let Some(each) = characters.next() {
            std::mem::swap(&mut scratch.now, &mut scratch.next);
            scratch.next.clear();
            if scratch.now.is_empty() {
                return false;
            }
            scratch.begin_round();
            matched = false;
            let before = Some(each);
            let around = (before, characters.peek().copied());
            for index in 0..scratch.now.len() {
                let at = scratch.now[index];
                let taken = match &self.steps[at as usize] {
                    Step::Char(it) => *it == each,
                    Step::Class(class) => contains(&self.classes[*class as usize], each),
                    _ => false,
                };
                if taken {
                    matched |= self.reach(at + 1, around, scratch);
                }
            }
        }
        matched
    }

    /// Adds to the next set all that is reached from a step without taking a character; true when
    /// the end of the expression is among it.
    fn reach(
        &self,
        from: u32,
        around: (Option<char>, Option<char>),
        scratch: &mut Scratch,
    ) -> bool {
        let mut matched = false;
        scratch.open.push(from);
        while let Some(at) = scratch.open.pop() {
            let reached = &mut scratch.reached[at as usize];
            if std::mem::replace(reached, scratch.round) == scratch.round {
                continue;
            }
            match self.steps[at as usize] {
                Step::Char(_) | Step::Class(_) => scratch.next.push(at),
                Step::Look(look) if holds(look, around) => scratch.open.push(at + 1),
                Step::Look(_) => {}
                Step::Split(one, other) => scratch.open.extend([other, one]),
                Step::Jump(to) => scratch.open.push(to),
                Step::Match => matched = true,
            }
        }
        matched
    }
}

impl Scratch {
    fn new(steps: usize) -> Scratch {
        let (now, next, open) = (Vec::new(), Vec::new(), Vec::new());
        Scratch { now, next, open, reached: vec![0; steps], round: 0 }
    }

    fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.reached.fill(0);
            self.round = 1;
        }
    }
}

fn contains(class: &ClassUnicode, each: char) -> bool {
    let ranges = class.ranges();
    let at = ranges.partition_point(|it| it.end() < each);
    ranges.get(at).is_some_and(|it| it.start() <= each)
}

fn holds(look: Look, (before, after): (Option<char>, Option<char>)) -> bool {
    let is_word = |it: Option<char>| it.is_some_and(|it| it.is_ascii_alphanumeric() || it == '_');
    match look {
        Look::StartText => before.is_none(),
        Look::EndText => after.is_none(),
        Look::StartLine => before.is_none_or(|it| it == '\n'),
        Look::EndLine => after.is_none_or(|it| it == '\n'),
        Look::WordBoundary => is_word(before) != is_word(after),
        Look::NotWordBoundary => is_word(before) == is_word(after),
    }
}
