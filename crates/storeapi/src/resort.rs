//! Puts series into the order of the labels that they are sent with.
//!
//! A block or a head yields its series sorted by their own labels. External labels that are added
//! and replica labels that are taken away change that order: `{a="1"}` goes before
//! `{a="1",k="1"}`, but with `m="x"` added it goes after it. So whoever sends changed labels has
//! to collect and sort, under a byte budget.

use model::{Budget, Labels, Reservation};

use crate::error::Error;

/// What becomes of a series' labels on their way out.
#[derive(Clone, Debug, Default)]
pub struct LabelTransform {
    external: Labels,
    dropped: Vec<String>,
}

impl LabelTransform {
    /// External labels are set, over labels of the series with the same name; labels called as in
    /// `dropped` are taken away, wherever they come from.
    pub fn new(external: &Labels, dropped: &[String]) -> LabelTransform {
        let keep = |name: &str| dropped.iter().any(|it| it == name);
        LabelTransform { external: external.without(keep), dropped: dropped.to_vec() }
    }

    /// Whether nothing is changed, so that the order stays and nothing need be collected.
    pub fn is_identity(&self) -> bool {
        self.external.is_empty() && self.dropped.is_empty()
    }

    /// The labels that are sent.
    pub fn apply(&self, labels: &Labels) -> Labels {
        if self.is_identity() {
            return labels.clone();
        }
        self.apply_pairs(labels.iter())
    }

    /// The same from pairs sorted by name, for producers that have their labels elsewhere.
    pub fn apply_pairs<'a>(&'a self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut own =
            pairs.filter(|(name, _)| !self.dropped.iter().any(|it| it == name)).peekable();
        let mut external = self.external.iter().peekable();
        Labels::from_sorted(std::iter::from_fn(|| {
            let Some((name, _)) = external.peek() else { return own.next() };
            match own.peek() {
                Some((own_name, _)) if own_name < name => own.next(),
                Some((own_name, _)) => {
                    if own_name == name {
                        own.next();
                    }
                    external.next()
                }
                None => external.next(),
            }
        }))
    }
}

/// Collects series with their outgoing labels and gives them back in order.
///
/// `T` is whatever the producer needs to send the series later: its chunks, or where they lie.
#[derive(Debug)]
pub struct Resorter<T> {
    entries: Vec<(Labels, T)>,
    reservation: Reservation,
    unreserved_bytes: usize,
}

/// So many bytes may be collected between two looks at the account.
const RESERVE_BYTES: usize = 64 * 1024;

impl<T> Resorter<T> {
    /// Collects against `budget`.
    ///
    /// # Errors
    /// [`Error::BudgetExceeded`] when the account is full already.
    pub fn new(budget: &Budget) -> Result<Resorter<T>, Error> {
        let reservation = budget.reserve(0)?;
        Ok(Resorter { entries: Vec::new(), reservation, unreserved_bytes: 0 })
    }

    /// Adds a series under the labels that it is sent with. `payload_bytes` is what `payload`
    /// holds on the heap.
    ///
    /// # Errors
    /// [`Error::BudgetExceeded`] when the account has no room for it.
    pub fn push(&mut self, labels: Labels, payload: T, payload_bytes: usize) -> Result<(), Error> {
        // A vector that grows holds up to twice its content, and for a moment the old one too.
        self.unreserved_bytes += labels.size_bytes() + 2 * size_of::<(Labels, T)>() + payload_bytes;
        if self.unreserved_bytes > RESERVE_BYTES {
            self.reservation.grow(self.unreserved_bytes)?;
            self.unreserved_bytes = 0;
        }
        self.entries.push((labels, payload));
        Ok(())
    }

    /// Everything, sorted by labels; equal labels stay in the order in which they came. The
    /// reservation must live as long as the entries.
    ///
    /// # Errors
    /// [`Error::BudgetExceeded`] when the account has no room for the last of it.
    pub fn finish(mut self) -> Result<(Vec<(Labels, T)>, Reservation), Error> {
        self.reservation.grow(self.unreserved_bytes)?;
        if !self.entries.is_sorted_by(|a, b| a.0 <= b.0) {
            self.entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
        Ok((self.entries, self.reservation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn external_labels_win_and_replica_labels_go() {
        let external = labels(&[("m", "x"), ("replica", "r")]);
        let transform = LabelTransform::new(&external, &["replica".to_owned(), "pod".to_owned()]);
        let check = |own: &[(&str, &str)], expected: &[(&str, &str)]| {
            assert_eq!(transform.apply(&labels(own)), labels(expected));
        };
        check(&[("a", "1"), ("z", "1")], &[("a", "1"), ("m", "x"), ("z", "1")]);
        check(&[("m", "own"), ("replica", "own")], &[("m", "x")]);
        check(&[("n", "1"), ("pod", "p")], &[("m", "x"), ("n", "1")]);
        check(&[], &[("m", "x")]);
    }

    #[test]
    fn the_order_is_that_of_what_is_sent() {
        let transform = LabelTransform::new(&labels(&[("m", "x")]), &[]);
        let budget = Budget::unlimited();
        let mut resorter = Resorter::new(&budget).unwrap();
        for (index, own) in
            [labels(&[("a", "1")]), labels(&[("a", "1"), ("k", "1")])].into_iter().enumerate()
        {
            resorter.push(transform.apply(&own), index, 0).unwrap();
        }
        let (entries, reservation) = resorter.finish().unwrap();
        assert_eq!(entries.iter().map(|(_, index)| *index).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(budget.used_bytes(), reservation.bytes());
    }

    #[test]
    fn a_full_account_is_an_error() {
        let budget = Budget::unlimited().child("query", 100_000);
        let mut resorter = Resorter::new(&budget).unwrap();
        let pushed = (0..100).try_for_each(|_| resorter.push(Labels::empty(), (), 10_000));
        assert!(matches!(pushed, Err(Error::BudgetExceeded(_))));
    }
}
