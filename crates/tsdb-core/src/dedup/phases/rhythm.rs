//! Recognises replicas by their rhythm: samples of one series that several scrapers took at the
//! same interval, each at an offset of its own.

use smallvec::SmallVec;

use crate::dedup::phases::WINDOW_MS;

/// The shortest and the longest period that are looked for, in ms.
const PERIOD_MIN_MS: i64 = 500;
const PERIOD_MAX_MS: i64 = 90_000;
/// Most samples of all replicas together in one period.
const SAMPLES_PER_PERIOD_MAX: usize = 8;
/// How often a period must repeat to be believed where it repeats to the millisecond.
const REPEATS_MIN: i64 = 4;
/// How often where it does not, and how long that must be, in ms.
const REPEATS_LOOSE_MIN: i64 = 7;
const SPAN_LOOSE_MIN_MS: i64 = 330_000;
/// How often where all phases lie on a grid, as those of one replica with holes would.
const REPEATS_ON_GRID_MIN: i64 = 8;
/// How many of a hundred samples must be followed by another one after the period.
const FOLLOWED_MIN_PERCENT: usize = 80;
/// How many of a hundred samples must lie in phases that can be followed.
const IN_PHASE_MIN_PERCENT: usize = 80;
/// How many of a hundred intervals must have two samples or more, where there are long stretches
/// without.
const DOUBLE_MIN_PERCENT: i64 = 80;
/// How many of a hundred periods between its first and its last sample a phase must have to be
/// followed, and how many where all phases lie on a grid.
const COVERED_MIN_PERCENT: i64 = 60;
const COVERED_ON_GRID_MIN_PERCENT: i64 = 90;
/// A phase must have a sample in more than one of so many periods.
const FEW_PERIODS: i64 = 4;
/// How many of a hundred distances of neighbours must fit a grid to speak for one replica.
const ON_GRID_MIN_PERCENT: usize = 70;
/// Eighths of the samples at which the period is looked for.
const ANCHORS: [usize; 5] = [0, 1, 3, 5, 6];

/// The rhythm of a stretch of samples: phases that repeat with a period.
///
/// Phases that lie evenly within the period belong to one replica, whose interval is the period
/// divided by their number; every such set is a track. Without one each phase is a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rhythm {
    /// A time at which a period begins, in no phase.
    base_ms: i64,
    /// After how long everything repeats, in ms.
    pub(super) period_ms: i64,
    /// Distance of samples of one replica, in ms.
    pub(super) interval_ms: i64,
    /// In order of their place in the period.
    phases: SmallVec<[Phase; SAMPLES_PER_PERIOD_MAX]>,
    /// Number of tracks.
    pub(super) tracks: usize,
}

/// Samples that come at the same place of every period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    low_ms: i64,
    high_ms: i64,
    members: usize,
    /// Whether it has too many holes to be followed.
    is_sparse: bool,
    /// The track that it belongs to.
    pub(super) track: Option<usize>,
}

/// Where a sample lies in a rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    /// Number of its period.
    pub(super) period: i64,
    /// Number of its phase.
    pub(super) phase: usize,
}

impl Rhythm {
    /// The rhythm of distinct `times_ms` in order, or `None` where they may be of one replica.
    ///
    /// It is never seen where a window of the block was deduplicated already.
    pub(super) fn of(times_ms: &[i64], scratch: &mut Vec<i64>) -> Option<Rhythm> {
        let (first, last) = (times_ms.first()?, times_ms.last()?);
        let span_ms = last.checked_sub(*first)?;
        match exact_lag(times_ms) {
            Some((1, _)) => return None,
            Some((lag, period_ms)) if is_believed(period_ms, REPEATS_MIN, span_ms) => {
                return Rhythm::fold(times_ms, lag, period_ms, scratch);
            }
            _ => {}
        }
        if span_ms < SPAN_LOOSE_MIN_MS {
            return None;
        }
        let period_ms = loose_period(times_ms, span_ms, scratch)?;
        Rhythm::fold(times_ms, times_ms.len(), period_ms, scratch)
    }

    /// The rhythm with this period. The first `distinct` samples have all there is to see: where
    /// these are not all samples, the others repeat them exactly.
    fn fold(
        context_ms: &[i64],
        distinct: usize,
        period_ms: i64,
        residues: &mut Vec<i64>,
    ) -> Option<Rhythm> {
        let times_ms = &context_ms[..distinct];
        let members_min = if distinct < context_ms.len() { 1 } else { 2 };
        let origin_ms = *times_ms.first()?;
        residues.clear();
        residues.extend(times_ms.iter().map(|it| (it - origin_ms).rem_euclid(period_ms)));
        residues.sort_unstable();
        let (hole_end, hole_ms) = largest_hole(residues, period_ms)?;
        // The period begins in the middle of the largest hole, so that no phase lies across it.
        let shift = hole_end - hole_ms / 2;
        for residue in residues.iter_mut() {
            *residue = (*residue - shift).rem_euclid(period_ms);
        }
        residues.sort_unstable();
        let mut phases = phases(residues, period_ms);
        phases.retain(|it| it.members >= members_min);
        let width_ms = phases.iter().map(|it| it.high_ms - it.low_ms).max()?;
        if width_ms > period_ms / 32 || !are_apart(&phases, 2 * width_ms) {
            return None;
        }
        let mut rhythm = Rhythm {
            base_ms: origin_ms.checked_add(shift)?,
            period_ms,
            interval_ms: period_ms,
            phases,
            tracks: 0,
        };
        let tolerance_ms = period_ms / 48 + 2 + width_ms;
        let is_rhythm = rhythm.is_evident(context_ms, distinct, period_ms / 256 + 2 + width_ms)
            && rhythm.find_tracks(tolerance_ms)
            && rhythm.is_doubled(context_ms);
        is_rhythm.then_some(rhythm)
    }

    /// Whether one replica with holes would hardly look like this; the phases were made of the
    /// first `distinct` samples. Phases with too many holes are marked as in no track.
    fn is_evident(&mut self, times_ms: &[i64], distinct: usize, tolerance_ms: i64) -> bool {
        let covered = self.covered_percent(times_ms);
        for (phase, covered) in self.phases.iter_mut().zip(&covered) {
            phase.is_sparse = *covered < COVERED_MIN_PERCENT;
        }
        let full = self.phases.iter().filter(|it| !it.is_sparse);
        if 100 * full.map(|it| it.members).sum::<usize>() < IN_PHASE_MIN_PERCENT * distinct {
            return false;
        }
        if !(2..=8).any(|parts| self.is_on_grid(times_ms, parts, tolerance_ms)) {
            return true;
        }
        let (Some(first), Some(last)) = (times_ms.first(), times_ms.last()) else { return false };
        last - first >= REPEATS_ON_GRID_MIN * self.period_ms
            && covered.iter().all(|it| *it >= COVERED_ON_GRID_MIN_PERCENT)
    }

    /// Whether most samples lie as those of one replica would that has a part of the period for
    /// its interval, and holes.
    fn is_on_grid(&self, times_ms: &[i64], parts: i64, tolerance_ms: i64) -> bool {
        let step_ms = self.period_ms / parts;
        let is_near = |distance: &i64| {
            let steps = ((distance + step_ms / 2) / step_ms).max(1);
            (distance - steps * step_ms).abs() <= tolerance_ms.min(step_ms / 4)
        };
        let near = distances(times_ms, 1).filter(is_near).count();
        100 * near >= ON_GRID_MIN_PERCENT * times_ms.len().saturating_sub(1)
    }

    /// Whether there is more than one sample in most intervals, or again and again.
    ///
    /// Never where a window was deduplicated already: that has none with two for so long.
    fn is_doubled(&self, times_ms: &[i64]) -> bool {
        let (mut slots, mut doubles, mut last) = (0_i64, 0_i64, None);
        let mut doubled_ms = times_ms.first().copied().unwrap_or_default();
        let mut longest_ms = 0;
        for time in times_ms {
            let slot = (time - self.base_ms).div_euclid(self.interval_ms);
            let count = match last {
                Some((before, count)) if before == slot => count + 1,
                _ => 1,
            };
            last = Some((slot, count));
            slots += i64::from(count == 1);
            doubles += i64::from(count == 2);
            longest_ms = longest_ms.max(time - doubled_ms);
            doubled_ms = if count > 1 { *time } else { doubled_ms };
        }
        100 * doubles >= DOUBLE_MIN_PERCENT * slots
            || longest_ms <= WINDOW_MS - self.interval_ms - self.interval_ms / 4
    }

    /// In how many of a hundred periods between its first and its last sample each phase has one; 0
    /// for a phase with few samples.
    fn covered_percent(&self, times_ms: &[i64]) -> SmallVec<[i64; SAMPLES_PER_PERIOD_MAX]> {
        // First and last period of each phase, and in how many it has a sample.
        let mut seen: SmallVec<[Option<(i64, i64, i64)>; SAMPLES_PER_PERIOD_MAX]> =
            SmallVec::from_elem(None, self.phases.len());
        for beat in times_ms.iter().filter_map(|it| self.beat(*it)) {
            let phase = seen[beat.phase].get_or_insert((beat.period, beat.period, 1));
            if phase.1 != beat.period {
                *phase = (phase.0, beat.period, phase.2 + 1);
            }
        }
        let span_ms = times_ms.last().zip(times_ms.first()).map_or(0, |(last, first)| last - first);
        let periods = span_ms / self.period_ms;
        let percent = |it: &Option<(i64, i64, i64)>| match *it {
            Some((first, last, count)) if count * FEW_PERIODS > periods => {
                100 * count / (last - first + 1)
            }
            _ => 0,
        };
        seen.iter().map(percent).collect()
    }

    /// Puts phases into tracks; false when one track has all of them, as a single replica has.
    fn find_tracks(&mut self, tolerance_ms: i64) -> bool {
        let count = self.phases.len();
        let full = self.phases.iter().filter(|it| !it.is_sparse).count();
        for parts in (2..=full).rev() {
            let mut tracks = 0;
            for start in 0..count {
                // What is taken for one replica here must not look like two when it is left alone.
                let tolerance_ms = if parts == full { tolerance_ms } else { tolerance_ms / 4 };
                let Some(found) = self.evenly(start, parts, tolerance_ms) else { continue };
                if parts == full {
                    return false;
                }
                for phase in found {
                    self.phases[phase].track = Some(tracks);
                }
                tracks += 1;
            }
            if tracks > 0 {
                self.tracks = tracks;
                self.interval_ms = self.period_ms / i64::try_from(parts).unwrap_or(1);
                return true;
            }
        }
        for phase in self.phases.iter_mut().filter(|it| !it.is_sparse) {
            phase.track = Some(self.tracks);
            self.tracks += 1;
        }
        true
    }

    /// Phases that divide the period evenly into `parts` from the phase `start` on, none of them
    /// in a track yet.
    fn evenly(&self, start: usize, parts: usize, tolerance_ms: i64) -> Option<Vec<usize>> {
        let origin = self.phases[start].middle_ms();
        let divisor = i64::try_from(parts).ok()?;
        let mut found = Vec::with_capacity(parts);
        for part in 0..divisor {
            let wanted = origin + part * self.period_ms / divisor;
            let at = self.phases.iter().position(|it| {
                let away = (it.middle_ms() - wanted).rem_euclid(self.period_ms);
                it.track.is_none()
                    && !it.is_sparse
                    && away.min(self.period_ms - away) <= tolerance_ms
            })?;
            if found.contains(&at) {
                return None;
            }
            found.push(at);
        }
        Some(found)
    }

    /// Where a sample lies; `None` for one in no phase.
    pub(super) fn beat(&self, timestamp_ms: i64) -> Option<Beat> {
        let since = timestamp_ms - self.base_ms;
        let (period, place) = (since.div_euclid(self.period_ms), since.rem_euclid(self.period_ms));
        let phase = self.phases.iter().position(|it| it.low_ms <= place && place <= it.high_ms)?;
        Some(Beat { period, phase })
    }

    /// The track of a phase.
    pub(super) fn track(&self, phase: usize) -> Option<usize> {
        self.phases[phase].track
    }

    /// How many samples each track should have in a window, and the place of its first phase in
    /// an absolute grid of the interval.
    pub(super) fn expected(&self, track: usize, start_ms: i64, end_ms: i64) -> (i64, i64) {
        let mut count = 0;
        let mut place = i64::MAX;
        for phase in self.phases.iter().filter(|it| it.track == Some(track)) {
            let middle = self.base_ms + phase.middle_ms();
            let behind = |time: i64| -(middle - time).div_euclid(self.period_ms);
            count += behind(end_ms) - behind(start_ms);
            place = place.min(middle.rem_euclid(nice(self.interval_ms)));
        }
        (count, place)
    }
}

impl Phase {
    fn middle_ms(&self) -> i64 {
        self.low_ms.midpoint(self.high_ms)
    }
}

/// The interval that was meant: rounded to about a hundredth of itself, so that the place in the
/// absolute grid is the same in neighbouring windows.
fn nice(interval_ms: i64) -> i64 {
    let mut grain = 1;
    while grain * 1_000 <= interval_ms {
        grain *= 10;
    }
    ((interval_ms + grain / 2) / grain * grain).max(1)
}

fn is_believed(period_ms: i64, repeats: i64, span_ms: i64) -> bool {
    (PERIOD_MIN_MS..=PERIOD_MAX_MS).contains(&period_ms) && period_ms * repeats <= span_ms
}

/// The smallest lag at which all distances are the same to the millisecond, and that distance.
fn exact_lag(times_ms: &[i64]) -> Option<(usize, i64)> {
    for lag in 1..=SAMPLES_PER_PERIOD_MAX {
        let later = times_ms.get(lag..)?;
        let distance = later.first()?.wrapping_sub(times_ms[0]);
        if later.iter().zip(times_ms).all(|(b, a)| b.wrapping_sub(*a) == distance) {
            return Some((lag, distance));
        }
    }
    None
}

/// The period of samples that jitter or are missing now and then: the shortest distance at which
/// nearly every sample is followed by another one, and of those that are about as short the one
/// that fits best.
fn loose_period(times_ms: &[i64], span_ms: i64, scratch: &mut Vec<i64>) -> Option<i64> {
    scratch.clear();
    for anchor in ANCHORS.map(|it| it * times_ms.len() / 8) {
        let later = times_ms.iter().skip(anchor + 1).take(SAMPLES_PER_PERIOD_MAX);
        let distances = later.map(|it| it - times_ms[anchor]);
        scratch.extend(distances.filter(|it| is_believed(*it, REPEATS_LOOSE_MIN, span_ms)));
    }
    scratch.sort_unstable();
    scratch.dedup();
    let mut best: Option<(i64, i64)> = None;
    let mut longest_ms = i64::MAX;
    for distance_ms in scratch.iter().copied() {
        if distance_ms > longest_ms {
            break;
        }
        let Some(error_ms) = followed_error(times_ms, distance_ms) else { continue };
        if best.is_none() {
            longest_ms = distance_ms + distance_ms / 8;
        }
        if best.is_none_or(|it| error_ms < it.1) {
            best = Some((distance_ms, error_ms));
        }
    }
    let found_ms = best?.0;
    scratch.clear();
    scratch.extend(followers(times_ms, found_ms).flatten());
    let middle = scratch.len().checked_sub(1)? / 2;
    Some(*scratch.select_nth_unstable(middle).1)
}

fn distances(times_ms: &[i64], lag: usize) -> impl Iterator<Item = i64> + '_ {
    times_ms.iter().skip(lag).zip(times_ms).map(|(later, earlier)| later - earlier)
}

/// Distances of samples to the ones nearest to `distance_ms` behind them, where that is at most a
/// 32nd of it away; `None` for a sample without one.
fn followers(times_ms: &[i64], distance_ms: i64) -> impl Iterator<Item = Option<i64>> + '_ {
    let tolerance_ms = distance_ms / 32 + 2;
    let end_ms = times_ms.last().map_or(0, |it| it - distance_ms - tolerance_ms);
    let mut at = 0;
    times_ms.iter().take_while(move |it| **it <= end_ms).map(move |time| {
        let wanted = time + distance_ms;
        while times_ms[at] < wanted - tolerance_ms {
            at += 1;
        }
        let near = times_ms[at..].iter().take_while(|it| **it <= wanted + tolerance_ms);
        near.map(|it| it - time).min_by_key(|it| (it - distance_ms).abs())
    })
}

/// How far all followers together are from where they are looked for, where there are enough.
fn followed_error(times_ms: &[i64], distance_ms: i64) -> Option<i64> {
    let lonely_max = times_ms.len() * (100 - FOLLOWED_MIN_PERCENT) / 100;
    let (mut count, mut lonely, mut error_ms) = (0, 0, 0);
    for follower in followers(times_ms, distance_ms) {
        count += 1;
        match follower {
            Some(it) => error_ms += (it - distance_ms).abs(),
            None => lonely += 1,
        }
        if lonely > lonely_max {
            return None;
        }
    }
    (100 * (count - lonely) >= FOLLOWED_MIN_PERCENT * count).then_some(error_ms)
}

/// Where the largest hole on the circle of sorted residues ends, and its width.
fn largest_hole(residues: &[i64], period_ms: i64) -> Option<(i64, i64)> {
    let (first, last) = (*residues.first()?, *residues.last()?);
    let mut largest = (first, first + period_ms - last);
    for (before, after) in residues.iter().zip(residues.iter().skip(1)) {
        if after - before > largest.1 {
            largest = (*after, after - before);
        }
    }
    Some(largest)
}

/// Groups residues that lie close together.
fn phases(residues: &[i64], period_ms: i64) -> SmallVec<[Phase; SAMPLES_PER_PERIOD_MAX]> {
    let mut phases: SmallVec<[Phase; SAMPLES_PER_PERIOD_MAX]> = SmallVec::new();
    for residue in residues {
        match phases.last_mut() {
            Some(phase) if residue - phase.high_ms <= period_ms / 64 + 2 => {
                phase.high_ms = *residue;
                phase.members += 1;
            }
            _ => phases.push(Phase {
                low_ms: *residue,
                high_ms: *residue,
                members: 1,
                is_sparse: false,
                track: None,
            }),
        }
    }
    phases
}

/// Whether neighbouring phases are at least so far apart.
fn are_apart(phases: &[Phase], distance_ms: i64) -> bool {
    phases.windows(2).all(|it| it[1].low_ms - it[0].high_ms >= distance_ms)
}
