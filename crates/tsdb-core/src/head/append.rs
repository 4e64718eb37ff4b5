//! Taking a write: fingerprints first, then one visit to each partition.
//!
//! Under its lock a partition judges, applies and queues, so that the order in the log is the
//! order in memory. A sample that is older than its series' newest may be one that is there
//! already; where that cannot be told from memory it becomes a [`Question`], answered without a
//! lock.

use std::sync::Arc;

use model::{Labels, Sample};

use crate::error::{Error, Result};
use crate::head::batch::{Refusal, Refused, WriteBatch, WriteOutcome};
use crate::head::chunk_log::ChunkSource;
use crate::head::partition::{Lookup, PARTITION_COUNT, Partition};
use crate::head::raw_cache::Located;
use crate::head::{Head, TenantState, partition_of};
use crate::wal::Log;
use crate::wal::frame::{FrameHead, Kind};
use crate::wal::record::{FloatRecord, FloatsWriter, PAYLOAD_BYTES_WANTED, put_series};

/// How often a series may be removed between being found and being locked before the write gives
/// up; each time needs a cut in between.
const LOCATE_ATTEMPTS: usize = 4;

/// Earliest time that is taken, and negated the latest: sums of times stay far from the ends of
/// an `i64`, which mean "none" in the head.
const EARLIEST_MS: i64 = i64::MIN / 4;

/// A sample of which only the disk knows whether it is there.
#[derive(Debug)]
pub(crate) struct Question {
    /// Index of the series in the batch.
    pub(crate) series: u32,
    /// Index of the sample in the batch.
    pub(crate) sample: u32,
    /// The chunk of the head that would hold it.
    pub(crate) source: Option<ChunkSource>,
    /// Time of the series' newest sample.
    pub(crate) newest_ms: i64,
}

/// What a write has come to so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) outcome: WriteOutcome,
    pub(crate) questions: Vec<Question>,
    /// Why some new series were not made.
    pub(crate) full: Option<Error>,
}

/// The times between which samples are taken, fixed when the write begins.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    too_old_ms: i64,
    latest_ms: i64,
}

impl Head {
    /// Applies a write and queues its frames. Questions are left to the caller.
    ///
    /// # Errors
    /// The disk's (the log has failed then), or a budget without room for new series; samples,
    /// then all of known series, have been taken all the same, and sending again is safe.
    pub(crate) fn append(
        &self,
        log: &Log,
        tenant: &Arc<TenantState>,
        batch: &WriteBatch<'_>,
    ) -> Result<Progress> {
        let newest_ms = tenant.newest_ms();
        let too_old_ms = newest_ms.saturating_sub(self.block_ms / 2).max(EARLIEST_MS);
        let write = Write {
            head: self,
            log,
            tenant,
            batch,
            bounds: Bounds { too_old_ms, latest_ms: batch.latest_ms.min(-EARLIEST_MS) },
        };
        let mut progress = Progress::default();
        let mut places = write.locate_known();
        write.locate_new(&mut places, &mut progress)?;
        let mut waiting = write.scatter(&places);
        for _ in 0..LOCATE_ATTEMPTS {
            let mut stale = Vec::new();
            for (partition, indexes) in waiting.iter().enumerate() {
                if !indexes.is_empty() {
                    stale.extend(write.apply(partition, indexes, &places, &mut progress)?);
                }
            }
            if stale.is_empty() {
                return match progress.full.take() {
                    Some(full) => Err(full),
                    None => Ok(progress),
                };
            }
            for index in &stale {
                places[*index as usize] = Place::Unknown;
            }
            write.locate_new(&mut places, &mut progress)?;
            waiting = write.scatter_some(&places, &stale);
        }
        Err(Error::unavailable("series were removed while they were written to; send again"))
    }
}

/// Where a series of a write is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// To be looked for by its labels.
    Unknown,
    /// In a partition.
    At(Located),
    /// Nowhere, and no sample of it would be taken, or its labels are refused.
    Nowhere,
}

struct Write<'a> {
    head: &'a Head,
    log: &'a Log,
    tenant: &'a Arc<TenantState>,
    batch: &'a WriteBatch<'a>,
    bounds: Bounds,
}

impl Write<'_> {
    /// Looks every series up by its bytes: hashes all, then probes all.
    fn locate_known(&self) -> Vec<Place> {
        let hasher = self.head.raw.read().hasher();
        let tenant = self.tenant.index;
        let series = self.batch.series;
        let keys: Vec<u128> =
            series.iter().map(|it| hasher.fingerprint(tenant, it.raw_labels)).collect();
        let raw = self.head.raw.read();
        let probe = |(series, key): (&crate::head::batch::WriteSeries<'_>, u128)| {
            let found = if series.is_cacheable { raw.find(key) } else { None };
            found.map_or(Place::Unknown, Place::At)
        };
        series.iter().zip(keys).map(probe).collect()
    }

    /// Looks the rest up by labels, and makes the series that are new.
    fn locate_new(&self, places: &mut [Place], progress: &mut Progress) -> Result<()> {
        let mut found = Vec::new();
        for (index, place) in places.iter_mut().enumerate() {
            if !matches!(place, Place::Unknown) {
                continue;
            }
            let series = &self.batch.series[index];
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            *place = Place::Nowhere;
            let labels = match self.batch.labels_of(series) {
                Ok(labels) => labels,
                Err(problem) => {
                    let refusal = Refusal::Labels(problem);
                    progress.outcome.refused.push(Refused {
                        series: number,
                        sample: None,
                        refusal,
                    });
                    continue;
                }
            };
            let samples = self.batch.samples_of(series);
            let may_create =
                progress.full.is_none() && samples.iter().any(|it| self.is_in_bounds(it));
            let located = match self.find_or_create(&labels, may_create, progress) {
                // There is no room for new series. Known ones go on; the sender is told in the
                // end, and may send all of it again.
                Err(error @ Error::Budget(_)) => {
                    progress.full = Some(error);
                    continue;
                }
                located => located?,
            };
            match located {
                Some(located) => {
                    *place = Place::At(located);
                    if series.is_cacheable {
                        found.push((series.raw_labels, located));
                    }
                }
                None if progress.full.is_some() => {}
                None => self.judge_without_series(number, progress),
            }
        }
        if !found.is_empty() {
            let series_count = self.head.series_count();
            let mut raw = self.head.raw.write();
            let hasher = raw.hasher();
            for (bytes, located) in found {
                let key = hasher.fingerprint(self.tenant.index, bytes);
                raw.insert(key, located, series_count);
            }
        }
        Ok(())
    }

    fn is_in_bounds(&self, sample: &Sample) -> bool {
        let low_ms = self.tenant.low_ms().max(self.bounds.too_old_ms);
        low_ms <= sample.timestamp_ms && sample.timestamp_ms <= self.bounds.latest_ms
    }

    fn find_or_create(
        &self,
        labels: &Labels,
        may_create: bool,
        progress: &mut Progress,
    ) -> Result<Option<Located>> {
        let tenant = self.tenant.index;
        let number = partition_of(&self.tenant.tenant, labels);
        let key_hash = self.head.key_hash(tenant, labels);
        let mut partition = self.head.partitions[usize::from(number)].write();
        let partition = &mut *partition;
        let slot = match partition.find(tenant, key_hash, labels) {
            Some(slot) => slot,
            None if !may_create => return Ok(None),
            None => {
                partition.check_writable()?;
                let slot = partition.create(tenant, key_hash, labels, None)?;
                progress.outcome.series_created += 1;
                self.queue_series(number, partition, slot)?;
                slot
            }
        };
        let reference = partition.get(slot).map(|it| it.reference);
        Ok(reference.map(|reference| Located { partition: number, slot, reference }))
    }

    fn queue_series(&self, number: u16, partition: &mut Partition, slot: u32) -> Result<()> {
        let sequence = partition.next_sequence();
        let Some(series) = partition.get(slot) else { return Ok(()) };
        let mut payload = Vec::with_capacity(512);
        let tenant = self.tenant.tenant.as_str();
        put_series(&mut payload, series.reference, tenant, partition.pairs(series));
        let head = FrameHead { kind: Kind::Series, partition: number, sequence };
        // What is in memory and not in the log must never be taken for durable.
        self.log.queue(head, &payload, 0).inspect_err(|_| self.log.fail())
    }

    /// The series of the write by partition, in the order of the write.
    fn scatter(&self, places: &[Place]) -> Vec<Vec<u32>> {
        let all: Vec<u32> = (0..).take(places.len()).collect();
        self.scatter_some(places, &all)
    }

    fn scatter_some(&self, places: &[Place], indexes: &[u32]) -> Vec<Vec<u32>> {
        let mut by_partition: Vec<Vec<u32>> = vec![Vec::new(); PARTITION_COUNT];
        let expected = indexes.len() / PARTITION_COUNT + indexes.len() / 64 + 4;
        for index in indexes {
            if let Place::At(located) = places[*index as usize] {
                let indexes = &mut by_partition[usize::from(located.partition)];
                if indexes.is_empty() {
                    indexes.reserve(expected);
                }
                indexes.push(*index);
            }
        }
        by_partition
    }

    /// Applies the samples of some series to their partition, and queues the frame. Answers the
    /// series that are gone from their slot.
    fn apply(
        &self,
        number: usize,
        indexes: &[u32],
        places: &[Place],
        progress: &mut Progress,
    ) -> Result<Vec<u32>> {
        let mut stale = Vec::new();
        let mut floats = FloatsWriter::default();
        let mut partition = self.head.partitions[number].write();
        partition.check_writable()?;
        let low_ms = self.tenant.low_ms();
        let (mut oldest_ms, mut taken_ms) = (i64::MAX, i64::MIN);
        for index in indexes {
            let Place::At(located) = places[*index as usize] else { continue };
            if partition.get_mut(located.slot, located.reference).is_none() {
                stale.push(*index);
                continue;
            }
            let series = &self.batch.series[*index as usize];
            for (sample, offset) in self.batch.samples_of(series).iter().zip(series.sample_start..)
            {
                let verdict = self.judge(&partition, located.slot, sample, low_ms);
                let (series, sample_index) = (*index, offset);
                match verdict {
                    Verdict::Take => {
                        partition
                            .push(located.slot, sample.timestamp_ms, sample.value, low_ms)
                            .inspect_err(|_| self.log.fail())?;
                        floats.push(FloatRecord {
                            reference: located.reference,
                            timestamp_ms: sample.timestamp_ms,
                            value: sample.value,
                        });
                        progress.outcome.accepted += 1;
                        oldest_ms = oldest_ms.min(sample.timestamp_ms);
                        taken_ms = taken_ms.max(sample.timestamp_ms);
                        // Looked at for every sample: one series may bring millions.
                        if floats.payload().len() > PAYLOAD_BYTES_WANTED {
                            self.queue_floats(number, &mut partition, &mut floats)?;
                        }
                    }
                    Verdict::Equal => progress.outcome.duplicates += 1,
                    Verdict::Refuse(refusal) => progress.outcome.refused.push(Refused {
                        series,
                        sample: Some(sample_index),
                        refusal,
                    }),
                    Verdict::Ask { source, newest_ms } => progress.questions.push(Question {
                        series,
                        sample: sample_index,
                        source,
                        newest_ms,
                    }),
                }
            }
        }
        if oldest_ms <= taken_ms {
            // Told under the lock, so that a cut which locks the partition later knows of it.
            self.tenant.saw(oldest_ms, taken_ms);
        }
        self.queue_floats(number, &mut partition, &mut floats)?;
        Ok(stale)
    }

    fn queue_floats(
        &self,
        number: usize,
        partition: &mut Partition,
        floats: &mut FloatsWriter,
    ) -> Result<()> {
        if floats.count() == 0 {
            return Ok(());
        }
        let sequence = partition.next_sequence();
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let head = FrameHead { kind: Kind::Floats, partition: number, sequence };
        self.log.queue(head, floats.payload(), floats.count()).inspect_err(|_| self.log.fail())?;
        floats.clear();
        Ok(())
    }

    fn judge(&self, partition: &Partition, slot: u32, sample: &Sample, low_ms: i64) -> Verdict {
        let timestamp_ms = sample.timestamp_ms;
        if timestamp_ms > self.bounds.latest_ms {
            return Verdict::Refuse(Refusal::TooFarAhead { latest_ms: self.bounds.latest_ms });
        }
        let Some(series) = partition.get(slot) else {
            return Verdict::Ask { source: None, newest_ms: i64::MIN };
        };
        let newest_ms = series.last_ms;
        if timestamp_ms >= low_ms && (timestamp_ms > newest_ms || !series.has_samples()) {
            let bound_ms = self.bounds.too_old_ms;
            if timestamp_ms < bound_ms {
                return Verdict::Refuse(Refusal::TooOld { bound_ms });
            }
            return Verdict::Take;
        }
        match partition.lookup(slot, timestamp_ms) {
            Lookup::Found(bits) => judge_equal(bits, sample),
            Lookup::Closed(source) => Verdict::Ask { source: Some(source), newest_ms },
            Lookup::Absent if timestamp_ms < low_ms => Verdict::Ask { source: None, newest_ms },
            Lookup::Absent => Verdict::Refuse(Refusal::OutOfOrder { newest_ms }),
        }
    }

    /// What becomes of the samples of a series that the head does not have and does not take.
    fn judge_without_series(&self, index: u32, progress: &mut Progress) {
        let series = &self.batch.series[index as usize];
        for (sample, offset) in self.batch.samples_of(series).iter().zip(series.sample_start..) {
            let refusal = if sample.timestamp_ms > self.bounds.latest_ms {
                Refusal::TooFarAhead { latest_ms: self.bounds.latest_ms }
            } else if sample.timestamp_ms < self.tenant.low_ms() {
                let (sample, newest_ms) = (offset, i64::MIN);
                progress.questions.push(Question {
                    series: index,
                    sample,
                    source: None,
                    newest_ms,
                });
                continue;
            } else {
                Refusal::TooOld { bound_ms: self.bounds.too_old_ms }
            };
            progress.outcome.refused.push(Refused { series: index, sample: Some(offset), refusal });
        }
    }
}

/// What is to become of a sample.
enum Verdict {
    Take,
    Equal,
    Refuse(Refusal),
    Ask { source: Option<ChunkSource>, newest_ms: i64 },
}

fn judge_equal(existing_bits: u64, sample: &Sample) -> Verdict {
    if existing_bits == sample.value.to_bits() {
        Verdict::Equal
    } else {
        Verdict::Refuse(Refusal::Duplicate { existing: f64::from_bits(existing_bits) })
    }
}
