//! The series of all sources in one order, equal ones together.

use model::TimeRange;

use crate::error::{Damage, Error, Result};
use crate::index::ChunkMeta;
use crate::loser_tree::LoserTree;
use crate::stream::{Frame, SeriesCursor, SymbolMap};

/// Labels by the numbers of their texts, which sort as the texts do.
pub(crate) type Numbered = Vec<(u32, u32)>;

/// The sources of a job, each at its next series.
#[derive(Debug)]
pub(crate) struct Heads {
    cursors: Vec<SeriesCursor>,
    maps: Vec<SymbolMap>,
    /// The labels of the series that each source comes to next; none where it has ended.
    next: Vec<Option<Numbered>>,
    tree: LoserTree,
    /// The labels of the group.
    labels: Numbered,
    /// The group: whoever has the series, in the order of sources.
    members: Vec<Member>,
    /// Members that are used again.
    spare: Vec<Member>,
}

/// A source that has the series at hand.
#[derive(Debug, Default)]
pub(crate) struct Member {
    /// Its place among the sources.
    pub(crate) source: usize,
    chunks: Vec<ChunkMeta>,
    /// What of the series is deleted.
    pub(crate) deleted: Vec<TimeRange>,
    labels: Numbered,
}

impl Heads {
    pub(crate) fn open(cursors: Vec<SeriesCursor>, maps: Vec<SymbolMap>) -> Result<Heads> {
        let count = cursors.len();
        let mut heads = Heads {
            cursors,
            maps,
            next: (0..count).map(|_| Some(Numbered::new())).collect(),
            tree: LoserTree::new(0, |_, _| false),
            labels: Numbered::new(),
            members: Vec::new(),
            spare: Vec::new(),
        };
        for source in 0..count {
            heads.advance(source, Numbered::new())?;
        }
        let next = &heads.next;
        heads.tree = LoserTree::new(count, |a, b| before(next, a, b));
        Ok(heads)
    }

    /// Gathers the sources that have the next series; false when there is none.
    pub(crate) fn next_group(&mut self) -> Result<bool> {
        self.spare.append(&mut self.members);
        while let Some(source) = self.tree.winner() {
            let Some(labels) = &self.next[source] else { break };
            if self.members.is_empty() {
                self.labels.clone_from(labels);
            } else if *labels != self.labels {
                break;
            }
            let mut member = self.spare.pop().unwrap_or_default();
            let labels = std::mem::take(&mut member.labels);
            member.labels = self.next[source].take().unwrap_or_default();
            member.source = source;
            let cursor = &mut self.cursors[source];
            member.deleted.clear();
            member.deleted.extend_from_slice(cursor.deleted());
            cursor.take_chunks(&mut member.chunks);
            self.members.push(member);
            self.advance(source, labels)?;
            let next = &self.next;
            self.tree.replay(|a, b| before(next, a, b));
        }
        Ok(!self.members.is_empty())
    }

    /// The labels of the group.
    pub(crate) fn labels(&self) -> &[(u32, u32)] {
        &self.labels
    }

    /// How many sources have the series.
    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// One of them, by its place in the group.
    pub(crate) fn member(&self, place: usize) -> &Member {
        &self.members[place]
    }

    /// Reads the chunks that a member has of the series.
    pub(crate) fn read_chunks(&mut self, place: usize, out: &mut Vec<Frame>) -> Result<()> {
        let member = &self.members[place];
        self.cursors[member.source].read_frames(&member.chunks, out)
    }

    /// The error of damage that was found in the data of a chunk of a source.
    pub(crate) fn damaged(&self, source: usize, reference: u64, damage: Damage) -> Error {
        self.cursors[source].chunk_damaged(reference, damage)
    }

    /// Bytes of all sources that were passed.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.cursors.iter().map(SeriesCursor::read_bytes).sum()
    }

    /// Moves a source to its next series, whose labels are put into a used vector.
    fn advance(&mut self, source: usize, mut labels: Numbered) -> Result<()> {
        let cursor = &mut self.cursors[source];
        if !cursor.advance()? {
            self.next[source] = None;
            return Ok(());
        }
        let map = &self.maps[source];
        labels.clear();
        for &(name, value) in cursor.labels() {
            let numbers = map.number(name).zip(map.number(value));
            labels.push(numbers.ok_or_else(|| cursor.symbol_missing())?);
        }
        self.next[source] = Some(labels);
        Ok(())
    }
}

fn before(next: &[Option<Numbered>], a: usize, b: usize) -> bool {
    match (&next[a], &next[b]) {
        (Some(left), Some(right)) => left.cmp(right).then(a.cmp(&b)).is_lt(),
        (left, right) => (left.is_none(), a) < (right.is_none(), b),
    }
}
