//! Plans for views that are written down here.

use model::BlockId;
use tsdb_core::block::Meta;

use super::*;

mod compatibility;
mod downsampled;
mod groups;
mod histories;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Thanos' rules, without retention.
fn rules() -> Rules {
    Rules {
        ranges_ms: RANGES_MS.to_vec(),
        replica_labels: Vec::new(),
        downsampling: true,
        retention: Policy::default(),
        index_bytes_max: 64 << 30,
    }
}

fn id(number: u64) -> BlockId {
    BlockId::from_parts(number, 0)
}

/// A sound block of the stream `x`.
fn block(number: u64, min_time_ms: i64, max_time_ms: i64) -> Candidate {
    let mut meta = Meta::of_head(id(number), min_time_ms, max_time_ms);
    meta.thanos.labels.insert("cluster".to_owned(), "x".to_owned());
    Candidate {
        meta: Arc::new(meta),
        resolution: Resolution::Raw,
        bytes: 100,
        index_bytes: 10,
        is_whole: true,
        is_open: true,
        no_compact: false,
        no_downsample: false,
        is_quarantined: false,
        is_busy: false,
    }
}

fn changed(mut block: Candidate, change: impl Fn(&mut Meta)) -> Candidate {
    change(Arc::make_mut(&mut block.meta));
    let resolution = Resolution::from_ms(block.meta.thanos.downsample.resolution_ms);
    Candidate { resolution: resolution.unwrap(), ..block }
}

fn at(block: Candidate, resolution: Resolution) -> Candidate {
    changed(block, |it| it.thanos.downsample.resolution_ms = resolution.ms())
}

fn view(blocks: &[Candidate], now_ms: i64) -> View {
    View { blocks: blocks.to_vec(), now_ms, ..View::default() }
}

/// The numbers of the blocks of each job, in the order of the plan.
fn numbers(plan: &Plan) -> Vec<Vec<u64>> {
    let of = |it: &Job| it.ids().map(|it| it.timestamp_ms()).collect();
    plan.jobs.iter().map(of).collect()
}
