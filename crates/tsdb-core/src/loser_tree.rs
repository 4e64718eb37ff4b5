//! The order among the heads of several sorted runs, by a tournament of losers: a new head is
//! compared with one other per level.

/// Marks a place where nobody waits yet.
const NOBODY: usize = usize::MAX;

/// Whose head comes first among a fixed number of runs.
#[derive(Debug)]
pub(crate) struct LoserTree {
    /// The winner, then the loser of every match.
    places: Vec<usize>,
}

impl LoserTree {
    /// Lets all runs play. `less` says whether the head of one run comes before that of another:
    /// a strict total order in which a run that has ended comes last.
    pub(crate) fn new(count: usize, less: impl Fn(usize, usize) -> bool) -> LoserTree {
        let mut places = vec![NOBODY; count.max(1)];
        for run in 0..count {
            let mut winner = run;
            let mut node = (run + count) / 2;
            while node > 0 {
                if places[node] == NOBODY {
                    places[node] = winner;
                    winner = NOBODY;
                    break;
                }
                if less(places[node], winner) {
                    std::mem::swap(&mut places[node], &mut winner);
                }
                node /= 2;
            }
            if winner != NOBODY {
                places[0] = winner;
            }
        }
        LoserTree { places }
    }

    /// The run whose head comes first; none where there are no runs.
    pub(crate) fn winner(&self) -> Option<usize> {
        self.places.first().copied().filter(|it| *it != NOBODY)
    }

    /// Lets the winner play again, whose head has changed.
    pub(crate) fn replay(&mut self, less: impl Fn(usize, usize) -> bool) {
        let Some(mut winner) = self.winner() else { return };
        let mut node = (winner + self.places.len()) / 2;
        while node > 0 {
            if less(self.places[node], winner) {
                std::mem::swap(&mut self.places[node], &mut winner);
            }
            node /= 2;
        }
        self.places[0] = winner;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn runs_are_merged_in_order(
            runs in prop::collection::vec(prop::collection::vec(0..100_u32, 0..20), 0..9),
        ) {
            let mut runs = runs;
            runs.iter_mut().for_each(|it| it.sort_unstable());
            let mut at = vec![0; runs.len()];
            let head = |at: &[usize], run: usize| {
                (runs[run].get(at[run]).is_none(), runs[run].get(at[run]).copied(), run)
            };
            let mut tree = LoserTree::new(runs.len(), |a, b| head(&at, a) < head(&at, b));
            let mut merged = Vec::new();
            while let Some(run) = tree.winner() {
                let Some(value) = runs[run].get(at[run]) else { break };
                merged.push(*value);
                at[run] += 1;
                tree.replay(|a, b| head(&at, a) < head(&at, b));
            }
            let mut expected = runs.concat();
            expected.sort_unstable();
            prop_assert_eq!(merged, expected);
        }
    }
}
