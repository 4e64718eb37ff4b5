//! Downsampling of a block: series by series, both resolutions in one pass.

use std::sync::Arc;

use model::{Budget, Reservation};

use crate::block::meta::{IndexStats, Stats, Thanos};
use crate::block::{ChunkData, Meta};
use crate::chunk::{self, Encoding};
use crate::compact::balance::DELETED;
use crate::compact::{Balance, Done, Options, Progress, deleted, naming};
use crate::downsample::series::counted_samples;
use crate::downsample::{
    Counts, Downsampled, Downsampler, FIVE_MINUTES_MS, ONE_HOUR_MS, SeriesError, Targets,
};
use crate::error::{Error, Result};
use crate::stream::symbols::{self, SymbolMap};
use crate::stream::{BlockWriter, Frame, Scratch, SeriesCursor, Sink, Source};

/// Left out as stale markers.
pub const STALE: &str = "stale";
/// Left out because the value, or the sum of a histogram, is no number.
pub const NAN: &str = "nan";
/// Left out because they go back in time within their chunk, or lie before 1970.
pub const BACKWARD: &str = "backward";

/// How much of a file is read at once at most.
const WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much of a file is read at once at least.
const WINDOW_BYTES_MIN: usize = 64 * 1024;
/// Parts of the memory that the windows of a source have half of: index and chunks, each with the
/// one before it.
const WINDOWS: usize = 4;
/// How many series are written between two reports of progress.
const PROGRESS_EVERY_SERIES: u64 = 256;

/// Where the new blocks go, and what else a job uses of its surroundings.
#[derive(Debug)]
pub struct Target<'a> {
    /// Takes the block of 5 minutes, where it is wanted.
    pub five_minutes: Option<Arc<dyn Sink + 'a>>,
    /// Takes the block of an hour, where it is wanted.
    pub one_hour: Option<Arc<dyn Sink + 'a>>,
    /// Holds the indices until they are whole.
    pub scratch: Scratch<'a>,
    /// The account that the job's memory is charged to.
    pub budget: &'a Budget,
    /// Is told how far the job is, and can end it.
    pub progress: &'a dyn Progress,
}

/// What a job did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The block of 5 minutes, where it was wanted.
    pub five_minutes: Option<Made>,
    /// The block of an hour, where it was wanted.
    pub one_hour: Option<Made>,
    /// Bytes of index and chunks that were read.
    pub read_bytes: u64,
    /// The most memory that was charged at once, in bytes.
    pub memory_peak_bytes: usize,
}

/// What a job made of one resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The meta of the new block, complete but for Thanos' source; `None` when no sample is left,
    /// and then nothing was written.
    pub meta: Option<Meta>,
    /// What became of the raw samples: those that were read, or that the windows that were read
    /// stand for, are those that the written windows stand for, and those that were left out.
    pub balance: Balance,
    /// Bytes of the new block's files, without the meta.json.
    pub written_bytes: u64,
    /// Bytes of scratch space that were used.
    pub scratch_bytes: u64,
}

/// The meta of the block that is made of a block: all of its meta, but for name, resolution,
/// statistics and files. The name is a function of the source's and of the resolution; that of an
/// hour is the same whether it is made in one pass or from the block of 5 minutes.
///
/// # Errors
/// [`Error::Invalid`] when the source's windows are not shorter than `resolution_ms`, or that is
/// neither [`FIVE_MINUTES_MS`] nor [`ONE_HOUR_MS`].
pub fn meta_of(source: &Meta, resolution_ms: i64) -> Result<Meta> {
    let before = match (source.thanos.downsample.resolution_ms, resolution_ms) {
        (0, FIVE_MINUTES_MS) | (FIVE_MINUTES_MS, ONE_HOUR_MS) => source.clone(),
        (0, ONE_HOUR_MS) => meta_of(source, FIVE_MINUTES_MS)?,
        (from_ms, _) => {
            let text = format!(
                "block {} of {from_ms} ms cannot be downsampled to {resolution_ms} ms",
                source.ulid
            );
            return Err(Error::invalid(text));
        }
    };
    let configuration = format!("downsample to {resolution_ms}");
    let mut meta = before.clone();
    meta.ulid = naming::output_id(&[&before], &configuration);
    meta.thanos.downsample.resolution_ms = resolution_ms;
    meta.stats = Stats::default();
    meta.thanos.files.clear();
    meta.thanos.segment_files.clear();
    meta.thanos.index_stats = IndexStats::default();
    meta.thanos.upload_time = Thanos::default().upload_time;
    Ok(meta)
}

/// Makes the blocks of longer windows that `target` has sinks for: in one pass, or in one pass for
/// each of them where the scratch space does not bear both indices at once.
///
/// # Errors
/// [`Error::BlockDamaged`] when the source is; [`Error::Scratch`] before anything is read;
/// [`Error::Unbalanced`] when samples were lost or invented; [`Error::Invalid`] when the source
/// cannot have such blocks; all others when source, sinks or scratch space fail, a bound is passed,
/// or the job was cancelled. What the sinks have got then must be removed.
pub fn downsample(source: &Source, target: &Target<'_>, options: &Options) -> Result<Report> {
    let (five_minutes, one_hour) = (target.five_minutes.clone(), target.one_hour.clone());
    let is_both = five_minutes.is_some() && one_hour.is_some();
    if !is_both || scratch_bytes_needed(source, 2) <= target.scratch.bytes_max {
        return downsample_at_once(source, target, options);
    }
    let fine = Target { five_minutes, one_hour: None, ..*target };
    let fine = downsample_at_once(source, &fine, options)?;
    let coarse = Target { five_minutes: None, one_hour, ..*target };
    let coarse = downsample_at_once(source, &coarse, options)?;
    Ok(Report {
        five_minutes: fine.five_minutes,
        one_hour: coarse.one_hour,
        read_bytes: fine.read_bytes.saturating_add(coarse.read_bytes),
        memory_peak_bytes: fine.memory_peak_bytes.max(coarse.memory_peak_bytes),
    })
}

fn downsample_at_once(source: &Source, target: &Target<'_>, options: &Options) -> Result<Report> {
    let ulid = source.meta.ulid;
    let budget = target.budget.child(format!("downsampling {ulid}"), options.memory_bytes_max);
    let window_bytes =
        (options.memory_bytes_max / 2 / WINDOWS).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
    let wanted = [(&target.five_minutes, FIVE_MINUTES_MS), (&target.one_hour, ONE_HOUR_MS)];
    let count = wanted.iter().filter(|it| it.0.is_some()).count() as u64;
    check_scratch(source, target.scratch.bytes_max, count)?;
    let mut cursor = SeriesCursor::open(source, window_bytes, &budget)?;
    let mut map = None;
    let mut outputs = [None, None];
    for (output, (sink, resolution_ms)) in outputs.iter_mut().zip(wanted) {
        let Some(sink) = sink else { continue };
        let meta = meta_of(&source.meta, resolution_ms)?;
        let (list, maps) = symbols::join(std::slice::from_mut(&mut cursor), &budget)?;
        map = maps.into_iter().next();
        let scratch = Scratch { bytes_max: target.scratch.bytes_max / count, ..target.scratch };
        let mut writer = BlockWriter::create(Arc::clone(sink), scratch, &meta, list, &budget)?;
        writer.set_segment_bytes_max(options.segment_bytes_max);
        *output = Some(Output { meta, writer });
    }
    let map = map.ok_or_else(|| Error::invalid("no resolution to downsample to"))?;
    let targets = Targets { five_minutes: outputs[0].is_some(), one_hour: outputs[1].is_some() };
    let mut job = Job {
        cursor,
        map,
        is_raw: source.meta.thanos.downsample.resolution_ms == 0,
        downsampler: Downsampler::new(targets),
        deleted_samples: 0,
        frames: Vec::new(),
        chunks: Vec::new(),
        references: Vec::new(),
        held: budget.reserve(0)?,
    };
    job.run(&mut outputs, target.progress, source.size_bytes())?;
    job.finish(outputs, &budget)
}

/// What a job that makes `count` blocks of a source may need of scratch space.
pub fn scratch_bytes_needed(source: &Source, count: u64) -> u64 {
    let index_bytes = source.index.size_bytes();
    index_bytes.saturating_add(index_bytes / 4).saturating_mul(count)
}

fn check_scratch(source: &Source, limit_bytes: u64, count: u64) -> Result<()> {
    let needed_bytes = scratch_bytes_needed(source, count);
    if needed_bytes > limit_bytes {
        return Err(Error::Scratch { needed_bytes, limit_bytes });
    }
    Ok(())
}

/// A block being written.
#[derive(Debug)]
struct Output<'a> {
    meta: Meta,
    writer: BlockWriter<'a>,
}

/// A job at work.
#[derive(Debug)]
struct Job {
    cursor: SeriesCursor,
    map: SymbolMap,
    is_raw: bool,
    downsampler: Downsampler,
    deleted_samples: u64,
    /// The chunks of the series as they were read.
    frames: Vec<Frame>,
    /// Without deleted samples.
    chunks: Vec<ChunkData>,
    /// Where each of `chunks` lies.
    references: Vec<u64>,
    /// The decoded samples of the series.
    held: Reservation,
}

impl Job {
    fn run(
        &mut self,
        outputs: &mut [Option<Output<'_>>; 2],
        progress: &dyn Progress,
        total_bytes: u64,
    ) -> Result<()> {
        let mut labels = Vec::new();
        let mut made = Downsampled::default();
        let mut series_count = 0_u64;
        while self.cursor.advance()? {
            self.series(&mut made)?;
            self.number_labels(&mut labels)?;
            let [five_minutes, one_hour] = outputs;
            write(five_minutes, &labels, &mut made.five_minutes)?;
            write(one_hour, &labels, &mut made.one_hour)?;
            series_count += 1;
            if series_count.is_multiple_of(PROGRESS_EVERY_SERIES) {
                self.report(outputs, progress, total_bytes)?;
            }
        }
        self.report(outputs, progress, total_bytes)
    }

    /// Downsamples the series that the cursor is at.
    fn series(&mut self, made: &mut Downsampled) -> Result<()> {
        self.chunks.clear();
        self.references.clear();
        // What was read of the series before is no longer in use.
        let mut frames = std::mem::take(&mut self.frames);
        self.cursor.read_chunks(&mut frames)?;
        let mut decoded_bytes = 0_usize;
        for frame in frames.drain(..) {
            let (reference, chunk) = (frame.reference, frame.to_chunk());
            let bytes = chunk::decoded_bytes_max(chunk.encoding, &chunk.data);
            // Its windows are made beside it.
            decoded_bytes = decoded_bytes.saturating_add(bytes.saturating_mul(2));
            self.held.resize(decoded_bytes)?;
            self.take(reference, chunk)?;
        }
        self.frames = frames;
        let done = match self.is_raw {
            true => self.downsampler.raw(&self.chunks, made),
            false => self.downsampler.aggregates(&self.chunks, made),
        };
        done.map_err(|SeriesError { chunk, damage }| {
            let reference = self.references.get(chunk).copied().unwrap_or_default();
            self.cursor.chunk_damaged(reference, damage)
        })
    }

    /// Adds a chunk without its deleted samples.
    fn take(&mut self, reference: u64, chunk: ChunkData) -> Result<()> {
        let failed = |it| self.cursor.chunk_damaged(reference, deleted::damage_of(it));
        let deleted = self.cursor.deleted();
        let left = match deleted.is_empty() {
            true => None,
            false => deleted::without(&chunk, deleted).map_err(failed)?,
        };
        match left {
            None => self.chunks.push(chunk),
            Some(left) => {
                self.deleted_samples += match chunk.encoding {
                    Encoding::Aggregate => counted_samples(&chunk).map_err(failed)?,
                    _ => left.deleted_samples,
                };
                self.chunks.extend(left.chunk);
            }
        }
        self.references.resize(self.chunks.len(), reference);
        Ok(())
    }

    fn number_labels(&self, labels: &mut Vec<(u32, u32)>) -> Result<()> {
        labels.clear();
        for (name, value) in self.cursor.labels() {
            let numbers = self.map.number(*name).zip(self.map.number(*value));
            labels.push(numbers.ok_or_else(|| self.cursor.symbol_missing())?);
        }
        Ok(())
    }

    fn report(
        &self,
        outputs: &[Option<Output<'_>>; 2],
        progress: &dyn Progress,
        total_bytes: u64,
    ) -> Result<()> {
        let written = outputs.iter().flatten().map(|it| it.writer.written_bytes());
        let done = Done {
            samples: self.downsampler.counts().in_samples,
            read_bytes: self.cursor.read_bytes(),
            total_bytes,
            written_bytes: written.sum(),
        };
        if progress.advance(done).is_break() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    fn finish(self, outputs: [Option<Output<'_>>; 2], budget: &Budget) -> Result<Report> {
        let counts = self.downsampler.counts();
        let balance = |out_samples| balance(&counts, self.deleted_samples, out_samples);
        let [five_minutes, one_hour] = outputs;
        let wanted = [
            (five_minutes, balance(counts.five_minutes_samples)),
            (one_hour, balance(counts.one_hour_samples)),
        ];
        // Before any index is made: nothing is visible yet, and nothing will be.
        for (_, balance) in wanted.iter().filter(|it| it.0.is_some()) {
            balance.check()?;
        }
        let read_bytes = self.cursor.read_bytes();
        let mut made = [None, None];
        for (made, (output, balance)) in made.iter_mut().zip(wanted) {
            let Some(Output { mut meta, writer }) = output else { continue };
            let written = writer.finish()?;
            written.fill(&mut meta);
            *made = Some(Made {
                meta: (meta.stats.num_series > 0).then_some(meta),
                balance,
                written_bytes: written.size_bytes(),
                scratch_bytes: written.index_bytes(),
            });
        }
        let [five_minutes, one_hour] = made;
        Ok(Report { five_minutes, one_hour, read_bytes, memory_peak_bytes: budget.peak_bytes() })
    }
}

fn write(
    output: &mut Option<Output<'_>>,
    labels: &[(u32, u32)],
    chunks: &mut Vec<ChunkData>,
) -> Result<()> {
    let Some(output) = output else { return Ok(()) };
    output.writer.begin_series();
    for chunk in chunks.drain(..) {
        output.writer.write(&chunk)?;
    }
    output.writer.end_series(labels)
}

fn balance(counts: &Counts, deleted_samples: u64, out_samples: u64) -> Balance {
    let mut balance = Balance {
        in_samples: counts.in_samples + deleted_samples,
        out_samples,
        ..Balance::default()
    };
    balance.drop_samples(DELETED, deleted_samples);
    balance.drop_samples(STALE, counts.stale);
    balance.drop_samples(NAN, counts.nan);
    balance.drop_samples(BACKWARD, counts.backward);
    balance
}
