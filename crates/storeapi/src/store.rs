//! The trait that every source of series implements: head, blocks, bucket, remote peer, fan-out.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use model::{Budget, Labels};

use crate::error::Error;
use crate::request::{Aggregate, LabelsRequest, LabelsResponse, SeriesRequest, StoreInfo};

/// Encoding of a chunk on the wire (`Chunk.Encoding` of Thanos' proto).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkEncoding {
    /// Floats, 0 on the wire, 1 in a block.
    Xor,
    /// Integer histograms, 1 on the wire, 2 in a block.
    Histogram,
    /// Float histograms, 2 on the wire, 3 in a block.
    FloatHistogram,
}

/// One encoded chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How `data` is encoded.
    pub encoding: ChunkEncoding,
    /// The chunk's data, without length, encoding byte and checksum; a slice of what was fetched.
    pub data: Bytes,
}

/// The chunks of one span of time of a series: raw samples, or the aggregates that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AggrChunk {
    /// Time of the first sample, in ms.
    pub min_time_ms: i64,
    /// Time of the last sample, in ms.
    pub max_time_ms: i64,
    /// The samples themselves.
    pub raw: Option<Chunk>,
    /// What a downsampled block has in their place. Boxed, because most chunks are raw and a
    /// series has many: the fewer bytes lie between two chunks, the faster all of them are read.
    pub aggregates: Option<Box<Aggregates>>,
}

/// The aggregates of one span of time of a downsampled series; only those that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregates {
    /// Number of raw samples in each window.
    pub count: Option<Chunk>,
    /// Their sums.
    pub sum: Option<Chunk>,
    /// The least of them.
    pub min: Option<Chunk>,
    /// The greatest of them.
    pub max: Option<Chunk>,
    /// The counter that carries on over resets.
    pub counter: Option<Chunk>,
}

impl AggrChunk {
    /// All encoded chunks in the order of their field numbers, with what they hold.
    pub fn parts(&self) -> impl Iterator<Item = (Aggregate, &Chunk)> {
        let raw = self.raw.as_ref().map(|it| (Aggregate::Raw, it));
        let aggregates = self.aggregates.as_deref().into_iter().flat_map(|it| {
            [
                (Aggregate::Count, &it.count),
                (Aggregate::Sum, &it.sum),
                (Aggregate::Min, &it.min),
                (Aggregate::Max, &it.max),
                (Aggregate::Counter, &it.counter),
            ]
        });
        let aggregates = aggregates.filter_map(|(kind, part)| Some((kind, part.as_ref()?)));
        raw.into_iter().chain(aggregates)
    }
}

/// One series of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSeries {
    /// External labels added, replica labels taken away.
    pub labels: Labels,
    /// By `min_time_ms`, then `max_time_ms`.
    pub chunks: Vec<AggrChunk>,
}

/// One step of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeriesFrame {
    /// Series, in the order of the stream.
    Batch(Vec<StoreSeries>),
    /// Something is missing; the text names store, block and range.
    Warning(String),
}

/// A stream of series, sorted by the labels that it sends; the same labels may come several times
/// in a row, with different chunks.
pub type SeriesFrames = BoxStream<'static, Result<SeriesFrame, Error>>;

/// A source of series.
///
/// Dropping a future or a stream cancels the call.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// What to call it in warnings and errors: an address, or what it holds.
    fn name(&self) -> String;

    /// What it holds now; answers from memory.
    fn info(&self) -> StoreInfo;

    /// Series with their chunks. Buffers are charged to `budget`.
    fn series(
        &self,
        request: SeriesRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<SeriesFrames, Error>>;

    /// Names of labels.
    fn label_names(
        &self,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>>;

    /// Values of the label `name`. Without a name a bucket answers nothing; receivers and queriers
    /// refuse with `label name parameter cannot be empty`.
    fn label_values(
        &self,
        name: String,
        request: LabelsRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>>;
}
