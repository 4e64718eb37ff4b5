//! Which series of a partition have a label, and which series fulfil matchers.

use hashbrown::{HashMap, HashSet};
use model::{MatchOp, Matcher};
use smallvec::SmallVec;

use crate::head::series::Series;
use crate::head::symbols::Symbols;

type Slots = SmallVec<[u32; 2]>;

/// Slots of series by tenant, label name and label value; not sorted.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    tenants: HashMap<u32, TenantPostings>,
}

#[derive(Debug, Default)]
struct TenantPostings {
    all: Vec<u32>,
    names: HashMap<u32, HashMap<u32, Slots>>,
}

impl Postings {
    /// Adds a series, which must be new.
    pub(crate) fn insert(&mut self, slot: u32, tenant: u32, labels: &[(u32, u32)]) {
        let postings = self.tenants.entry(tenant).or_default();
        postings.all.push(slot);
        for (name, value) in labels {
            postings.names.entry(*name).or_default().entry(*value).or_default().push(slot);
        }
    }

    /// Takes out series of a tenant, given all labels that they have.
    pub(crate) fn remove(
        &mut self,
        tenant: u32,
        slots: &HashSet<u32>,
        labels: &HashSet<(u32, u32)>,
    ) {
        let Some(postings) = self.tenants.get_mut(&tenant) else { return };
        postings.all.retain(|it| !slots.contains(it));
        for (name, value) in labels {
            let Some(values) = postings.names.get_mut(name) else { continue };
            let Some(list) = values.get_mut(value) else { continue };
            list.retain(|it| !slots.contains(it));
            if list.is_empty() {
                values.remove(value);
            }
            if values.is_empty() {
                postings.names.remove(name);
            }
        }
        if postings.all.is_empty() {
            self.tenants.remove(&tenant);
        }
    }

    /// All series of a tenant.
    pub(crate) fn all(&self, tenant: u32) -> &[u32] {
        self.tenants.get(&tenant).map_or(&[], |it| &it.all)
    }

    /// Series of a tenant that fulfil all matchers, not sorted, each once.
    ///
    /// The matcher that leaves fewest series is answered from the lists, the others are asked of
    /// what it left.
    pub(crate) fn select(
        &self,
        tenant: u32,
        matchers: &[Matcher],
        symbols: &Symbols,
        series: &[Option<Series>],
    ) -> Vec<u32> {
        let Some(postings) = self.tenants.get(&tenant) else { return Vec::new() };
        let mut best: Option<(usize, usize, Vec<&Slots>)> = None;
        for (index, matcher) in matchers.iter().enumerate() {
            // What an absent label fulfils too cannot be found in the lists.
            if matcher.matches_empty() {
                continue;
            }
            let lists = postings.lists(matcher, symbols);
            let count = lists.iter().map(|it| it.len()).sum();
            if best.as_ref().is_none_or(|(least, _, _)| count < *least) {
                best = Some((count, index, lists));
            }
        }
        let (answered, candidates) = match best {
            Some((_, index, lists)) => {
                (Some(index), lists.into_iter().flatten().copied().collect())
            }
            None => (None, postings.all.clone()),
        };
        let others = matchers.iter().enumerate().filter(|(index, _)| Some(*index) != answered);
        let mut filters: Vec<Filter<'_>> = others.map(|(_, it)| Filter::new(it, symbols)).collect();
        let mut slots: Vec<u32> = candidates;
        slots.retain(|slot| {
            let labels = series.get(*slot as usize).and_then(Option::as_ref).map(|it| &*it.labels);
            labels.is_some_and(|labels| filters.iter_mut().all(|it| it.keeps(labels, symbols)))
        });
        slots
    }
}

impl TenantPostings {
    /// The lists whose values fulfil a matcher that an absent label does not fulfil.
    fn lists<'a>(&'a self, matcher: &Matcher, symbols: &Symbols) -> Vec<&'a Slots> {
        let values = symbols.find(matcher.name()).and_then(|name| self.names.get(&name));
        let Some(values) = values else { return Vec::new() };
        if matcher.op() == MatchOp::Equal {
            let found = symbols.find(matcher.value()).and_then(|value| values.get(&value));
            return found.into_iter().collect();
        }
        let fulfil = values.iter().filter(|(value, _)| matcher.matches(symbols.text(**value)));
        fulfil.map(|(_, slots)| slots).collect()
    }
}

/// A matcher that is asked of one series after the other, each value once.
struct Filter<'a> {
    matcher: &'a Matcher,
    name: Option<u32>,
    keeps_absent: bool,
    kept: HashSet<u32>,
    dropped: HashSet<u32>,
}

impl<'a> Filter<'a> {
    fn new(matcher: &'a Matcher, symbols: &Symbols) -> Filter<'a> {
        Filter {
            matcher,
            name: symbols.find(matcher.name()),
            keeps_absent: matcher.matches_empty(),
            kept: HashSet::new(),
            dropped: HashSet::new(),
        }
    }

    fn keeps(&mut self, labels: &[(u32, u32)], symbols: &Symbols) -> bool {
        let name = self.name;
        let value = labels.iter().find(|(it, _)| Some(*it) == name).map(|(_, value)| *value);
        let Some(value) = value else { return self.keeps_absent };
        if self.kept.contains(&value) {
            return true;
        }
        if self.dropped.contains(&value) {
            return false;
        }
        let keeps = self.matcher.matches(symbols.text(value));
        let memory = if keeps { &mut self.kept } else { &mut self.dropped };
        memory.insert(value);
        keeps
    }
}
