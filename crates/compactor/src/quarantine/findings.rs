//! What every sync sees to be wrong.

use bucket::layout::{self, DELETION_MARK, NO_COMPACT_MARK, NO_DOWNSAMPLE_MARK};
use bucket::marker::Found;
use bucket::{Block, Snapshot, State, partial};
use model::BlockId;
use model::duration::format_ms;

use crate::quarantine::{Cause, Entry, Subject, mark_command};
use crate::selection::oddity;

/// Uploads and deletions of which nothing was written for so long, in ms, do not go on.
const STALLED_AFTER_MS: i64 = 3_600_000;

/// What is wrong with the blocks of a bucket, as far as the listing, metas and marks show it.
pub(super) fn findings(snapshot: &Snapshot, now_ms: i64) -> Vec<Entry> {
    let mut found = Vec::new();
    for (&id, block) in &snapshot.blocks {
        let mut add = |cause, place: String, what: String, command: String| {
            let subject = Subject::Block { block: id };
            found.push(Entry {
                subject,
                cause,
                what,
                place,
                since_ms: now_ms,
                command,
                files: None,
            });
        };
        find_in_state(id, block, now_ms, &mut add);
        for (file, reason) in unreadable_marks(block) {
            let command = format!(
                "aion tools bucket mark --objstore.config-file=bucket.yaml --id={id} \
                 --marker={file} --remove"
            );
            let what = format!("it is no mark and not heeded: {reason}");
            add(Cause::UnreadableMark, layout::key(id, file), what, command);
        }
    }
    found
}

fn find_in_state(
    id: BlockId,
    block: &Block,
    now_ms: i64,
    add: &mut dyn FnMut(Cause, String, String, String),
) {
    if matches!(block.state, State::NoMeta) {
        return find_unfinished(id, block, now_ms, add);
    }
    // Somebody has seen to it: it goes.
    if block.deletion.mark().is_some() {
        return;
    }
    let remove = |details: &str| mark_command(id, DELETION_MARK, details);
    match &block.state {
        State::Corrupt(reason) => {
            let place = layout::meta_key(id);
            add(Cause::CorruptMeta, place, reason.clone(), remove("its meta cannot be read"));
        }
        State::Incomplete { missing, .. } => {
            let what = format!("it is not complete: {}", missing.join(", "));
            add(Cause::Incomplete, layout::prefix(id), what, remove("files are missing"));
        }
        State::Loaded(meta) => {
            let what = oddity(id, meta).or_else(|| {
                let has_labels = !meta.thanos.labels.is_empty();
                (!has_labels).then(|| "it has no external labels".to_owned())
            });
            // The mark says that it is to stay as it is.
            let what = what.filter(|_| block.no_compact.mark().is_none());
            if let Some(what) = what {
                let leave = mark_command(id, NO_COMPACT_MARK, &what);
                add(Cause::Foreign, layout::meta_key(id), what, leave);
            }
        }
        State::NoMeta | State::Failed(_) => {}
    }
}

/// Uploads and deletions that have stopped half-way.
fn find_unfinished(
    id: BlockId,
    block: &Block,
    now_ms: i64,
    add: &mut dyn FnMut(Cause, String, String, String),
) {
    let idle_ms = now_ms.saturating_sub(block.modified_ms());
    if idle_ms <= STALLED_AFTER_MS || block.modified_ms() <= 0 {
        return;
    }
    let clean =
        "aion tools bucket cleanup --objstore.config-file=bucket.yaml --no-dry-run".to_owned();
    match block.deletion.mark() {
        Some(_) => {
            let what = "its deletion did not come to its end; a clean-up goes on with it";
            add(Cause::HalfDeleted, layout::prefix(id), what.to_owned(), clean);
        }
        None => {
            let grace = format_ms(partial::GIVEN_UP_AFTER_MS);
            let what = format!(
                "it has no meta.json, so its upload did not come to its end; it is deleted {grace} \
                 after its last file was written"
            );
            add(Cause::Partial, layout::prefix(id), what, clean);
        }
    }
}

fn unreadable_marks(block: &Block) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    if let Found::Unreadable(reason) = &block.deletion {
        found.push((DELETION_MARK, &**reason));
    }
    if let Found::Unreadable(reason) = &block.no_compact {
        found.push((NO_COMPACT_MARK, &**reason));
    }
    if let Found::Unreadable(reason) = &block.no_downsample {
        found.push((NO_DOWNSAMPLE_MARK, &**reason));
    }
    found
}
