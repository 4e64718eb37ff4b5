//! The storage of one query: what the engine pulls on its threads is fetched by the request's own
//! future, over a channel with a bound.
//!
//! The engine's threads block; the fetches are asynchronous and live as long as the request does.
//! When the request is dropped, the channels close and the engine stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::StreamExt as _;
use model::{Budget, Columns, Labels, Matcher, Reservation, TimeRange};
use parking_lot::Mutex;
use promql::storage::{SelectHints, SeriesStream, Storage, StorageError};
use storeapi::merge::series_bytes;
use storeapi::request::{PartialResponse, SeriesRequest, Shard};
use storeapi::store::SeriesFrame;
use storeapi::{Error, Store, StoreSeries};
use tokio::sync::mpsc;

use crate::decode::{Decoder, decoded_bytes_max};
use crate::fanout::Fanout;
use crate::limits::{FRAMES_WAITING_MAX, SELECTS_MAX, WARNINGS_MAX};

/// What the caller chose about reading.
#[derive(Clone, Debug)]
pub(crate) struct SelectOptions {
    /// What to do about missing parts.
    pub(crate) partial_response: PartialResponse,
    /// Labels to take away, so that replicas become one series.
    pub(crate) replica_labels: Vec<String>,
    /// Part of all series that is wanted.
    pub(crate) shard: Option<Shard>,
}

/// What is known of a query besides its answer.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    warnings: Mutex<Vec<String>>,
    is_timed_out: AtomicBool,
}

impl Progress {
    /// Something is missing.
    fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock();
        if warnings.contains(&text) {
            return;
        }
        match warnings.len() {
            0..WARNINGS_MAX => warnings.push(text),
            WARNINGS_MAX => warnings.push("more warnings were left out".to_owned()),
            _ => {}
        }
    }

    /// What is missing; nothing when the answer is whole.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// The deadline of the query passed.
    pub(crate) fn time_is_over(&self) {
        self.is_timed_out.store(true, Ordering::Relaxed);
    }

    fn why_closed(&self) -> StorageError {
        if self.is_timed_out.load(Ordering::Relaxed) {
            return StorageError::Timeout;
        }
        StorageError::Canceled
    }
}

/// One select that the engine wants.
#[derive(Debug)]
pub(crate) struct Job {
    request: SeriesRequest,
    budget: Budget,
    frames: mpsc::Sender<Item>,
}

/// What a fetch says to the engine.
#[derive(Debug)]
enum Item {
    /// Series with the memory that they hold while they wait.
    Batch(Vec<StoreSeries>, Reservation),
    /// There is no more.
    End,
    /// There is no more, because it failed.
    Failed(Error),
}

/// Fetches what a select wants, until it is all there or nobody wants it any more.
pub(crate) async fn fetch(fanout: &Fanout, job: Job, progress: &Progress) {
    let Job { request, budget, frames: out } = job;
    let mut frames = match fanout.series(request, budget.clone()).await {
        Ok(frames) => frames,
        Err(error) => {
            // A failed send means that the engine has gone.
            let _ = out.send(Item::Failed(error)).await;
            return;
        }
    };
    while let Some(frame) = frames.next().await {
        let item = match frame {
            Ok(SeriesFrame::Warning(text)) => {
                progress.warn(text);
                continue;
            }
            Ok(SeriesFrame::Batch(batch)) => {
                match budget.reserve(batch.iter().map(series_bytes).sum()) {
                    Ok(reservation) => Item::Batch(batch, reservation),
                    Err(error) => Item::Failed(error.into()),
                }
            }
            Err(error) => Item::Failed(error),
        };
        let is_last = matches!(item, Item::Failed(_));
        if out.send(item).await.is_err() || is_last {
            return;
        }
    }
    let _ = out.send(Item::End).await;
}

/// The storage that the engine of one query sees.
#[derive(Debug)]
pub(crate) struct QueryStorage {
    jobs: mpsc::Sender<Job>,
    options: SelectOptions,
    progress: Arc<Progress>,
}

impl QueryStorage {
    /// A storage and where its jobs come out.
    pub(crate) fn new(
        options: SelectOptions,
        progress: Arc<Progress>,
    ) -> (QueryStorage, mpsc::Receiver<Job>) {
        let (jobs, queue) = mpsc::channel(SELECTS_MAX);
        (QueryStorage { jobs, options, progress }, queue)
    }
}

impl Storage for QueryStorage {
    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
        budget: &Budget,
    ) -> Result<Box<dyn SeriesStream>, StorageError> {
        let request = SeriesRequest {
            partial_response: self.options.partial_response,
            without_replica_labels: self.options.replica_labels.clone(),
            shard: self.options.shard.clone(),
            step_ms: hints.step_ms,
            range_ms: hints.range_ms,
            ..SeriesRequest::new(range, matchers.to_vec())
        };
        let (frames, queue) = mpsc::channel(FRAMES_WAITING_MAX);
        let job = Job { request, budget: budget.clone(), frames };
        self.jobs.blocking_send(job).map_err(|_| self.progress.why_closed())?;
        Ok(Box::new(Stream {
            queue,
            batch: Vec::new().into_iter(),
            range,
            decoder: Decoder::default(),
            batch_reservation: None,
            reservation: budget.reserve(0)?,
            progress: Arc::clone(&self.progress),
            partial_response: self.options.partial_response,
            is_over: false,
        }))
    }
}

struct Stream {
    queue: mpsc::Receiver<Item>,
    batch: std::vec::IntoIter<StoreSeries>,
    range: TimeRange,
    decoder: Decoder,
    /// The encoded batch.
    batch_reservation: Option<Reservation>,
    /// The decoded series.
    reservation: Reservation,
    progress: Arc<Progress>,
    partial_response: PartialResponse,
    is_over: bool,
}

impl Stream {
    fn next_encoded(&mut self) -> Result<Option<StoreSeries>, StorageError> {
        loop {
            if let Some(series) = self.batch.next() {
                return Ok(Some(series));
            }
            self.batch_reservation = None;
            if self.is_over {
                return Ok(None);
            }
            match self.queue.blocking_recv() {
                Some(Item::Batch(batch, reservation)) => {
                    self.batch = batch.into_iter();
                    self.batch_reservation = Some(reservation);
                }
                Some(Item::End) => self.is_over = true,
                Some(Item::Failed(error)) => {
                    self.is_over = true;
                    return Err(storage_error(error));
                }
                None => {
                    self.is_over = true;
                    return Err(self.progress.why_closed());
                }
            }
        }
    }

    fn decode(&mut self, series: &StoreSeries, columns: &mut Columns) -> Result<(), StorageError> {
        let held = columns.capacity_bytes();
        self.reservation.resize(held.max(decoded_bytes_max(&series.chunks)))?;
        for unreadable in self.decoder.decode(&series.chunks, self.range, columns) {
            let text = format!(
                "a chunk of {} from {} to {} ms cannot be read: {}",
                series.labels, unreadable.range.start_ms, unreadable.range.end_ms, unreadable.why
            );
            if self.partial_response == PartialResponse::Abort {
                return Err(StorageError::Failed(text));
            }
            self.progress.warn(text);
        }
        Ok(())
    }
}

impl SeriesStream for Stream {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, StorageError> {
        while let Some(series) = self.next_encoded()? {
            self.decode(&series, columns)?;
            if !columns.is_empty() {
                return Ok(Some(series.labels));
            }
        }
        columns.clear();
        Ok(None)
    }
}

fn storage_error(error: Error) -> StorageError {
    match error {
        Error::BudgetExceeded(error) => StorageError::Budget(error),
        Error::Canceled(_) => StorageError::Canceled,
        other => StorageError::Failed(other.to_string()),
    }
}
