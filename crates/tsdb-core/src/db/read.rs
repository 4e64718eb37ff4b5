//! Reading what the engine holds, and answering whether a sample is there already.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Budget, Columns, Labels, Matcher, Tenant, TimeRange};

use crate::block::ChunkData;
use crate::chunk::{self, Encoding, xor};
use crate::db::local::LocalBlock;
use crate::db::{Engine, HeadQuery, Selection};
use crate::error::{Error, Result};
use crate::head::TenantState;
use crate::head::append::{Progress, Question};
use crate::head::batch::{Refusal, Refused, WriteBatch};
use crate::head::chunk_log::{ChunkPlace, ChunkSource};

impl Engine {
    /// Series of the head that fulfil all matchers and have samples in the range, sorted.
    ///
    /// Whoever reads the blocks too asks for them afterwards: a cut that happens in between is
    /// then seen twice, not never.
    ///
    /// # Errors
    /// When the budget has no room for what was found.
    pub fn select(
        &self,
        tenant: &Tenant,
        query: HeadQuery<'_>,
        with_chunks: bool,
        budget: &Budget,
    ) -> Result<Selection> {
        let core = self.core();
        match core.head.known_tenant(tenant) {
            Some(state) => core.head.select(&state, query, with_chunks, budget),
            None => Ok(Selection { series: Vec::new(), reservation: budget.reserve(0)? }),
        }
    }

    /// Label names of series of the head that fulfil all matchers and have samples in the range.
    ///
    /// # Errors
    /// When the budget has no room for what was found.
    pub fn label_names(
        &self,
        tenant: &Tenant,
        query: HeadQuery<'_>,
        budget: &Budget,
    ) -> Result<BTreeSet<String>> {
        let core = self.core();
        let Some(state) = core.head.known_tenant(tenant) else { return Ok(BTreeSet::new()) };
        core.head.label_names(&state, query, budget)
    }

    /// Values of a label of series of the head that fulfil all matchers and have samples in the
    /// range.
    ///
    /// # Errors
    /// When the budget has no room for what was found.
    pub fn label_values(
        &self,
        tenant: &Tenant,
        name: &str,
        query: HeadQuery<'_>,
        budget: &Budget,
    ) -> Result<BTreeSet<String>> {
        let core = self.core();
        let Some(state) = core.head.known_tenant(tenant) else { return Ok(BTreeSet::new()) };
        core.head.label_values(&state, name, query, budget)
    }

    /// The whole blocks of a tenant on the local disk, oldest first.
    pub fn blocks(&self, tenant: &Tenant) -> Vec<Arc<LocalBlock>> {
        self.blocks.of(tenant)
    }

    /// First and last millisecond of a tenant's samples, in head and blocks; none when there are
    /// none. The first one is a bound.
    pub fn time_range(&self, tenant: &Tenant) -> Option<TimeRange> {
        let state = self.core().head.known_tenant(tenant);
        let mut range = TimeRange::new(i64::MAX, i64::MIN);
        if let Some(state) = state.filter(|it| it.oldest_ms() != i64::MAX) {
            range = TimeRange::new(state.oldest_ms(), state.newest_ms());
        }
        for block in self.blocks(tenant) {
            let meta = block.reader.meta();
            range.start_ms = range.start_ms.min(meta.min_time_ms);
            range.end_ms = range.end_ms.max(meta.max_time_ms.saturating_sub(1));
        }
        (!range.is_empty()).then_some(range)
    }

    /// Answers the questions that a write left: from chunks of the head on disk, then from the
    /// local blocks. Every chunk, and every series of a block, is read once for all its samples.
    pub(super) fn answer(
        &self,
        tenant: &TenantState,
        batch: &WriteBatch<'_>,
        progress: &mut Progress,
    ) -> Result<()> {
        let mut questions = std::mem::take(&mut progress.questions);
        if questions.is_empty() {
            return Ok(());
        }
        let low_ms = tenant.low_ms();
        let mut asked = Vec::with_capacity(questions.len());
        let mut last = LastChunk::default();
        for (question, index) in questions.iter_mut().zip(0..) {
            let Some(sample) = batch.samples.get(question.sample as usize) else { continue };
            let timestamp_ms = sample.timestamp_ms;
            let found = match question.source.take() {
                Some(source) => not_damaged(last.find(source, timestamp_ms))?,
                None => None,
            };
            let series = question.series;
            asked.push(Asked { series, question: index, timestamp_ms, found });
        }
        let mut below: Vec<&mut Asked> =
            asked.iter_mut().filter(|it| it.found.is_none() && it.timestamp_ms < low_ms).collect();
        below.sort_by_key(|it| (it.series, it.timestamp_ms));
        for of_series in below.chunk_by_mut(|a, b| a.series == b.series) {
            let series = &batch.series[of_series[0].series as usize];
            if let Ok(labels) = batch.labels_of(series) {
                self.find_in_blocks(&tenant.tenant, &labels, of_series)?;
            }
        }
        for it in asked {
            let question: &Question = &questions[it.question];
            let value = batch.samples[question.sample as usize].value;
            let refusal = match it.found {
                Some(bits) if bits == value.to_bits() => {
                    progress.outcome.duplicates += 1;
                    continue;
                }
                Some(bits) => Refusal::Duplicate { existing: f64::from_bits(bits) },
                None => refusal_of_absent(question, it.timestamp_ms, low_ms),
            };
            let (series, sample) = (question.series, Some(question.sample));
            progress.outcome.refused.push(Refused { series, sample, refusal });
        }
        Ok(())
    }

    /// Looks for samples of one series, sorted by time, in the local blocks.
    fn find_in_blocks(
        &self,
        tenant: &Tenant,
        labels: &Labels,
        asked: &mut [&mut Asked],
    ) -> Result<()> {
        let mut matchers = Vec::new();
        for block in self.blocks(tenant) {
            let meta = block.reader.meta();
            let from = asked.partition_point(|it| it.timestamp_ms < meta.min_time_ms);
            let to = asked.partition_point(|it| it.timestamp_ms < meta.max_time_ms);
            let asked = asked.get_mut(from..to).unwrap_or_default();
            let (Some(first), Some(last)) = (asked.first(), asked.last()) else { continue };
            let range = TimeRange::new(first.timestamp_ms, last.timestamp_ms);
            if matchers.is_empty() {
                matchers.extend(labels.iter().map(|(name, value)| Matcher::equal(name, value)));
            }
            not_damaged(self.find_in_block(&block, (labels, &matchers), range, asked).map(Some))?;
        }
        Ok(())
    }

    fn find_in_block(
        &self,
        block: &LocalBlock,
        (labels, matchers): (&Labels, &[Matcher]),
        range: TimeRange,
        asked: &mut [&mut Asked],
    ) -> Result<()> {
        for series in block.reader.select(matchers, range, &self.accounts.upkeep)? {
            let Some(mut series) = not_damaged(series.map(Some))? else { continue };
            if series.labels != *labels {
                continue;
            }
            let chunks = std::mem::take(&mut series.chunks);
            for chunk in chunks {
                let from = asked.partition_point(|it| it.timestamp_ms < chunk.min_time_ms);
                let to = asked.partition_point(|it| it.timestamp_ms <= chunk.max_time_ms);
                let Some(asked) = asked.get_mut(from..to).filter(|it| !it.is_empty()) else {
                    continue;
                };
                series.chunks = vec![chunk];
                let read = not_damaged(block.reader.chunks(&series).map(Some))?;
                let is_floats =
                    |it: &ChunkData| matches!(it.encoding, Encoding::Xor | Encoding::Xor2);
                for chunk in read.into_iter().flatten().filter(is_floats) {
                    let mut columns = Columns::default();
                    if chunk::decode(chunk.encoding, &chunk.data, &mut columns).is_ok() {
                        for it in &mut *asked {
                            it.found = it.found.or(columns.float_bits_at(it.timestamp_ms));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// A sample of a write that is looked for.
struct Asked {
    series: u32,
    question: usize,
    timestamp_ms: i64,
    found: Option<u64>,
}

/// The head's chunk that was decoded last: questions of a series come one after the other.
#[derive(Default)]
struct LastChunk {
    place: Option<ChunkPlace>,
    columns: Columns,
}

impl LastChunk {
    fn find(&mut self, source: ChunkSource, timestamp_ms: i64) -> Result<Option<u64>> {
        let place = source.place();
        if place.is_none() || place != self.place {
            self.place = None;
            self.columns = Columns::default();
            // Damage is reported by whoever reads the chunk for its samples.
            if xor::decode(&source.read()?, &mut self.columns).is_err() {
                self.columns = Columns::default();
            }
            self.place = place;
        }
        Ok(self.columns.float_bits_at(timestamp_ms))
    }
}

fn refusal_of_absent(question: &Question, timestamp_ms: i64, low_ms: i64) -> Refusal {
    if timestamp_ms < low_ms {
        Refusal::BelowCut { low_ms }
    } else {
        Refusal::OutOfOrder { newest_ms: question.newest_ms }
    }
}

/// A block or chunk that is damaged, or lies where the disk cannot read, has no answer; it must not
/// make the sender try for ever. Whoever reads it for its samples reports it.
fn not_damaged<T>(result: Result<Option<T>>) -> Result<Option<T>> {
    match result {
        Err(Error::Corrupt { .. } | Error::Unsupported { .. }) => Ok(None),
        Err(error @ Error::Io { .. }) if !error.is_transient() => Ok(None),
        other => other,
    }
}
