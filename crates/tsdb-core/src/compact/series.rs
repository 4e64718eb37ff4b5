//! One series of all sources becomes one series: what is copied, what is written again, and what
//! is merged.

use model::{Budget, Reservation};

use crate::block::ChunkData;
use crate::chunk::{self, Encoding};
use crate::compact::balance::{DELETED, DUPLICATE};
use crate::compact::heads::Heads;
use crate::compact::{Balance, ChunkCounts, Merge, RunChunk, deleted};
use crate::error::{Damage, Error, Result};
use crate::stream::{BlockWriter, Frame};

/// Puts the chunks of a series together.
#[derive(Debug)]
pub(crate) struct Assembler<'m> {
    merge: &'m mut dyn Merge,
    pub(crate) balance: Balance,
    pub(crate) chunks: ChunkCounts,
    pub(crate) start_timestamps_dropped: u64,
    frames: Vec<Frame>,
    pieces: Vec<Piece>,
    run: Vec<RunChunk>,
    merged: Vec<ChunkData>,
    held: Reservation,
}

/// A chunk of a source, as it was read or written again.
#[derive(Debug)]
struct Piece {
    source: usize,
    /// Where it was in its source.
    reference: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Frame(Frame),
    Chunk(ChunkData),
}

impl Piece {
    fn span(&self) -> (i64, i64) {
        match &self.content {
            Content::Frame(it) => (it.min_time_ms, it.max_time_ms),
            Content::Chunk(it) => (it.min_time_ms, it.max_time_ms),
        }
    }

    fn encoding(&self) -> Encoding {
        match &self.content {
            Content::Frame(it) => it.encoding,
            Content::Chunk(it) => it.encoding,
        }
    }

    fn data(&self) -> &[u8] {
        match &self.content {
            Content::Frame(it) => it.data(),
            Content::Chunk(it) => &it.data,
        }
    }

    fn to_run_chunk(&self) -> RunChunk {
        let chunk = match &self.content {
            Content::Frame(it) => it.to_chunk(),
            Content::Chunk(it) => it.clone(),
        };
        RunChunk { source: self.source, chunk }
    }

    /// Runs are in this order.
    fn key(&self) -> (i64, i64, usize) {
        let (min_time_ms, max_time_ms) = self.span();
        (min_time_ms, max_time_ms, self.source)
    }

    fn equals(&self, other: &Piece) -> bool {
        self.span() == other.span()
            && self.encoding() == other.encoding()
            && self.data() == other.data()
    }
}

/// When the chunks of a run end: the latest, and the latest of any other source.
#[derive(Debug)]
struct Ends {
    latest: (i64, usize),
    other_ms: Option<i64>,
}

impl Ends {
    fn of(piece: &Piece) -> Ends {
        Ends { latest: (piece.span().1, piece.source), other_ms: None }
    }

    /// Whether a chunk that begins no earlier belongs to the run.
    fn reach(&self, piece: &Piece, reach_ms: i64) -> bool {
        let min_time_ms = piece.span().0;
        let near = |end_ms: i64| min_time_ms.saturating_sub(end_ms) <= reach_ms;
        if min_time_ms <= self.latest.0 {
            return true;
        }
        let is_other = self.latest.1 != piece.source;
        reach_ms > 0 && (is_other && near(self.latest.0) || self.other_ms.is_some_and(near))
    }

    fn add(&mut self, piece: &Piece) {
        let end_ms = piece.span().1;
        let others = |this: &Ends| this.other_ms.map_or(end_ms, |it| it.max(end_ms));
        if piece.source == self.latest.1 {
            self.latest.0 = self.latest.0.max(end_ms);
        } else if end_ms > self.latest.0 {
            self.other_ms = Some(self.other_ms.map_or(self.latest.0, |it| it.max(self.latest.0)));
            self.latest = (end_ms, piece.source);
        } else {
            self.other_ms = Some(others(self));
        }
    }
}

impl<'m> Assembler<'m> {
    pub(crate) fn new(merge: &'m mut dyn Merge, budget: &Budget) -> Result<Assembler<'m>> {
        Ok(Assembler {
            merge,
            balance: Balance::default(),
            chunks: ChunkCounts::default(),
            start_timestamps_dropped: 0,
            frames: Vec::new(),
            pieces: Vec::new(),
            run: Vec::new(),
            merged: Vec::new(),
            held: budget.reserve(0)?,
        })
    }

    /// Writes the series of a group.
    pub(crate) fn add(&mut self, heads: &mut Heads, writer: &mut BlockWriter<'_>) -> Result<()> {
        self.pieces.clear();
        for place in 0..heads.member_count() {
            heads.read_chunks(place, &mut self.frames)?;
            let mut frames = std::mem::take(&mut self.frames);
            for frame in frames.drain(..) {
                self.take(heads, place, frame)?;
            }
            self.frames = frames;
        }
        if !self.pieces.is_sorted_by_key(Piece::key) {
            self.pieces.sort_by_key(Piece::key);
        }
        writer.begin_series();
        let reach_ms = self.merge.reach_ms();
        let mut from = 0;
        while let Some(first) = self.pieces.get(from) {
            let mut ends = Ends::of(first);
            let mut to = from + 1;
            while let Some(next) = self.pieces.get(to).filter(|it| ends.reach(it, reach_ms)) {
                ends.add(next);
                to += 1;
            }
            self.write_run(from, to, heads, writer)?;
            from = to;
        }
        writer.end_series(heads.labels())
    }

    /// Takes a chunk that was read, without what is not to be written of it.
    fn take(&mut self, heads: &Heads, place: usize, frame: Frame) -> Result<()> {
        let member = heads.member(place);
        let (source, reference) = (member.source, frame.reference);
        let damaged = |damage: Damage| heads.damaged(source, reference, damage);
        let count = chunk::counted_samples(frame.encoding, frame.data()).map_err(damaged)?;
        self.balance.in_samples += count;
        let span = model::TimeRange::new(frame.min_time_ms, frame.max_time_ms);
        let plain = chunk::rewrite_plain(frame.encoding, frame.data());
        let plain = plain.map_err(|it| damaged(deleted::damage_of(it)))?;
        let has_deletions = member.deleted.iter().any(|it| it.overlaps(span));
        if plain.is_none() && !has_deletions {
            self.pieces.push(Piece { source, reference, content: Content::Frame(frame) });
            return Ok(());
        }
        let mut left = match plain {
            None => Some(frame.to_chunk()),
            Some(plain) => {
                plain.check_times(frame.min_time_ms, frame.max_time_ms).map_err(damaged)?;
                self.chunks.made_plain += 1;
                self.start_timestamps_dropped += plain.starts_dropped;
                plain.chunk
            }
        };
        if let Some(chunk) = left.as_ref().filter(|_| has_deletions) {
            let without = deleted::without(chunk, &member.deleted);
            if let Some(kept) = without.map_err(|it| damaged(deleted::damage_of(it)))? {
                self.chunks.with_deletions += 1;
                self.balance.drop_samples(DELETED, kept.deleted_samples);
                left = kept.chunk;
            }
        }
        let content = left.map(Content::Chunk);
        self.pieces.extend(content.map(|content| Piece { source, reference, content }));
        Ok(())
    }

    /// Writes what becomes of the chunks of a run.
    fn write_run(
        &mut self,
        from: usize,
        to: usize,
        heads: &Heads,
        writer: &mut BlockWriter<'_>,
    ) -> Result<()> {
        let pieces = &self.pieces[from..to];
        let Some(first) = pieces.first() else { return Ok(()) };
        let mut last = first;
        self.run.clear();
        for piece in pieces.get(1..).unwrap_or_default() {
            if piece.equals(last) {
                self.chunks.collapsed += 1;
                let count = chunk::counted_samples(piece.encoding(), piece.data());
                let count = count.map_err(|it| heads.damaged(piece.source, piece.reference, it))?;
                self.balance.drop_samples(DUPLICATE, count);
                continue;
            }
            if self.run.is_empty() {
                self.run.push(first.to_run_chunk());
            }
            self.run.push(piece.to_run_chunk());
            last = piece;
        }
        if self.run.is_empty() {
            self.chunks.copied += u64::from(matches!(first.content, Content::Frame(_)));
            return match &first.content {
                Content::Frame(frame) => writer.copy(frame),
                Content::Chunk(chunk) => writer.write(chunk),
            };
        }
        self.chunks.merged += self.run.len() as u64;
        self.held.resize(self.merge.memory_bytes(&self.run))?;
        self.merged.clear();
        let result = self.merge.merge(&self.run, &mut self.merged, &mut self.balance);
        result.map_err(|it| {
            let of_source = pieces.iter().find(|piece| piece.source == it.source);
            heads.damaged(it.source, of_source.map_or(0, |it| it.reference), it.damage)
        })?;
        self.check_merged(pieces)?;
        for chunk in &self.merged {
            writer.write(chunk)?;
        }
        self.run.clear();
        self.merged.clear();
        self.held.resize(0)?;
        Ok(())
    }

    /// Checks that what a merge made lies where its run was and does not overlap.
    fn check_merged(&self, pieces: &[Piece]) -> Result<()> {
        let start_ms = pieces.first().map_or(i64::MAX, |it| it.span().0);
        let end_ms = pieces.iter().map(|it| it.span().1).max().unwrap_or(i64::MIN);
        let outside = |it: &&ChunkData| it.min_time_ms < start_ms || it.max_time_ms > end_ms;
        let overlapping = self.merged.windows(2).any(|it| it[1].min_time_ms <= it[0].max_time_ms);
        if overlapping || self.merged.iter().any(|it| outside(&it)) {
            let name = self.merge.name();
            let text = format!("the merge {name} of a run from {start_ms} to {end_ms} overlaps");
            return Err(Error::invalid(text));
        }
        Ok(())
    }
}
