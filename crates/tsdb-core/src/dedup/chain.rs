//! Thanos' chain: all samples of all replicas in order of time, one for each timestamp.
//!
//! Which replica wins where timestamps are equal follows from a binary heap; it is the one of Go's
//! library, step by step, so that the same sample is given out.

use model::Columns;

use crate::dedup::cursor::{Cursor, Point};

/// The samples of several replicas as one sequence.
#[derive(Clone, Debug)]
pub struct Chain<'a> {
    replicas: Vec<Cursor<'a>>,
    /// Replicas behind the current one, the earliest sample first.
    heap: Vec<usize>,
    /// The replica whose sample was given out last; `None` at the end.
    current: Option<usize>,
    last_ms: Option<i64>,
    started: bool,
}

impl<'a> Chain<'a> {
    /// Before the first sample of `replicas`.
    pub fn new(replicas: &[&'a Columns]) -> Chain<'a> {
        Chain {
            replicas: replicas.iter().map(|it| Cursor::new(it)).collect(),
            heap: Vec::new(),
            current: None,
            last_ms: None,
            started: false,
        }
    }

    /// The first sample at `time_ms` or later; the current one if it is not before that.
    pub fn seek(&mut self, time_ms: i64) -> Option<Point<'a>> {
        if let Some(point) = self.point().filter(|it| it.timestamp_ms() >= time_ms) {
            return Some(point);
        }
        self.started = true;
        self.heap.clear();
        for replica in 0..self.replicas.len() {
            self.replicas[replica].seek(time_ms);
            if self.time(replica).is_some() {
                self.push(replica);
            }
        }
        self.current = self.pop();
        let point = self.point();
        self.last_ms = point.map(|it| it.timestamp_ms()).or(self.last_ms);
        point
    }

    fn point(&self) -> Option<Point<'a>> {
        self.replicas.get(self.current?)?.point()
    }

    fn time(&self, replica: usize) -> Option<i64> {
        self.replicas.get(replica).and_then(Cursor::time)
    }

    /// All replicas but the first are at their first sample; the first is the current one.
    fn start(&mut self) {
        self.started = true;
        self.current = (!self.replicas.is_empty()).then_some(0);
        for replica in 1..self.replicas.len() {
            self.replicas[replica].advance();
            if self.time(replica).is_some() {
                self.push(replica);
            }
        }
    }

    fn push(&mut self, replica: usize) {
        self.heap.push(replica);
        let mut child = self.heap.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !self.before(child, parent) {
                break;
            }
            self.heap.swap(child, parent);
            child = parent;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        let last = self.heap.len().checked_sub(1)?;
        self.heap.swap(0, last);
        let popped = self.heap.pop();
        let mut parent = 0;
        loop {
            let mut child = 2 * parent + 1;
            if child >= self.heap.len() {
                return popped;
            }
            if child + 1 < self.heap.len() && self.before(child + 1, child) {
                child += 1;
            }
            if !self.before(child, parent) {
                return popped;
            }
            self.heap.swap(child, parent);
            parent = child;
        }
    }

    fn before(&self, one: usize, other: usize) -> bool {
        self.time(self.heap[one]) < self.time(self.heap[other])
    }
}

impl<'a> Iterator for Chain<'a> {
    type Item = Point<'a>;

    fn next(&mut self) -> Option<Point<'a>> {
        if !self.started {
            self.start();
        }
        let mut current = self.current?;
        loop {
            self.replicas[current].advance();
            if let Some(time) = self.time(current) {
                if Some(time) == self.last_ms {
                    continue;
                }
                let other = self.heap.first().and_then(|it| self.time(*it));
                if other.is_none_or(|it| time < it) {
                    break;
                }
                self.push(current);
            }
            self.current = self.pop();
            current = self.current?;
            if self.time(current) != self.last_ms {
                break;
            }
        }
        self.last_ms = self.time(current);
        self.point()
    }
}
