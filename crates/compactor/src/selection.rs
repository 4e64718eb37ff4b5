//! Which blocks the rules look at: functions of what a sync saw and of time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bucket::filter;
use bucket::layout::DELETION_MARK;
use bucket::marker::Found;
use bucket::{Block, Snapshot, State};
use model::BlockId;
use tsdb_core::block::{INDEX_FILE, Meta};

use crate::plan::{Candidate, JobKey, View};
use crate::resolution::Resolution;

/// Which blocks the rules apply to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) consistency_delay: Duration,
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
}

/// What no job may touch, for reasons that are not in the bucket's blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reserved {
    /// Something is wrong with them.
    pub(crate) quarantined: HashSet<BlockId>,
    /// They are not to be done again.
    pub(crate) quarantined_jobs: HashSet<JobKey>,
    /// A job that runs has them.
    pub(crate) busy: HashSet<BlockId>,
}

/// What can be planned with: the blocks without a deletion mark whose metas make sense.
///
/// Blocks outside of the scope, those whose deletion mark cannot be read, and those of which not
/// everything could be read this time are there, but not open.
pub(crate) fn view(snapshot: &Snapshot, scope: &Scope, reserved: &Reserved, now_ms: i64) -> View {
    let unsure = unsure(snapshot);
    let blocks = snapshot.blocks.iter().filter_map(|(&id, block)| {
        let meta = meta(block).filter(|it| oddity(id, it).is_none())?;
        let resolution = Resolution::from_ms(meta.thanos.downsample.resolution_ms)?;
        let is_inside = filter::in_time(meta, scope.min_time_ms, scope.max_time_ms)
            && !filter::is_too_fresh(meta, now_ms, whole_ms(scope.consistency_delay));
        let is_open = is_inside && block.deletion == Found::Absent && !unsure.contains(&id);
        block.deletion.mark().is_none().then(|| Candidate {
            meta: Arc::clone(meta),
            resolution,
            bytes: block.files.iter().map(|it| it.size_bytes).sum(),
            index_bytes: block.file_bytes(INDEX_FILE).unwrap_or_default(),
            is_whole: matches!(block.state, State::Loaded(_)),
            is_open,
            // Whoever wrote what cannot be read meant something.
            no_compact: block.no_compact != Found::Absent,
            no_downsample: block.no_downsample.mark().is_some(),
            is_quarantined: reserved.quarantined.contains(&id) || meta.thanos.labels.is_empty(),
            is_busy: reserved.busy.contains(&id),
        })
    });
    View { blocks: blocks.collect(), quarantined_jobs: reserved.quarantined_jobs.clone(), now_ms }
}

/// Why a block cannot be planned with although its meta can be read; none for most.
pub(crate) fn oddity(id: BlockId, meta: &Meta) -> Option<String> {
    if meta.ulid != id {
        return Some(format!("its meta is that of block {}", meta.ulid));
    }
    let (min_time_ms, max_time_ms) = (meta.min_time_ms, meta.max_time_ms);
    // A time that was left out reads as zero and would be older than every retention.
    if min_time_ms >= max_time_ms {
        return Some(format!("its times are from {min_time_ms} to {max_time_ms} ms"));
    }
    let resolution_ms = meta.thanos.downsample.resolution_ms;
    // Nobody said how long samples of another resolution are to be kept.
    if Resolution::from_ms(resolution_ms).is_none() {
        return Some(format!("its resolution of {resolution_ms} ms is none that is known"));
    }
    None
}

/// The blocks whose mark is older than the delay, by its own time and by the store's, whatever
/// else they are: whole, damaged, or what an interrupted deletion left.
pub(crate) fn due(snapshot: &Snapshot, delete_delay: Duration, now_ms: i64) -> Vec<BlockId> {
    let delay_ms = whole_ms(delete_delay);
    let due = snapshot.blocks.iter().filter(|(id, block)| {
        let mark = block.deletion.mark().filter(|it| it.id == **id);
        mark.is_some_and(|it| filter::is_mark_older(it, now_ms, delay_ms))
            && is_mark_object_older(block, now_ms, delay_ms)
    });
    due.map(|(id, _)| *id).collect()
}

/// Whether the store wrote the mark more than the delay ago: whoever made the mark may have had a
/// clock that was wrong. A store that tells no time says no.
fn is_mark_object_older(block: &Block, now_ms: i64, delay_ms: i64) -> bool {
    let object = block.files.iter().find(|it| it.path == DELETION_MARK);
    object.is_some_and(|it| it.modified_ms > 0 && now_ms.saturating_sub(it.modified_ms) > delay_ms)
}

pub(crate) fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A meta that can be read, also where files are missing: their retention ends all the same.
fn meta(block: &Block) -> Option<&Arc<Meta>> {
    match &block.state {
        State::Loaded(meta) | State::Incomplete { meta, .. } => Some(meta),
        State::NoMeta | State::Corrupt(_) | State::Failed(_) => None,
    }
}

/// Blocks of which the next sync may see more.
fn unsure(snapshot: &Snapshot) -> HashSet<BlockId> {
    snapshot.troubles.iter().filter(|it| it.is_transient).map(|it| it.id).collect()
}

#[cfg(test)]
mod tests {
    use bucket::layout::StoredFile;
    use bucket::marker::DeletionMark;
    use bucket::view::Trouble;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const SCOPE: Scope = Scope {
        consistency_delay: Duration::from_mins(30),
        min_time_ms: HOUR_MS,
        max_time_ms: 100 * HOUR_MS,
    };

    fn id(made_h: u64) -> BlockId {
        BlockId::from_parts(made_h * 3_600_000, 1)
    }

    fn meta(made_h: u64) -> Meta {
        Meta::of_head(id(made_h), 2 * HOUR_MS, 4 * HOUR_MS)
    }

    fn block(state: State, deletion: Found<DeletionMark>) -> Block {
        let (no_compact, no_downsample) = (Found::Absent, Found::Absent);
        Block { state, files: vec![], deletion, no_compact, no_downsample }
    }

    fn check(meta: Meta, change: impl Fn(&mut Snapshot), is_candidate: bool) {
        let mut snapshot = Snapshot::default();
        let id = meta.ulid;
        snapshot.blocks.insert(id, block(State::Loaded(Arc::new(meta)), Found::Absent));
        change(&mut snapshot);
        let view = view(&snapshot, &SCOPE, &Reserved::default(), 10 * HOUR_MS);
        let open = view.blocks.iter().filter(|it| it.is_open).count();
        assert_eq!(open, usize::from(is_candidate), "{snapshot:?}");
    }

    fn changed(change: impl Fn(&mut Meta)) -> Meta {
        let mut meta = meta(9);
        change(&mut meta);
        meta
    }

    #[test]
    fn settled_unmarked_blocks_in_the_times_are_looked_at() {
        let nothing = |_: &mut Snapshot| {};
        check(meta(9), nothing, true);
        check(meta(10), nothing, false);
        let times = |min_h: i64, max_h: i64| {
            changed(|it| (it.min_time_ms, it.max_time_ms) = (min_h * HOUR_MS, max_h * HOUR_MS))
        };
        check(times(-9, 0), nothing, false);
        check(times(101, 103), nothing, false);
        check(times(0, 0), nothing, false);
        check(times(4, 2), nothing, false);
        check(changed(|it| it.thanos.downsample.resolution_ms = 300_000), nothing, true);
        check(changed(|it| it.thanos.downsample.resolution_ms = 1_000), nothing, false);
        let mut compacted = meta(10);
        "compactor".clone_into(&mut compacted.thanos.source);
        check(compacted, nothing, true);
    }

    #[test]
    fn what_is_not_known_for_sure_is_left_alone() {
        let with = |state: State| {
            move |it: &mut Snapshot| {
                it.blocks.insert(id(9), block(state.clone(), Found::Absent));
            }
        };
        check(meta(9), with(State::NoMeta), false);
        check(meta(9), with(State::Corrupt("x".to_owned())), false);
        check(meta(9), with(State::Failed("x".to_owned())), false);
        check(meta(9), with(State::Loaded(Arc::new(meta(8)))), false);
        let missing = vec!["index".to_owned()];
        check(meta(9), with(State::Incomplete { meta: Arc::new(meta(9)), missing }), true);
        for deletion in
            [Found::Mark(DeletionMark::new(id(9), "", 0)), Found::Unreadable("x".to_owned())]
        {
            let marked = |it: &mut Snapshot| {
                it.blocks.values_mut().for_each(|it| it.deletion = deletion.clone());
            };
            check(meta(9), marked, false);
        }
        let trouble = |is_transient| Trouble { id: id(9), text: String::new(), is_transient };
        check(meta(9), |it| it.troubles.push(trouble(true)), false);
        check(meta(9), |it| it.troubles.push(trouble(false)), true);
    }

    #[test]
    fn a_mark_is_due_after_the_delay() {
        let marked = |id, of| Found::Mark(DeletionMark::new(of, "", id * HOUR_MS));
        let mut snapshot = Snapshot::default();
        let add = |it: &mut Snapshot, hour: u64, deletion| {
            let state = if hour == 3 { State::NoMeta } else { State::Corrupt("x".to_owned()) };
            let mut block = block(state, deletion);
            block.files.push(mark_object(1));
            it.blocks.insert(id(hour), block);
        };
        add(&mut snapshot, 1, marked(100, id(1)));
        add(&mut snapshot, 2, marked(101, id(2)));
        add(&mut snapshot, 3, marked(99, id(3)));
        add(&mut snapshot, 4, marked(0, id(1)));
        add(&mut snapshot, 5, Found::Unreadable("x".to_owned()));
        add(&mut snapshot, 6, Found::Absent);
        let due = |now_ms| due(&snapshot, Duration::from_hours(36), now_ms);
        assert_eq!(due(136 * HOUR_MS), [id(3)]);
        assert_eq!(due(136 * HOUR_MS + 1), [id(1), id(3)]);
        assert_eq!(due(i64::MAX), [id(1), id(2), id(3)]);
        assert_eq!(due(0), []);
    }

    fn mark_object(modified_ms: i64) -> StoredFile {
        StoredFile { path: DELETION_MARK.to_owned(), size_bytes: 9, modified_ms, etag: None }
    }

    #[test]
    fn a_mark_that_claims_to_be_old_is_not_due_before_the_store_says_so_too() {
        let is_due = |files: Vec<StoredFile>, now_ms| {
            let mark = Found::Mark(DeletionMark::new(id(1), "", HOUR_MS));
            let mut snapshot = Snapshot::default();
            snapshot.blocks.insert(id(1), Block { files, ..block(State::NoMeta, mark) });
            due(&snapshot, Duration::from_hours(36), now_ms) == [id(1)]
        };
        let written_h = |hour: i64| vec![mark_object(hour * HOUR_MS)];
        assert!(is_due(written_h(1), 37 * HOUR_MS + 1));
        assert!(!is_due(written_h(100), 136 * HOUR_MS));
        assert!(is_due(written_h(100), 136 * HOUR_MS + 1));
        assert!(!is_due(written_h(0), i64::MAX), "no time is no age");
        let other = StoredFile { path: "index".to_owned(), ..mark_object(HOUR_MS) };
        assert!(!is_due(vec![other], i64::MAX));
    }
}
