//! The engines behind an expression that is more than a comparison of texts.

use regex_automata::meta;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_syntax::hir::{self, Hir};

use crate::regex::RegexError;
use crate::regex::ast::{Ast, Look, Node};
use crate::regex::nfa::Nfa;

/// Trees higher than this do not go to `regex-automata`, whose compiler recurses.
const AUTOMATA_HEIGHT_MAX: u32 = 150;
/// Expressions of more instructions than this do not either: their automata over bytes explode.
const AUTOMATA_SIZE_MAX: u64 = 20_000;
/// Most bytes of an automaton before the slower engine takes over.
const AUTOMATA_BYTES_MAX: usize = 8 << 20;
/// Most bytes of the lazily built tables, for each thread that matches.
const AUTOMATA_CACHE_BYTES_MAX: usize = 1 << 20;

/// A compiled expression, anchored at both ends.
#[derive(Debug)]
pub(super) enum Engine {
    /// Automata over bytes: fast.
    Automata(Box<meta::Regex>),
    /// A simulation over characters: small, for what would be too large otherwise.
    Simulation(Nfa),
}

impl Engine {
    pub(super) fn new(ast: &Ast, pattern: &str) -> Result<Engine, RegexError> {
        let small = ast.height(ast.root()) <= AUTOMATA_HEIGHT_MAX
            && ast.size(ast.root()) <= AUTOMATA_SIZE_MAX;
        if small && let Some(regex) = automata(ast) {
            return Ok(Engine::Automata(Box::new(regex)));
        }
        let nfa = Nfa::new(ast).ok_or_else(|| RegexError::new("expression too large", pattern))?;
        Ok(Engine::Simulation(nfa))
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Engine::Automata(regex) => regex.is_match(text),
            Engine::Simulation(nfa) => nfa.is_match(text),
        }
    }
}

fn automata(ast: &Ast) -> Option<meta::Regex> {
    let config = meta::Config::new()
        .which_captures(WhichCaptures::Implicit)
        .nfa_size_limit(Some(AUTOMATA_BYTES_MAX))
        .hybrid_cache_capacity(AUTOMATA_CACHE_BYTES_MAX);
    let hir = Hir::concat(vec![Hir::look(hir::Look::Start), lower(ast), Hir::look(hir::Look::End)]);
    // Every cause of a refusal is a bound of size: the tree itself was checked by the parser.
    meta::Builder::new().configure(config).build_from_hir(&hir).ok()
}

/// The tree in the form that `regex-automata` reads, from the leaves up.
fn lower(ast: &Ast) -> Hir {
    let mut done: Vec<Hir> = Vec::with_capacity(ast.nodes().len());
    for node in ast.nodes() {
        let mut take = |id: usize| std::mem::replace(&mut done[id], Hir::empty());
        let hir = match node {
            Node::Empty => Hir::empty(),
            Node::Text(text) => Hir::literal(text.as_bytes()),
            Node::Class(class) => Hir::class(hir::Class::Unicode(class.clone())),
            Node::Look(look) => Hir::look(match look {
                Look::StartText => hir::Look::Start,
                Look::EndText => hir::Look::End,
                Look::StartLine => hir::Look::StartLF,
                Look::EndLine => hir::Look::EndLF,
                Look::WordBoundary => hir::Look::WordAscii,
                Look::NotWordBoundary => hir::Look::WordAsciiNegate,
            }),
            Node::Concat(items) => Hir::concat(items.iter().map(|&it| take(it)).collect()),
            Node::Alternate(items) => Hir::alternation(items.iter().map(|&it| take(it)).collect()),
            Node::Capture(sub) => take(*sub),
            Node::Repeat { sub, min, max } => Hir::repetition(hir::Repetition {
                min: *min,
                max: *max,
                greedy: true,
                sub: Box::new(take(*sub)),
            }),
        };
        done.push(hir);
    }
    done.swap_remove(ast.root())
}
