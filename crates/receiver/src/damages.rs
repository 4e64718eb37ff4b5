//! What an answer lacks: named one by one up to a bound, then counted.

use std::collections::VecDeque;

use storeapi::Error;
use storeapi::request::PartialResponse;
use tsdb_core::db::LocalBlock;

/// Parts that one answer names; the others are counted.
const NAMED_MAX: usize = 20;

/// The parts that an answer lacks because they are damaged or cannot be read.
///
/// Good data beside bad is answered all the same, unless the caller wants all or nothing.
#[derive(Debug)]
pub(crate) struct Damages {
    policy: PartialResponse,
    named: VecDeque<String>,
    /// How many were named in all.
    named_count: usize,
    unnamed_count: usize,
}

impl Damages {
    /// Nothing is missing yet.
    pub(crate) fn new(policy: PartialResponse) -> Damages {
        Damages { policy, named: VecDeque::new(), named_count: 0, unnamed_count: 0 }
    }

    /// Takes note of a part of the head that cannot be read.
    ///
    /// # Errors
    /// As [`Damages::of_block`].
    pub(crate) fn of_head(&mut self, error: &tsdb_core::Error) -> Result<(), Error> {
        self.note("head", error)
    }

    /// Takes note of a part of a local block that cannot be read.
    ///
    /// # Errors
    /// What is no damage of this part but ends the call: a bound of memory, an engine that cannot
    /// answer now; everything when the caller wants no partial answer.
    pub(crate) fn of_block(
        &mut self,
        block: &LocalBlock,
        error: &tsdb_core::Error,
    ) -> Result<(), Error> {
        self.note(&format!("local block {}", block.id()), error)
    }

    fn note(&mut self, place: &str, error: &tsdb_core::Error) -> Result<(), Error> {
        let text = match error {
            tsdb_core::Error::Budget(error) => return Err(error.clone().into()),
            tsdb_core::Error::Unavailable { .. } => {
                return Err(Error::Aborted(format!("{place}: {error}")));
            }
            other => format!("{place}: {other}"),
        };
        match self.policy {
            PartialResponse::Abort => return Err(Error::Aborted(text)),
            PartialResponse::Warn if self.named_count < NAMED_MAX => {
                self.named_count += 1;
                self.named.push_back(text);
            }
            PartialResponse::Warn => self.unnamed_count += 1,
        }
        Ok(())
    }

    /// The next warning that was not taken yet. How many were not named is said when `is_end`.
    pub(crate) fn next_warning(&mut self, is_end: bool) -> Option<String> {
        if let Some(text) = self.named.pop_front() {
            return Some(text);
        }
        if !is_end || self.unnamed_count == 0 {
            return None;
        }
        let count = std::mem::take(&mut self.unnamed_count);
        Some(format!("{count} more parts of head and local blocks are damaged or cannot be read"))
    }

    /// All warnings, for an answer in one piece.
    pub(crate) fn into_warnings(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next_warning(true)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tsdb_core::error::Damage;

    use super::*;

    fn damage() -> tsdb_core::Error {
        Damage::new("chunk", 7, "checksum").within(Path::new("000001"))
    }

    #[test]
    fn damage_is_named_up_to_a_bound_and_then_counted() {
        let mut damages = Damages::new(PartialResponse::Warn);
        for _ in 0..NAMED_MAX {
            damages.of_head(&damage()).unwrap();
        }
        let first = damages.next_warning(false).unwrap();
        assert_eq!(first, "head: corrupt 000001: chunk at offset 7: checksum");
        for _ in 0..3 {
            damages.of_head(&damage()).unwrap();
        }
        let rest = damages.into_warnings();
        assert_eq!(rest.len(), NAMED_MAX);
        assert!(rest.last().unwrap().starts_with("3 more parts"), "{rest:?}");
    }

    #[test]
    fn who_wants_all_or_nothing_gets_an_error_and_memory_is_never_a_warning() {
        let mut damages = Damages::new(PartialResponse::Abort);
        assert!(matches!(damages.of_head(&damage()), Err(Error::Aborted(_))));
        let mut damages = Damages::new(PartialResponse::Warn);
        let full = model::Budget::unlimited().child("call", 1).reserve(2).unwrap_err();
        let noted = damages.of_head(&tsdb_core::Error::Budget(full));
        assert!(matches!(noted, Err(Error::BudgetExceeded(_))));
        let noted = damages.of_head(&tsdb_core::Error::unavailable("being rebuilt"));
        assert!(matches!(noted, Err(Error::Aborted(_))));
        assert_eq!(damages.into_warnings(), Vec::<String>::new());
    }
}
