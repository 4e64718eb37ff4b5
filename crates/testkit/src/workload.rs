//! A seeded workload in the shape that the references were measured with.
//!
//! Eleven labels, about 330 bytes of labels a series, a quarter each of integer counters, gauges
//! of two decimals, constants and slow counters, 15 s apart (`performance.md` §4).

use crate::remote_write::encode_labels;

/// Milliseconds between two samples of a series.
pub const INTERVAL_MS: i64 = 15_000;

/// A small, fast, seeded generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// A generator that always gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// Puts a slice into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(u64::try_from(last + 1).unwrap_or(1));
            items.swap(last, usize::try_from(other).unwrap_or_default());
        }
    }
}

/// The series of a workload.
#[derive(Debug)]
pub struct Workload {
    seed: u64,
    series: usize,
}

impl Workload {
    /// A workload of `series` series.
    pub fn new(seed: u64, series: usize) -> Workload {
        Workload { seed, series }
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.series
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.series == 0
    }

    /// The labels of a series, sorted by name.
    pub fn labels(&self, series: usize) -> Vec<(String, String)> {
        let mut seeded = Seeded::new(self.seed ^ u64::try_from(series).unwrap_or_default());
        let metric = series % 500;
        let pod = series / 500;
        let kind = if metric.is_multiple_of(2) { "total" } else { "bytes" };
        let pairs = [
            ("__name__", format!("workload_subsystem_{}_metric_{metric}_{kind}", metric % 20)),
            ("cluster", "production-europe-1".to_owned()),
            ("container", format!("container-{}", pod % 7)),
            ("endpoint", "http-metrics".to_owned()),
            ("instance", format!("10.{}.{}.{}:9100", pod / 65_536, pod / 256 % 256, pod % 256)),
            ("job", format!("job-{}", pod % 50)),
            ("namespace", format!("namespace-{}", pod % 40)),
            ("node", format!("ip-10-0-{}-{}.compute.internal", pod % 200, pod % 13)),
            ("pod", format!("workload-{pod}-{:010x}", seeded.below(1 << 40))),
            ("service", format!("service-{}", pod % 60)),
            ("zone", format!("zone-{}", pod % 3)),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// The labels of a series as remote write sends them.
    pub fn encoded_labels(&self, series: usize) -> Vec<u8> {
        let labels = self.labels(series);
        let mut out = Vec::with_capacity(400);
        encode_labels(&mut out, labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        out
    }

    /// The sample of a series in a round: (timestamp_ms, value), the first round at `start_ms`.
    pub fn sample(&self, series: usize, round: usize, start_ms: i64) -> (i64, f64) {
        let id = u64::try_from(series).unwrap_or_default();
        let at = u64::try_from(round).unwrap_or_default();
        let mut seeded = Seeded::new(self.seed ^ (id << 20) ^ at.wrapping_mul(0x0100_0000_01b3));
        let skew_ms = i64::try_from(seeded.below(8)).unwrap_or_default();
        let timestamp_ms =
            start_ms + INTERVAL_MS * i64::try_from(round).unwrap_or_default() + skew_ms;
        let noise = seeded.below(1000);
        let value = match series % 4 {
            0 => number(at * 120 + noise % 100),
            1 => number(4000 + noise) / 100.0,
            2 => number(id % 97),
            _ => number(at / 10 + id % 1000),
        };
        (timestamp_ms, value)
    }
}

fn number(value: u64) -> f64 {
    // Values stay far below 2^32, where the conversion is exact.
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}
