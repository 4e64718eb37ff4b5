//! Reading what the engine holds, and answering whether a sample is there already.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Budget, Labels, Matcher, Tenant, TimeRange};

use crate::db::local::LocalBlock;
use crate::db::{Engine, HeadQuery, Selection};
use crate::error::{Error, Result};
use crate::head::TenantState;
use crate::head::append::{Progress, Question};
use crate::head::batch::{Refusal, Refused, WriteBatch};
use crate::head::partition::find_sample;

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
    /// local blocks.
    pub(super) fn answer(
        &self,
        tenant: &TenantState,
        batch: &WriteBatch<'_>,
        progress: &mut Progress,
    ) -> Result<()> {
        let questions = std::mem::take(&mut progress.questions);
        if questions.is_empty() {
            return Ok(());
        }
        let low_ms = tenant.low_ms();
        let blocks = self.blocks(&tenant.tenant);
        let mut labels_of: HashMap<u32, Option<Labels>> = HashMap::new();
        for mut question in questions {
            let Some(sample) = batch.samples.get(question.sample as usize) else { continue };
            let timestamp_ms = sample.timestamp_ms;
            let mut found = not_damaged(question.ask_chunk(timestamp_ms))?;
            if found.is_none() && timestamp_ms < low_ms {
                let series = &batch.series[question.series as usize];
                let labels = labels_of
                    .entry(question.series)
                    .or_insert_with(|| batch.labels_of(series).ok());
                if let Some(labels) = labels {
                    found = self.find_in_blocks(&blocks, labels, timestamp_ms)?;
                }
            }
            let refusal = match found {
                Some(bits) if bits == sample.value.to_bits() => {
                    progress.outcome.duplicates += 1;
                    continue;
                }
                Some(bits) => Refusal::Duplicate { existing: f64::from_bits(bits) },
                None => refusal_of_absent(&question, timestamp_ms, low_ms),
            };
            let (series, sample) = (question.series, Some(question.sample));
            progress.outcome.refused.push(Refused { series, sample, refusal });
        }
        Ok(())
    }

    /// The bits of a sample in the local blocks.
    fn find_in_blocks(
        &self,
        blocks: &[Arc<LocalBlock>],
        labels: &Labels,
        timestamp_ms: i64,
    ) -> Result<Option<u64>> {
        let at = TimeRange::new(timestamp_ms, timestamp_ms);
        let mut matchers = Vec::new();
        for block in blocks.iter().filter(|it| it.reader.meta().contains(timestamp_ms)) {
            if matchers.is_empty() {
                matchers.extend(labels.iter().map(|(name, value)| Matcher::equal(name, value)));
            }
            let selection =
                not_damaged(block.reader.select(&matchers, at, &self.options.budget).map(Some))?;
            for series in selection.into_iter().flatten() {
                let Some(series) = not_damaged(series.map(Some))? else { continue };
                if series.labels != *labels {
                    continue;
                }
                let chunks = not_damaged(block.reader.chunks(&series).map(Some))?;
                for chunk in chunks.into_iter().flatten() {
                    if let Some(bits) = find_sample(&chunk.data, timestamp_ms) {
                        return Ok(Some(bits));
                    }
                }
            }
        }
        Ok(None)
    }
}

fn refusal_of_absent(question: &Question, timestamp_ms: i64, low_ms: i64) -> Refusal {
    if timestamp_ms < low_ms {
        Refusal::BelowCut { low_ms }
    } else {
        Refusal::OutOfOrder { newest_ms: question.newest_ms }
    }
}

/// A damaged block or chunk has no answer; it must not make the sender try for ever. Whoever
/// reads it for its samples reports it.
fn not_damaged<T>(result: Result<Option<T>>) -> Result<Option<T>> {
    match result {
        Err(Error::Corrupt { .. } | Error::Unsupported { .. }) => Ok(None),
        other => other,
    }
}
