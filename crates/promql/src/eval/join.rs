//! Operators between two instant vectors: a hash join of the many side on the one side.
//!
//! The one side is held, the many side passes row by row. Which series meet is decided per step,
//! so a key may have several series on either side as long as they never meet at one.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{Labels, Reservation};

use crate::ast::{Binary, Cardinality, VectorMatching};
use crate::error::Error;
use crate::eval::binary::Combine;
use crate::eval::keys::{KeyTable, Subset};
use crate::eval::merge::{is_metadata, joined};
use crate::eval::{Context, Evaluator, Rows, Stream};
use crate::row::{Grid, Presence, Row};

impl<'a> Evaluator<'a> {
    pub(crate) fn join(&self, binary: &'a Binary, grid: Grid) -> Result<Stream, Error> {
        let Some(matching) = &binary.matching else {
            return Err(Error::execution("an operation on two vectors has no matching"));
        };
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return Err(Error::unsupported("the experimental modifier \"fill\""));
        }
        let combine = Combine::new(binary.op, binary.return_bool)?;
        let lhs = self.vector(&binary.lhs, grid)?;
        let rhs = self.vector(&binary.rhs, grid)?;
        let many_left = matching.cardinality != Cardinality::OneToMany;
        let (many, one) = if many_left { (lhs, rhs) } else { (rhs, lhs) };
        let subset = Subset::new(&matching.labels, matching.on);
        // With a key of everything but the name, no two series of the many side share a key, and
        // without included labels one row comes of each of them.
        let single =
            many.distinct_without_name && subset.is_everything() && matching.include.is_empty();
        let pairing = Pairing {
            combine,
            many_left,
            one_to_one: matching.cardinality == Cardinality::OneToOne,
            matching: matching.clone(),
        };
        let join = Join {
            context: Arc::clone(self.context),
            one: Some(one.rows),
            many: many.rows,
            side: OneSide::new(self.context, subset)?,
            pairing,
            matched: (!single).then(|| Matched::new(self.context)).transpose()?,
            any_many: Presence::none(grid.steps),
            many_row: Row::default(),
            ready: VecDeque::new(),
        };
        let stream = Stream::new(join, single);
        if single {
            return Ok(stream);
        }
        let mut merged = joined(self.context, stream)?;
        merged.distinct_without_name = combine.changes_meaning();
        Ok(merged)
    }
}

/// How two series become one.
struct Pairing {
    combine: Combine,
    many_left: bool,
    one_to_one: bool,
    matching: VectorMatching,
}

impl Pairing {
    /// The labels of what comes of two series.
    fn labels(&self, many: &Labels, one: &Labels) -> Labels {
        let names = &self.matching.labels;
        let changes = self.combine.changes_meaning();
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
    fn combine(&self, many: &Row, one: &Row, row: &mut Row) {
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
    }
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
                entry.insert(Taken { steps: first.present.clone(), conflicting })
            }
        };
        let mut shared = row.present.clone();
        shared.intersect(&taken.steps);
        shared.subtract(&taken.conflicting);
        taken.steps.union(&row.present);
        taken.conflicting.union(&shared);
        for known in &self.rows[id] {
            if shared.is_empty() {
                break;
            }
            if known.present.first_common(&shared).is_some() {
                let mut steps = known.present.clone();
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
                return Ok(false);
            }
            self.context.cancel.check()?;
            if !self.side.conflicts.is_empty() {
                // A conflict of the one side comes before whatever else is wrong.
                self.any_many.union(&self.many_row.present);
                self.side.check(&self.any_many, self.pairing.many_left)?;
            }
            self.meet()?;
        }
    }
}

impl Join {
    /// Makes the results of one series of the many side.
    fn meet(&mut self) -> Result<(), Error> {
        let many = &self.many_row;
        let Some(id) = self.side.keys.find(&many.labels) else { return Ok(()) };
        for one in &self.side.rows[id] {
            if many.present.first_common(&one.present).is_none() {
                continue;
            }
            let labels = self.pairing.labels(&many.labels, &one.labels);
            if let Some(matched) = &mut self.matched {
                let mut steps = many.present.clone();
                steps.intersect(&one.present);
                let of_group = (!self.pairing.one_to_one).then(|| labels.clone());
                matched.add(id, of_group, &steps)?;
            }
            // Partners of different steps whose results have the same labels make one row.
            let place = self.ready.iter().position(|it| it.labels == labels);
            let at = place.unwrap_or_else(|| {
                let mut row = Row::default();
                row.reset(labels, many.values.len());
                self.ready.push_back(row);
                self.ready.len() - 1
            });
            self.pairing.combine(many, one, &mut self.ready[at]);
        }
        self.ready.retain(|it| !it.present.is_empty());
        Ok(())
    }
}
