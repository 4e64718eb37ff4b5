//! A bucket in a directory with blocks that are real.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use bucket::filter::{self, Filters};
use model::{BlockId, Labels};
use objstore::{Config, Environment, Metrics, SharedStore};
use testkit::blocks::{self, Samples, Series};
use tsdb_core::block::Meta;

use crate::bucket_dir::{BucketDir, now_ms};

pub(crate) const HOUR_MS: i64 = 3_600_000;
/// Between two samples of a series.
const SCRAPE_MS: i64 = 60_000;
/// The start of a window of two weeks, long ago.
pub(crate) const EPOCH_MS: i64 = 1_470 * 14 * 24 * HOUR_MS;

/// Blocks, and every sample that was ever put into one of them.
pub(crate) struct RealBucket {
    pub(crate) bucket: BucketDir,
    pub(crate) samples: Samples,
}

pub(crate) fn labels(series: usize) -> Labels {
    let name = format!("metric_{}", series % 3);
    let instance = format!("host-{series}");
    Labels::from_pairs([("__name__", name.as_str()), ("instance", &instance)]).unwrap()
}

/// The samples of some hours; values tell the block and the place, so that none equals another.
pub(crate) fn series_of(hours: (i64, i64), count: usize, seed: u32) -> Vec<Series> {
    let mut all = Vec::new();
    for series in 0..count {
        let (first, last) = (EPOCH_MS + hours.0 * HOUR_MS, EPOCH_MS + hours.1 * HOUR_MS);
        let times = (0..).map(|it| first + it * SCRAPE_MS + i64::from(seed % 1000));
        let times = times.take_while(|it| *it < last);
        let samples = times.enumerate().map(|(at, time)| {
            let value = f64::from(seed) + f64::from(u32::try_from(at).unwrap()) / 1000.0;
            (time, value)
        });
        all.push((labels(series), samples.collect()));
    }
    all
}

impl RealBucket {
    pub(crate) fn new() -> RealBucket {
        RealBucket { bucket: BucketDir::new(), samples: Samples::new() }
    }

    /// Puts a block of a stream into the bucket; times are in hours from the start.
    pub(crate) fn put(&mut self, number: u32, stream: &str, hours: (i64, i64)) -> BlockId {
        let id = block_id(number);
        let series = series_of(hours, 3, number);
        let (first, last) = (EPOCH_MS + hours.0 * HOUR_MS, EPOCH_MS + hours.1 * HOUR_MS);
        let mut meta = Meta::of_head(id, first, last);
        meta.thanos.labels = BTreeMap::from([("stream".to_owned(), stream.to_owned())]);
        "receive".clone_into(&mut meta.thanos.source);
        blocks::write(self.bucket.path(), meta, &series).unwrap();
        for (labels, samples) in &series {
            let labels = with(labels, stream);
            let samples =
                samples.iter().map(|(at, value)| ((labels.clone(), *at), value.to_bits()));
            self.samples.extend(samples);
        }
        id
    }

    /// The program with these flags, which works until nothing is left to do.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_compactor"));
        command
            .args([&*self.bucket.flag(), &self.bucket.data_flag(), "--http-address=127.0.0.1:0"])
            .arg("--consistency-delay=0s")
            .args(flags);
        command
    }

    pub(crate) fn run(&self, flags: &[&str]) -> Output {
        self.command(flags).output().unwrap()
    }

    pub(crate) fn directory(&self, id: BlockId) -> PathBuf {
        self.bucket.path().join(id.to_string())
    }

    /// The blocks that a reader sees.
    pub(crate) async fn visible(&self) -> BTreeMap<BlockId, std::sync::Arc<Meta>> {
        let environment = Environment::new(now_ms, || std::time::Duration::ZERO, || 4);
        let directory = self.bucket.path().display();
        let config =
            Config::parse(&format!("{{type: FILESYSTEM, config: {{directory: {directory}}}}}"));
        let store: SharedStore =
            config.unwrap().open(&environment, &Metrics::unregistered()).await.unwrap();
        let snapshot = bucket::View::new(4).sync(&*store).await.unwrap();
        let filters = Filters::after_deletion_marks(24 * HOUR_MS);
        filter::apply(&snapshot, &filters, now_ms()).kept
    }

    /// Checks, by reading every chunk of every block that a reader sees, that each sample is
    /// there once and bit-equal; answers these blocks.
    pub(crate) async fn check(&self) -> BTreeMap<BlockId, std::sync::Arc<Meta>> {
        let visible = self.visible().await;
        let mut seen = Samples::new();
        for (id, meta) in visible.iter().filter(|it| it.1.thanos.downsample.resolution_ms == 0) {
            let mut of_block = Samples::new();
            let doubled = blocks::scan(&self.directory(*id), &mut of_block).unwrap();
            assert_eq!(doubled, 0, "{id}");
            let stream = &meta.thanos.labels["stream"];
            for ((labels, at), value) in of_block {
                let had = seen.insert((with(&labels, stream), at), value);
                assert_eq!(had, None, "{labels} at {at} is in {id} and another block");
            }
        }
        assert_eq!(seen.len(), self.samples.len());
        assert!(seen == self.samples, "not the samples that were put there");
        visible
    }
}

fn with(labels: &Labels, stream: &str) -> Labels {
    let pairs = labels.iter().chain([("stream", stream)]);
    Labels::from_pairs(pairs).unwrap()
}

/// Names of some time ago.
pub(crate) fn block_id(number: u32) -> BlockId {
    let made_ms = u64::try_from(EPOCH_MS).unwrap() + u64::from(number);
    BlockId::from_parts(made_ms, u128::from(number))
}
