//! Every way to match gives one answer.

use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{collection, proptest};

use super::{Regex, engine::Engine, nfa::Nfa, parse};

#[rustfmt::skip]
const LEAVES: [&str; 24] = [
    ".", ".*", ".+", "a.*", ".*b", ".*ab.+", "k", "s", "é", "日", "😀", "[^a]", "^", "$", r"\b",
    r"\B", "(?i)", "(?i:k)", "(?-s:.)", "(?m:^)", "(?m:$)", r"\n", r"\pL", "[[:alpha:]]",
];

/// Expressions from pieces that matter: anchors, classes, folds, gaps, repetitions, nesting.
fn pattern() -> impl Strategy<Value = String> {
    let leaf = prop_oneof!["[ab]{0,3}", (0..LEAVES.len()).prop_map(|it| LEAVES[it].to_owned()),];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 1..4).prop_map(|it| it.concat()),
            collection::vec(inner.clone(), 1..4).prop_map(|it| format!("({})", it.join("|"))),
            inner.clone().prop_map(|it| format!("(?:{it})*")),
            inner.clone().prop_map(|it| format!("({it})?")),
            inner.prop_map(|it| format!("(?:{it}){{1,3}}")),
        ]
    })
}

fn subject() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[ab]{0,6}", 1 => "[abkKsSſé日😀\n ]{0,5}", 1 => any::<String>()]
}

proptest! {
    #[test]
    fn shapes_prefixes_and_both_engines_agree(
        pattern in pattern(),
        subjects in collection::vec(subject(), 1..12),
    ) {
        let regex = Regex::new(&pattern).unwrap();
        let ast = parse::parse(&pattern).unwrap();
        let engine = Engine::new(&ast, &pattern).unwrap();
        let simulation = Nfa::new(&ast).unwrap();
        assert!(matches!(engine, Engine::Automata(_)));
        let members = regex.set_matches().unwrap_or_default();
        for subject in subjects.iter().chain(members) {
            let expected = engine.is_match(subject);
            assert_eq!(regex.is_match(subject), expected, "{pattern:?} {subject:?}");
            assert_eq!(simulation.is_match(subject), expected, "{pattern:?} {subject:?}");
            assert!(!expected || subject.starts_with(regex.prefix()), "{pattern:?} {subject:?}");
        }
        assert!(members.iter().all(|it| regex.is_match(it)));
    }

    #[test]
    fn any_text_is_compiled_or_refused(pattern in any::<String>(), subject in any::<String>()) {
        if let Ok(regex) = Regex::new(&pattern) {
            regex.is_match(&subject);
        }
    }

    #[test]
    fn any_meta_characters_are_compiled_or_refused(
        pattern in r"[\[\](){}|*+?^$.\\:<>,=!\-iPpQEx0-9a-c]{0,24}",
    ) {
        if let Ok(regex) = Regex::new(&pattern) {
            let ast = parse::parse(&pattern).unwrap();
            let simulation = Nfa::new(&ast).unwrap();
            for subject in ["", "a", "ab", "-", "1{2}"] {
                assert_eq!(regex.is_match(subject), simulation.is_match(subject), "{pattern:?}");
            }
        }
    }
}

#[test]
fn every_named_class_is_known() {
    use super::class;
    for name in class::CATEGORIES.iter().chain(&class::SCRIPTS).chain(&["Any", "LC"]) {
        let class = class::unicode(name).unwrap_or_else(|| panic!("{name}"));
        assert!(!class.ranges().is_empty(), "{name}");
    }
    assert!(class::SCRIPTS.is_sorted());
}
