//! Blocks in a bucket, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail loudly")]
#![expect(clippy::disallowed_methods, reason = "tests prepare blocks and read golden data")]

mod clock;
mod crash;
mod deletion;
mod due;
mod filters;
mod marks;
mod remote;
mod uploads;
mod vanishing;
mod views;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bucket::{LocalBlock, Stamp};
use model::{BlockId, Labels};
use objstore::{Environment, MemoryStore};
use tempfile::TempDir;
use tsdb_core::block::Meta;
use tsdb_core::fs::disk::Disk;

/// A clock that tests set, in ms since the Unix epoch.
#[derive(Clone, Debug)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn at(now_ms: i64) -> Clock {
        Clock(Arc::new(AtomicI64::new(now_ms)))
    }

    fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }

    fn store(&self) -> Arc<MemoryStore> {
        let clock = self.clone();
        let now_ms = move || clock.0.load(Ordering::Relaxed);
        let environment = Environment::new(now_ms, || Duration::ZERO, || 7);
        Arc::new(MemoryStore::new("bucket", environment))
    }
}

/// 2026-11-24T00:00:00Z.
const NOW_MS: i64 = 1_795_478_400_000;

fn id(number: u64) -> BlockId {
    BlockId::from_parts(NOW_MS.unsigned_abs() - 3_600_000, u128::from(number))
}

fn labels() -> Labels {
    Labels::from_pairs([("replica", "a"), ("tenant_id", "t")]).unwrap()
}

/// A block's directory with two segments; nothing in this crate looks into them.
fn local_block(parent: &TempDir, id: BlockId) -> PathBuf {
    let directory = parent.path().join(id.to_string());
    std::fs::create_dir_all(directory.join("chunks")).unwrap();
    let write = |path: &str, bytes: Vec<u8>| std::fs::write(directory.join(path), bytes).unwrap();
    write("chunks/000001", vec![1; 3_000]);
    write("chunks/000002", vec![2; 500]);
    write("index", vec![3; 700]);
    write("tombstones", vec![0; 9]);
    let mut meta = Meta::of_head(id, NOW_MS - 7_200_000, NOW_MS);
    meta.stats.num_samples = 100;
    meta.stats.num_series = 10;
    meta.stats.num_chunks = 10;
    meta.thanos.index_stats.series_max_bytes = 64;
    meta.thanos.index_stats.chunk_max_bytes = 300;
    write("meta.json", meta.encode());
    directory
}

fn block(directory: &Path) -> LocalBlock<'_> {
    LocalBlock { fs: &Disk, directory }
}

fn stamp(labels: &Labels) -> Stamp<'_> {
    Stamp { labels, source: "receive", now_ms: NOW_MS + 1, parallel: 2 }
}
