//! Chooses samples by their times, window by window.

use std::collections::VecDeque;
use std::ops::Range;

use model::time::align_down;

use crate::dedup::phases::rhythm::Rhythm;
use crate::dedup::phases::{BLOCK_WINDOWS, WINDOW_MS};

/// Chooses among distinct times in order; keeps its memory from one series to the next.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    scratch: Vec<i64>,
    chosen: Vec<usize>,
    present: Vec<i64>,
    blocks: VecDeque<Block>,
}

/// Windows that are looked at together.
#[derive(Debug)]
struct Block {
    start_ms: i64,
    rhythm: Option<Rhythm>,
}

/// What is known of the window before.
struct Before {
    start_ms: i64,
    rhythm: Option<(Rhythm, usize)>,
    /// The last sample that it chose for itself.
    last: usize,
    /// Where its samples end.
    end: usize,
}

impl Before {
    /// Keeps what others have behind its last sample, where no window follows.
    fn end<S: Fn(usize) -> bool>(&self, of: &Times<'_, S>, kept: &mut [bool]) {
        if let Some((rhythm, _)) = &self.rhythm {
            keep_apart(of, rhythm, (Some(self.last), None), self.last + 1..self.end, kept);
        }
    }
}

/// A window: which samples lie in it, and its rhythm with the track that is kept.
struct Window {
    start_ms: i64,
    first: usize,
    end: usize,
    rhythm: Option<(Rhythm, usize)>,
}

/// The samples of a series: times, and which of them are staleness markers.
pub(super) struct Times<'a, S> {
    pub(super) times_ms: &'a [i64],
    pub(super) is_stale: S,
}

impl<S: Fn(usize) -> bool> Times<'_, S> {
    fn at(&self, place: usize) -> i64 {
        self.times_ms[place]
    }

    /// Whether a sample may be given out: a marker may not while another sample follows within the
    /// interval, as then a replica still has data.
    fn is_usable(&self, place: usize, interval_ms: i64) -> bool {
        if !(self.is_stale)(place) {
            return true;
        }
        let reach = self.at(place).saturating_add(interval_ms + interval_ms / 8);
        let mut following = (place + 1..self.times_ms.len()).take_while(|it| self.at(*it) <= reach);
        following.all(|it| (self.is_stale)(it))
    }
}

impl Chooser {
    /// Sets in `kept`, which is made as long as the times, what is chosen.
    pub(super) fn choose<S: Fn(usize) -> bool>(&mut self, of: &Times<'_, S>, kept: &mut Vec<bool>) {
        let count = of.times_ms.len();
        kept.clear();
        kept.resize(count, false);
        self.blocks.clear();
        let mut first = 0;
        let mut before: Option<Before> = None;
        while first < count {
            let start_ms = align_down(of.at(first), WINDOW_MS);
            let end = first_at(of.times_ms, first + 1, start_ms.saturating_add(WINDOW_MS));
            self.look(of.times_ms, first, start_ms);
            let rhythm = self.rhythm(start_ms);
            let rhythm = rhythm.and_then(|it| self.with_track(it, of, (first, end), start_ms));
            let window = Window { start_ms, first, end, rhythm };
            self.choose_in(of, &window, kept);
            let last = self.chosen.last().copied();
            join(of, before.take(), &window, &self.chosen, kept);
            before = last.map(|last| Before { start_ms, rhythm: window.rhythm, last, end });
            first = end;
        }
        if let Some(last) = before {
            last.end(of, kept);
        }
    }

    /// Looks at the blocks that the window at `start_ms` is part of, whose first sample is `first`.
    fn look(&mut self, times_ms: &[i64], first: usize, start_ms: i64) {
        let before_ms = (BLOCK_WINDOWS - 1) * WINDOW_MS;
        while self.blocks.front().is_some_and(|it| it.start_ms < start_ms.saturating_sub(before_ms))
        {
            self.blocks.pop_front();
        }
        let next = self.blocks.back().map(|it| it.start_ms.saturating_add(WINDOW_MS));
        let mut block_ms = next.unwrap_or(start_ms.saturating_sub(before_ms));
        while block_ms <= start_ms {
            let mut low = first;
            while low > 0 && times_ms[low - 1] >= block_ms {
                low -= 1;
            }
            let end_ms = block_ms.saturating_add(BLOCK_WINDOWS * WINDOW_MS);
            let high = first_at(times_ms, first, end_ms);
            let rhythm = Rhythm::of(&times_ms[low..high], &mut self.scratch);
            self.blocks.push_back(Block { start_ms: block_ms, rhythm });
            block_ms = block_ms.saturating_add(WINDOW_MS);
        }
    }

    /// The rhythm of a window: that of the block which lies best around it of those that have one.
    fn rhythm(&self, start_ms: i64) -> Option<Rhythm> {
        let found = [1, 2, 0, 3].into_iter().find_map(|windows| {
            let wanted = start_ms.saturating_sub(windows * WINDOW_MS);
            let block = self.blocks.iter().find(|it| it.start_ms == wanted)?;
            block.rhythm.as_ref()
        });
        found.cloned()
    }

    /// The track with the fewest holes in the window, one hole counting as none; of equal ones the
    /// one whose first phase comes first in the absolute grid.
    fn with_track<S: Fn(usize) -> bool>(
        &mut self,
        rhythm: Rhythm,
        of: &Times<'_, S>,
        (first, end): (usize, usize),
        start_ms: i64,
    ) -> Option<(Rhythm, usize)> {
        self.present.clear();
        self.present.resize(rhythm.tracks, 0);
        let mut last_beat = None;
        for place in first..end {
            let beat = rhythm.beat(of.at(place));
            let Some(found) = beat.filter(|_| beat != last_beat) else { continue };
            if !of.is_usable(place, rhythm.interval_ms) {
                continue;
            }
            last_beat = beat;
            if let Some(track) = rhythm.track(found.phase) {
                self.present[track] += 1;
            }
        }
        let rank = |track: &usize| {
            let (expected, place) =
                rhythm.expected(*track, start_ms, start_ms.saturating_add(WINDOW_MS));
            ((expected - self.present[*track]).max(0) / 2, place)
        };
        let track = (0..rhythm.tracks).filter(|it| self.present[*it] > 0).min_by_key(rank)?;
        Some((rhythm, track))
    }

    /// Keeps what the window chooses for itself, and notes it in `chosen`.
    fn choose_in<S: Fn(usize) -> bool>(
        &mut self,
        of: &Times<'_, S>,
        window: &Window,
        kept: &mut [bool],
    ) {
        self.chosen.clear();
        let Some((rhythm, track)) = &window.rhythm else {
            kept[window.first..window.end].fill(true);
            self.chosen.extend(window.first..window.end);
            return;
        };
        let mut last_beat = None;
        let mut before: Option<usize> = None;
        for place in window.first..window.end {
            let beat = rhythm.beat(of.at(place));
            let Some(found) = beat.filter(|_| beat != last_beat) else { continue };
            if rhythm.track(found.phase) != Some(*track) || !of.is_usable(place, rhythm.interval_ms)
            {
                continue;
            }
            last_beat = beat;
            if let Some(before) = before {
                fill(of, rhythm, (before, place), kept);
            }
            kept[place] = true;
            self.chosen.push(place);
            before = Some(place);
        }
    }
}

/// Joins what a window chose to the window before it.
fn join<S: Fn(usize) -> bool>(
    of: &Times<'_, S>,
    before: Option<Before>,
    window: &Window,
    chosen: &[usize],
    kept: &mut [bool],
) {
    let is_beside = |it: &Before| it.start_ms.checked_add(WINDOW_MS) == Some(window.start_ms);
    let Some(before) = before.as_ref().filter(|it| is_beside(it)) else {
        if let Some(before) = before {
            before.end(of, kept);
        }
        if let (Some((rhythm, _)), Some(first)) = (&window.rhythm, chosen.first()) {
            keep_apart(of, rhythm, (None, Some(*first)), window.first..*first, kept);
        }
        return;
    };
    match (&window.rhythm, &before.rhythm) {
        (Some((rhythm, _)), _) => {
            let nearest = of.at(before.last).saturating_add(spacing(rhythm));
            let mut next = chosen.iter().copied();
            let mut first = next.next();
            while let Some(place) = first.filter(|it| of.at(*it) < nearest) {
                kept[place] = false;
                first = next.next();
            }
            if let Some(first) = first {
                fill(of, rhythm, (before.last, first), kept);
            }
        }
        (None, Some((rhythm, track))) => {
            // Nothing is known any more: only what the other tracks still say is left out.
            fill(of, rhythm, (before.last, window.first), kept);
            let nearest = of.at(before.last).saturating_add(spacing(rhythm));
            for place in (window.first..window.end).take_while(|it| of.at(*it) < nearest) {
                let other = rhythm.beat(of.at(place)).and_then(|it| rhythm.track(it.phase));
                if other.is_some_and(|it| it != *track) {
                    kept[place] = false;
                }
            }
        }
        (None, None) => {}
    }
}

/// How far samples of different replicas are kept apart, in ms: as far as those of one are, but
/// for some jitter.
fn spacing(rhythm: &Rhythm) -> i64 {
    rhythm.interval_ms - rhythm.interval_ms / 16
}

/// Fills a hole of more than two intervals between two chosen samples with what others have.
fn fill<S: Fn(usize) -> bool>(
    of: &Times<'_, S>,
    rhythm: &Rhythm,
    (before, after): (usize, usize),
    kept: &mut [bool],
) {
    let interval = rhythm.interval_ms;
    if of.at(after).saturating_sub(of.at(before)) <= 2 * interval + interval / 8 {
        return;
    }
    keep_apart(of, rhythm, (Some(before), Some(after)), before + 1..after, kept);
}

/// Keeps usable samples among some that are far enough from one another and from what is chosen
/// before and behind them.
fn keep_apart<S: Fn(usize) -> bool>(
    of: &Times<'_, S>,
    rhythm: &Rhythm,
    (before, after): (Option<usize>, Option<usize>),
    places: Range<usize>,
    kept: &mut [bool],
) {
    let spacing = spacing(rhythm);
    let mut last = before.map(|it| of.at(it));
    for place in places {
        let time = of.at(place);
        if last.is_none_or(|it| time.saturating_sub(it) >= spacing)
            && after.is_none_or(|it| of.at(it).saturating_sub(time) >= spacing)
            && of.is_usable(place, rhythm.interval_ms)
        {
            kept[place] = true;
            last = Some(time);
        }
    }
}

/// The first place from `start` on whose time is `time_ms` or later.
fn first_at(times_ms: &[i64], start: usize, time_ms: i64) -> usize {
    start + times_ms[start..].iter().take_while(|it| **it < time_ms).count()
}
