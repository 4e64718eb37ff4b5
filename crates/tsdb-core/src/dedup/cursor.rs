//! A place in the decoded samples of one replica, floats and histograms as one sequence.

use model::{Columns, FloatHistogram};

/// One sample that a rule gives out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Point<'a> {
    /// Time in ms and value.
    Float(i64, f64),
    /// Time in ms and histogram.
    Histogram(i64, &'a FloatHistogram),
}

impl Point<'_> {
    /// Its time in ms.
    pub fn timestamp_ms(&self) -> i64 {
        match self {
            Point::Float(timestamp_ms, _) | Point::Histogram(timestamp_ms, _) => *timestamp_ms,
        }
    }
}

/// Stands before the first sample, at one, or behind the last. At one time the float comes first.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    columns: &'a Columns,
    float: usize,
    histogram: usize,
    started: bool,
}

impl<'a> Cursor<'a> {
    /// Before the first sample.
    pub(crate) fn new(columns: &'a Columns) -> Cursor<'a> {
        Cursor { columns, float: 0, histogram: 0, started: false }
    }

    /// The time of the sample here.
    pub(crate) fn time(&self) -> Option<i64> {
        self.point().map(|it| it.timestamp_ms())
    }

    /// The value here, if a float is here.
    pub(crate) fn float(&self) -> Option<f64> {
        match self.point() {
            Some(Point::Float(_, value)) => Some(value),
            _ => None,
        }
    }

    /// The sample here.
    pub(crate) fn point(&self) -> Option<Point<'a>> {
        if !self.started {
            return None;
        }
        let columns = self.columns;
        let float = columns.timestamps_ms.get(self.float);
        let histogram = columns.histogram_timestamps_ms.get(self.histogram);
        match (float, histogram) {
            (Some(&time), other) if other.is_none_or(|it| time <= *it) => {
                Some(Point::Float(time, columns.values[self.float]))
            }
            (_, Some(&time)) => {
                columns.histograms.get(self.histogram).map(|it| Point::Histogram(time, it))
            }
            _ => None,
        }
    }

    /// One sample further.
    pub(crate) fn advance(&mut self) {
        match self.point() {
            Some(Point::Float(..)) => self.float += 1,
            Some(Point::Histogram(..)) => self.histogram += 1,
            None => self.started = true,
        }
    }

    /// To the first sample at `time_ms` or later; stays where it is if that lies behind.
    pub(crate) fn seek(&mut self, time_ms: i64) {
        self.started = true;
        self.float = first_at(&self.columns.timestamps_ms, self.float, time_ms);
        self.histogram = first_at(&self.columns.histogram_timestamps_ms, self.histogram, time_ms);
    }
}

/// The first place from `start` on whose time is `time_ms` or later; near ones are found fast.
fn first_at(times_ms: &[i64], start: usize, time_ms: i64) -> usize {
    let mut step = 1;
    let mut low = start;
    loop {
        match times_ms.get(low + step - 1) {
            Some(it) if *it < time_ms => {
                low += step;
                step *= 2;
            }
            _ => break,
        }
    }
    let rest = times_ms.get(low..times_ms.len().min(low + step)).unwrap_or_default();
    low + rest.partition_point(|it| *it < time_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeking_finds_what_a_walk_finds() {
        let times: Vec<i64> = (0..100).map(|it| it * 3).collect();
        for start in [0, 1, 50, 99, 100] {
            for time in -1..305 {
                let walked = (start..100).find(|it| times[*it] >= time).unwrap_or(100);
                assert_eq!(first_at(&times, start, time), walked, "{start} {time}");
            }
        }
        assert_eq!(first_at(&[], 0, 5), 0);
    }

    #[test]
    fn both_kinds_are_one_sequence() {
        let mut columns = Columns::default();
        columns.push_float(10, 1.0);
        columns.push_float(30, 3.0);
        columns.histogram_timestamps_ms.push(20);
        columns.histograms.push(FloatHistogram::default());
        let mut cursor = Cursor::new(&columns);
        assert_eq!(cursor.time(), None);
        let mut times = Vec::new();
        cursor.advance();
        while let Some(time) = cursor.time() {
            times.push((time, cursor.float()));
            cursor.advance();
        }
        assert_eq!(times, [(10, Some(1.0)), (20, None), (30, Some(3.0))]);
        let mut cursor = Cursor::new(&columns);
        cursor.seek(15);
        assert_eq!(cursor.time(), Some(20));
        cursor.seek(5);
        assert_eq!(cursor.time(), Some(20));
        cursor.seek(31);
        assert_eq!(cursor.point(), None);
    }
}
