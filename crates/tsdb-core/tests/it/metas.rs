//! meta.json as Go writes it, and as leniently read as Go reads it.

use serde_json::Value;
use testkit::golden;
use tsdb_core::block::Meta;

#[test]
fn metas_are_read_and_written_as_thanos_does() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let folder = shared.join("golden/blocks");
    let lines = golden::read_jsonl_gz(&folder.join("bucket-markers.expected.jsonl.gz"));
    let mut count = 0;
    for line in lines.iter().filter(|it| it["file"].as_str().unwrap().contains("meta-")) {
        let name = line["file"].as_str().unwrap();
        let bytes = std::fs::read(folder.join("bucket-markers").join(name)).unwrap();
        let meta = Meta::decode(&bytes);
        count += 1;
        if line["error"].is_string() {
            assert!(meta.is_err(), "{name}");
            continue;
        }
        let meta = meta.unwrap();
        let written = meta.encode();
        // The reference lists the section's version only where the file has it; so do we.
        assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), line["parsed"], "{name}");
        assert_eq!(line["written_again_same"] == true, written == bytes, "{name}");
        assert_eq!(Meta::decode(&written).unwrap(), meta, "{name}");
    }
    assert!(count > 25, "only {count} metas");
}

#[test]
fn label_values_are_escaped_as_go_escapes_them() {
    let id = "01M83S0FBCY141G7C3CQJ72YNQ".parse().unwrap();
    let mut meta = Meta::of_head(id, 0, 1);
    meta.thanos.labels.insert("a".to_owned(), "<&>\u{2028}".to_owned());
    let text = String::from_utf8(meta.encode()).unwrap();
    assert!(text.contains(r#""a": "\u003c\u0026\u003e\u2028""#), "{text}");
    assert_eq!(Meta::decode(text.as_bytes()).unwrap(), meta);
}
