//! Label sets: order, round trips, hashes, printing.

use std::collections::BTreeMap;

use model::labels::shard_hash;
use model::{Labels, LabelsBuilder};
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{collection, proptest};

/// Names and values that share prefixes, so that comparisons go deep, and any others.
fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof!["[a-b]{1,3}", "[a-z]{1,70}", any::<String>()];
    let value = prop_oneof!["[a-b]{0,3}", "a{60,70}", any::<String>()];
    collection::btree_map(name.prop_filter("a name", |it| !it.is_empty()), value, 0..6)
}

fn labels(pairs: &BTreeMap<String, String>) -> Labels {
    Labels::from_pairs(pairs).unwrap()
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(pairs in pairs(), absent in any::<String>()) {
        let set = labels(&pairs);
        let expected: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        assert_eq!(set.len(), expected.len());
        for (name, value) in &expected {
            assert_eq!(set.get(name), Some(*value));
        }
        if !pairs.contains_key(&absent) {
            assert_eq!(set.get(&absent), None);
        }
        assert_eq!(set.to_builder().build(), set);
        let mut builder = LabelsBuilder::default();
        for (name, value) in expected.iter().rev() {
            builder.set(name, value);
            assert_eq!(builder.get(name), Some(*value));
        }
        assert_eq!(builder.build(), set);
    }

    #[test]
    fn the_order_is_that_of_the_pairs(one in pairs(), other in pairs()) {
        let (a, b) = (labels(&one), labels(&other));
        assert_eq!(a.cmp(&b), a.iter().collect::<Vec<_>>().cmp(&b.iter().collect()));
        assert_eq!(a == b, a.cmp(&b).is_eq());
        assert_eq!(a == b, a.as_key() == b.as_key());
        assert!(a != b || a.hash64() == b.hash64());
    }
}

#[test]
fn the_hash_is_xxh64_over_names_and_values() {
    let set = Labels::from_pairs([("b", "2"), ("a", "1")]).unwrap();
    let expected = xxhash_rust::xxh64::xxh64(b"a\xff1\xffb\xff2\xff", 0);
    assert_eq!(set.hash64(), expected);
    assert_eq!(shard_hash([]), 0xef46_db37_51d8_e999);
}

#[test]
fn printed_as_prometheus_prints() {
    let set = Labels::from_pairs([("a", "x\"\n\u{200b}"), ("b.c", "1"), ("_d9", "é")]).unwrap();
    assert_eq!(set.to_string(), r#"{_d9="é", a="x\"\n\u200b", "b.c"="1"}"#);
}
