//! Many sorted streams of series become one: equal series joined, equal chunks once, and a stream
//! that is out of order told by its name.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use model::{Budget, Labels, Reservation};

use crate::error::Error;
use crate::loser_tree::LoserTree;
use crate::request::{PartialResponse, SeriesRequest};
use crate::store::{
    AggrChunk, Aggregates, Chunk, ChunkEncoding, SeriesFrame, SeriesFrames, StoreSeries,
};

/// Most warnings that one source may add to an answer.
const WARNINGS_MAX: usize = 100;
/// A batch is sent on when it holds this much, even when more series would be allowed in it.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// One stream to merge.
pub struct Source {
    /// What to call it when it fails or is out of order.
    pub name: String,
    /// The stream.
    pub frames: SeriesFrames,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How to merge.
#[derive(Clone, Copy, Debug)]
pub struct MergeOptions {
    /// Whether a source that fails costs the whole stream or becomes a warning.
    pub partial_response: PartialResponse,
    /// Most series in one frame; 0 is a default of 64.
    pub batch_size: usize,
    /// Most series in all; 0 is no limit.
    pub limit: usize,
}

impl From<&SeriesRequest> for MergeOptions {
    fn from(request: &SeriesRequest) -> MergeOptions {
        MergeOptions {
            partial_response: request.partial_response,
            batch_size: request.batch_size,
            limit: request.limit,
        }
    }
}

/// Merges streams, each sorted by the labels that it sends, into one.
///
/// The series of all sources with equal labels become one series, its chunks sorted by time, equal
/// ones collapsed. What is held at once (a batch of each source and the batch being built) is
/// charged to `budget`.
pub fn merge(sources: Vec<Source>, options: MergeOptions, budget: &Budget) -> SeriesFrames {
    let reservation = match budget.reserve(0) {
        Ok(reservation) => reservation,
        Err(error) => return stream::once(async move { Err(error.into()) }).boxed(),
    };
    let merger = Merger {
        lanes: sources.into_iter().map(Lane::new).collect(),
        tree: None,
        options,
        left: if options.limit == 0 { usize::MAX } else { options.limit },
        warnings: VecDeque::new(),
        reservation,
        open_bytes: 0,
        is_done: false,
    };
    stream::unfold(merger, |mut merger| async move {
        let item = merger.next_frame().await?;
        Some((item, merger))
    })
    .boxed()
}

/// Joins chunks that come from several places: by time, equal ones once.
pub fn normalize_chunks(chunks: &mut Vec<AggrChunk>) {
    chunks.sort_unstable_by(compare_chunks);
    chunks.dedup();
}

/// Bytes of a series in memory, what an account is charged for it.
pub fn series_bytes(series: &StoreSeries) -> usize {
    let data = |chunk: &AggrChunk| {
        let boxed = chunk.aggregates.as_ref().map_or(0, |_| size_of::<Aggregates>());
        boxed + chunk.parts().map(|(_, it)| it.data.len()).sum::<usize>()
    };
    size_of::<StoreSeries>()
        + series.labels.size_bytes()
        + series.chunks.len() * size_of::<AggrChunk>()
        + series.chunks.iter().map(data).sum::<usize>()
}

/// One source with its next series.
struct Lane {
    name: String,
    frames: Option<SeriesFrames>,
    batch: std::vec::IntoIter<StoreSeries>,
    batch_bytes: usize,
    head: Option<StoreSeries>,
    last: Option<Labels>,
    warnings: Vec<String>,
    warnings_count: usize,
}

impl Lane {
    fn new(source: Source) -> Lane {
        Lane {
            name: source.name,
            frames: Some(source.frames),
            batch: Vec::new().into_iter(),
            batch_bytes: 0,
            head: None,
            last: None,
            warnings: Vec::new(),
            warnings_count: 0,
        }
    }

    /// Fills `head`; it stays empty at the end of the stream and after an error.
    async fn advance(&mut self) -> Result<(), Error> {
        loop {
            if let Some(next) = self.batch.next() {
                return self.accept(next);
            }
            self.batch_bytes = 0;
            let Some(frames) = &mut self.frames else { return Ok(()) };
            match frames.next().await {
                Some(Ok(SeriesFrame::Batch(batch))) => {
                    self.batch_bytes = batch.iter().map(series_bytes).sum();
                    self.batch = batch.into_iter();
                }
                Some(Ok(SeriesFrame::Warning(text))) => self.warn(text),
                Some(Err(error)) => {
                    self.close();
                    return Err(error.at(&self.name));
                }
                None => self.frames = None,
            }
        }
    }

    fn accept(&mut self, next: StoreSeries) -> Result<(), Error> {
        if let Some(last) = &self.last
            && last.as_key() != next.labels.as_key()
            && *last > next.labels
        {
            let text = format!(
                "{}: series out of order: {} came after {last}, a fault of that store",
                self.name, next.labels
            );
            self.close();
            return Err(Error::Aborted(text));
        }
        self.last = Some(next.labels.clone());
        self.head = Some(next);
        Ok(())
    }

    fn warn(&mut self, text: String) {
        self.warnings_count += 1;
        match self.warnings_count.cmp(&WARNINGS_MAX) {
            Ordering::Less => self.warnings.push(text),
            Ordering::Equal => self.warnings.push(format!("{}: more warnings left out", self.name)),
            Ordering::Greater => {}
        }
    }

    fn close(&mut self) {
        self.frames = None;
        self.batch = Vec::new().into_iter();
        self.batch_bytes = 0;
    }
}

struct Merger {
    lanes: Vec<Lane>,
    tree: Option<LoserTree>,
    options: MergeOptions,
    /// Series that may still be sent.
    left: usize,
    warnings: VecDeque<String>,
    reservation: Reservation,
    /// Bytes of the batch that is being built.
    open_bytes: usize,
    is_done: bool,
}

impl Merger {
    async fn next_frame(&mut self) -> Option<Result<SeriesFrame, Error>> {
        if self.is_done {
            return None;
        }
        let frame = self.fill_frame().await;
        self.is_done = !matches!(frame, Ok(Some(_)));
        frame.transpose()
    }

    async fn fill_frame(&mut self) -> Result<Option<SeriesFrame>, Error> {
        if self.tree.is_none() {
            self.start().await?;
        }
        let batch_size = if self.options.batch_size == 0 { 64 } else { self.options.batch_size };
        let mut batch = Vec::new();
        self.open_bytes = 0;
        while self.warnings.is_empty()
            && batch.len() < batch_size.min(self.left)
            && self.open_bytes < BATCH_BYTES_MAX
        {
            let Some(series) = self.next_series().await? else { break };
            batch.push(series);
        }
        if !batch.is_empty() {
            self.left -= batch.len();
            return Ok(Some(SeriesFrame::Batch(batch)));
        }
        Ok(self.warnings.pop_front().map(SeriesFrame::Warning))
    }

    /// Gets the first series of all sources at once and plays the first round.
    async fn start(&mut self) -> Result<(), Error> {
        let results = join_all(self.lanes.iter_mut().map(Lane::advance)).await;
        for (index, result) in results.into_iter().enumerate() {
            self.settle(index, result)?;
        }
        self.charge()?;
        let lanes = &self.lanes;
        self.tree = Some(LoserTree::new(lanes.len(), |a, b| goes_before(lanes, a, b)));
        Ok(())
    }

    async fn next_series(&mut self) -> Result<Option<StoreSeries>, Error> {
        let Some(mut series) = self.pop(None).await? else { return Ok(None) };
        let mut is_joined = false;
        self.open_bytes += series_bytes(&series);
        while let Some(more) = self.pop(Some(&series.labels)).await? {
            self.open_bytes += series_bytes(&more);
            series.chunks.extend(more.chunks);
            is_joined = true;
            self.charge()?;
        }
        if is_joined || !series.chunks.is_sorted_by(|a, b| compare_chunks(a, b).is_lt()) {
            normalize_chunks(&mut series.chunks);
        }
        Ok(Some(series))
    }

    /// Takes the least head, when its labels are `wanted` or any are.
    async fn pop(&mut self, wanted: Option<&Labels>) -> Result<Option<StoreSeries>, Error> {
        let Some(tree) = &self.tree else { return Ok(None) };
        let index = tree.winner();
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(None) };
        let is_wanted = |head: &mut StoreSeries| {
            wanted.is_none_or(|wanted| wanted.as_key() == head.labels.as_key())
        };
        let Some(series) = lane.head.take_if(is_wanted) else { return Ok(None) };
        let bytes_before = lane.batch_bytes;
        let result = lane.advance().await;
        let is_new_batch = lane.batch_bytes != bytes_before;
        self.settle(index, result)?;
        if is_new_batch {
            self.charge()?;
        }
        let lanes = &self.lanes;
        if let Some(tree) = &mut self.tree {
            tree.replay(index, |a, b| goes_before(lanes, a, b));
        }
        Ok(Some(series))
    }

    /// Collects the warnings of a source, and makes one of its failure where that is allowed.
    fn settle(&mut self, index: usize, result: Result<(), Error>) -> Result<(), Error> {
        let lane = &mut self.lanes[index];
        self.warnings.extend(lane.warnings.drain(..));
        match result {
            Ok(()) => Ok(()),
            Err(error @ Error::BudgetExceeded(_)) => Err(error),
            Err(error) if self.options.partial_response == PartialResponse::Abort => Err(error),
            Err(error) => {
                let missing = match &lane.last {
                    Some(last) => format!("{error}; its series after {last} are missing"),
                    None => format!("{error}; its series are missing"),
                };
                self.warnings.push_back(missing);
                Ok(())
            }
        }
    }

    fn charge(&mut self) -> Result<(), Error> {
        let lanes = self.lanes.iter().map(|lane| lane.batch_bytes).sum::<usize>();
        self.reservation.resize(lanes + self.open_bytes)?;
        Ok(())
    }
}

/// Whether the head of lane `a` goes before that of lane `b`; no head goes last.
fn goes_before(lanes: &[Lane], a: usize, b: usize) -> bool {
    match (&lanes[a].head, &lanes[b].head) {
        (Some(left), Some(right)) if left.labels.as_key() == right.labels.as_key() => a < b,
        (Some(left), Some(right)) => left.labels < right.labels,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => a < b,
    }
}

/// By time, and where that is equal in some fixed order of the content, so that equal chunks come
/// to lie side by side and the result does not depend on who sent what.
fn compare_chunks(a: &AggrChunk, b: &AggrChunk) -> Ordering {
    let times = |it: &AggrChunk| (it.min_time_ms, it.max_time_ms);
    times(a).cmp(&times(b)).then_with(|| compare_parts(&a.raw, &b.raw)).then_with(|| {
        match (&a.aggregates, &b.aggregates) {
            (Some(a), Some(b)) => compare_parts(&a.count, &b.count)
                .then_with(|| compare_parts(&a.sum, &b.sum))
                .then_with(|| compare_parts(&a.min, &b.min))
                .then_with(|| compare_parts(&a.max, &b.max))
                .then_with(|| compare_parts(&a.counter, &b.counter)),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    })
}

fn compare_parts(a: &Option<Chunk>, b: &Option<Chunk>) -> Ordering {
    let key = |it: &Chunk| match it.encoding {
        ChunkEncoding::Xor => 0,
        ChunkEncoding::Histogram => 1,
        ChunkEncoding::FloatHistogram => 2,
    };
    match (a, b) {
        (Some(a), Some(b)) => key(a).cmp(&key(b)).then_with(|| a.data.cmp(&b.data)),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}
