//! Small blocks of floats, and an independent look at what is in a block.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use model::{Budget, Columns, Labels, TimeRange};
use tsdb_core::block::{self, ChunkData, Meta};
use tsdb_core::chunk::{self, Encoding, xor};
use tsdb_core::fs::disk::Disk;

/// Samples of a chunk at most, as compactions cut them.
const CHUNK_SAMPLES: usize = 120;

/// A series: its labels, and its samples in order of time.
pub type Series = (Labels, Vec<(i64, f64)>);

/// Every sample of a block, by its series and time; values as bits.
pub type Samples = BTreeMap<(Labels, i64), u64>;

/// Writes a block into the directory `parent`, under the name that its meta has; what the meta
/// says about files is filled in as an upload does it.
///
/// # Errors
/// When the disk fails, or samples are not in order.
pub fn write(parent: &Path, meta: Meta, series: &[Series]) -> Result<Meta> {
    let mut sorted: Vec<&Series> = series.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let texts = sorted.iter().flat_map(|it| &it.0).flat_map(|(name, value)| [name, value]);
    let mut symbols: Vec<String> = texts.map(str::to_owned).collect();
    symbols.sort();
    symbols.dedup();
    let budget = Budget::unlimited();
    let mut writer = block::Writer::create(&Disk, parent, meta, &symbols, &budget)?;
    for (labels, samples) in sorted {
        let chunks = samples.chunks(CHUNK_SAMPLES).map(encode).collect::<Result<Vec<_>>>()?;
        writer.add_series(labels, &chunks)?;
    }
    Ok(writer.finish()?)
}

fn encode(samples: &[(i64, f64)]) -> Result<ChunkData> {
    let mut appender = xor::Appender::new();
    for (time_ms, value) in samples {
        ensure!(appender.append(*time_ms, *value), "the sample at {time_ms} was refused");
    }
    let (first, last) = samples.first().zip(samples.last()).context("a chunk without samples")?;
    Ok(ChunkData {
        encoding: Encoding::Xor,
        min_time_ms: first.0,
        max_time_ms: last.0,
        data: Bytes::from(appender.to_bytes()),
    })
}

/// Reads every float sample of the block in a directory into `samples`; answers how many of them
/// were there already, be it from this block or another one.
///
/// # Errors
/// When the block cannot be read, or two samples of a series have one time and different values.
pub fn scan(directory: &Path, samples: &mut Samples) -> Result<usize> {
    let budget = Budget::unlimited();
    let reader = block::Reader::open(&Disk, directory, &budget)?;
    let mut doubled = 0;
    for series in reader.all(TimeRange::new(i64::MIN, i64::MAX), &budget)? {
        let series = series?;
        let mut columns = Columns::default();
        for chunk in reader.chunks(&series)? {
            chunk::decode(chunk.encoding, &chunk.data, &mut columns)?;
        }
        for (time_ms, value) in columns.timestamps_ms.iter().zip(&columns.values) {
            let place = (series.labels.clone(), *time_ms);
            match samples.insert(place, value.to_bits()) {
                None => {}
                Some(had) if had == value.to_bits() => doubled += 1,
                Some(_) => anyhow::bail!("{} at {time_ms} has two values", series.labels),
            }
        }
    }
    Ok(doubled)
}
