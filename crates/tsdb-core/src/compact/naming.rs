//! What the block that comes out of a compaction is called and what its meta says of its origin.

use model::BlockId;

use crate::block::Meta;
use crate::block::meta::Parent;
use crate::error::{Error, Result};
use crate::head::sip_hash::SipHash;

/// Keys of the hash that names blocks. They never change: a job that is done again must find the
/// name that it gave the first time.
const NAME_KEYS: [u64; 2] = [0x6169_6f6e_2063_6f6d, 0x7061_6374_696f_6e31];

/// The order in which the sources of a job are given to [`compact`](super::compact): by first
/// time, then by name.
pub fn sort_sources<T>(sources: &mut [T], meta: impl Fn(&T) -> &Meta) {
    sources.sort_by(|a, b| {
        let key = |it: &T| (meta(it).min_time_ms, meta(it).ulid);
        key(a).cmp(&key(b))
    });
}

/// The name of the block that is made of these blocks, in this order: the time of the newest of
/// them, and a hash of their names, their resolution and `configuration`, which says everything
/// else that decides about the bytes of the result. The same job always makes the same name.
pub fn output_id(sources: &[&Meta], configuration: &str) -> BlockId {
    let newest_ms = sources.iter().map(|it| it.ulid.timestamp_ms()).max().unwrap_or(0);
    let mut text = String::with_capacity(27 * sources.len() + configuration.len() + 16);
    for source in sources {
        text.push_str(&source.ulid.to_string());
        text.push('\n');
    }
    let resolution_ms = sources.first().map_or(0, |it| it.thanos.downsample.resolution_ms);
    text.push_str(&resolution_ms.to_string());
    text.push('\n');
    text.push_str(configuration);
    let hash = SipHash::<2, 4>::new(NAME_KEYS).finish(text.as_bytes(), 0);
    // 80 bits are left beside the time.
    BlockId::from_parts(newest_ms, hash & ((1 << 80) - 1))
}

/// The meta of the block that is made of these blocks, in this order: level, origin, range and
/// resolution. Statistics and sizes are filled in by the job, labels and source by the caller.
///
/// # Errors
/// [`Error::Invalid`] when there is no block, or their resolutions differ.
pub fn meta_of(sources: &[&Meta], ulid: BlockId) -> Result<Meta> {
    let Some(first) = sources.first() else { return Err(Error::invalid("no block to compact")) };
    let resolution_ms = first.thanos.downsample.resolution_ms;
    if let Some(other) =
        sources.iter().find(|it| it.thanos.downsample.resolution_ms != resolution_ms)
    {
        let text = format!("blocks {} and {} differ in resolution", first.ulid, other.ulid);
        return Err(Error::invalid(text));
    }
    let mut meta = Meta::of_head(ulid, first.min_time_ms, first.max_time_ms);
    meta.thanos.downsample.resolution_ms = resolution_ms;
    meta.compaction.level = 0;
    meta.compaction.sources.clear();
    for source in sources {
        meta.min_time_ms = meta.min_time_ms.min(source.min_time_ms);
        meta.max_time_ms = meta.max_time_ms.max(source.max_time_ms);
        meta.compaction.level = meta.compaction.level.max(source.compaction.level);
        meta.compaction.sources.extend(&source.compaction.sources);
        meta.compaction.parents.push(Parent {
            ulid: source.ulid,
            min_time_ms: source.min_time_ms,
            max_time_ms: source.max_time_ms,
        });
    }
    meta.compaction.level = meta.compaction.level.saturating_add(1);
    meta.compaction.sources.sort_unstable();
    meta.compaction.sources.dedup();
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: u128) -> Meta {
        Meta::of_head(BlockId::from_parts(1_700_000_000_000, name), 0, 1000)
    }

    #[test]
    fn a_name_is_a_function_of_the_job() {
        let (a, b) = (meta(1), meta(2));
        let name = output_id(&[&a, &b], "one-to-one");
        // Known for ever, on every machine.
        assert_eq!(name.timestamp_ms(), 1_700_000_000_000);
        assert_eq!(name, output_id(&[&a, &b], "one-to-one"));
        assert_ne!(name, output_id(&[&b, &a], "one-to-one"));
        assert_ne!(name, output_id(&[&a, &b], "penalty"));
        assert_ne!(name, output_id(&[&a], "one-to-one"));
        let mut coarse = a.clone();
        coarse.thanos.downsample.resolution_ms = 300_000;
        assert_ne!(name, output_id(&[&coarse, &b], "one-to-one"));
        assert!(meta_of(&[&coarse, &b], name).is_err());
        assert!(meta_of(&[], name).is_err());
    }
}
