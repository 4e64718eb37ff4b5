//! Reading the head: series by matchers, their chunks, and the names and values of labels.

use std::collections::BTreeSet;

use model::{Budget, Labels, Matcher, Reservation, TimeRange};

use crate::error::Result;
use crate::head::chunk_log::ChunkSource;
use crate::head::partition::Partition;
use crate::head::series::Series;
use crate::head::{Head, TenantState};

/// Which series are wanted.
#[derive(Clone, Copy, Debug)]
pub struct HeadQuery<'a> {
    /// All must hold; none takes every series of the tenant.
    pub matchers: &'a [Matcher],
    /// Only series with samples in this range, and only chunks that overlap it.
    pub range: TimeRange,
}

/// A chunk of the head; its data is read when it is needed.
#[derive(Debug)]
pub struct HeadChunk {
    /// Time of the first sample in ms.
    pub start_ms: i64,
    /// Time of the last sample in ms.
    pub end_ms: i64,
    /// Number of samples.
    pub sample_count: u16,
    source: ChunkSource,
}

impl HeadChunk {
    /// The chunk's data in XOR encoding, without length, encoding byte and checksum.
    ///
    /// # Errors
    /// The disk's, and corruption, which names the file and the offset.
    pub fn read(self) -> Result<Vec<u8>> {
        self.source.read()
    }
}

/// A series of the head with the chunks that overlap the range asked for, by time.
#[derive(Debug)]
pub struct HeadSeries {
    /// Its labels, without external ones.
    pub labels: Labels,
    /// Its chunks; empty when none were asked for.
    pub chunks: Vec<HeadChunk>,
}

/// What a select found, and the memory that it holds.
#[derive(Debug)]
pub struct Selection {
    /// Sorted by labels.
    pub series: Vec<HeadSeries>,
    /// What is charged for them.
    pub reservation: Reservation,
}

impl Head {
    /// Series of a tenant that fulfil all matchers and have samples in the range.
    ///
    /// # Errors
    /// When the budget has no room for what was found.
    pub(crate) fn select(
        &self,
        tenant: &TenantState,
        query: HeadQuery<'_>,
        with_chunks: bool,
        budget: &Budget,
    ) -> Result<Selection> {
        let HeadQuery { matchers, range } = query;
        let mut reservation = budget.reserve(0)?;
        let mut found = Vec::new();
        for partition in &self.partitions {
            let partition = partition.read();
            for slot in matching(&partition, tenant, matchers) {
                let Some(series) = partition.get(slot).filter(|it| overlaps(it, range)) else {
                    continue;
                };
                let labels = partition.labels(series);
                reservation.grow(size_of::<HeadSeries>() + labels.size_bytes() + 16)?;
                let chunks = match with_chunks {
                    true => chunks_of(&partition, series, range, &mut reservation)?,
                    false => Vec::new(),
                };
                found.push(HeadSeries { labels, chunks });
            }
        }
        self.check_readable()?;
        found.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Selection { series: found, reservation })
    }

    /// Label names of the series that fulfil all matchers and have samples in the range.
    ///
    /// # Errors
    /// When the budget has no room for what was found.
    pub(crate) fn label_names(
        &self,
        tenant: &TenantState,
        query: HeadQuery<'_>,
        budget: &Budget,
    ) -> Result<BTreeSet<String>> {
        let HeadQuery { matchers, range } = query;
        self.collect_texts(budget, |partition, into| {
            for slot in matching(partition, tenant, matchers) {
                let series = partition.get(slot).filter(|it| overlaps(it, range));
                let Some(series) = series else { continue };
                into.extend(series.labels.iter().map(|(name, _)| partition.symbols.text(*name)));
            }
        })
    }

    /// Values of a label among the series that fulfil all matchers and have samples in the range.
    ///
    /// # Errors
    /// When the budget has no room for what was found.
    pub(crate) fn label_values(
        &self,
        tenant: &TenantState,
        name: &str,
        query: HeadQuery<'_>,
        budget: &Budget,
    ) -> Result<BTreeSet<String>> {
        let HeadQuery { matchers, range } = query;
        self.collect_texts(budget, |partition, into| {
            let Some(name) = partition.symbols.find(name) else { return };
            for slot in matching(partition, tenant, matchers) {
                let series = partition.get(slot).filter(|it| overlaps(it, range));
                let labels = series.map_or(&[][..], |it| &it.labels);
                let value = labels.iter().find(|(it, _)| *it == name);
                into.extend(value.map(|(_, value)| partition.symbols.text(*value)));
            }
        })
    }

    fn collect_texts(
        &self,
        budget: &Budget,
        mut collect: impl for<'a> FnMut(&'a Partition, &mut BTreeSet<&'a str>),
    ) -> Result<BTreeSet<String>> {
        let mut reservation = budget.reserve(0)?;
        let mut texts = BTreeSet::new();
        for partition in &self.partitions {
            let partition = partition.read();
            let mut here = BTreeSet::new();
            collect(&partition, &mut here);
            for text in here {
                if !texts.contains(text) {
                    reservation.grow(text.len() + 48)?;
                    texts.insert(text.to_owned());
                }
            }
        }
        self.check_readable()?;
        Ok(texts)
    }

    /// Time of the first sample that a tenant has in the head.
    pub(crate) fn first_ms(&self, tenant: &TenantState) -> Option<i64> {
        let first = self.partitions.iter().filter_map(|partition| {
            let partition = partition.read();
            let slots = partition.postings.all(tenant.index).iter();
            slots.filter_map(|slot| partition.get(*slot)?.first_ms()).min()
        });
        first.min()
    }
}

fn matching(partition: &Partition, tenant: &TenantState, matchers: &[Matcher]) -> Vec<u32> {
    let (symbols, series) = (&partition.symbols, &partition.series);
    partition.postings.select(tenant.index, matchers, symbols, series)
}

/// Whether a series has a chunk that reaches into the range.
fn overlaps(series: &Series, range: TimeRange) -> bool {
    let open = TimeRange::new(series.open_start_ms, series.last_ms);
    let after = series.closed.partition_point(|it| it.end_ms() < range.start_ms);
    (!series.open.is_empty() && range.overlaps(open))
        || series.closed.get(after).is_some_and(|it| it.start_ms <= range.end_ms)
}

fn chunks_of(
    partition: &Partition,
    series: &Series,
    range: TimeRange,
    reservation: &mut Reservation,
) -> Result<Vec<HeadChunk>> {
    let first = series.closed.partition_point(|it| it.end_ms() < range.start_ms);
    let end = series.closed.partition_point(|it| it.start_ms <= range.end_ms).max(first);
    let mut chunks = Vec::with_capacity(end - first + 1);
    for chunk in &series.closed[first..end] {
        // Charged with the data, which is going to be read.
        reservation.grow(size_of::<HeadChunk>() + usize::from(chunk.size_bytes))?;
        chunks.push(HeadChunk {
            start_ms: chunk.start_ms,
            end_ms: chunk.end_ms(),
            sample_count: chunk.sample_count,
            source: partition.chunks.source(series.reference, chunk),
        });
    }
    if !series.open.is_empty()
        && range.overlaps(TimeRange::new(series.open_start_ms, series.last_ms))
    {
        reservation.grow(size_of::<HeadChunk>() + series.open.size_bytes())?;
        chunks.push(HeadChunk {
            start_ms: series.open_start_ms,
            end_ms: series.last_ms,
            sample_count: series.open.sample_count(),
            source: ChunkSource::Memory(series.open.to_bytes()),
        });
    }
    Ok(chunks)
}
