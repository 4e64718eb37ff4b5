//! Writing blocks: what is refused, and what a crash or a failing disk leaves behind.

use std::path::Path;

use bytes::Bytes;
use model::{BlockId, Budget, Labels, TimeRange};
use testkit::fault_fs::{Fault, FaultFs, Loss};
use tsdb_core::Error;
use tsdb_core::block::{self, ChunkData, Meta, writer};
use tsdb_core::chunk::{Encoding, xor};
use tsdb_core::fs::Fs;

const HOME: &str = "/data";
const SYMBOLS: [&str; 6] = ["__name__", "a", "job", "one", "two", "up"];

fn meta() -> Meta {
    Meta::of_head(BlockId::from_parts(1_700_000_000_000, 5), 0, 7_200_000)
}

fn labels(value: &str) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("job", value)]).unwrap()
}

fn chunk(times: &[i64]) -> ChunkData {
    let mut appender = xor::Appender::new();
    for time in times {
        assert!(appender.append(*time, 1.5));
    }
    ChunkData {
        encoding: Encoding::Xor,
        min_time_ms: times[0],
        max_time_ms: times[times.len() - 1],
        data: Bytes::from(appender.to_bytes()),
    }
}

fn write(fs: &dyn Fs) -> tsdb_core::Result<Meta> {
    let budget = Budget::unlimited();
    let mut writer = block::Writer::create(fs, Path::new(HOME), meta(), SYMBOLS, &budget)?;
    writer.add_series(&labels("one"), &[chunk(&[1, 2, 3]), chunk(&[4])])?;
    writer.add_series(&labels("two"), &[chunk(&[7, 7_199_999])])?;
    writer.finish()
}

fn whole(fs: &dyn Fs, directory: &Path) -> usize {
    let budget = Budget::unlimited();
    let block = block::Reader::open(fs, directory, &budget).unwrap();
    let series = block.all(TimeRange::ALL, &budget).unwrap();
    series.map(|it| block.chunks(&it.unwrap()).unwrap().len()).sum()
}

#[test]
fn what_breaks_the_rules_of_a_block_is_refused() {
    let check = |series: &[(Labels, Vec<ChunkData>)], wanted: &str| {
        let fs = FaultFs::new();
        fs.make_directory(Path::new(HOME)).unwrap();
        let budget = Budget::unlimited();
        let home = Path::new(HOME);
        let mut writer = block::Writer::create(&fs, home, meta(), SYMBOLS, &budget).unwrap();
        let mut added = series.iter().map(|(labels, chunks)| writer.add_series(labels, chunks));
        let error = added.find_map(Result::err).unwrap();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
    };
    let one = || vec![chunk(&[1, 2])];
    check(&[(labels("two"), one()), (labels("one"), one())], "is added after");
    check(&[(labels("one"), one()), (labels("one"), one())], "is added after");
    check(&[(labels("three"), one())], "not among the symbols");
    check(&[(labels("one"), vec![chunk(&[1, 5]), chunk(&[5, 6])])], "overlap");
    check(&[(labels("one"), vec![chunk(&[-1, 5])])], "outside of the block");
    check(&[(labels("one"), vec![chunk(&[1, 7_200_000])])], "outside of the block");
}

#[test]
fn symbols_must_come_sorted() {
    let fs = FaultFs::new();
    fs.make_directory(Path::new(HOME)).unwrap();
    let (home, budget) = (Path::new(HOME), Budget::unlimited());
    let error = block::Writer::create(&fs, home, meta(), ["b", "a"], &budget).unwrap_err();
    assert!(error.to_string().contains("comes after"), "{error}");
}

#[test]
fn a_budget_bounds_the_symbols_and_is_given_back() {
    let fs = FaultFs::new();
    fs.make_directory(Path::new(HOME)).unwrap();
    let budget = Budget::unlimited().child("cut", 1000);
    let long: Vec<String> = (0..10).map(|it| format!("{it}{}", "x".repeat(500))).collect();
    let error = block::Writer::create(&fs, Path::new(HOME), meta(), &long, &budget).unwrap_err();
    assert!(matches!(error, Error::Budget(_)), "{error}");
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn whenever_the_power_goes_a_block_is_whole_or_not_there() {
    let fs = FaultFs::new();
    fs.make_directory(Path::new(HOME)).unwrap();
    fs.sync_directory(Path::new("/")).unwrap();
    let before = fs.mutation_count();
    let written = write(&fs).unwrap();
    let directory = Path::new(HOME).join(written.ulid.to_string());
    assert_eq!(whole(&fs, &directory), 3);
    let mutations = fs.mutation_count() - before;
    // What was answered as done survives any loss.
    for loss in [Loss::Unsynced, Loss::Torn(1), Loss::Torn(2)] {
        assert_eq!(whole(&fs.after_power_loss(loss), &directory), 3);
    }
    for at in 0..mutations {
        for (number, loss) in
            [Loss::Nothing, Loss::Unsynced, Loss::Torn(at)].into_iter().enumerate()
        {
            let fs = FaultFs::new();
            fs.make_directory(Path::new(HOME)).unwrap();
            fs.sync_directory(Path::new("/")).unwrap();
            fs.inject(before + at, Fault::PowerOff);
            let finished = write(&fs).is_ok();
            let after = fs.after_power_loss(loss);
            if finished || after.exists(&directory).unwrap() {
                assert_eq!(whole(&after, &directory), 3, "cut at {at}, loss {number}");
            }
            writer::remove_unfinished(&after, Path::new(HOME)).unwrap();
            // The next one is not in the way of what was left.
            if !after.exists(&directory).unwrap() {
                write(&after).unwrap();
                assert_eq!(whole(&after, &directory), 3);
            }
        }
    }
}

#[test]
fn a_failing_disk_is_an_error_and_leaves_no_block() {
    let fs = FaultFs::new();
    fs.make_directory(Path::new(HOME)).unwrap();
    let before = fs.mutation_count();
    let written = write(&fs).unwrap();
    let mutations = fs.mutation_count() - before;
    let directory = Path::new(HOME).join(written.ulid.to_string());
    for at in 0..mutations {
        let fs = FaultFs::new();
        fs.make_directory(Path::new(HOME)).unwrap();
        fs.inject(before + at, Fault::Error(std::io::ErrorKind::StorageFull));
        match write(&fs) {
            Ok(_) => assert_eq!(whole(&fs, &directory), 3, "fault at {at}"),
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }), "{error}");
                // The last fault hits the sync of the parent, when the name is there already.
                if fs.exists(&directory).unwrap() {
                    assert_eq!(whole(&fs, &directory), 3, "fault at {at}");
                }
            }
        }
    }
}
