//! What the tests of the engine share: opening it on a file system of their own, writing to it,
//! and reading everything back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use model::{Budget, Columns, Sample, Tenant, TimeRange};
use testkit::fault_fs::FaultFs;
use tsdb_core::chunk::xor;
use tsdb_core::db::{
    CutReport, Engine, EngineOptions, HeadQuery, LabelDecoder, OpenReport, Ticket, TicketState,
    WriteBatch, WriteOutcome, WriteSeries,
};
use tsdb_core::{Error, Result};

/// Ten seconds of block, so that tests cross many.
pub(crate) const BLOCK_MS: i64 = 10_000;

/// Labels as the tests send them: `name=value` joined by commas.
struct TextDecoder;

impl LabelDecoder for TextDecoder {
    fn decode<'a>(&self, raw: &'a [u8], into: &mut Vec<(&'a [u8], &'a [u8])>) {
        for pair in raw.split(|it| *it == b',').filter(|it| !it.is_empty()) {
            let at = pair.iter().position(|it| *it == b'=').unwrap_or(pair.len());
            into.push((&pair[..at], pair.get(at + 1..).unwrap_or_default()));
        }
    }
}

/// Series (tenant and labels) to time to bits of the value, and how often it was met.
pub(crate) type Contents = BTreeMap<String, BTreeMap<i64, (u64, usize)>>;

pub(crate) fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

pub(crate) fn open(fs: &FaultFs) -> Result<(Engine, OpenReport)> {
    open_with(fs, BLOCK_MS, Budget::unlimited())
}

pub(crate) fn open_with(
    fs: &FaultFs,
    block_ms: i64,
    budget: Budget,
) -> Result<(Engine, OpenReport)> {
    let directory = PathBuf::from("/data");
    let options = EngineOptions { directory, block_ms, seeds: [11, 12], budget };
    Engine::open(Arc::new(fs.clone()), options)
}

/// A write of samples, each with its labels.
pub(crate) fn append(
    engine: &Engine,
    tenant: &Tenant,
    samples: &[(&str, i64, f64)],
) -> Result<(WriteOutcome, Ticket)> {
    let series: Vec<WriteSeries<'_>> = samples
        .iter()
        .zip(0..)
        .map(|((labels, _, _), index)| WriteSeries {
            raw_labels: labels.as_bytes(),
            is_cacheable: true,
            sample_start: index,
            sample_count: 1,
        })
        .collect();
    let samples: Vec<Sample> = samples
        .iter()
        .map(|(_, timestamp_ms, value)| Sample { timestamp_ms: *timestamp_ms, value: *value })
        .collect();
    engine.append(&WriteBatch {
        tenant,
        series: &series,
        samples: &samples,
        decoder: &TextDecoder,
        latest_ms: i64::MAX / 2,
    })
}

/// A write of many samples of one series.
pub(crate) fn append_run(
    engine: &Engine,
    tenant: &Tenant,
    labels: &str,
    samples: &[Sample],
) -> Result<(WriteOutcome, Ticket)> {
    let series = [WriteSeries {
        raw_labels: labels.as_bytes(),
        is_cacheable: true,
        sample_start: 0,
        sample_count: u32::try_from(samples.len()).unwrap(),
    }];
    engine.append(&WriteBatch {
        tenant,
        series: &series,
        samples,
        decoder: &TextDecoder,
        latest_ms: i64::MAX / 2,
    })
}

/// Whether a write of one sample asks the disk.
pub(crate) fn needs_disk(engine: &Engine, tenant: &Tenant, sample: (&str, i64, f64)) -> bool {
    let (labels, timestamp_ms, value) = sample;
    let series = [WriteSeries {
        raw_labels: labels.as_bytes(),
        is_cacheable: true,
        sample_start: 0,
        sample_count: 1,
    }];
    let batch = WriteBatch {
        tenant,
        series: &series,
        samples: &[Sample { timestamp_ms, value }],
        decoder: &TextDecoder,
        latest_ms: i64::MAX / 2,
    };
    let appended = engine.append_from_memory(&batch).unwrap();
    let needs_disk = appended.needs_disk();
    engine.finish_append(&batch, appended).unwrap();
    needs_disk
}

/// A write that is committed at once; answers what became of it.
pub(crate) fn write(
    engine: &Engine,
    tenant: &Tenant,
    samples: &[(&str, i64, f64)],
) -> Result<WriteOutcome> {
    let (outcome, ticket) = append(engine, tenant, samples)?;
    engine.commit_pending()?;
    match ticket.state() {
        TicketState::Durable => Ok(outcome),
        state => Err(Error::unavailable(format!("the ticket is {state:?} after a commit"))),
    }
}

/// Everything of all tenants, from head and blocks.
pub(crate) fn contents(engine: &Engine) -> Contents {
    let mut contents = Contents::new();
    for tenant in engine.tenants() {
        let query = HeadQuery { matchers: &[], range: TimeRange::ALL };
        let selection = engine.select(&tenant, query, true, &Budget::unlimited()).unwrap();
        for series in selection.series {
            let key = format!("{tenant} {}", series.labels);
            for chunk in series.chunks {
                let (start_ms, end_ms) = (chunk.start_ms, chunk.end_ms);
                let count = usize::from(chunk.sample_count);
                let columns = add(&mut contents, &key, &chunk.read().unwrap());
                assert_eq!(columns.timestamps_ms.len(), count);
                assert_eq!(columns.timestamps_ms.first(), Some(&start_ms));
                assert_eq!(columns.timestamps_ms.last(), Some(&end_ms));
            }
        }
        for block in engine.blocks(&tenant) {
            for series in block.reader.all(TimeRange::ALL, &Budget::unlimited()).unwrap() {
                let series = series.unwrap();
                let key = format!("{tenant} {}", series.labels);
                for chunk in block.reader.chunks(&series).unwrap() {
                    add(&mut contents, &key, &chunk.data);
                }
            }
        }
    }
    contents
}

fn add(contents: &mut Contents, key: &str, data: &[u8]) -> Columns {
    let mut columns = Columns::default();
    xor::decode(data, &mut columns).unwrap();
    let series = contents.entry(key.to_owned()).or_default();
    for (timestamp_ms, value) in columns.timestamps_ms.iter().zip(&columns.values) {
        let entry = series.entry(*timestamp_ms).or_insert((value.to_bits(), 0));
        assert_eq!(entry.0, value.to_bits(), "two values of {key} at {timestamp_ms}");
        entry.1 += 1;
    }
    columns
}

/// Names of blocks in the order of their making.
pub(crate) fn names() -> impl FnMut() -> u128 {
    let mut next = 0;
    move || {
        next += 1;
        next
    }
}

pub(crate) fn expect_no_failures(report: &CutReport) {
    assert!(report.failures.is_empty(), "{:?}", report.failures);
}
