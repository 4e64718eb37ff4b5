//! Series on their way through a kernel: some at once where there are threads for it, and the next
//! ones pulled meanwhile. They come out in the order in which they were pulled, so the number of
//! threads never shows.

use std::collections::VecDeque;
use std::sync::Arc;

use model::{Columns, FloatHistogram, Labels, Reservation};
use parking_lot::Mutex;

use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::account::HistogramAccount;
use crate::eval::source::Series;
use crate::eval::{Context, ROW_BYTES, Rows, account};
use crate::row::Row;
use crate::workers::Task;

/// Series that a worker takes at once; enough for one hand-over to cost nothing beside them.
const SERIES_PER_WORKER: usize = 16;
/// Bytes of samples and rows after which a worker's share of a batch is full: large series keep a
/// worker busy with fewer of them.
const SHARE_BYTES_MAX: usize = 2 << 20;

/// One series and what came of it; the buffers are used again.
pub(crate) struct Work {
    pub(crate) labels: Labels,
    pub(crate) columns: Columns,
    pub(crate) row: Row,
    /// The name of the series is to be taken away at the end of the query.
    drop_name: bool,
    /// The histograms that the kernel makes.
    pub(crate) account: HistogramAccount,
    /// What the buffers hold, as long as they are there.
    reservation: Reservation,
}

impl Work {
    /// Charges the samples and the row that will come of them; histograms that do not move from
    /// the samples to the row are charged when they are made.
    fn charge(&mut self, steps: usize) -> Result<usize, Error> {
        let histograms: usize = self.columns.histograms.iter().map(account::bytes_of).sum();
        // Steps share a histogram, each by an entry of its own; vectors grow by doubling.
        let entry = if histograms == 0 { 0 } else { 2 * size_of::<(usize, Arc<FloatHistogram>)>() };
        let bytes = self
            .columns
            .capacity_bytes()
            .saturating_add(histograms)
            .saturating_add(steps.saturating_mul(ROW_BYTES + entry));
        if bytes > self.reservation.bytes() {
            self.reservation.resize(bytes)?;
        }
        Ok(bytes)
    }
}

/// What is computed of one series, on whatever thread.
pub(crate) trait Kernel: Send + Sync + 'static {
    /// Fills the row from the columns.
    fn evaluate(&self, work: &mut Work, pace: &mut Pace) -> Result<(), Error>;
}

/// Pulls series and evaluates them.
pub(crate) struct Batches<K> {
    context: Arc<Context>,
    kernel: Arc<K>,
    /// Not here while a worker pulls from it, and gone after a failure.
    puller: Option<Puller>,
    /// What was pulled while the batch before it was evaluated.
    pulled: Option<Result<Vec<Work>, Error>>,
    ready: VecDeque<Work>,
    pace: Pace,
}

/// The source of series and the buffers that nobody uses.
struct Puller {
    context: Arc<Context>,
    series: Box<dyn Series>,
    /// Length of the rows that come of the series.
    steps: usize,
    spare: Vec<Work>,
    ended: bool,
}

impl Puller {
    /// Pulls series for `width` workers, each charged before the next one is pulled.
    fn pull(&mut self, width: usize) -> Result<Vec<Work>, Error> {
        let wanted = if width == 1 { 1 } else { width * SERIES_PER_WORKER };
        let mut batch = Vec::with_capacity(wanted);
        let mut bytes = 0;
        while batch.len() < wanted && !self.ended {
            if batch.len() >= width && bytes >= width * SHARE_BYTES_MAX {
                break;
            }
            let mut work = match self.spare.pop() {
                Some(work) => work,
                None => self.new_work()?,
            };
            match self.series.next(&mut work.columns)? {
                Some(labels) => {
                    work.labels = labels;
                    work.drop_name = self.series.drops_name();
                    bytes += work.charge(self.steps)?;
                    batch.push(work);
                }
                None => self.ended = true,
            }
        }
        Ok(batch)
    }

    fn new_work(&self) -> Result<Work, Error> {
        Ok(Work {
            labels: Labels::empty(),
            columns: Columns::default(),
            row: Row::default(),
            drop_name: false,
            account: HistogramAccount::new(&self.context)?,
            reservation: self.context.reservation()?,
        })
    }
}

/// Where a task leaves its result.
type Slot<T> = Arc<Mutex<Option<T>>>;

impl<K: Kernel> Batches<K> {
    /// `steps` is the length of the rows that the kernel fills.
    pub(crate) fn new(
        context: &Arc<Context>,
        kernel: K,
        series: Box<dyn Series>,
        steps: usize,
    ) -> Batches<K> {
        let puller =
            Puller { context: Arc::clone(context), series, steps, spare: Vec::new(), ended: false };
        Batches {
            context: Arc::clone(context),
            kernel: Arc::new(kernel),
            puller: Some(puller),
            pulled: None,
            ready: VecDeque::new(),
            pace: context.pace(),
        }
    }

    pub(crate) fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Evaluates the next batch; false at the end.
    fn fill(&mut self) -> Result<bool, Error> {
        let width = self.context.workers.width().max(1);
        let mut batch = match (self.pulled.take(), &mut self.puller) {
            (Some(pulled), _) => pulled?,
            (None, Some(puller)) => puller.pull(width)?,
            (None, None) => return Ok(false),
        };
        if batch.is_empty() {
            return Ok(false);
        }
        if width > 1 && batch.len() > 1 {
            self.spread(batch, width)?;
            return Ok(true);
        }
        for work in &mut batch {
            self.kernel.evaluate(work, &mut self.pace)?;
        }
        self.ready.extend(batch);
        Ok(true)
    }

    /// Has every worker evaluate a run of neighbours, and one of them pull the next batch.
    fn spread(&mut self, mut batch: Vec<Work>, width: usize) -> Result<(), Error> {
        let share = batch.len().div_ceil(width);
        let mut tasks: Vec<Task> = Vec::with_capacity(width + 1);
        let next: Slot<(Puller, Result<Vec<Work>, Error>)> = Arc::default();
        if let Some(mut puller) = self.puller.take() {
            let slot = Arc::clone(&next);
            tasks.push(Box::new(move || {
                let pulled = puller.pull(width);
                *slot.lock() = Some((puller, pulled));
            }));
        }
        let mut slots: Vec<Slot<Result<Vec<Work>, Error>>> = Vec::with_capacity(width);
        while !batch.is_empty() {
            let rest = batch.split_off(share.min(batch.len()));
            let mut mine = std::mem::replace(&mut batch, rest);
            let slot = Slot::default();
            let (kernel, answer) = (Arc::clone(&self.kernel), Arc::clone(&slot));
            let mut pace = self.context.pace();
            tasks.push(Box::new(move || {
                let done = mine.iter_mut().try_for_each(|it| kernel.evaluate(it, &mut pace));
                *answer.lock() = Some(done.map(|()| mine));
            }));
            slots.push(slot);
        }
        self.context.workers.run(tasks);
        if let Some((puller, pulled)) = next.lock().take() {
            self.puller = Some(puller);
            self.pulled = Some(pulled);
        }
        for slot in slots {
            let answer = slot.lock().take();
            let lost = || Error::execution("a worker ended without an answer");
            self.ready.extend(answer.ok_or_else(lost)??);
        }
        Ok(())
    }
}

impl<K: Kernel> Rows for Batches<K> {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        // They would stay in a spare buffer.
        row.histograms.clear();
        loop {
            let Some(mut work) = self.ready.pop_front() else {
                if !self.fill()? {
                    return Ok(false);
                }
                continue;
            };
            let any = !work.row.is_blank();
            if any {
                std::mem::swap(row, &mut work.row);
                row.drop_name |= work.drop_name;
            }
            if let Some(puller) = &mut self.puller {
                puller.spare.push(work);
            }
            if any {
                return Ok(true);
            }
        }
    }
}
