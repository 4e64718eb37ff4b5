//! From matchers to series references, by Prometheus' rules.
//!
//! A matcher that the empty text does not fulfil asks for the union of the lists of the values
//! that fulfil it; one that the empty text fulfils, also by series without the label, takes away
//! the lists of the values that do not fulfil it. Planning looks only at values; the lists are
//! fetched afterwards, by whoever holds them.

use model::{MatchOp, Matcher};

use crate::error::Result;
use crate::postings;

/// What planning needs of an index: which values a label has.
pub trait LabelIndex {
    /// A posting list that can be fetched.
    type List: Clone;

    /// The list of all series; none in an empty index.
    ///
    /// # Errors
    /// When the index cannot be read.
    fn all(&self) -> Result<Option<Self::List>>;

    /// The lists of those of the `values` that the label has.
    ///
    /// # Errors
    /// When the index cannot be read.
    fn lists_of(&self, name: &str, values: &[&str]) -> Result<Vec<Self::List>>;

    /// The lists of the values of the label that begin with `prefix` and that `keep` wants.
    ///
    /// # Errors
    /// When the index cannot be read.
    fn lists_where(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Self::List>>;
}

/// The lists of one matcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<L> {
    /// Which of the matchers it comes from.
    pub matcher: usize,
    /// Its lists; the group is their union.
    pub lists: Vec<L>,
}

/// What to fetch: the series in every group of `include` and in none of `exclude`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<L> {
    /// Series must be in each of these; never empty, unless nothing is selected.
    pub include: Vec<Group<L>>,
    /// Series must be in none of these.
    pub exclude: Vec<Group<L>>,
}

impl<L> Plan<L> {
    /// A plan that selects nothing.
    pub fn nothing() -> Plan<L> {
        Plan { include: Vec::new(), exclude: Vec::new() }
    }

    /// Whether nothing is selected, whatever the lists hold.
    pub fn is_nothing(&self) -> bool {
        self.include.is_empty() || self.include.iter().any(|it| it.lists.is_empty())
    }
}

/// Plans a select. No matchers at all select nothing, as in Prometheus' index.
///
/// # Errors
/// When the index cannot be read.
pub fn plan<I: LabelIndex + ?Sized>(index: &I, matchers: &[Matcher]) -> Result<Plan<I::List>> {
    let mut plan = Plan::nothing();
    if matchers.is_empty() {
        return Ok(plan);
    }
    for (number, matcher) in matchers.iter().enumerate() {
        if matcher.matches_empty() {
            let lists = lists_refused(index, matcher)?;
            if !lists.is_empty() {
                plan.exclude.push(Group { matcher: number, lists });
            }
        } else {
            let lists = lists_wanted(index, matcher)?;
            if lists.is_empty() {
                return Ok(Plan::nothing());
            }
            plan.include.push(Group { matcher: number, lists });
        }
    }
    if plan.include.is_empty() {
        let lists = index.all()?.into_iter().collect();
        plan.include.push(Group { matcher: usize::MAX, lists });
    }
    Ok(plan)
}

/// Carries out a plan: fetches each list once and answers the references, ascending.
///
/// # Errors
/// Those of `fetch`.
pub fn execute<L>(
    plan: &Plan<L>,
    mut fetch: impl FnMut(&L) -> Result<Vec<u32>>,
) -> Result<Vec<u32>> {
    if plan.is_nothing() {
        return Ok(Vec::new());
    }
    let mut group = |it: &Group<L>| -> Result<Vec<u32>> {
        let lists: Result<Vec<Vec<u32>>> = it.lists.iter().map(&mut fetch).collect();
        Ok(postings::union(lists?))
    };
    // Groups of few lists are likely the smallest; the first that ends up empty ends the work.
    let mut order: Vec<&Group<L>> = plan.include.iter().collect();
    order.sort_by_key(|it| it.lists.len());
    let mut kept: Option<Vec<u32>> = None;
    for it in order {
        let list = group(it)?;
        kept = Some(match kept {
            None => list,
            Some(before) => postings::intersect(vec![before, list]),
        });
        if kept.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new());
        }
    }
    let mut kept = kept.unwrap_or_default();
    for it in &plan.exclude {
        postings::subtract(&mut kept, &group(it)?);
    }
    Ok(kept)
}

/// Lists of the values that fulfil a matcher which the empty text does not.
fn lists_wanted<I: LabelIndex + ?Sized>(index: &I, matcher: &Matcher) -> Result<Vec<I::List>> {
    let name = matcher.name();
    match (matcher.op(), matcher.regex()) {
        (MatchOp::Equal, _) => index.lists_of(name, &[matcher.value()]),
        (MatchOp::Regex, Some(regex)) => {
            if let Some(values) = regex.set_matches() {
                return index.lists_of(name, &distinct(values));
            }
            index.lists_where(name, regex.prefix(), &mut |value| matcher.matches(value))
        }
        _ => index.lists_where(name, "", &mut |value| matcher.matches(value)),
    }
}

/// Lists of the values that do not fulfil a matcher which the empty text does.
fn lists_refused<I: LabelIndex + ?Sized>(index: &I, matcher: &Matcher) -> Result<Vec<I::List>> {
    let name = matcher.name();
    match (matcher.op(), matcher.regex()) {
        (MatchOp::NotEqual, _) => index.lists_of(name, &[matcher.value()]),
        (MatchOp::Regex, _) if matcher.value() == ".*" => Ok(Vec::new()),
        (MatchOp::NotRegex, Some(regex)) => {
            if let Some(values) = regex.set_matches() {
                return index.lists_of(name, &distinct(values));
            }
            index.lists_where(name, regex.prefix(), &mut |value| !matcher.matches(value))
        }
        _ => index.lists_where(name, "", &mut |value| !matcher.matches(value)),
    }
}

fn distinct(values: &[String]) -> Vec<&str> {
    let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
    values.sort_unstable();
    values.dedup();
    values
}
