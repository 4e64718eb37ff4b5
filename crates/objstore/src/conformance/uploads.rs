//! Streaming uploads: whole when they are finished, invisible before, gone when they are given up.

use std::sync::Arc;

use bytes::Bytes;

use super::{SIZE_MAX_BYTES, is_invalid, must, must_fail};
use crate::digest::md5_hex;
use crate::error::Error;
use crate::store::SharedStore;
use crate::upload::{ObjectWriter, Part, Whole};

const KEY: &str = "conformance/upload/object";

pub(super) async fn run(store: &SharedStore, part_bytes: Option<usize>) {
    let small = 1000;
    whole_when_finished(store, small, &[0, 1, small]).await;
    let Some(part_bytes) = part_bytes else {
        return refused(store, small).await;
    };
    let sizes = [0, 1, part_bytes - 1, part_bytes, part_bytes + 1, 3 * part_bytes + 17];
    whole_when_finished(store, part_bytes, &sizes).await;
    replaced_at_once(store, part_bytes).await;
    given_up(store, part_bytes).await;
    repeated_calls(store, part_bytes).await;
    missing_parts(store, part_bytes).await;
    for key in ["", "/a", "a//b", "../a"] {
        must_fail(store.begin_upload(key).await, key, is_invalid);
        let writer = ObjectWriter::new(Arc::clone(store), key);
        must_fail(writer.finish().await, key, is_invalid);
    }
}

fn writer(store: &SharedStore, part_bytes: usize) -> ObjectWriter {
    ObjectWriter::new(Arc::clone(store), KEY).with_part_bytes(part_bytes)
}

/// Bytes that differ from part to part.
fn body(length: usize) -> Bytes {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}

async fn write_all(writer: &mut ObjectWriter, body: &Bytes, step: usize) {
    let mut rest = body.clone();
    while !rest.is_empty() {
        let bytes = rest.split_to(rest.len().min(step));
        must(writer.write(bytes).await, "write");
    }
}

async fn whole_when_finished(store: &SharedStore, part_bytes: usize, sizes: &[usize]) {
    for size in sizes {
        let body = body(*size);
        // Small steps, steps that end within parts, and all at once.
        for step in [part_bytes / 3 + 1, part_bytes + 7, usize::MAX] {
            let mut writer = writer(store, part_bytes);
            write_all(&mut writer, &body, step).await;
            assert_eq!(writer.size_bytes(), *size as u64);
            must_fail(store.head(KEY).await, "head before the end", Error::is_not_found);
            let outcome = must(writer.finish().await, "finish");
            assert_eq!(outcome.size_bytes, *size as u64);
            assert_eq!(outcome.md5_hex, md5_hex(&body));
            let head = must(store.head(KEY).await, "head");
            assert_eq!((head.size_bytes, head.etag), (*size as u64, outcome.etag));
            let found = must(store.get(KEY, SIZE_MAX_BYTES).await, "get");
            assert!(found == body, "{size} bytes in steps of {step} came back changed");
            must(store.delete(KEY).await, "delete");
        }
    }
}

/// The old object is there until the new one is whole.
async fn replaced_at_once(store: &SharedStore, part_bytes: usize) {
    let (old, new) = (body(100), body(2 * part_bytes + 1));
    must(store.put(KEY, old.clone()).await, "put");
    let mut writer = writer(store, part_bytes);
    write_all(&mut writer, &new, usize::MAX).await;
    assert_eq!(must(store.get(KEY, SIZE_MAX_BYTES).await, "get"), old);
    must(writer.finish().await, "finish");
    assert!(must(store.get(KEY, SIZE_MAX_BYTES).await, "get") == new, "the old object stayed");
    must(store.delete(KEY).await, "delete");
}

async fn given_up(store: &SharedStore, part_bytes: usize) {
    for length in [0, 10, 3 * part_bytes] {
        let mut aborted = writer(store, part_bytes);
        write_all(&mut aborted, &body(length), usize::MAX).await;
        must(aborted.abort().await, "abort");
        let mut dropped = writer(store, part_bytes);
        write_all(&mut dropped, &body(length), usize::MAX).await;
        drop(dropped);
        must_fail(store.head(KEY).await, "head after the end", Error::is_not_found);
        let listed = must(store.list("conformance/upload/", false, None).await, "list");
        assert!(listed.objects.is_empty(), "{listed:?}");
    }
}

/// Every call may come again, parts in any order.
async fn repeated_calls(store: &SharedStore, part_bytes: usize) {
    let whole_body = body(2 * part_bytes + 5);
    let part = |number: u32, body: Bytes| {
        let offset_bytes = u64::from(number - 1) * part_bytes as u64;
        Part { number, offset_bytes, body }
    };
    let parts = [
        part(3, whole_body.slice(2 * part_bytes..)),
        part(1, Bytes::from(vec![0; part_bytes])),
        part(2, whole_body.slice(part_bytes..2 * part_bytes)),
        part(1, whole_body.slice(..part_bytes)),
    ];
    let upload = must(store.begin_upload(KEY).await, "begin");
    for part in parts {
        must(upload.put_part(part).await, "part");
    }
    let size_bytes = whole_body.len() as u64;
    let whole = Whole { parts: 3, size_bytes, md5_hex: md5_hex(&whole_body) };
    let first = must(upload.finish(&whole).await, "finish");
    let second = must(upload.finish(&whole).await, "second finish");
    assert_eq!((first.size_bytes, first.etag), (second.size_bytes, second.etag));
    must(upload.abort().await, "abort after the end");
    drop(upload);
    let found = must(store.get(KEY, SIZE_MAX_BYTES).await, "get");
    assert!(found == whole_body, "the parts were not joined as they are numbered");
    must(store.delete(KEY).await, "delete");
}

async fn missing_parts(store: &SharedStore, part_bytes: usize) {
    let upload = must(store.begin_upload(KEY).await, "begin");
    let part = Part { number: 1, offset_bytes: 0, body: body(part_bytes) };
    must(upload.put_part(part).await, "part");
    let size_bytes = 2 * part_bytes as u64;
    let whole = Whole { parts: 2, size_bytes, md5_hex: String::new() };
    must_fail(upload.finish(&whole).await, "finish of half", |it| !it.is_transient());
    must(upload.abort().await, "abort");
    must(upload.abort().await, "second abort");
    must_fail(store.head(KEY).await, "head after the end", Error::is_not_found);
}

/// A store without parts says so, and takes what needs none.
async fn refused(store: &SharedStore, part_bytes: usize) {
    must_fail(store.begin_upload(KEY).await, "begin without parts", is_invalid);
    let mut writer = writer(store, part_bytes);
    must_fail(writer.write(body(2 * part_bytes)).await, "write of parts", is_invalid);
    must_fail(writer.finish().await, "finish after a failure", |it| !it.is_transient());
    must_fail(store.head(KEY).await, "head after the end", Error::is_not_found);
}
