//! What every store must do alike: one suite for all implementations and decorators.

mod uploads;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream;

use crate::digest::md5_hex;
use crate::error::Error;
use crate::store::{ListPage, ObjectMeta, ObjectStore, Result, SharedStore};

/// Calls in flight while many objects are written or removed.
const PARALLEL: usize = 16;
/// What a test expects an object to be smaller than.
const SIZE_MAX_BYTES: u64 = 1 << 30;

/// How much the suite does.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Objects in the listing that must come in several pages; more than the store puts in one.
    pub listed_objects: usize,
    /// Size of the large file in bytes; more than the store sends in one part.
    pub large_bytes: usize,
    /// Size in bytes of the parts of streaming uploads; none where the store is to refuse them.
    pub part_bytes: Option<usize>,
}

/// Runs the suite. The store should hold nothing under `conformance/`, and does not afterwards;
/// `scratch` is a directory for files to send.
///
/// # Panics
/// When the store does not keep the contract of [`ObjectStore`].
pub async fn run(store: &SharedStore, scratch: &Path, scale: Scale) {
    uploads::run(store, scale.part_bytes).await;
    let store = &**store;
    single_objects(store).await;
    ranges(store).await;
    conditional_writes(store).await;
    bad_keys(store).await;
    unusual_keys(store).await;
    listings(store).await;
    pages(store, scale.listed_objects).await;
    replacing_is_atomic(store).await;
    files(store, scratch, scale.large_bytes).await;
    let aborted = must(store.abort_stale_uploads("conformance/", i64::MIN).await, "abort");
    assert_eq!(aborted, 0, "no upload was begun before all time");
    let left = list_all(store, "conformance/", false).await;
    assert!(left.objects.is_empty(), "left behind: {left:?}");
}

/// The value, or a panic that says which call failed.
fn must<T, E: Display>(result: std::result::Result<T, E>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

fn must_fail<T>(result: Result<T>, what: &str, expected: impl FnOnce(&Error) -> bool) {
    match result {
        Ok(_) => panic!("{what}: succeeded"),
        Err(error) => assert!(expected(&error), "{what}: {error:?}"),
    }
}

fn is_invalid(error: &Error) -> bool {
    matches!(error, Error::Invalid { .. })
}

/// Every page of a listing, joined; checks that keys come once and in order.
async fn list_all(store: &dyn ObjectStore, prefix: &str, delimiter: bool) -> ListPage {
    let mut all = ListPage::default();
    let mut next = None;
    loop {
        let page = must(store.list(prefix, delimiter, next).await, "list");
        all.objects.extend(page.objects);
        all.prefixes.extend(page.prefixes);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert!(all.objects.windows(2).all(|two| two[0].key < two[1].key), "order: {all:?}");
    assert!(all.prefixes.windows(2).all(|two| two[0] < two[1]), "order: {all:?}");
    all
}

fn keys(page: &ListPage) -> Vec<&str> {
    page.objects.iter().map(|it| it.key.as_str()).collect()
}

async fn single_objects(store: &dyn ObjectStore) {
    let key = "conformance/single/object";
    must_fail(store.get(key, 10).await, "get of nothing", Error::is_not_found);
    must_fail(store.get_range(key, 0..1).await, "range of nothing", Error::is_not_found);
    must_fail(store.head(key).await, "head of nothing", Error::is_not_found);
    must(store.delete(key).await, "delete of nothing");
    for body in [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![7_u8; 100_000])] {
        let outcome = must(store.put(key, body.clone()).await, "put");
        assert_eq!(outcome.size_bytes, body.len() as u64);
        assert_eq!(outcome.md5_hex, md5_hex(&body));
        if outcome.etag_is_md5 {
            assert_eq!(outcome.etag.as_deref(), Some(&*outcome.md5_hex));
        }
        assert_eq!(must(store.get(key, SIZE_MAX_BYTES).await, "get"), body);
        let head = must(store.head(key).await, "head");
        assert_eq!((head.key.as_str(), head.size_bytes), (key, body.len() as u64));
        assert_eq!(head.etag, outcome.etag, "the tag of a head is that of the write");
        let listed = list_all(store, "conformance/single/", true).await;
        assert_eq!(listed.objects.len(), 1, "{listed:?}");
        let ObjectMeta { size_bytes, etag, .. } = &listed.objects[0];
        assert_eq!((*size_bytes, etag), (head.size_bytes, &head.etag));
    }
    must_fail(store.get(key, 99_999).await, "get of too much", is_invalid);
    assert_eq!(must(store.get(key, 100_000).await, "get").len(), 100_000);
    must(store.delete(key).await, "delete");
    must_fail(store.get(key, 10).await, "get after delete", Error::is_not_found);
    assert!(list_all(store, "conformance/single/", true).await.objects.is_empty());
}

async fn ranges(store: &dyn ObjectStore) {
    let key = "conformance/ranges";
    let body: Bytes = (0..=255_u8).cycle().take(1000).collect();
    must(store.put(key, body.clone()).await, "put");
    for range in [0..1, 0..1000, 1..2, 500..700, 999..1000, 990..2000, 0..u64::MAX] {
        let found = must(store.get_range(key, range.clone()).await, "range");
        let bound = |at: u64| usize::try_from(at.min(1000)).unwrap_or(1000);
        assert_eq!(found, body.slice(bound(range.start)..bound(range.end)), "{range:?}");
    }
    let empty = std::ops::Range { start: 7, end: 7 };
    for range in [1000..1001, 5000..6000, empty] {
        must_fail(store.get_range(key, range).await, "range without bytes", is_invalid);
    }
    must(store.delete(key).await, "delete");
}

async fn conditional_writes(store: &dyn ObjectStore) {
    let key = "conformance/conditional";
    let body = |writer: usize| Bytes::from(format!("writer {writer}"));
    let outcome = must(store.put_if_absent(key, body(0)).await, "conditional put");
    assert_eq!(outcome.md5_hex, md5_hex(&body(0)));
    let second = store.put_if_absent(key, body(1)).await;
    must_fail(second, "second conditional put", Error::is_already_exists);
    assert_eq!(must(store.get(key, 100).await, "get"), body(0));
    must(store.delete(key).await, "delete");
    let racers = join_all((0..8).map(|writer| store.put_if_absent(key, body(writer)))).await;
    let winners: Vec<usize> = (0..8).filter(|it| racers[*it].is_ok()).collect();
    assert_eq!(winners.len(), 1, "one of all who write at once wins: {racers:?}");
    assert_eq!(must(store.get(key, 100).await, "get"), body(winners[0]));
    must(store.delete(key).await, "delete");
}

async fn bad_keys(store: &dyn ObjectStore) {
    let body = Bytes::from_static(b"never written");
    for key in ["", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/.", "a\0b"] {
        must_fail(store.put(key, body.clone()).await, key, is_invalid);
        must_fail(store.put_if_absent(key, body.clone()).await, key, is_invalid);
        must_fail(store.get(key, 10).await, key, is_invalid);
        must_fail(store.get_range(key, 0..1).await, key, is_invalid);
        must_fail(store.head(key).await, key, is_invalid);
        must_fail(store.delete(key).await, key, is_invalid);
    }
    for prefix in ["/", "/a", "../", "a//"] {
        must_fail(store.list(prefix, true, None).await, prefix, is_invalid);
    }
}

async fn unusual_keys(store: &dyn ObjectStore) {
    let names = ["a b", "a+b", "a%20b", "ü", "a&b=c?d#e", "...", "a.b~c_d-e", "(x)!*'"];
    for name in names {
        let key = format!("conformance/unusual/{name}");
        must(store.put(&key, Bytes::from(name)).await, &key);
        assert_eq!(must(store.get(&key, 100).await, &key), Bytes::from(name));
    }
    let listed = list_all(store, "conformance/unusual/", false).await;
    let expected: BTreeSet<String> =
        names.iter().map(|name| format!("conformance/unusual/{name}")).collect();
    assert_eq!(keys(&listed), expected.iter().map(String::as_str).collect::<Vec<_>>());
    for key in &expected {
        must(store.delete(key).await, key);
    }
}

async fn listings(store: &dyn ObjectStore) {
    // No object has the name of a directory beside it: a directory of files could not hold both.
    let all = &[
        "conformance/list/a.b",
        "conformance/list/a/x",
        "conformance/list/a/y/z",
        "conformance/list/ab/c",
        "conformance/list/b/one/two/three",
        "conformance/list/c",
    ];
    for key in all {
        must(store.put(key, Bytes::from_static(b"x")).await, key);
    }
    let check = async |prefix: &str, delimiter, objects: &[&str], prefixes: &[&str]| {
        let page = list_all(store, prefix, delimiter).await;
        assert_eq!(keys(&page), objects, "{prefix} {delimiter}");
        assert_eq!(page.prefixes, prefixes, "{prefix} {delimiter}");
    };
    check("conformance/list/", false, all, &[]).await;
    let directories = ["conformance/list/a/", "conformance/list/ab/", "conformance/list/b/"];
    check("conformance/list/", true, &[all[0], all[5]], &directories).await;
    check("conformance/list/a", true, &[all[0]], &directories[..2]).await;
    check("conformance/list/a", false, &all[..4], &[]).await;
    check("conformance/list/a/", true, &[all[1]], &["conformance/list/a/y/"]).await;
    check("conformance/list/b/", true, &[], &["conformance/list/b/one/"]).await;
    check("conformance/list/none/", true, &[], &[]).await;
    check("conformance/list", true, &[], &["conformance/list/"]).await;
    for key in all {
        must(store.delete(key).await, key);
    }
    // Some servers show a directory for a while after its last object went: prefixes prove nothing.
    check("conformance/list", false, &[], &[]).await;
}

async fn pages(store: &dyn ObjectStore, objects: usize) {
    let all: Vec<String> = (0..objects)
        .map(|number| match number % 2 {
            0 => format!("conformance/pages/{number:05}"),
            _ => format!("conformance/pages/{number:05}/inside"),
        })
        .collect();
    let writes = stream::iter(&all).map(|key| store.put(key, Bytes::from_static(b"x")));
    let writes: Vec<_> = writes.buffer_unordered(PARALLEL).collect().await;
    writes.into_iter().for_each(|it| drop(must(it, "put")));
    let first = must(store.list("conformance/pages/", false, None).await, "list");
    assert!(first.next.is_some(), "{objects} objects come in more than one page");
    let flat = list_all(store, "conformance/pages/", false).await;
    assert_eq!(keys(&flat), all.iter().map(String::as_str).collect::<Vec<_>>());
    let level = list_all(store, "conformance/pages/", true).await;
    assert_eq!(level.objects.len() + level.prefixes.len(), objects, "each entry once");
    let deletes = stream::iter(&all).map(|key| store.delete(key));
    let deletes: Vec<_> = deletes.buffer_unordered(PARALLEL).collect().await;
    deletes.into_iter().for_each(|it| must(it, "delete"));
}

/// Whoever reads while an object is replaced gets all of the old or all of the new one.
async fn replacing_is_atomic(store: &dyn ObjectStore) {
    let key = "conformance/replaced";
    let bodies = [Bytes::from(vec![1_u8; 200_000]), Bytes::from(vec![2_u8; 150_000])];
    must(store.put(key, bodies[0].clone()).await, "put");
    let write = async {
        for turn in 0..10 {
            must(store.put(key, bodies[turn % 2].clone()).await, "put");
        }
    };
    let read = async {
        for _ in 0..20 {
            let found = must(store.get(key, SIZE_MAX_BYTES).await, "get");
            assert!(bodies.contains(&found), "{} bytes of a mixture", found.len());
        }
    };
    join(write, read).await;
    must(store.delete(key).await, "delete");
}

async fn files(store: &dyn ObjectStore, scratch: &Path, large_bytes: usize) {
    let path = scratch.join("conformance-file");
    let absent = store.put_file("conformance/file", &path).await;
    must_fail(absent, "put of an absent file", |it| !it.is_transient() && !it.is_not_found());
    for size in [0, 1, 100_000, large_bytes] {
        let body: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[at % 3]).collect();
        must(tokio::fs::write(&path, &body).await, "write a file");
        let outcome = must(store.put_file("conformance/file", &path).await, "put_file");
        assert_eq!(outcome.size_bytes, size as u64);
        assert_eq!(outcome.md5_hex, md5_hex(&body));
        let head = must(store.head("conformance/file").await, "head");
        assert_eq!((head.size_bytes, head.etag), (size as u64, outcome.etag));
        let found = must(store.get("conformance/file", SIZE_MAX_BYTES).await, "get");
        assert!(found == body, "{size} bytes came back changed");
    }
    must(store.delete("conformance/file").await, "delete");
    must(tokio::fs::remove_file(&path).await, "remove a file");
}
