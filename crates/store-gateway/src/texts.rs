//! Names or values of labels, gathered from series as they come in.

use std::collections::BTreeSet;

use model::{Budget, BudgetExceeded, Labels, Reservation};

use crate::error::Result;
use crate::select::{Places, Sink};

/// What a text costs besides its bytes.
const TEXT_BYTES: usize = 64;

/// Which texts of a series are wanted.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Names of labels.
    Names {
        /// Names that are left out.
        dropped: Vec<String>,
    },
    /// Values of one label.
    Values {
        /// The label.
        name: String,
    },
}

/// Texts, each once. Nothing else is kept of the series that have them.
#[derive(Debug)]
pub(crate) struct Texts {
    wanted: Wanted,
    found: BTreeSet<String>,
    held: Reservation,
}

impl Texts {
    /// None yet.
    ///
    /// # Errors
    /// When `budget` is used up.
    pub(crate) fn new(wanted: Wanted, budget: &Budget) -> Result<Texts, BudgetExceeded> {
        Ok(Texts { wanted, found: BTreeSet::new(), held: budget.reserve(0)? })
    }

    /// All of them.
    pub(crate) fn into_sorted(self) -> Vec<String> {
        self.found.into_iter().collect()
    }
}

impl Sink for Texts {
    fn take(&mut self, labels: Labels, _places: Places) -> Result<()> {
        let Texts { wanted, found, held } = self;
        let add = |text: &str| {
            if found.contains(text) {
                return Ok(());
            }
            held.grow(text.len() + TEXT_BYTES)?;
            found.insert(text.to_owned());
            Ok::<(), BudgetExceeded>(())
        };
        match wanted {
            Wanted::Names { dropped } => {
                let names = labels.iter().map(|it| it.0);
                names.filter(|name| !dropped.iter().any(|it| it == name)).try_for_each(add)?;
            }
            Wanted::Values { name } => labels.get(name).map_or(Ok(()), add)?,
        }
        Ok(())
    }
}
