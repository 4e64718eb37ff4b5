//! The parsed expression: nodes in one vector, every child before its parent.
//!
//! Each node has exactly one parent (or is the root), so that a pass over the vector in order is
//! a pass from the leaves to the root without recursion. Heights and sizes are counted as Go
//! counts them, because Go's bounds on them decide what is refused.

use regex_syntax::hir::ClassUnicode;

/// Place of a node in its tree.
pub(super) type NodeId = usize;

/// A condition on a place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    StartText,
    EndText,
    StartLine,
    EndLine,
    /// `\b`, by ASCII letters, digits and `_`.
    WordBoundary,
    NotWordBoundary,
}

/// One piece of an expression. Greediness is not kept: the whole text matches or it does not.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Empty,
    Text(String),
    Class(ClassUnicode),
    Look(Look),
    Concat(Vec<NodeId>),
    Alternate(Vec<NodeId>),
    Repeat { sub: NodeId, min: u32, max: Option<u32> },
    Capture(NodeId),
}

/// A tree under construction or finished.
#[derive(Debug, Default)]
pub(super) struct Ast {
    nodes: Vec<Node>,
    heights: Vec<u32>,
    sizes: Vec<u64>,
    root: NodeId,
}

/// Lists longer than this are nested instead of flattened, so that flattening stays linear.
const FLATTEN_MAX: usize = 64;

impl Ast {
    pub(super) fn push(&mut self, node: Node) -> NodeId {
        let (height, size) = self.measure(&node);
        self.nodes.push(node);
        self.heights.push(height);
        self.sizes.push(size);
        self.nodes.len() - 1
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    pub(super) fn set_root(&mut self, root: NodeId) {
        self.root = root;
    }

    pub(super) fn height(&self, id: NodeId) -> u32 {
        self.heights[id]
    }

    /// Instructions that the node would need, at least one.
    pub(super) fn size(&self, id: NodeId) -> u64 {
        self.sizes[id]
    }

    /// Joins items: texts are merged, short lists in the list are taken apart.
    pub(super) fn concat(&mut self, items: Vec<NodeId>) -> NodeId {
        let mut joined: Vec<NodeId> = Vec::with_capacity(items.len());
        for item in self.flattened(items, |node| match node {
            Node::Concat(items) => Some(items),
            _ => None,
        }) {
            let Node::Text(text) = &mut self.nodes[item] else {
                joined.push(item);
                continue;
            };
            let text = std::mem::take(text);
            match joined.last().copied().map(|last| (last, &mut self.nodes[last])) {
                Some((last, Node::Text(before))) => {
                    before.push_str(&text);
                    self.sizes[last] += self.sizes[item];
                    self.nodes[item] = Node::Empty;
                }
                _ => {
                    self.nodes[item] = Node::Text(text);
                    joined.push(item);
                }
            }
        }
        match joined[..] {
            [] => self.push(Node::Empty),
            [one] => one,
            _ => self.push(Node::Concat(joined)),
        }
    }

    /// One of several.
    pub(super) fn alternate(&mut self, items: Vec<NodeId>) -> NodeId {
        let joined = self.flattened(items, |node| match node {
            Node::Alternate(items) => Some(items),
            _ => None,
        });
        match joined[..] {
            [one] => one,
            _ => self.push(Node::Alternate(joined)),
        }
    }

    fn flattened(
        &mut self,
        items: Vec<NodeId>,
        list: impl Fn(&mut Node) -> Option<&mut Vec<NodeId>>,
    ) -> Vec<NodeId> {
        let mut flat: Vec<NodeId> = Vec::with_capacity(items.len());
        for item in items {
            let Some(inner) = list(&mut self.nodes[item]) else {
                flat.push(item);
                continue;
            };
            if flat.is_empty() {
                flat = std::mem::take(inner);
            } else if inner.len() <= FLATTEN_MAX {
                flat.append(inner);
            } else {
                flat.push(item);
                continue;
            }
            self.nodes[item] = Node::Empty;
        }
        flat
    }

    fn measure(&self, node: &Node) -> (u32, u64) {
        let highest = |items: &[NodeId]| items.iter().map(|&it| self.heights[it]).max();
        let total = |items: &[NodeId]| items.iter().map(|&it| self.sizes[it]).sum::<u64>();
        let (below, size) = match node {
            Node::Empty | Node::Class(_) | Node::Look(_) => (0, 1),
            Node::Text(text) => (0, text.chars().count() as u64),
            Node::Concat(items) => (highest(items).unwrap_or(0), total(items)),
            Node::Alternate(items) => {
                (highest(items).unwrap_or(0), total(items) + items.len() as u64)
            }
            Node::Capture(sub) => (self.heights[*sub], 2 + self.sizes[*sub]),
            Node::Repeat { sub, min, max } => {
                let (one, min) = (self.sizes[*sub], u64::from(*min));
                let size = match max.map(u64::from) {
                    None if min == 0 => 2 + one,
                    None => 1 + min.saturating_mul(one),
                    Some(max) => max.saturating_mul(one).saturating_add(max.saturating_sub(min)),
                };
                (self.heights[*sub], size)
            }
        };
        (below + 1, size.max(1))
    }
}
