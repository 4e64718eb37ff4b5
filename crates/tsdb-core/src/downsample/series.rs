//! Downsampling of one series after the other: chunks in, aggregate chunks out.

use model::Columns;

use crate::block::ChunkData;
use crate::chunk::{self, DecodeError, Encoding, aggregate};
use crate::downsample::clean::Rejected;
use crate::downsample::encode::Encoder;
use crate::downsample::float_run::FloatRun;
use crate::downsample::histogram_level::is_float;
use crate::downsample::histogram_run::HistogramRun;
use crate::downsample::plan::whole;
use crate::error::Damage;

/// Which resolutions are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Windows of 5 minutes; nothing to make where they are what comes in.
    pub five_minutes: bool,
    /// Windows of an hour.
    pub one_hour: bool,
}

/// Aggregate chunks of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downsampled {
    /// Windows of 5 minutes, where they were asked for.
    pub five_minutes: Vec<ChunkData>,
    /// Windows of an hour, where they were asked for.
    pub one_hour: Vec<ChunkData>,
}

/// What became of the samples of all series so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Raw samples that were read; of aggregate chunks those that they say to stand for.
    pub in_samples: u64,
    /// Raw samples that the written windows of 5 minutes say to stand for.
    pub five_minutes_samples: u64,
    /// Raw samples that the written windows of an hour say to stand for.
    pub one_hour_samples: u64,
    /// Stale markers.
    pub stale: u64,
    /// Values (of histograms: sums) that are no number.
    pub nan: u64,
    /// Samples that go back in time within their chunk, or lie before 1970.
    pub backward: u64,
}

/// A series that cannot be downsampled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunk {chunk}: {damage}")]
pub struct SeriesError {
    /// Place of the chunk that is at fault, from 0.
    pub chunk: usize,
    /// What is wrong with it.
    pub damage: Damage,
}

/// Downsamples series, one after the other; what it answers depends on nothing but the series.
/// Its buffers are kept from one to the next.
#[derive(Debug)]
pub struct Downsampler {
    targets: Targets,
    floats: FloatRun,
    histograms: HistogramRun,
    fine: Encoder,
    coarse: Encoder,
    rejected: Rejected,
    counts: Counts,
    /// For reading what was written.
    written: Columns,
}

/// Kinds of samples that do not go into one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Floats,
    Histograms,
}

impl Downsampler {
    /// Makes these resolutions.
    pub fn new(targets: Targets) -> Downsampler {
        Downsampler {
            targets,
            floats: FloatRun::default(),
            histograms: HistogramRun::default(),
            fine: Encoder::default(),
            coarse: Encoder::default(),
            rejected: Rejected::default(),
            counts: Counts::default(),
            written: Columns::default(),
        }
    }

    /// What became of the samples of all series so far.
    pub fn counts(&self) -> Counts {
        let Rejected { stale, nan, backward } = self.rejected;
        Counts { stale, nan, backward, ..self.counts }
    }

    /// Appends to `out` what the raw chunks of a series become. They must be in order of time and
    /// not overlap.
    ///
    /// # Errors
    /// When a chunk is damaged or is not one of raw samples; `out` is as it was.
    pub fn raw(&mut self, chunks: &[ChunkData], out: &mut Downsampled) -> Result<(), SeriesError> {
        self.begin();
        // The kind of the raw samples that wait, and that of the windows that do.
        let (mut raw, mut windows) = (None, None);
        for (index, chunk) in chunks.iter().enumerate() {
            let kind = raw_kind(chunk.encoding).map_err(SeriesError::of(index))?;
            if raw.is_some_and(|it| it != kind) {
                self.end_raw(raw, &mut windows).map_err(SeriesError::of(index))?;
            }
            raw = Some(kind);
            self.take_raw(kind, chunk).map_err(SeriesError::of(index))?;
        }
        let last = chunks.len().saturating_sub(1);
        self.end_raw(raw, &mut windows).map_err(SeriesError::of(last))?;
        self.end_windows(windows).map_err(SeriesError::of(last))?;
        self.finish(out).map_err(SeriesError::of(last))
    }

    /// Appends to `out` what the chunks of a series with windows of 5 minutes become: windows of
    /// an hour.
    ///
    /// A chunk of raw samples in such a block is left out where it is empty; else aggregates of 5
    /// minutes are made of it first.
    ///
    /// # Errors
    /// When a chunk is damaged; `out` is as it was.
    pub fn aggregates(
        &mut self,
        chunks: &[ChunkData],
        out: &mut Downsampled,
    ) -> Result<(), SeriesError> {
        self.begin();
        let mut windows = None;
        for (index, chunk) in chunks.iter().enumerate() {
            self.take_windows(chunk, &mut windows).map_err(SeriesError::of(index))?;
        }
        let last = chunks.len().saturating_sub(1);
        self.end_windows(windows).map_err(SeriesError::of(last))?;
        self.finish(out).map_err(SeriesError::of(last))
    }

    fn begin(&mut self) {
        self.floats.clear();
        self.histograms.clear();
        self.fine.clear();
        self.coarse.clear();
    }

    fn take_raw(&mut self, kind: Kind, chunk: &ChunkData) -> Result<(), DecodeError> {
        self.counts.in_samples += match kind {
            Kind::Floats => self.floats.take_raw(chunk, &mut self.rejected)?,
            Kind::Histograms => self.histograms.take_raw(chunk, &mut self.rejected)?,
        };
        Ok(())
    }

    /// Makes windows of the raw samples that wait; `windows` is the kind of those that wait.
    fn end_raw(
        &mut self,
        raw: Option<Kind>,
        windows: &mut Option<Kind>,
    ) -> Result<(), DecodeError> {
        let Some(raw) = raw else { return Ok(()) };
        let made = match raw {
            Kind::Floats => {
                let fine = self.targets.five_minutes.then_some(&mut self.fine);
                self.floats.end_raw(fine, &mut self.rejected)?
            }
            Kind::Histograms => self.histograms.end_raw(&mut self.fine, &mut self.rejected)?,
        };
        if made {
            self.begin_windows(raw, windows)?;
        }
        Ok(())
    }

    fn take_windows(
        &mut self,
        chunk: &ChunkData,
        windows: &mut Option<Kind>,
    ) -> Result<(), DecodeError> {
        if chunk.encoding != Encoding::Aggregate {
            if chunk::sample_count(chunk.encoding, &chunk.data)? == 0 {
                return Ok(());
            }
            let kind = raw_kind(chunk.encoding)?;
            self.take_raw(kind, chunk)?;
            return self.end_raw(Some(kind), windows);
        }
        let kind = windows_kind(&chunk.data)?;
        self.begin_windows(kind, windows)?;
        let samples = match kind {
            Kind::Floats => self.floats.take_windows(chunk)?,
            Kind::Histograms => self.histograms.take_windows(chunk)?,
        };
        self.counts.in_samples += whole(samples);
        Ok(())
    }

    /// Takes note that windows of a kind come next: those of another kind are done.
    fn begin_windows(&mut self, kind: Kind, windows: &mut Option<Kind>) -> Result<(), Damage> {
        if *windows != Some(kind) {
            self.end_windows(*windows)?;
        }
        *windows = Some(kind);
        Ok(())
    }

    fn end_windows(&mut self, windows: Option<Kind>) -> Result<(), Damage> {
        let coarse = self.targets.one_hour.then_some(&mut self.coarse);
        match windows {
            Some(Kind::Floats) => self.floats.end(coarse),
            Some(Kind::Histograms) => self.histograms.end(coarse),
            None => Ok(()),
        }
    }

    /// Hands out what was written, and counts it by reading it again.
    fn finish(&mut self, out: &mut Downsampled) -> Result<(), DecodeError> {
        let (fine, coarse) = (out.five_minutes.len(), out.one_hour.len());
        if self.targets.five_minutes {
            self.fine.take(&mut out.five_minutes);
        }
        self.coarse.take(&mut out.one_hour);
        for chunk in out.five_minutes.get(fine..).unwrap_or_default() {
            self.counts.five_minutes_samples += whole(counted(chunk, &mut self.written)?);
        }
        for chunk in out.one_hour.get(coarse..).unwrap_or_default() {
            self.counts.one_hour_samples += whole(counted(chunk, &mut self.written)?);
        }
        Ok(())
    }
}

impl SeriesError {
    fn of<E: Into<DecodeError>>(chunk: usize) -> impl Fn(E) -> SeriesError {
        move |error| {
            let damage = match error.into() {
                DecodeError::Damaged(damage) => damage,
                other => Damage::new("chunk", 0, other.to_string()),
            };
            SeriesError { chunk, damage }
        }
    }
}

fn raw_kind(encoding: Encoding) -> Result<Kind, DecodeError> {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => Ok(Kind::Floats),
        Encoding::Aggregate => {
            Err(Damage::new("chunk", 0, "aggregates in a block of raw samples").into())
        }
        _ => Ok(Kind::Histograms),
    }
}

/// Counters tell, or sums where there is none; counts are floats of either kind.
fn windows_kind(data: &[u8]) -> Result<Kind, Damage> {
    let parts = aggregate::split(data)?;
    let telling = parts.counter.or(parts.sum);
    let is_floats = telling.is_none_or(|it| is_float(it.encoding));
    Ok(if is_floats { Kind::Floats } else { Kind::Histograms })
}

/// The raw samples that an aggregate chunk says to stand for; none where it has no count.
///
/// # Errors
/// When it is damaged.
pub(super) fn counted_samples(chunk: &ChunkData) -> Result<u64, DecodeError> {
    counted(chunk, &mut Columns::default()).map(whole)
}

fn counted(chunk: &ChunkData, columns: &mut Columns) -> Result<f64, DecodeError> {
    let Some(count) = aggregate::split(&chunk.data)?.count else { return Ok(0.0) };
    columns.clear();
    chunk::decode(count.encoding, &chunk.data[count.range], columns)?;
    Ok(columns.values.iter().sum())
}
