//! Brings the series of a cut into the order of their labels by numbers alone: every label text
//! gets its rank among all texts once, and the series are sorted by ranks.

use crate::head::partition::CutSeries;
use crate::head::symbols::SymbolTexts;

/// Rank of a text that no series of the cut has.
const UNUSED: u32 = u32::MAX;

/// The texts of a cut in their order, each once.
pub(crate) struct Ranking<'a> {
    pub(crate) texts: Vec<&'a str>,
    /// Per partition, the rank of each of its symbols.
    ranks: Vec<Vec<u32>>,
}

impl<'a> Ranking<'a> {
    /// Ranks the texts that the series of the partitions have.
    pub(crate) fn of(symbols: &'a [SymbolTexts], series: &[Vec<CutSeries>]) -> Ranking<'a> {
        let mut used: Vec<(u64, &str, u32, u32)> = Vec::new();
        let mut ranks = Vec::with_capacity(symbols.len());
        for ((symbols, series), part) in symbols.iter().zip(series).zip(0..) {
            let mut ranks_here = vec![UNUSED; symbols.count()];
            for id in series.iter().flat_map(|it| &it.labels).flat_map(|it| [it.0, it.1]) {
                let rank = &mut ranks_here[id as usize];
                if *rank == UNUSED {
                    *rank = 0;
                    let text = symbols.text(id);
                    used.push((first_bytes(text), text, part, id));
                }
            }
            ranks.push(ranks_here);
        }
        used.sort_unstable();
        let mut texts: Vec<&str> = Vec::with_capacity(used.len());
        for (_, text, part, id) in used {
            if texts.last() != Some(&text) {
                texts.push(text);
            }
            let rank = u32::try_from(texts.len() - 1).unwrap_or(UNUSED);
            ranks[part as usize][id as usize] = rank;
        }
        Ranking { texts, ranks }
    }

    /// Puts ranks in the place of the symbols of all series, and answers the order of the series
    /// by labels: partition and index.
    pub(crate) fn sort(&self, series: &mut [Vec<CutSeries>]) -> Vec<(u32, u32)> {
        let mut order = Vec::with_capacity(series.iter().map(Vec::len).sum());
        for ((series, ranks), part) in series.iter_mut().zip(&self.ranks).zip(0_u32..) {
            for (series, index) in series.iter_mut().zip(0_u32..) {
                for (name, value) in &mut series.labels {
                    *name = ranks[*name as usize];
                    *value = ranks[*value as usize];
                }
                order.push((first_ranks(&series.labels), part, index));
            }
        }
        let labels = |part: u32, index: u32| &series[part as usize][index as usize].labels;
        order.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| labels(a.1, a.2).cmp(labels(b.1, b.2)))
        });
        order.into_iter().map(|(_, part, index)| (part, index)).collect()
    }
}

/// The first eight bytes as a number that sorts as they do; most comparisons need no more.
fn first_bytes(text: &str) -> u64 {
    let mut first = [0; 8];
    let length = text.len().min(first.len());
    first[..length].copy_from_slice(&text.as_bytes()[..length]);
    u64::from_be_bytes(first)
}

/// The first two labels as a number that sorts as they do.
fn first_ranks(labels: &[(u32, u32)]) -> u128 {
    let at = |index: usize| labels.get(index).copied().unwrap_or_default();
    let (first, second) = (at(0), at(1));
    [first.0, first.1, second.0, second.1]
        .into_iter()
        .fold(0, |key, rank| key << 32 | u128::from(rank))
}
