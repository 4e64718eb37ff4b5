//! Series on their way through a kernel: some at once where there are threads for it, and the next
//! ones pulled meanwhile. They come out in the order in which they were pulled, so the number of
//! threads never shows.

use std::collections::VecDeque;
use std::sync::Arc;

use model::{Columns, Labels, Reservation};
use parking_lot::Mutex;

use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::source::Series;
use crate::eval::{Context, Rows};
use crate::row::Row;
use crate::workers::Task;

/// Series that a worker takes at once; enough for one hand-over to cost nothing beside them.
const SERIES_PER_WORKER: usize = 16;

/// One series and what came of it; the buffers are used again.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) labels: Labels,
    pub(crate) columns: Columns,
    pub(crate) row: Row,
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
    steps: usize,
    /// Not here while a worker pulls from it, and gone after a failure.
    puller: Option<Puller>,
    /// What was pulled while the batch before it was evaluated.
    pulled: Option<Result<Vec<Work>, Error>>,
    ready: VecDeque<Work>,
    reservation: Reservation,
    pace: Pace,
}

/// The source of series and the buffers that nobody uses.
struct Puller {
    series: Box<dyn Series>,
    spare: Vec<Work>,
    ended: bool,
}

impl Puller {
    fn pull(&mut self, wanted: usize) -> Result<Vec<Work>, Error> {
        let mut batch = Vec::with_capacity(wanted);
        while batch.len() < wanted && !self.ended {
            let mut work = self.spare.pop().unwrap_or_default();
            match self.series.next(&mut work.columns)? {
                Some(labels) => {
                    work.labels = labels;
                    batch.push(work);
                }
                None => self.ended = true,
            }
        }
        Ok(batch)
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
    ) -> Result<Batches<K>, Error> {
        Ok(Batches {
            context: Arc::clone(context),
            kernel: Arc::new(kernel),
            steps,
            puller: Some(Puller { series, spare: Vec::new(), ended: false }),
            pulled: None,
            ready: VecDeque::new(),
            reservation: context.reservation()?,
            pace: context.pace(),
        })
    }

    pub(crate) fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Evaluates the next batch; false at the end.
    fn fill(&mut self) -> Result<bool, Error> {
        let width = self.context.workers.width().max(1);
        let wanted = if width == 1 { 1 } else { width * SERIES_PER_WORKER };
        let mut batch = match (self.pulled.take(), &mut self.puller) {
            (Some(pulled), _) => pulled?,
            (None, Some(puller)) => puller.pull(wanted)?,
            (None, None) => return Ok(false),
        };
        if batch.is_empty() {
            return Ok(false);
        }
        if width > 1 && batch.len() > 1 {
            self.charge(&batch)?;
            self.spread(batch, width, wanted)?;
            return Ok(true);
        }
        for work in &mut batch {
            self.kernel.evaluate(work, &mut self.pace)?;
        }
        self.ready.extend(batch);
        Ok(true)
    }

    /// Charges a batch with its rows twice: the next one is pulled beside it.
    fn charge(&mut self, batch: &[Work]) -> Result<(), Error> {
        let of_columns: usize = batch.iter().map(|it| it.columns.capacity_bytes()).sum();
        let bytes = 2 * (of_columns + batch.len() * self.steps.saturating_mul(9));
        if bytes > self.reservation.bytes() {
            self.reservation.resize(bytes)?;
        }
        Ok(())
    }

    /// Has every worker evaluate a run of neighbours, and one of them pull the next batch.
    fn spread(&mut self, mut batch: Vec<Work>, width: usize, wanted: usize) -> Result<(), Error> {
        let share = batch.len().div_ceil(width);
        let mut tasks: Vec<Task> = Vec::with_capacity(width + 1);
        let next: Slot<(Puller, Result<Vec<Work>, Error>)> = Arc::default();
        if let Some(mut puller) = self.puller.take() {
            let slot = Arc::clone(&next);
            tasks.push(Box::new(move || {
                let pulled = puller.pull(wanted);
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
        loop {
            let Some(mut work) = self.ready.pop_front() else {
                if !self.fill()? {
                    return Ok(false);
                }
                continue;
            };
            let any = !work.row.present.is_empty();
            if any {
                std::mem::swap(row, &mut work.row);
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
