//! The chunks of selected series: read in large ranges, checked, and passed on as slices of what
//! was read.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use daemon::Tasks;
use futures_util::stream::{self, StreamExt as _};
use model::{Labels, Reservation};
use storeapi::request::{Aggregate, PartialResponse};
use storeapi::store::{AggrChunk, Aggregates, Chunk, ChunkEncoding, SeriesFrame, SeriesFrames};
use storeapi::{Error as StoreError, StoreSeries};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Instrument as _;
use tsdb_core::Damage;
use tsdb_core::block::segments::{decode_frame, frame_bytes};
use tsdb_core::chunk::{self, DecodeError, Encoding, aggregate};
use tsdb_core::index::ChunkMeta;

use crate::block::Block;
use crate::error::{Error, Result};
use crate::select::{Access, Places, Selected};

/// A batch ends when its chunks are thought to take this much.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// A batch ends when it has so many series; tests have few only.
const BATCH_SERIES: usize = if cfg!(test) { 2 } else { 1024 };
/// Batches of a block that are read ahead.
const BATCHES_AHEAD: usize = 2;

/// What to do with what is read.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    /// Aggregates wanted of downsampled blocks.
    pub(crate) aggregates: Arc<[Aggregate]>,
    /// What to do about damaged chunks.
    pub(crate) partial_response: PartialResponse,
}

/// A batch that is ready, with the account of its bytes.
struct Ready {
    frames: VecDeque<std::result::Result<SeriesFrame, StoreError>>,
    _held: Vec<Reservation>,
}

impl Ready {
    fn failed(error: StoreError) -> Ready {
        Ready { frames: VecDeque::from([Err(error)]), _held: Vec::new() }
    }
}

/// Streams the selected series of a block with their chunks.
pub(crate) fn stream_of(
    block: Arc<Block>,
    selected: Selected,
    sending: Sending,
    access: Access,
) -> SeriesFrames {
    let Selected { series, held, warnings } = selected;
    let warnings = stream::iter(warnings.into_iter().map(|it| Ok(SeriesFrame::Warning(it))));
    let batches = Batches { series: series.into_iter(), guess: block.chunk_bytes_guess() };
    let ready = stream::iter(batches)
        .map(move |batch| {
            let (block, sending, access) = (Arc::clone(&block), sending.clone(), access.clone());
            let tasks = access.tasks.clone();
            begin(&tasks, async move { read_batch(&block, batch, &sending, &access).await })
        })
        .buffered(BATCHES_AHEAD)
        .boxed();
    // The account of a batch is held until the next one is asked for.
    let state = (ready, None::<Ready>, held);
    let frames = stream::unfold(state, |(mut ready, mut now, held)| async move {
        loop {
            if let Some(frame) = now.as_mut().and_then(|it| it.frames.pop_front()) {
                return Some((frame, (ready, now, held)));
            }
            now = Some(ready.next().await?);
        }
    });
    warnings.chain(frames).boxed()
}

/// Begins to read a batch in a task of its own, which ends when the answer is dropped.
///
/// A batch that is read ahead is in nobody's hands while its stream waits for a caller who looks
/// elsewhere. What it holds meanwhile, its turn to read and connections to the bucket, others may
/// wait for; so it goes on by itself until it has given them back.
fn begin<F>(tasks: &Tasks, read: F) -> impl Future<Output = Ready> + Send + use<F>
where
    F: Future<Output = Ready> + Send + 'static,
{
    let (sender, ready) = oneshot::channel();
    let read = async move {
        // Nobody waits any more when the call was dropped just now.
        let _unwanted = sender.send(read.await);
        Ok(())
    };
    let reading = Reading(tasks.spawn("read a batch of chunks", read.in_current_span()));
    async move {
        let ready = ready.await;
        drop(reading);
        ready.unwrap_or_else(|_| {
            let text = "a batch of chunks was given up, see the log".to_owned();
            Ready::failed(StoreError::Internal(text))
        })
    }
}

/// A task that is stopped when nobody wants what it reads.
struct Reading(JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Cuts the series of a block into batches.
struct Batches {
    series: std::vec::IntoIter<(Labels, Places)>,
    guess: u64,
}

impl Iterator for Batches {
    type Item = Vec<(Labels, Places)>;

    fn next(&mut self) -> Option<Vec<(Labels, Places)>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_SERIES && bytes < BATCH_BYTES {
            let Some(next) = self.series.next() else { break };
            bytes += next.1.chunks.len() as u64 * self.guess.min(1024);
            batch.push(next);
        }
        (!batch.is_empty()).then_some(batch)
    }
}

/// A chunk of the batch: whose, and where.
struct Wanted {
    series: usize,
    meta: ChunkMeta,
    range: Range<u64>,
}

async fn read_batch(
    block: &Arc<Block>,
    batch: Vec<(Labels, Places)>,
    sending: &Sending,
    access: &Access,
) -> Ready {
    match try_read_batch(block, batch, sending, access).await {
        Ok(ready) => ready,
        Err(error) => Ready::failed(error.of_block(&block.name())),
    }
}

async fn try_read_batch(
    block: &Arc<Block>,
    batch: Vec<(Labels, Places)>,
    sending: &Sending,
    access: &Access,
) -> Result<Ready> {
    let _turn = access.gate.acquire().await.map_err(|_| Error::Stopping)?;
    let mut held = Vec::new();
    let mut damages: Vec<String> = Vec::new();
    let mut chunks: Vec<Vec<AggrChunk>> = Vec::with_capacity(batch.len());
    chunks.resize_with(batch.len(), Vec::new);
    let by_segment = places_by_segment(&batch, block.chunk_bytes_guess());
    let reads = by_segment.iter().map(|(segment, wanted)| async move {
        read_segment(block, *segment, wanted, access).await.map(|read| (*segment, wanted, read))
    });
    for read in futures_util::future::join_all(reads).await {
        let (segment, wanted, (parts, accounts)) = read?;
        held.extend(accounts);
        for (wanted, part) in wanted.iter().zip(parts) {
            match chunk_of(&part, wanted, &sending.aggregates) {
                Ok(chunk) => chunks[wanted.series].push(chunk),
                Err(damage) => {
                    let key = block.segment(segment).key;
                    let (name, labels) = (block.name(), &batch[wanted.series].0);
                    let (from, to) = (wanted.meta.min_time_ms, wanted.meta.max_time_ms);
                    damages.push(format!(
                        "{name}: samples of {labels} from {from} to {to} ms are missing: \
                         corrupt object {key}: {damage}"
                    ));
                }
            }
        }
    }
    access.metrics.count_chunks(chunks.iter().map(Vec::len).sum());
    let mut frames = VecDeque::new();
    for text in damages {
        access.metrics.count_damage(&block.id().to_string());
        tracing::warn!("{text}");
        if sending.partial_response == PartialResponse::Abort {
            frames.push_back(Err(StoreError::Aborted(text)));
            return Ok(Ready { frames, _held: held });
        }
        frames.push_back(Ok(SeriesFrame::Warning(text)));
    }
    let skipped = batch.iter().map(|it| it.1.chunks.is_empty()).collect::<Vec<bool>>();
    let series = batch.into_iter().zip(chunks).zip(skipped);
    // A series of which every chunk is damaged is named above and not sent without samples.
    let whole = series.filter(|((_, chunks), skipped)| *skipped || !chunks.is_empty());
    let sent = whole.map(|(((labels, _), mut chunks), _)| {
        chunks.sort_by_key(|it| (it.min_time_ms, it.max_time_ms));
        StoreSeries { labels, chunks }
    });
    frames.push_back(Ok(SeriesFrame::Batch(sent.collect())));
    Ok(Ready { frames, _held: held })
}

/// The chunks of a batch by segment; each reaches to the next one of its series where that is
/// known, else as far as is guessed.
fn places_by_segment(batch: &[(Labels, Places)], guess: u64) -> BTreeMap<usize, Vec<Wanted>> {
    let mut by_segment: BTreeMap<usize, Vec<Wanted>> = BTreeMap::new();
    for (series, (_, places)) in batch.iter().enumerate() {
        let nexts = places.chunks.iter().skip(1).map(|it| Some(it.reference));
        for (meta, next) in places.chunks.iter().zip(nexts.chain([places.next])) {
            let start = meta.offset();
            let end = next
                .filter(|next| *next > meta.reference && next >> 32 == meta.reference >> 32)
                .map(|next| next & u64::from(u32::MAX))
                // Chunks of a series that were filtered out may lie in between.
                .filter(|end| end - start <= MAX_EXACT_BYTES)
                .unwrap_or(start + guess);
            let wanted = Wanted { series, meta: *meta, range: start..end };
            by_segment.entry(meta.segment()).or_default().push(wanted);
        }
    }
    by_segment
}

/// A next chunk further away than this says nothing about where this one ends.
const MAX_EXACT_BYTES: u64 = 64 * 1024;

/// Reads the chunks of one segment; those that turn out to be longer are read again.
async fn read_segment(
    block: &Block,
    segment: usize,
    wanted: &[Wanted],
    access: &Access,
) -> Result<(Vec<Bytes>, Vec<Reservation>)> {
    let file = block.segment(segment);
    let ranges: Vec<Range<u64>> = wanted.iter().map(|it| it.range.clone()).collect();
    let total: u64 = ranges.iter().map(|it| it.end - it.start).sum();
    access.touched.add_bytes(usize::try_from(total).unwrap_or(usize::MAX))?;
    let fetched = access.remote.fetch(&file, &ranges, &access.budget).await?;
    let (mut parts, mut held) = (fetched.parts, vec![fetched.held]);
    let mut again = Vec::new();
    for (index, (part, range)) in parts.iter().zip(&ranges).enumerate() {
        // A length that is none is told by whoever decodes the chunk; one that reaches beyond the
        // object's end gives fewer bytes, and so does that.
        let needed = frame_bytes(part, range.start).ok().flatten().unwrap_or(0);
        let is_cut = part.len() as u64 == range.end - range.start;
        if needed > part.len() as u64 && is_cut && needed <= CHUNK_BYTES_MAX {
            again.push((index, range.start..range.start + needed));
        }
    }
    if !again.is_empty() {
        access.metrics.count_chunk_refetches(again.len());
        let ranges: Vec<Range<u64>> = again.iter().map(|it| it.1.clone()).collect();
        let fetched = access.remote.fetch(&file, &ranges, &access.budget).await?;
        for ((index, _), part) in again.into_iter().zip(fetched.parts) {
            parts[index] = part;
        }
        held.push(fetched.held);
    }
    Ok((parts, held))
}

/// A chunk that says it is larger is damaged: the largest that exist hold 65,535 samples.
const CHUNK_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn chunk_of(
    part: &Bytes,
    wanted: &Wanted,
    aggregates: &[Aggregate],
) -> std::result::Result<AggrChunk, Damage> {
    let raw = decode_frame(part, wanted.range.start)?;
    let data = part.slice(raw.data_start..raw.data_start + raw.data.len());
    let mut chunk = AggrChunk {
        min_time_ms: wanted.meta.min_time_ms,
        max_time_ms: wanted.meta.max_time_ms,
        ..AggrChunk::default()
    };
    if raw.encoding != Encoding::Aggregate {
        chunk.raw = Some(sent(raw.encoding, data, wanted.range.start)?);
        return Ok(chunk);
    }
    let origin = wanted.range.start + raw.data_start as u64;
    let parts = aggregate::split(&data).map_err(|it| it.shifted(origin))?;
    let take = |wanted: Aggregate, part: Option<aggregate::Part>| {
        let part = part.filter(|_| aggregates.contains(&wanted));
        part.map(|it| sent(it.encoding, data.slice(it.range), origin)).transpose()
    };
    chunk.aggregates = Some(Box::new(Aggregates {
        count: take(Aggregate::Count, parts.count)?,
        sum: take(Aggregate::Sum, parts.sum)?,
        min: take(Aggregate::Min, parts.min)?,
        max: take(Aggregate::Max, parts.max)?,
        counter: take(Aggregate::Counter, parts.counter)?,
    }));
    Ok(chunk)
}

fn sent(encoding: Encoding, data: Bytes, offset: u64) -> std::result::Result<Chunk, Damage> {
    let (encoding, data) = chunk::to_plain(encoding, data).map_err(|error| match error {
        DecodeError::Damaged(damage) => damage.shifted(offset),
        other => Damage::new("chunk", offset, other.to_string()),
    })?;
    let encoding = match encoding {
        Encoding::Xor => ChunkEncoding::Xor,
        Encoding::Histogram => ChunkEncoding::Histogram,
        Encoding::FloatHistogram => ChunkEncoding::FloatHistogram,
        other => {
            let text = format!("encoding {other:?} has no place in the store API");
            return Err(Damage::new("chunk", offset, text));
        }
    };
    Ok(Chunk { encoding, data })
}
