//! A loser tree: the least of several heads in one comparison per level.

/// A tournament over `0..count` leaves; who wins is told by the caller.
#[derive(Debug)]
pub(crate) struct LoserTree {
    /// `losers[node]` is the leaf that lost at an inner node, 1-based; `losers[0]` is the winner.
    losers: Vec<usize>,
}

impl LoserTree {
    /// Plays the first round. `less(a, b)` tells whether leaf `a` goes before leaf `b`; it must be
    /// a strict order in which no two leaves are equal.
    pub(crate) fn new(count: usize, less: impl Fn(usize, usize) -> bool) -> LoserTree {
        let mut losers = vec![0; count.max(1)];
        let mut winners = vec![0; 2 * count.max(1)];
        for leaf in 0..count {
            winners[count + leaf] = leaf;
        }
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if less(right, left) { (right, left) } else { (left, right) };
            winners[node] = winner;
            losers[node] = loser;
        }
        losers[0] = winners[1];
        LoserTree { losers }
    }

    /// The leaf that goes first.
    pub(crate) fn winner(&self) -> usize {
        self.losers[0]
    }

    /// Plays again up from `leaf`, the winner, after its head has changed.
    pub(crate) fn replay(&mut self, leaf: usize, less: impl Fn(usize, usize) -> bool) {
        let mut winner = leaf;
        let mut node = (leaf + self.losers.len()) / 2;
        while node > 0 {
            if less(self.losers[node], winner) {
                std::mem::swap(&mut self.losers[node], &mut winner);
            }
            node /= 2;
        }
        self.losers[0] = winner;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    proptest! {
        #[test]
        fn everything_comes_out_in_order(
            mut runs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..9),
        ) {
            for run in &mut runs {
                run.sort_unstable();
                run.reverse();
            }
            let mut expected: Vec<u8> = runs.iter().flatten().copied().collect();
            expected.sort_unstable();
            let key = |runs: &[Vec<u8>], leaf: usize| {
                (runs[leaf].last().map_or(256, |it| u16::from(*it)), leaf)
            };
            let mut tree = LoserTree::new(runs.len(), |a, b| key(&runs, a) < key(&runs, b));
            let mut merged = Vec::new();
            while !runs.is_empty() {
                let leaf = tree.winner();
                let Some(value) = runs[leaf].pop() else { break };
                merged.push(value);
                tree.replay(leaf, |a, b| key(&runs, a) < key(&runs, b));
            }
            assert_eq!(merged, expected);
        }
    }
}
