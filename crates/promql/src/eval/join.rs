//! Operators between two instant vectors: a hash join of the many side on the one side.
//!
//! The one side is held, the many side passes row by row. Which series meet is decided per step,
//! so a key may have several series on either side as long as they never meet at one.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{Labels, Reservation};

use crate::ast::{Binary, BinaryOp, Cardinality, Span, VectorMatching};
use crate::error::Error;
use crate::eval::account::HistogramAccount;
use crate::eval::binary::Combine;
use crate::eval::keys::{KeyTable, Subset};
use crate::eval::merge::{is_metadata, joined};
use crate::eval::pair::{self, LastRemarks, Made};
use crate::eval::{Context, Evaluator, Rows, Stream};
use crate::row::{Grid, Presence, Row, Sample};

impl<'a> Evaluator<'a> {
    pub(crate) fn join(&self, binary: &'a Binary, grid: Grid) -> Result<Stream, Error> {
        let lhs = self.vector(&binary.lhs, grid)?;
        let rhs = self.vector(&binary.rhs, grid)?;
        self.join_streams(binary, (lhs, rhs), grid)
    }

    /// Apart from the way down to the operands, whose frames of the stack it would make large.
    #[inline(never)]
    fn join_streams(
        &self,
        binary: &'a Binary,
        (lhs, rhs): (Stream, Stream),
        grid: Grid,
    ) -> Result<Stream, Error> {
        let Some(matching) = &binary.matching else {
            return Err(Error::execution("an operation on two vectors has no matching"));
        };
        let combine = Combine::new(binary.op, binary.return_bool)?;
        let many_left = matching.cardinality != Cardinality::OneToMany;
        let (many, one) = if many_left { (lhs, rhs) } else { (rhs, lhs) };
        let subset = Subset::new(&matching.labels, matching.on);
        // With a key of everything but the name, no two series of the many side share a key, and
        // without included labels and fills one row comes of each of them.
        let fills = (matching.fill_left, matching.fill_right);
        let single = many.distinct_without_name
            && subset.is_everything()
            && matching.include.is_empty()
            && fills == (None, None);
        let join = Join {
            context: Arc::clone(self.context),
            one: Some(one.rows),
            many: many.rows,
            side: OneSide::new(self.context, subset)?,
            pairing: Pairing::new(self.context, binary, matching, (combine, many_left))?,
            matched: (!single).then(|| Matched::new(self.context)).transpose()?,
            any_many: Presence::none(grid.steps),
            many_row: Row::default(),
            ready: VecDeque::new(),
            unmatched: Unmatched::default(),
        };
        let stream = Stream::new(join, single);
        if single {
            return Ok(stream);
        }
        let mut merged = joined(self.context, stream)?;
        merged.distinct_without_name = combine.changes_meaning(binary.op);
        Ok(merged)
    }
}

/// How two series become one.
struct Pairing {
    op: BinaryOp,
    combine: Combine,
    many_left: bool,
    one_to_one: bool,
    matching: VectorMatching,
    /// What stands for a missing series of the many side.
    fill_many: Option<f64>,
    /// What stands for a missing series of the one side.
    fill_one: Option<f64>,
    span: Span,
    last: LastRemarks,
    account: HistogramAccount,
}

impl Pairing {
    fn new(
        context: &Context,
        binary: &Binary,
        matching: &VectorMatching,
        (combine, many_left): (Combine, bool),
    ) -> Result<Pairing, Error> {
        Ok(Pairing {
            op: binary.op,
            combine,
            many_left,
            one_to_one: matching.cardinality == Cardinality::OneToOne,
            // Prometheus exchanges the sides of a `group_right` before it looks at what fills
            // them: what is written for the left always stands for the many side.
            fill_many: matching.fill_left,
            fill_one: matching.fill_right,
            matching: matching.clone(),
            span: binary.span,
            last: LastRemarks::default(),
            account: HistogramAccount::new(context)?,
        })
    }

    /// The labels of what comes of two series.
    fn labels(&self, context: &Context, many: &Labels, one: &Labels) -> Labels {
        let names = &self.matching.labels;
        let changes = match self.combine {
            Combine::Bool(_) => !context.options.delayed_name_removal,
            combine => combine.changes_meaning(self.op),
        };
        let dropped = |name: &str| {
            let listed = self.one_to_one && names.iter().any(|it| it == name) != self.matching.on;
            listed || (changes && is_metadata(name))
        };
        let labels = many.without(dropped);
        if self.matching.include.is_empty() {
            return labels;
        }
        let mut builder = labels.to_builder();
        for name in &self.matching.include {
            builder.set(name, one.get(name).unwrap_or_default());
        }
        builder.build()
    }

    /// Puts the values of both into `row` where both have one.
    fn combine(&mut self, many: &Row, one: &Row, row: &mut Row) -> Result<(), Error> {
        if !many.histograms.is_empty() || !one.histograms.is_empty() {
            return self.combine_any(many, one, row);
        }
        if let Combine::Trim = self.combine {
            return self.combine_any(many, one, row);
        }
        for (step, many) in many.iter() {
            if !one.present.get(step) {
                continue;
            }
            let one = one.values[step];
            let (lhs, rhs) = if self.many_left { (many, one) } else { (one, many) };
            if let Some(value) = self.combine.apply(lhs, rhs, lhs) {
                row.put(step, value);
            }
        }
        Ok(())
    }

    fn combine_any(&mut self, many: &Row, one: &Row, row: &mut Row) -> Result<(), Error> {
        for step in many.filled().iter() {
            if let (Some(many), Some(one)) = (many.at(step), one.at(step)) {
                self.combine_at(step, (many, one), row)?;
            }
        }
        row.histograms.sort_by_key(|(step, _)| *step);
        Ok(())
    }

    fn combine_at(
        &mut self,
        step: usize,
        (many, one): (Sample<'_>, Sample<'_>),
        row: &mut Row,
    ) -> Result<(), Error> {
        let (lhs, rhs) = if self.many_left { (many, one) } else { (one, many) };
        let (made, remark) = pair::combine((self.op, self.combine), lhs, rhs);
        self.last.set(step, remark);
        match made {
            Some(Made::Float(value)) => row.put(step, value),
            Some(Made::Histogram(histogram)) => {
                self.account.add(&histogram)?;
                row.histograms.push((step, histogram));
            }
            None => {}
        }
        Ok(())
    }

    /// Puts what comes of `known` and the fill of the other side into `row`, at `steps`.
    fn fill(
        &mut self,
        known: &Row,
        fill: Fill,
        steps: &Presence,
        row: &mut Row,
    ) -> Result<(), Error> {
        for step in steps.iter() {
            let Some(known) = known.at(step) else { continue };
            match fill {
                Fill::One(value) => self.combine_at(step, (known, Sample::Float(value)), row)?,
                Fill::Many(value) => self.combine_at(step, (Sample::Float(value), known), row)?,
            }
        }
        row.histograms.sort_by_key(|(step, _)| *step);
        Ok(())
    }
}

/// What stands for a missing series, and of which side.
#[derive(Clone, Copy)]
enum Fill {
    One(f64),
    Many(f64),
}

/// The series of the one side, by key.
struct OneSide {
    keys: KeyTable,
    rows: Vec<Vec<Row>>,
    /// The steps of the keys that have more than one series.
    taken: HashMap<usize, Taken>,
    conflicts: Vec<Conflict>,
    reservation: Reservation,
}

/// At which steps a key has a series, and at which it has more than one.
struct Taken {
    steps: Presence,
    conflicting: Presence,
}

/// Two series of the one side that share a key at some steps: an error if the many side has any
/// series there.
struct Conflict {
    steps: Presence,
    first: Labels,
    second: Labels,
}

/// Bytes of a bitmap of the steps of a row.
fn presence_bytes(row: &Row) -> usize {
    row.present.steps().div_ceil(64) * 8
}

/// Bytes of an entry of the map of keys with more than one series, half of which may be empty.
const TAKEN_BYTES: usize = 2 * size_of::<(usize, Taken)>();

impl OneSide {
    fn new(context: &Context, subset: Subset) -> Result<OneSide, Error> {
        Ok(OneSide {
            keys: KeyTable::new(subset),
            rows: Vec::new(),
            taken: HashMap::new(),
            conflicts: Vec::new(),
            reservation: context.reservation()?,
        })
    }

    fn add(&mut self, row: Row) -> Result<(), Error> {
        self.reservation.grow(row.size_bytes())?;
        let (id, is_new) = self.keys.find_or_add(&row.labels);
        if is_new {
            self.reservation.grow(self.keys.last_key_bytes() + size_of::<Vec<Row>>())?;
            self.rows.push(Vec::new());
        }
        self.find_conflicts(id, &row)?;
        self.rows[id].push(row);
        Ok(())
    }

    /// Remembers the steps at which `row` is the second series of its key. One conflict for each
    /// step is enough, so that a key of many series costs no more for each further one.
    fn find_conflicts(&mut self, id: usize, row: &Row) -> Result<(), Error> {
        let Some(first) = self.rows[id].first() else { return Ok(()) };
        let taken = match self.taken.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.reservation.grow(2 * presence_bytes(row) + TAKEN_BYTES)?;
                let conflicting = Presence::none(row.present.steps());
                entry.insert(Taken { steps: first.filled().into_owned(), conflicting })
            }
        };
        let mut shared = row.filled().into_owned();
        shared.intersect(&taken.steps);
        shared.subtract(&taken.conflicting);
        taken.steps.union(&row.filled());
        taken.conflicting.union(&shared);
        for known in &self.rows[id] {
            if shared.is_empty() {
                break;
            }
            if known.filled().first_common(&shared).is_some() {
                let mut steps = known.filled().into_owned();
                steps.intersect(&shared);
                shared.subtract(&steps);
                let (first, second) = (known.labels.clone(), row.labels.clone());
                self.reservation.grow(presence_bytes(row) + size_of::<Conflict>())?;
                self.conflicts.push(Conflict { steps, first, second });
            }
        }
        Ok(())
    }

    /// The error of the first step at which a conflict matters.
    fn check(&self, any_many: &Presence, many_left: bool) -> Result<(), Error> {
        let meeting = self.conflicts.iter().filter_map(|conflict| {
            conflict.steps.first_common(any_many).map(|step| (step, conflict))
        });
        let Some((_, conflict)) = meeting.min_by_key(|(step, _)| *step) else { return Ok(()) };
        let side = if many_left { "right" } else { "left" };
        let group = self.keys.subset().labels(&conflict.first);
        let mut pair = [conflict.first.to_string(), conflict.second.to_string()];
        pair.sort_unstable();
        Err(Error::execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the \
             operation: [{}, {}];many-to-many matching not allowed: matching labels must be \
             unique on one side",
            pair[0], pair[1]
        )))
    }
}

/// At which steps a result was made already, to refuse a second one.
struct Matched {
    steps: HashMap<(usize, Option<Labels>), Presence>,
    reservation: Reservation,
}

impl Matched {
    fn new(context: &Context) -> Result<Matched, Error> {
        Ok(Matched { steps: HashMap::new(), reservation: context.reservation()? })
    }

    /// Remembers that `steps` have a result for the key; `labels` are those of the result where
    /// many series of the key may have one each.
    fn add(&mut self, id: usize, labels: Option<Labels>, steps: &Presence) -> Result<(), Error> {
        let is_group = labels.is_some();
        if let Some(known) = self.steps.get_mut(&(id, labels.clone())) {
            if known.first_common(steps).is_some() {
                return Err(Error::execution(if is_group {
                    "multiple matches for labels: grouping labels must ensure unique matches"
                } else {
                    "multiple matches for labels: many-to-one matching must be explicit \
                     (group_left/group_right)"
                }));
            }
            known.union(steps);
            return Ok(());
        }
        self.reservation.grow(steps.steps() / 8 + 96)?;
        self.steps.insert((id, labels), steps.clone());
        Ok(())
    }
}

struct Join {
    context: Arc<Context>,
    /// Set until it was read.
    one: Option<Box<dyn Rows>>,
    many: Box<dyn Rows>,
    side: OneSide,
    pairing: Pairing,
    matched: Option<Matched>,
    any_many: Presence,
    many_row: Row,
    ready: VecDeque<Row>,
    unmatched: Unmatched,
}

impl Rows for Join {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        if let Some(mut one) = self.one.take() {
            while one.next(row)? {
                self.context.cancel.check()?;
                self.side.add(std::mem::take(row))?;
            }
        }
        loop {
            if let Some(next) = self.ready.pop_front() {
                *row = next;
                return Ok(true);
            }
            if !self.many.next(&mut self.many_row)? {
                if self.fill_unmatched()? {
                    continue;
                }
                self.pairing.last.leave(self.pairing.op, &self.context.notes, self.pairing.span);
                return Ok(false);
            }
            self.context.cancel.check()?;
            if !self.side.conflicts.is_empty() {
                // A conflict of the one side comes before whatever else is wrong.
                self.any_many.union(&self.many_row.filled());
                self.side.check(&self.any_many, self.pairing.many_left)?;
            }
            self.meet()?;
        }
    }
}

/// What is known of the one side's series that met none of the many side.
#[derive(Default)]
struct Unmatched {
    /// At which steps a key met one.
    matched: HashMap<usize, Presence>,
    /// The key whose series are looked at next, once the many side ended.
    next: usize,
}

impl Join {
    /// Makes the results of one series of the many side.
    fn meet(&mut self) -> Result<(), Error> {
        self.pairing.account.begin_row();
        let many = std::mem::take(&mut self.many_row);
        let filled = many.filled();
        let id = self.side.keys.find(&many.labels);
        let mut missing = self.pairing.fill_one.map(|_| filled.clone().into_owned());
        let rows = id.map_or(0, |id| self.side.rows[id].len());
        for at in 0..rows {
            let Some(id) = id else { break };
            self.context.cancel.check()?;
            let one = &self.side.rows[id][at];
            let one_filled = one.filled();
            if filled.first_common(&one_filled).is_none() {
                continue;
            }
            if let Some(missing) = &mut missing {
                missing.subtract(&one_filled);
            }
            let labels = self.pairing.labels(&self.context, &many.labels, &one.labels);
            if let Some(matched) = &mut self.matched {
                let mut steps = filled.clone().into_owned();
                steps.intersect(&one_filled);
                let of_group = (!self.pairing.one_to_one).then(|| labels.clone());
                matched.add(id, of_group, &steps)?;
                if self.pairing.fill_many.is_some() {
                    let known = self.unmatched.matched.entry(id);
                    known.or_insert_with(|| Presence::none(steps.steps())).union(&steps);
                }
            }
            // Partners of different steps whose results have the same labels make one row.
            let place = Join::place(&mut self.ready, labels, many.values.len());
            self.pairing.combine(&many, &self.side.rows[id][at], &mut self.ready[place])?;
        }
        if let (Some(missing), Some(value)) = (missing, self.pairing.fill_one)
            && !missing.is_empty()
        {
            self.fill_one(&many, value, &missing)?;
        }
        self.finish_ready();
        self.many_row = many;
        Ok(())
    }

    /// Makes results of a series of the many side at steps where the one side has none.
    fn fill_one(&mut self, many: &Row, value: f64, missing: &Presence) -> Result<(), Error> {
        let stand_in = self.side.keys.subset().labels(&many.labels);
        let labels = self.pairing.labels(&self.context, &many.labels, &stand_in);
        let (id, is_new) = self.side.keys.find_or_add(&many.labels);
        if is_new {
            self.side.reservation.grow(self.side.keys.last_key_bytes() + size_of::<Vec<Row>>())?;
            self.side.rows.push(Vec::new());
        }
        if let Some(matched) = &mut self.matched {
            let of_group = (!self.pairing.one_to_one).then(|| labels.clone());
            matched.add(id, of_group, missing)?;
        }
        let place = Join::place(&mut self.ready, labels, many.values.len());
        self.pairing.fill(many, Fill::One(value), missing, &mut self.ready[place])
    }

    /// Makes results of the series of one key of the one side at steps where the many side has
    /// none; false when there is no further key.
    fn fill_unmatched(&mut self) -> Result<bool, Error> {
        let Some(value) = self.pairing.fill_many else { return Ok(false) };
        let id = self.unmatched.next;
        if id >= self.side.rows.len() {
            return Ok(false);
        }
        self.unmatched.next += 1;
        self.pairing.account.begin_row();
        for at in 0..self.side.rows[id].len() {
            let one = &self.side.rows[id][at];
            let mut steps = one.filled().into_owned();
            if let Some(matched) = self.unmatched.matched.get(&id) {
                steps.subtract(matched);
            }
            if steps.is_empty() {
                continue;
            }
            self.any_many.union(&steps);
            let stand_in = self.side.keys.subset().labels(&one.labels);
            let labels = self.pairing.labels(&self.context, &stand_in, &one.labels);
            let len = one.values.len();
            let place = Join::place(&mut self.ready, labels, len);
            let (pairing, one) = (&mut self.pairing, &self.side.rows[id][at]);
            pairing.fill(one, Fill::Many(value), &steps, &mut self.ready[place])?;
        }
        self.side.check(&self.any_many, self.pairing.many_left)?;
        self.finish_ready();
        Ok(true)
    }

    /// The row of these labels among those that are ready.
    fn place(ready: &mut VecDeque<Row>, labels: Labels, steps: usize) -> usize {
        let place = ready.iter().position(|it| it.labels == labels);
        place.unwrap_or_else(|| {
            let mut row = Row::default();
            row.reset(labels, steps);
            ready.push_back(row);
            ready.len() - 1
        })
    }

    fn finish_ready(&mut self) {
        let drop_name = matches!(self.pairing.combine, Combine::Bool(_))
            && self.context.options.delayed_name_removal;
        self.ready.retain_mut(|it| {
            it.drop_name = drop_name;
            !it.is_blank()
        });
    }
}
