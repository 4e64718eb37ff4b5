//! Rows whose labels became equal, mostly because their metric names were taken away.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use model::time::METRIC_NAME;
use model::{Labels, Reservation};

use crate::error::Error;
use crate::eval::{Context, Held, Rows, Stream};
use crate::row::Row;

/// What two series with the same labels at the same step are.
pub(crate) const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

/// Labels that describe a metric and not what it was measured on; they go with its name.
pub(crate) fn is_metadata(name: &str) -> bool {
    name == METRIC_NAME || name == "__type__" || name == "__unit__"
}

/// Takes the metric name away; tells whether other metadata went with it.
pub(crate) fn drop_name(labels: &Labels) -> (Labels, bool) {
    let (mut any, mut more) = (false, false);
    for (name, _) in labels {
        if is_metadata(name) {
            any = true;
            more |= name != METRIC_NAME;
        }
    }
    if any { (labels.without(is_metadata), more) } else { (labels.clone(), false) }
}

/// A stream without metric names. Series that become equal are joined where their steps differ
/// and an error where they meet. With delayed removal the names stay, marked to be taken away at
/// the end of the query.
pub(crate) fn without_names(context: &Arc<Context>, stream: Stream) -> Result<Stream, Error> {
    if context.options.delayed_name_removal {
        let distinct = stream.distinct_without_name;
        return Ok(Stream::new(Marked { input: stream.rows }, distinct));
    }
    let joined = Joined::new(context, stream, true)?;
    Ok(Stream::new(joined, true))
}

/// A stream in which every label set stands once. For operators that change labels.
pub(crate) fn joined(context: &Arc<Context>, mut stream: Stream) -> Result<Stream, Error> {
    stream.distinct_without_name = false;
    let joined = Joined::new(context, stream, false)?;
    Ok(Stream::new(joined, false))
}

/// Rows whose metric names are to be taken away later.
struct Marked {
    input: Box<dyn Rows>,
}

impl Rows for Marked {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        let any = self.input.next(row)?;
        row.drop_name = any;
        Ok(any)
    }
}

/// Takes the marked metric names away at the end of a query; rows that become equal are joined,
/// or an error where they meet.
pub(crate) fn drop_marked(rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    if !rows.iter().any(|row| row.drop_name) {
        return Ok(rows);
    }
    let mut joined: Vec<Row> = Vec::with_capacity(rows.len());
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    for mut row in rows {
        if row.drop_name {
            row.labels = drop_name(&row.labels).0;
        }
        if let Some(place) = places.get(&row.labels) {
            join(&mut joined[*place], &row)?;
        } else {
            places.insert(row.labels.clone(), joined.len());
            joined.push(row);
        }
    }
    Ok(joined)
}

struct Joined {
    context: Arc<Context>,
    input: Box<dyn Rows>,
    drop_names: bool,
    /// Rows pass one by one while this holds.
    distinct: bool,
    /// Hashes of the label sets that passed.
    passed: HashSet<u64>,
    hasher: DefaultHashBuilder,
    reservation: Reservation,
    held: Option<Held>,
}

impl Joined {
    fn new(context: &Arc<Context>, stream: Stream, drop_names: bool) -> Result<Joined, Error> {
        Ok(Joined {
            context: Arc::clone(context),
            input: stream.rows,
            drop_names,
            distinct: stream.distinct_without_name,
            passed: HashSet::new(),
            hasher: DefaultHashBuilder::default(),
            reservation: context.reservation()?,
            held: None,
        })
    }

    fn rename(&self, row: &mut Row) -> bool {
        if !self.drop_names {
            return false;
        }
        let (labels, more) = drop_name(&row.labels);
        row.labels = labels;
        more
    }

    /// Holds `first` and all rows after it, those with equal labels joined.
    fn hold(&mut self, first: Row) -> Result<Held, Error> {
        let mut reservation = self.context.reservation()?;
        let mut rows: Vec<Row> = Vec::new();
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut row = first;
        loop {
            self.context.cancel.check()?;
            if !self.passed.is_empty() && self.passed.contains(&self.hasher.hash_one(&row.labels)) {
                return Err(Error::execution(SAME_LABELSET));
            }
            if let Some(place) = places.get(&row.labels) {
                reservation.grow(row.histogram_bytes())?;
                join(&mut rows[*place], &row)?;
            } else {
                reservation.grow(row.size_bytes() + ENTRY_BYTES)?;
                places.insert(row.labels.clone(), rows.len());
                rows.push(std::mem::take(&mut row));
            }
            if !self.input.next(&mut row)? {
                return Ok(Held::charged(rows, reservation));
            }
            self.rename(&mut row);
        }
    }
}

/// Bytes of a table entry for a hash.
const HASH_BYTES: usize = 16;

/// Bytes of a table entry for a label set that is shared.
const ENTRY_BYTES: usize = 48;

impl Rows for Joined {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        if let Some(held) = &mut self.held {
            return held.next(row);
        }
        if !self.input.next(row)? {
            return Ok(false);
        }
        // With the type or unit of a metric its series may become equal although its name is
        // fixed: from the first such row on they are held and compared.
        let more = self.rename(row);
        if self.distinct && !more {
            if self.drop_names {
                self.reservation.grow(HASH_BYTES)?;
                self.passed.insert(self.hasher.hash_one(&row.labels));
            }
            return Ok(true);
        }
        let mut held = self.hold(std::mem::take(row))?;
        let any = held.next(row);
        self.held = Some(held);
        any
    }
}

/// Adds the steps of `other` to `row`.
pub(crate) fn join(row: &mut Row, other: &Row) -> Result<(), Error> {
    if row.filled().first_common(&other.filled()).is_some() {
        return Err(Error::execution(SAME_LABELSET));
    }
    row.take_in(other);
    Ok(())
}

/// Refuses a label set that was seen before, at whatever step.
pub(crate) struct Unique {
    seen: HashSet<Labels>,
    reservation: Reservation,
}

impl Unique {
    pub(crate) fn new(context: &Context) -> Result<Unique, Error> {
        Ok(Unique { seen: HashSet::new(), reservation: context.reservation()? })
    }

    pub(crate) fn check(&mut self, labels: &Labels) -> Result<(), Error> {
        self.reservation.grow(labels.size_bytes() + ENTRY_BYTES)?;
        if self.seen.insert(labels.clone()) { Ok(()) } else { Err(Error::execution(SAME_LABELSET)) }
    }
}
