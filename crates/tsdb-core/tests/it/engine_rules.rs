//! Which samples the engine takes, and that what it took is there, over chance operations.

use std::collections::BTreeMap;

use model::time::align_down;
use model::{Budget, TimeRange};
use proptest::prelude::*;
use testkit::fault_fs::{FaultFs, Loss};
use tsdb_core::db::{Engine, HeadQuery, Refusal, WriteOutcome};
use tsdb_core::fs::Fs as _;

use crate::engine::{
    BLOCK_MS, Contents, append, contents, expect_no_failures, names, needs_disk, open, tenant,
    write,
};

fn refusals(outcome: &WriteOutcome) -> Vec<String> {
    let words = |it: &tsdb_core::db::Refused| it.refusal.to_string();
    outcome.refused.iter().map(words).collect()
}

#[test]
fn equal_samples_are_successes_and_others_are_named() {
    let (engine, report) = open(&FaultFs::new()).unwrap();
    assert_eq!(report.series, 0);
    let t = tenant("default-tenant");
    let stale = f64::from_bits(model::STALE_NAN_BITS);
    let outcome = write(&engine, &t, &[("a=1", 1000, 1.0), ("a=1", 2000, stale)]).unwrap();
    assert_eq!((outcome.accepted, outcome.series_created), (2, 1));
    let again =
        [("a=1", 2000, stale), ("a=1", 1000, 1.0), ("a=1", 2000, f64::NAN), ("a=1", 1500, 1.0)];
    let outcome = write(&engine, &t, &again).unwrap();
    assert_eq!((outcome.accepted, outcome.duplicates), (0, 2));
    assert_eq!(
        refusals(&outcome),
        [
            "duplicate sample: there is one at this time with value NaN",
            "out of order sample: the newest of the series is at 2000",
        ]
    );
    // Half a block older than the newest is the limit, for a series of its own.
    let late = [("a=1", 9000, 1.0), ("b=1", 3000, 1.0)];
    assert_eq!(write(&engine, &t, &late).unwrap().accepted, 2);
    let outcome = write(&engine, &t, &[("c=1", 4000, 1.0), ("d=1", 3999, 1.0)]).unwrap();
    assert_eq!(outcome.accepted, 1);
    assert!(matches!(outcome.refused[0].refusal, Refusal::TooOld { bound_ms: 4000 }));
    // Labels in another order and with an empty one are the same series.
    let forms = [("b=2,a=2", 9000, 1.0), ("a=2,b=2,c=", 9001, 1.0), ("", 9000, 1.0)];
    let outcome = write(&engine, &t, &forms).unwrap();
    assert_eq!((outcome.accepted, outcome.series_created), (2, 1));
    assert_eq!(refusals(&outcome), ["the series has no labels"]);
}

#[test]
fn a_retry_below_the_cut_is_compared_with_the_blocks() {
    let (engine, _) = open(&FaultFs::new()).unwrap();
    let t = tenant("default-tenant");
    write(&engine, &t, &[("a=1", 1000, 1.0), ("a=1", 2000, 2.0), ("a=1", 15_000, 3.0)]).unwrap();
    let report = engine.cut_due(0, &mut names());
    expect_no_failures(&report);
    assert_eq!(report.blocks.len(), 1);
    assert_eq!((report.blocks[0].meta.min_time_ms, report.blocks[0].meta.max_time_ms), (0, 10_000));
    assert_eq!(report.blocks[0].meta.stats.num_samples, 2);
    let retry = [("a=1", 2000, 2.0), ("a=1", 1000, 9.0), ("a=1", 1500, 1.0), ("b=1", 1000, 1.0)];
    let outcome = write(&engine, &t, &retry).unwrap();
    assert_eq!((outcome.accepted, outcome.duplicates), (0, 1));
    assert!(matches!(outcome.refused[0].refusal, Refusal::Duplicate { existing: 1.0 }));
    assert!(matches!(outcome.refused[1].refusal, Refusal::BelowCut { low_ms: 10_000 }));
    assert!(matches!(outcome.refused[2].refusal, Refusal::BelowCut { low_ms: 10_000 }));
}

#[test]
fn a_stream_that_stopped_is_cut_by_the_clock() {
    let (engine, _) = open(&FaultFs::new()).unwrap();
    write(&engine, &tenant("a"), &[("a=1", 1000, 1.0)]).unwrap();
    write(&engine, &tenant("b"), &[("a=1", 12_000, 1.0)]).unwrap();
    assert!(engine.cut_due(19_000, &mut names()).blocks.is_empty());
    assert!(engine.cut_due(24_999, &mut names()).blocks.is_empty());
    let report = engine.cut_due(25_000, &mut names());
    expect_no_failures(&report);
    let cut: Vec<&str> = report.blocks.iter().map(|it| it.tenant.as_str()).collect();
    assert_eq!(cut, ["a"]);
    assert_eq!(engine.stats().series, 1);
}

#[test]
fn a_sender_that_catches_up_is_not_cut_off_by_the_clock() {
    let (engine, _) = open(&FaultFs::new()).unwrap();
    let (t, mut names) = (tenant("a"), names());
    let long_after_ms = 10_000_000;
    for round in 0..30 {
        let now_ms = long_after_ms + round * 1000;
        let written = write(&engine, &t, &[("a=1", round * 300, 1.0), ("b=1", round * 300, 1.0)]);
        assert_eq!(written.unwrap().accepted, 2, "round {round}");
        assert!(engine.cut_due(now_ms, &mut names).blocks.is_empty(), "round {round}");
    }
    assert_eq!(engine.cut_due(long_after_ms + 34_000, &mut names).blocks.len(), 1);
}

#[test]
fn a_second_process_is_kept_out_until_the_first_is_gone() {
    let fs = FaultFs::new();
    let (first, _) = open(&fs).unwrap();
    let error = open(&fs).unwrap_err();
    assert!(matches!(error, tsdb_core::Error::Io { operation: "lock", .. }), "{error}");
    drop(first);
    open(&fs).unwrap();
}

/// One step of a run.
#[derive(Clone, Debug)]
enum Step {
    /// Samples: series, time relative to the newest, value.
    Write(Vec<(usize, i64, u8)>),
    CutDue,
    CutAll,
    Snapshot,
    Reopen,
    Rebuild,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sample = (0..SERIES.len(), -7_000_i64..2_500, 0_u8..3);
    let step = prop_oneof![
        12 => prop::collection::vec(sample, 1..12).prop_map(Step::Write),
        3 => Just(Step::CutDue),
        1 => Just(Step::CutAll),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Reopen),
        1 => Just(Step::Rebuild),
    ];
    prop::collection::vec(step, 1..60)
}

const SERIES: [&str; 4] = ["n=a", "n=b,x=1", "n=c", "n=d,y=2,z=3"];

/// What the engine must hold, by rules told in the plainest way.
#[derive(Default)]
struct Model {
    samples: BTreeMap<(usize, i64), u8>,
    newest_ms: Option<i64>,
    low_ms: i64,
}

impl Model {
    fn judge(&self, start_ms: Option<i64>, series: usize, time_ms: i64, value: u8) -> &'static str {
        if let Some(known) = self.samples.get(&(series, time_ms)) {
            return if *known == value { "equal" } else { "duplicate" };
        }
        if time_ms < self.low_ms {
            return "below cut";
        }
        let last = self.samples.range((series, i64::MIN)..=(series, i64::MAX)).next_back();
        match last {
            Some(((_, last_ms), _)) if time_ms < *last_ms => "out of order",
            _ if start_ms.is_some_and(|it| time_ms < it - BLOCK_MS / 2) => "too old",
            _ => "accepted",
        }
    }

    fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for ((series, time_ms), value) in &self.samples {
            let pairs = SERIES[*series].split(',').map(|it| it.split_once('=').unwrap());
            let labels = model::Labels::from_pairs(pairs).unwrap();
            let key = format!("default-tenant {labels}");
            let bits = f64::from(*value).to_bits();
            contents.entry(key).or_default().insert(*time_ms, (bits, 1));
        }
        contents
    }

    /// The windows that are due: all whose end is half a block or more before the newest.
    fn cut_due(&mut self) {
        let Some(newest_ms) = self.newest_ms else { return };
        loop {
            let low = self.low_ms;
            let in_head = self.samples.keys().map(|(_, time_ms)| *time_ms).filter(|it| *it >= low);
            let Some(first_ms) = in_head.min() else { return };
            let end_ms = align_down(first_ms, BLOCK_MS) + BLOCK_MS;
            if newest_ms < end_ms + BLOCK_MS / 2 {
                return;
            }
            self.low_ms = end_ms;
        }
    }
}

fn words(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Duplicate { .. } => "duplicate",
        Refusal::BelowCut { .. } => "below cut",
        Refusal::OutOfOrder { .. } => "out of order",
        Refusal::TooOld { .. } => "too old",
        _ => "other",
    }
}

fn step_write(engine: &Engine, model: &mut Model, samples: &[(usize, i64, u8)]) {
    let start_ms = model.newest_ms;
    let base_ms = start_ms.unwrap_or(100_000);
    let mut expected = BTreeMap::new();
    let mut sent = Vec::new();
    for (series, offset_ms, value) in samples {
        let time_ms = base_ms + offset_ms;
        sent.push((SERIES[*series], time_ms, f64::from(*value)));
    }
    let (outcome, _) = append(engine, &tenant("default-tenant"), &sent).unwrap();
    engine.commit_pending().unwrap();
    for (series, offset_ms, value) in samples {
        let time_ms = base_ms + offset_ms;
        let verdict = model.judge(start_ms, *series, time_ms, *value);
        *expected.entry(verdict).or_insert(0) += 1;
        if verdict == "accepted" {
            model.samples.insert((*series, time_ms), *value);
            model.newest_ms = model.newest_ms.max(Some(time_ms));
        }
    }
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    found.insert("accepted", outcome.accepted);
    found.insert("equal", outcome.duplicates);
    for refused in &outcome.refused {
        *found.entry(words(&refused.refusal)).or_insert(0) += 1;
    }
    found.retain(|_, count| *count > 0);
    assert_eq!(found, expected, "{sent:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_holds_what_it_took(steps in steps()) {
        let mut fs = FaultFs::new();
        let (mut engine, _) = open(&fs).unwrap();
        let mut model = Model::default();
        let mut names = names();
        for step in &steps {
            match step {
                Step::Write(samples) => step_write(&engine, &mut model, samples),
                Step::CutDue => {
                    expect_no_failures(&engine.cut_due(0, &mut names));
                    model.cut_due();
                }
                Step::CutAll => {
                    expect_no_failures(&engine.cut_all(0, &mut names));
                    let newest_ms = model.newest_ms.unwrap_or(i64::MIN);
                    model.low_ms = model.low_ms.max(newest_ms.saturating_add(1));
                }
                Step::Snapshot => engine.snapshot().unwrap(),
                Step::Reopen => {
                    drop(engine);
                    fs = fs.after_power_loss(Loss::Unsynced);
                    let (opened, report) = open(&fs).unwrap();
                    prop_assert!(report.damaged.is_empty() && report.problems.is_empty());
                    engine = opened;
                    // A head that is empty has no newest sample to measure age by.
                    let low = model.low_ms;
                    if !model.samples.keys().any(|(_, time_ms)| *time_ms >= low) {
                        model.newest_ms = None;
                    }
                }
                Step::Rebuild => {
                    engine.rebuild().unwrap();
                    let low = model.low_ms;
                    if !model.samples.keys().any(|(_, time_ms)| *time_ms >= low) {
                        model.newest_ms = None;
                    }
                }
            }
            prop_assert_eq!(contents(&engine), model.contents());
        }
    }
}

#[test]
fn times_at_the_ends_are_refused_and_poison_nothing() {
    let (engine, _) = open(&FaultFs::new()).unwrap();
    let t = tenant("default-tenant");
    let ends = [i64::MIN, i64::MIN / 2, i64::MAX / 2, i64::MAX];
    for time_ms in ends {
        let outcome = write(&engine, &t, &[("a=1", time_ms, 1.0)]).unwrap();
        assert_eq!((outcome.accepted, outcome.refused.len()), (0, 1), "{time_ms}");
    }
    assert_eq!(write(&engine, &t, &[("a=1", 1000, 1.0)]).unwrap().accepted, 1);
    assert_eq!(write(&engine, &t, &[("a=1", -2000, 1.0)]).unwrap().accepted, 0);
    assert_eq!(engine.stats().series, 1);
}

#[test]
fn a_retry_is_answered_from_the_disk_in_a_second_step() {
    let (engine, _) = open(&FaultFs::new()).unwrap();
    let t = tenant("default-tenant");
    let name = |at: i64| format!("a={at},job=x");
    let names_of: Vec<String> = (0..40).map(name).collect();
    let rows = |value: f64| -> Vec<(&str, i64, f64)> {
        let times = (0..5).flat_map(|round| names_of.iter().map(move |it| (round, it)));
        times.map(|(round, it)| (it.as_str(), 1000 * round, value + round as f64)).collect()
    };
    assert_eq!(write(&engine, &t, &rows(0.5)).unwrap().accepted, 200);
    write(&engine, &t, &[("b=1", 15_000, 3.0)]).unwrap();
    expect_no_failures(&engine.cut_due(0, &mut names()));
    assert_eq!(write(&engine, &t, &rows(0.5)).unwrap().duplicates, 200);
    let outcome = write(&engine, &t, &rows(0.25)).unwrap();
    let is_duplicate = |it: &tsdb_core::db::Refused| match it.refusal {
        Refusal::Duplicate { existing } => existing.fract() == 0.5,
        _ => false,
    };
    assert_eq!(outcome.refused.iter().filter(|it| is_duplicate(it)).count(), 200);
    assert!(!needs_disk(&engine, &t, ("b=1", 16_000, 1.0)));
    assert!(needs_disk(&engine, &t, (&names_of[0], 1000, 1.5)));
}

#[test]
fn a_lost_state_of_the_cuts_is_taken_from_the_blocks() {
    let fs = FaultFs::new();
    let (engine, _) = open(&fs).unwrap();
    let t = tenant("default-tenant");
    write(&engine, &t, &[("a=1", 1000, 1.0), ("a=1", 15_000, 3.0)]).unwrap();
    expect_no_failures(&engine.cut_due(0, &mut names()));
    drop(engine);
    fs.unlink(std::path::Path::new("/data/.aion/cuts.json")).unwrap();
    let (engine, _) = open(&fs).unwrap();
    let outcome = write(&engine, &t, &[("b=1", 9_999, 1.0), ("a=1", 1000, 1.0)]).unwrap();
    assert_eq!((outcome.accepted, outcome.duplicates), (0, 1));
    assert!(matches!(outcome.refused[0].refusal, Refusal::BelowCut { low_ms: 10_000 }));
    assert!(write(&engine, &tenant("lost+found"), &[("a=1", 1000, 1.0)]).is_err());
}

#[test]
fn series_that_are_gone_are_in_no_list() {
    let (engine, _) = open(&FaultFs::new()).unwrap();
    let t = tenant("default-tenant");
    let (gone, stays) = ("job=x,n=gone", "job=x,n=stays");
    write(&engine, &t, &[(gone, 1000, 1.0), (stays, 1000, 1.0), (stays, 15_000, 2.0)]).unwrap();
    expect_no_failures(&engine.cut_due(0, &mut names()));
    // Takes the slot that became free, with other labels.
    write(&engine, &t, &[("job=y,n=new", 15_000, 3.0)]).unwrap();
    let count = |name: &str, value: &str| {
        let matchers = [model::Matcher::equal(name, value)];
        let query = HeadQuery { matchers: &matchers, range: TimeRange::ALL };
        engine.select(&t, query, false, &Budget::unlimited()).unwrap().series.len()
    };
    let counts = [("job", "x"), ("job", "y"), ("n", "gone"), ("n", "stays"), ("n", "new")];
    assert_eq!(counts.map(|(name, value)| count(name, value)), [1, 1, 0, 1, 1]);
}
