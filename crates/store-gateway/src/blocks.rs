//! The blocks that answer queries now, and those that should and cannot.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{BlockId, Labels, Matcher, TimeRange};
use parking_lot::RwLock;
use storeapi::request::{StoreInfo, TsdbInfo};
use tsdb_core::block::Meta;

use crate::block::{Block, name_of};
use crate::resolution;

/// A block that is in the bucket and could not be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// What is known of it; none when its meta could not be read, so that it may hold anything.
    pub(crate) meta: Option<Arc<Meta>>,
    /// Why it was not loaded.
    pub(crate) reason: String,
}

impl Broken {
    /// The time that it may cover, with its end outside, as a meta has it.
    fn times_ms(&self) -> (i64, i64) {
        self.meta.as_ref().map_or((i64::MIN, i64::MAX), |it| (it.min_time_ms, it.max_time_ms))
    }

    /// Its external labels; none where they are not known, which is to say that it may have any.
    fn external(&self) -> Labels {
        let labels = self.meta.as_ref().and_then(|it| it.external_labels().ok());
        labels.unwrap_or_default()
    }

    /// Whether it may hold an answer.
    fn concerns(&self, range: TimeRange, matchers: &[Matcher]) -> bool {
        let (start_ms, end_ms) = self.times_ms();
        TimeRange::new(start_ms, end_ms.saturating_sub(1)).overlaps(range)
            && rest_of(matchers, &self.external()).is_some()
    }

    /// What is missing because of it.
    fn text(&self, id: BlockId) -> String {
        let name = self.meta.as_ref().map_or_else(|| format!("block {id}"), |it| name_of(it));
        format!("{name} is missing from the answer: {}", self.reason)
    }
}

/// Everything at one moment; never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Loaded blocks.
    pub(crate) loaded: BTreeMap<BlockId, Arc<Block>>,
    /// Blocks that could not be loaded.
    pub(crate) broken: BTreeMap<BlockId, Broken>,
    /// Whether the bucket was read at all; before that nothing is known.
    pub(crate) is_complete: bool,
}

/// The current snapshot.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    current: RwLock<Arc<Snapshot>>,
}

impl Blocks {
    /// The blocks now.
    pub(crate) fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    /// Replaces all.
    pub(crate) fn replace(&self, snapshot: Snapshot) {
        *self.current.write() = Arc::new(snapshot);
    }
}

/// A block to ask, with the matchers that its external labels leave over.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The block.
    pub(crate) block: Arc<Block>,
    /// The matchers for its index.
    pub(crate) matchers: Arc<Vec<Matcher>>,
}

impl Snapshot {
    /// The blocks that answer for a range, coarsest allowed resolution first.
    pub(crate) fn for_series(
        &self,
        range: TimeRange,
        resolution_max_ms: i64,
        matchers: &[Matcher],
    ) -> Vec<Asked> {
        let mut by_labels: BTreeMap<&Labels, Vec<Arc<Block>>> = BTreeMap::new();
        for block in self.loaded.values().filter(|it| it.range().overlaps(range)) {
            by_labels.entry(block.external()).or_default().push(Arc::clone(block));
        }
        let mut asked = Vec::new();
        for (external, blocks) in by_labels {
            let Some(rest) = rest_of(matchers, external).map(Arc::new) else { continue };
            for block in resolution::choose(&blocks, range, resolution_max_ms) {
                asked.push(Asked { block, matchers: Arc::clone(&rest) });
            }
        }
        asked
    }

    /// All blocks that overlap a range, of any resolution.
    pub(crate) fn for_labels(&self, range: TimeRange, matchers: &[Matcher]) -> Vec<Asked> {
        let overlapping = self.loaded.values().filter(|it| it.range().overlaps(range));
        let asked = overlapping.filter_map(|block| {
            let matchers = Arc::new(rest_of(matchers, block.external())?);
            Some(Asked { block: Arc::clone(block), matchers })
        });
        asked.collect()
    }

    /// What is missing from an answer about a range, because a block could not be loaded.
    pub(crate) fn missing(&self, range: TimeRange, matchers: &[Matcher]) -> Vec<String> {
        let concerning = self.broken.iter().filter(|it| it.1.concerns(range, matchers));
        concerning.map(|(id, broken)| broken.text(*id)).collect()
    }

    /// What `Info` says. Blocks that could not be loaded count: who asks for what they hold has
    /// to come here to be told that it is missing.
    pub(crate) fn info(&self) -> StoreInfo {
        let mut by_labels: BTreeMap<Labels, Vec<(i64, i64)>> = BTreeMap::new();
        for block in self.loaded.values() {
            let times_ms = (block.meta().min_time_ms, block.meta().max_time_ms);
            by_labels.entry(block.external().clone()).or_default().push(times_ms);
        }
        for broken in self.broken.values() {
            by_labels.entry(broken.external()).or_default().push(broken.times_ms());
        }
        let mut tsdbs: Vec<TsdbInfo> = Vec::new();
        for (labels, times) in &mut by_labels {
            times.sort_unstable();
            for (min_time_ms, max_time_ms) in times.iter().copied() {
                match tsdbs.last_mut() {
                    Some(last) if last.labels == *labels && min_time_ms <= last.max_time_ms => {
                        last.max_time_ms = last.max_time_ms.max(max_time_ms);
                    }
                    _ => {
                        let labels = labels.clone();
                        tsdbs.push(TsdbInfo { labels, min_time_ms, max_time_ms });
                    }
                }
            }
        }
        StoreInfo {
            component: "store".to_owned(),
            label_sets: by_labels.into_keys().collect(),
            // An empty store says that it holds nothing, as Thanos does: a range that ends before
            // it begins.
            min_time_ms: tsdbs.iter().map(|it| it.min_time_ms).min().unwrap_or(i64::MAX),
            max_time_ms: tsdbs.iter().map(|it| it.max_time_ms).max().unwrap_or(i64::MIN),
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdbs,
        }
    }
}

/// The matchers that are not about external labels; none when an external label refuses.
fn rest_of(matchers: &[Matcher], external: &Labels) -> Option<Vec<Matcher>> {
    let mut rest = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        match external.get(matcher.name()) {
            Some(value) if !matcher.matches(value) => return None,
            Some(_) => {}
            None => rest.push(matcher.clone()),
        }
    }
    Some(rest)
}
