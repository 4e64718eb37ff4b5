//! A bucket in a directory, with blocks that are small but real enough for their metas.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::BlockId;
use tempfile::TempDir;

pub(crate) const DAY_MS: i64 = 86_400_000;

/// The bucket, and the data directory of who works on it.
pub(crate) struct BucketDir(TempDir, TempDir);

impl BucketDir {
    pub(crate) fn new() -> BucketDir {
        BucketDir(TempDir::new().unwrap(), TempDir::new().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn flag(&self) -> String {
        let directory = self.path().display();
        format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {directory}}}}}")
    }

    pub(crate) fn data_flag(&self) -> String {
        format!("--data-dir={}", self.1.path().display())
    }

    fn file(&self, id: BlockId, name: &str) -> PathBuf {
        self.path().join(id.to_string()).join(name)
    }

    pub(crate) fn write(&self, id: BlockId, name: &str, text: &str) {
        let path = self.file(id, name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A block that ends at a time; it has a meta, an index and a chunk segment.
    pub(crate) fn write_block(&self, id: BlockId, max_time_ms: i64, resolution_ms: i64) {
        let meta = serde_json::json!({
            "ulid": id.to_string(),
            "minTime": max_time_ms - 7_200_000,
            "maxTime": max_time_ms,
            "stats": {"numSamples": 1, "numSeries": 1, "numChunks": 1},
            "compaction": {"level": 1, "sources": [id.to_string()]},
            "version": 1,
            "thanos": {
                "labels": {"replica": "a"},
                "downsample": {"resolution": resolution_ms},
                "source": "receive",
            },
        });
        self.write(id, "chunks/000001", "chunks");
        self.write(id, "index", "index");
        self.write(id, "meta.json", &meta.to_string());
    }

    pub(crate) fn write_mark(&self, id: BlockId, at_ms: i64) {
        let mark = serde_json::json!({
            "id": id.to_string(), "version": 1, "details": "by hand", "deletion_time": at_ms / 1000,
        });
        self.write(id, "deletion-mark.json", &mark.to_string());
    }

    /// Makes a file of a block old.
    pub(crate) fn set_age(&self, id: BlockId, name: &str, age: Duration) {
        let file = fs::File::options().write(true).open(self.file(id, name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    /// Makes a file of a block one that is yet to be written.
    pub(crate) fn set_ahead(&self, id: BlockId, name: &str, ahead: Duration) {
        let file = fs::File::options().write(true).open(self.file(id, name)).unwrap();
        file.set_modified(SystemTime::now() + ahead).unwrap();
    }

    pub(crate) fn has(&self, id: BlockId, name: &str) -> bool {
        self.file(id, name).exists()
    }

    /// Whether anything of a block is left.
    pub(crate) fn has_any(&self, id: BlockId) -> bool {
        let directory = self.path().join(id.to_string());
        directory.exists() && fs::read_dir(directory).unwrap().next().is_some()
    }
}

pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since_epoch.as_millis()).unwrap()
}

/// A block made a day ago.
pub(crate) fn id(number: u128) -> BlockId {
    BlockId::from_parts(u64::try_from(now_ms() - DAY_MS).unwrap() & !0xffff_ffff, number)
}
