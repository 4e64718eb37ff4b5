//! `aion tools bucket`: on a bucket of golden blocks, whole ones and damaged ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use testkit::golden;

/// A bucket in a directory.
struct Bucket {
    root: TempDir,
    shared: PathBuf,
}

/// What a tool said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    #[track_caller]
    fn good(self) -> Said {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn refused(self, code: i32, expected: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(expected), "{} without {expected}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
    }
}

impl Bucket {
    /// An empty one; none where there is no golden data.
    fn empty() -> Option<Bucket> {
        let shared = golden::shared_or_skip()?;
        Some(Bucket { root: tempfile::tempdir().unwrap(), shared })
    }

    fn with(blocks: &[&str]) -> Option<Bucket> {
        let bucket = Bucket::empty()?;
        for name in blocks {
            bucket.add(name);
        }
        Some(bucket)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.path().join("bucket").join(key)
    }

    fn meta(&self, name: &str) -> Value {
        let path = self.shared.join("golden/blocks").join(name).join("meta.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Puts a golden block into the bucket, and answers its id.
    fn add(&self, name: &str) -> String {
        let from = self.shared.join("golden/blocks").join(name);
        let id = self.meta(name)["ulid"].as_str().unwrap().to_owned();
        copy(&from, &self.path(&id));
        id
    }

    fn tool(&self, arguments: &[&str]) -> Said {
        let config = format!(
            "type: FILESYSTEM\nconfig: {{directory: {:?}}}",
            self.root.path().join("bucket")
        );
        let mut all = vec!["tools", "bucket", arguments[0], "--objstore.config", &config];
        all.extend(&arguments[1..]);
        said(&all)
    }
}

fn said(arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_aion")).args(arguments).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("chunks")).unwrap();
    for file in ["meta.json", "index", "tombstones"] {
        if from.join(file).exists() {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
    for segment in fs::read_dir(from.join("chunks")).unwrap() {
        let segment = segment.unwrap();
        fs::copy(segment.path(), to.join("chunks").join(segment.file_name())).unwrap();
    }
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

#[test]
fn slips_are_one_line_and_help_lists_everything() {
    for tool in
        ["ls", "inspect", "verify", "mark", "cleanup", "retention", "downsample", "upload-blocks"]
    {
        let help = said(&["tools", "--help"]).good();
        assert!(help.out.contains(&format!("\n  {tool} ")), "{}", help.out);
        let help = said(&["tools", "bucket", tool, "--help"]).good();
        assert!(help.out.contains("--objstore.config <YAML>"), "{}", help.out);
    }
    said(&["tools", "bukket"]).refused(2, "did you mean bucket?");
    said(&["tools", "bucket", "inspekt"]).refused(2, "unknown tool inspekt, did you mean inspect?");
    said(&["tools", "bucket", "rewrite"]).refused(2, "tools bucket rewrite is not there yet");
    said(&["tools", "bucket", "ls"]).refused(2, "--objstore.config");
    let Some(bucket) = Bucket::empty() else { return };
    bucket.tool(&["ls", "--output"]).refused(2, "--output: needs a value");
    bucket
        .tool(&["ls", "--outptu=wide"])
        .refused(2, "unknown flag --outptu, did you mean --output?");
    bucket.tool(&["ls", "-o", "{{.ULID}}"]).refused(1, "templates are not evaluated");
    bucket.tool(&["inspect", "--sort-by=SIZE"]).refused(2, "--sort-by=SIZE: must be one of ULID");
    bucket.tool(&["verify", "-r"]).refused(2, "--repair is refused: a damaged block is never");
    bucket.tool(&["mark", "--id=x", "--marker=deletion-mark.json"]).refused(2, "is no ULID");
    let id = "--id=01M83S0FBCY141G7C3CQJ72YNQ";
    bucket.tool(&["mark", id, "--marker=x"]).refused(2, "must be one of deletion-mark.json");
    bucket
        .tool(&["mark", id, "--marker=no-compact-mark.json"])
        .refused(1, "--details: is required");
    bucket.tool(&["retention"]).refused(1, "every block is kept for ever");
    bucket.tool(&["upload-blocks"]).refused(1, "--label: give at least one");
    let wrong = ["tools", "bucket", "ls", "--objstore.config", "type: FILESISTEM"];
    said(&wrong).refused(2, "FILESISTEM");
}

#[test]
fn ls_shows_what_the_metas_say() {
    let names = ["thanos-raw-48h", "thanos-5m", "thanos-1h", "prom-floats"];
    let Some(bucket) = Bucket::with(&names) else { return };
    let metas: BTreeMap<String, Value> = names
        .iter()
        .map(|it| bucket.meta(it))
        .map(|it| (it["ulid"].as_str().unwrap().to_owned(), it))
        .collect();
    let plain = bucket.tool(&["ls"]).good();
    let expected: String = metas.keys().map(|it| format!("{it}\n")).collect();
    assert_eq!((plain.out.as_str(), plain.err.as_str()), (expected.as_str(), "4 blocks\n"));

    let json = bucket.tool(&["ls", "-o", "json"]).good();
    let listed: Vec<Value> =
        serde_json::Deserializer::from_str(&json.out).into_iter().map(|it| it.unwrap()).collect();
    for (listed, (id, meta)) in listed.iter().zip(&metas) {
        assert_eq!(listed["ulid"], id.as_str());
        for key in ["minTime", "maxTime", "stats", "version"] {
            assert_eq!(listed[key], meta[key], "{id} {key}");
        }
    }
    let wide = bucket.tool(&["ls", "-o", "wide", "--max-time=2025-08-31T00:00:00Z"]).good();
    assert_eq!(wide.out, "", "all begin later");
    let id = metas.iter().find(|(_, it)| it["thanos"]["downsample"]["resolution"] == 300_000);
    let (id, meta) = id.unwrap();
    let wide = bucket.tool(&["ls", "-o", "wide"]).good();
    let line = wide.out.lines().find(|it| it.starts_with(id.as_str())).unwrap();
    assert_eq!(meta["minTime"], 1_756_684_800_000_i64);
    let expected = format!(
        "{id} -- 2025-09-01T00:00:00Z - 2025-09-03T00:00:00Z Diff: 48h0m0s, Compaction: 3, \
         Downsample: 300000, Source: compactor"
    );
    assert_eq!(line, expected);

    let marked = metas.keys().next().unwrap();
    let mark = ["mark", "--id", marked, "--marker=deletion-mark.json", "--details=old"];
    bucket.tool(&mark).good();
    assert!(!bucket.tool(&["ls", "--exclude-delete"]).good().out.contains(marked.as_str()));
    assert!(bucket.tool(&["ls"]).good().out.contains(marked.as_str()));
}

#[test]
fn inspect_has_thanos_columns_and_the_facts_of_the_metas() {
    let names =
        ["thanos-12d-1h", "thanos-12d-5m", "thanos-raw-12d", "thanos-raw-48h", "prom-labels"];
    let Some(bucket) = Bucket::with(&names) else { return };
    let table = bucket.tool(&["inspect"]).good().out;
    let header = "| ULID                       | FROM                 | UNTIL                | \
                  RANGE";
    assert!(table.starts_with(header), "{table}");
    assert_eq!(table.lines().count(), 2 + names.len());

    let rows = bucket.tool(&["inspect", "--output=json"]).good().json();
    for name in names {
        let meta = bucket.meta(name);
        let row = rows.as_array().unwrap().iter().find(|it| it["ulid"] == meta["ulid"]).unwrap();
        let stats = &meta["stats"];
        for (key, fact) in
            [("series", "numSeries"), ("samples", "numSamples"), ("chunks", "numChunks")]
        {
            assert_eq!(row[key], stats[fact], "{name} {key}");
        }
        assert_eq!(row["compactionLevel"], meta["compaction"]["level"], "{name}");
        let range_ms = meta["maxTime"].as_i64().unwrap() - meta["minTime"].as_i64().unwrap();
        assert_eq!(row["rangeMs"], range_ms, "{name}");
        let until = match meta["thanos"]["downsample"]["resolution"].as_i64() {
            None | Some(0) => Value::from(40 * 3_600_000 - range_ms),
            Some(300_000) => Value::from(240 * 3_600_000 - range_ms),
            _ => Value::Null,
        };
        assert_eq!(row["untilDownsamplingMs"], until, "{name}");
    }
    let csv = bucket.tool(&["inspect", "--output=csv", "--sort-by=#SERIES"]).good().out;
    let series: Vec<&str> = csv.lines().skip(1).filter_map(|it| it.split(',').nth(5)).collect();
    assert_eq!(series.last(), Some(&"\"5"), "5,000 is more than 52, as a number: {csv}");
    let tsv = bucket.tool(&["inspect", "--output=tsv"]).good().out;
    assert!(tsv.lines().all(|it| it.split('\t').count() == 13), "{tsv}");

    let label = bucket.meta("thanos-raw-48h")["thanos"]["labels"].clone();
    let (name, value) = label.as_object().unwrap().iter().next().unwrap();
    let selector = format!("{name}={value}");
    let selected = bucket.tool(&["inspect", "-l", &selector, "--output=json"]).good().json();
    let has = |it: &Value| {
        it["labels"].as_str().unwrap().contains(&format!("{name}={}", value.as_str().unwrap()))
    };
    assert!(!selected.as_array().unwrap().is_empty());
    assert!(selected.as_array().unwrap().iter().all(has), "{selected}");
    let none = bucket.tool(&["inspect", "-l", "no=such", "--output=json"]).good();
    assert_eq!(none.out, "[]\n");
}

#[test]
fn verify_finds_nothing_wrong_with_what_real_programs_wrote() {
    let names = [
        "prom-floats",
        "prom-histograms",
        "prom-segments",
        "thanos-raw-48h",
        "thanos-5m",
        "thanos-1h",
    ];
    let Some(bucket) = Bucket::with(&names) else { return };
    let verified = bucket.tool(&["verify", "-i", "index_known_issues", "--output=json"]).good();
    assert_eq!(verified.out, "[]\n");
    assert!(
        verified.err.ends_with("6 blocks verified, 0 issues in 0 of them\n"),
        "{}",
        verified.err
    );
}

#[test]
fn verify_names_every_bad_block_and_thing_and_passes_over_the_good_ones() {
    let Some(bucket) = Bucket::with(&["prom-floats"]) else { return };
    let flipped = bucket.add("prom-histograms");
    flip(&bucket.path(&format!("{flipped}/chunks/000001")), 2_000);
    flip(&bucket.path(&format!("{flipped}/chunks/000001")), 20_000);
    let gap = bucket.add("prom-segments");
    fs::remove_file(bucket.path(&format!("{gap}/chunks/000003"))).unwrap();
    let no_index = bucket.add("prom-labels");
    fs::remove_file(bucket.path(&format!("{no_index}/index"))).unwrap();
    let no_meta = bucket.add("prom-ooo");
    fs::remove_file(bucket.path(&format!("{no_meta}/meta.json"))).unwrap();
    let bad_meta = bucket.add("prom-tombstones");
    fs::write(bucket.path(&format!("{bad_meta}/meta.json")), "{\"ulid\": 7}").unwrap();
    let bad_mark = bucket.add("thanos-raw-12d");
    fs::write(bucket.path(&format!("{bad_mark}/no-compact-mark.json")), "{").unwrap();
    let wrong_stats = bucket.add("thanos-raw-48h");
    let path = bucket.path(&format!("{wrong_stats}/meta.json"));
    let text = fs::read_to_string(&path).unwrap();
    let series = bucket.meta("thanos-raw-48h")["stats"]["numSeries"].as_u64().unwrap();
    let changed = text.replace(&format!("\"numSeries\": {series}"), "\"numSeries\": 1");
    assert_ne!(text, changed);
    fs::write(&path, changed).unwrap();

    let verified = bucket.tool(&["verify", "-i", "index_known_issues", "--output=json"]);
    assert_eq!(verified.code, 1, "{}", verified.err);
    let json = verified.json();
    let of = |id: &str| -> Vec<(&str, &str)> {
        let rows = json.as_array().unwrap().iter().filter(|it| it["ulid"] == id);
        rows.map(|it| (it["issue"].as_str().unwrap(), it["what"].as_str().unwrap())).collect()
    };
    let check = |id: &str, expected: &[(&str, &str)]| {
        let found = of(id);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for ((issue, what), (expected_issue, expected_what)) in found.iter().zip(expected) {
            assert_eq!(issue, expected_issue, "{what}");
            assert!(what.contains(expected_what), "{what} without {expected_what}");
        }
    };
    let chunk = ("index_known_issues", "/chunks/000001: chunk at offset");
    check(&flipped, &[chunk, chunk]);
    check(&gap, &[("index_known_issues", "chunks/000003")]);
    check(&no_index, &[("missing_files", "missing: index")]);
    check(&no_meta, &[("partial_upload", "no meta.json")]);
    check(&bad_meta, &[("corrupt_meta", "meta.json")]);
    check(&bad_mark, &[("unreadable_mark", "no-compact-mark.json")]);
    check(&wrong_stats, &[("index_known_issues", "numSeries is 1, the block has")]);
    assert_eq!(json.as_array().unwrap().len(), 8, "{json:#}");
    assert!(json[0]["toDo"].as_str().unwrap().starts_with("aion tools bucket"), "{json:#}");
    let one = bucket.tool(&["verify", "--id", &wrong_stats, "--output=json"]);
    assert_eq!(one.json().as_array().unwrap().len(), 1);
    let absent = "--id=01ARZ3NDEKTSV4RRFFQ69G5FAV";
    bucket.tool(&["verify", absent]).refused(1, "there is no such block");
}

#[test]
fn verify_finds_overlaps_and_duplicates_by_default_and_on_demand() {
    let names = ["prom-compacted", "prom-compacted-parent-1", "prom-compacted-parent-2"];
    let Some(bucket) = Bucket::with(&names) else { return };
    let json = bucket.tool(&["verify", "--output=json"]).json();
    let issues: Vec<&str> =
        json.as_array().unwrap().iter().map(|it| it["issue"].as_str().unwrap()).collect();
    assert_eq!(issues, ["overlapped_blocks", "overlapped_blocks"], "{json:#}");
    let json = bucket.tool(&["verify", "-i", "duplicated_compaction", "--output=json"]).json();
    assert_eq!(json.as_array().unwrap().len(), 2, "{json:#}");
    assert_eq!(json[0]["ulid"], bucket.meta(names[1])["ulid"]);
}

#[test]
fn marks_are_set_once_and_removed() {
    let Some(bucket) = Bucket::empty() else { return };
    let id = bucket.add("prom-floats");
    let id = id.as_str();
    for (marker, time) in [
        ("deletion-mark.json", "deletion_time"),
        ("no-compact-mark.json", "no_compact_time"),
        ("no-downsample-mark.json", "no_downsample_time"),
    ] {
        let path = bucket.path(&format!("{id}/{marker}"));
        let mark = ["mark", "--id", id, "--marker", marker, "--details", "by hand"];
        let dry = bucket.tool(&[&mark[..], &["--dry-run"]].concat()).good();
        assert!(dry.err.contains("nothing was changed") && !path.exists(), "{}", dry.err);
        let set = bucket.tool(&mark).good();
        assert_eq!(set.out, format!("{id} {marker}: marked\n"));
        let bytes = fs::read(&path).unwrap();
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            (&json["id"], &json["details"], &json["version"]),
            (&Value::from(id), &Value::from("by hand"), &Value::from(1))
        );
        assert!(json[time].as_i64().unwrap() > 1_700_000_000, "{json}");
        if marker != "deletion-mark.json" {
            assert_eq!(json["reason"], "manual");
        }
        assert!(bucket.tool(&mark).good().out.ends_with(": was marked already\n"));
        assert_eq!(fs::read(&path).unwrap(), bytes, "a mark is never replaced");
        let remove = ["mark", "--id", id, "--marker", marker, "--remove"];
        assert!(bucket.tool(&remove).good().out.ends_with(": removed\n"));
        assert!(!path.exists());
        assert!(bucket.tool(&remove).good().out.ends_with(": was not marked\n"));
    }
    let absent = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let both = ["mark", "--id", absent, "--id", id, "--marker=no-compact-mark.json", "--details=x"];
    let said = bucket.tool(&both);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("there is no such block"), "{}", said.err);
    assert!(said.out.contains(": marked\n"), "the other one is marked: {}", said.out);
    assert!(!bucket.path(absent).exists());
}

#[test]
fn cleanup_says_what_it_would_delete_and_then_deletes_just_that() {
    let Some(bucket) = Bucket::empty() else { return };
    let (kept, due, fresh) =
        (bucket.add("prom-floats"), bucket.add("prom-labels"), bucket.add("prom-ooo"));
    let partial = bucket.add("prom-segments");
    fs::remove_file(bucket.path(&format!("{partial}/meta.json"))).unwrap();
    let now = std::time::SystemTime::now();
    let mark = |id: &str, hours: u64| {
        let at = now - std::time::Duration::from_hours(hours);
        let time_s = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let text = format!(
            "{{\"id\":\"{id}\",\"version\":1,\"details\":\"t\",\"deletion_time\":{time_s}}}"
        );
        let path = bucket.path(&format!("{id}/deletion-mark.json"));
        fs::write(&path, text).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    };
    mark(&due, 49);
    mark(&fresh, 47);
    let rows = |said: &Said| -> Vec<String> {
        let json = said.json();
        json.as_array().unwrap().iter().map(|it| it["ulid"].as_str().unwrap().to_owned()).collect()
    };
    let dry = bucket.tool(&["cleanup", "--output=json"]).good();
    assert_eq!(
        rows(&dry),
        std::slice::from_ref(&due),
        "a partial upload of today goes on: {}",
        dry.out
    );
    assert!(dry.err.contains("dry run: nothing was changed"), "{}", dry.err);
    assert!(bucket.path(&due).exists());

    // The upload was given up three days ago.
    let old = now - std::time::Duration::from_hours(72);
    for directory in [bucket.path(&partial), bucket.path(&partial).join("chunks")] {
        for entry in fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()) {
            if entry.is_file() {
                fs::File::options().write(true).open(entry).unwrap().set_modified(old).unwrap();
            }
        }
    }
    let done = bucket.tool(&["cleanup", "--output=json", "--no-dry-run"]).good();
    let mut expected = vec![due.clone(), partial.clone()];
    expected.sort();
    assert_eq!(rows(&done), expected);
    assert!(done.err.contains("2 of 2 blocks"), "{}", done.err);
    for (id, is_there) in [(&kept, true), (&fresh, true), (&due, false), (&partial, false)] {
        assert_eq!(bucket.path(id).exists(), is_there, "{id}");
    }
    let sooner = bucket.tool(&["cleanup", "--output=json", "--delete-delay=1h"]).good();
    assert_eq!(rows(&sooner), [fresh]);
}

#[test]
fn retention_marks_what_outlived_it_by_resolution() {
    let Some(bucket) = Bucket::empty() else { return };
    let (raw, five) = (bucket.add("thanos-raw-48h"), bucket.add("thanos-5m"));
    let run = |more: &[&str]| {
        bucket
            .tool(
                &[&["retention", "--retention.resolution-raw=30d", "--output=json"], more].concat(),
            )
            .good()
    };
    let dry = run(&[]);
    assert_eq!(dry.json()[0]["ulid"], raw.as_str());
    assert_eq!(dry.json().as_array().unwrap().len(), 1, "5m is kept for ever");
    assert!(!bucket.path(&format!("{raw}/deletion-mark.json")).exists());
    run(&["--no-dry-run"]);
    let mark = fs::read_to_string(bucket.path(&format!("{raw}/deletion-mark.json"))).unwrap();
    assert!(mark.contains("block exceeding retention of 30d for resolution raw"), "{mark}");
    assert!(!bucket.path(&format!("{five}/deletion-mark.json")).exists());
    assert_eq!(run(&["--no-dry-run"]).out, "[]\n", "marked already");
    assert!(bucket.path(&format!("{raw}/index")).exists(), "marks only");
}

#[test]
fn downsample_makes_what_is_owed_once() {
    let Some(bucket) = Bucket::empty() else { return };
    let (short, long) = (bucket.add("thanos-raw-48h"), bucket.add("thanos-raw-12d"));
    bucket.add("prom-floats");
    let data = format!("--data-dir={}", bucket.root.path().join("scratch").display());
    let run = |more: &[&str]| {
        let first = ["downsample", &data, "--output=json"];
        bucket.tool(&[&first[..], more].concat()).good()
    };
    let rows = |said: &Said| -> Vec<(String, String)> {
        let json = said.json();
        let text = |it: &Value, key| it[key].as_str().unwrap().to_owned();
        let rows = json.as_array().unwrap().iter();
        rows.map(|it| (text(it, "ulid"), text(it, "resolution"))).collect()
    };
    let mut owed = vec![(&short, "5m0s"), (&long, "1h0m0s"), (&long, "5m0s")];
    owed.sort();
    let owed: Vec<(String, String)> =
        owed.into_iter().map(|(id, to)| (id.clone(), to.to_owned())).collect();
    let sorted = |said: &Said| {
        let mut rows = rows(said);
        rows.sort();
        rows
    };
    assert_eq!(sorted(&run(&["--dry-run"])), owed);
    let done = run(&[]);
    assert_eq!(sorted(&done), owed, "{}", done.out);
    assert!(done.err.contains("2 of 2 blocks downsampled"), "{}", done.err);
    assert_eq!(run(&[]).out, "[]\n", "nothing is owed any more");

    let blocks = bucket.tool(&["inspect", "--output=json"]).good().json();
    for (source, name, resolution) in [
        (&short, "thanos-5m", "5m0s"),
        (&long, "thanos-12d-5m", "5m0s"),
        (&long, "thanos-12d-1h", "1h0m0s"),
    ] {
        let made = done.json();
        let made = made.as_array().unwrap().iter();
        let made = made.filter(|it| it["ulid"] == source.as_str());
        let id = made.filter(|it| it["resolution"] == resolution).map(|it| it["block"].clone());
        let id = id.collect::<Vec<_>>().remove(0);
        let mut found = blocks.as_array().unwrap().iter().filter(|it| it["ulid"] == id);
        let (found, golden) = (found.next().unwrap(), bucket.meta(name));
        assert_eq!(found["series"], golden["stats"]["numSeries"], "{name}");
        assert_eq!(found["compactionLevel"], golden["compaction"]["level"], "{name}");
        assert_eq!(
            (&found["resolution"], &found["source"]),
            (&resolution.into(), &"compactor".into())
        );
    }
    bucket.tool(&["verify", "-i", "index_known_issues"]).good();
    assert_eq!(fs::read_dir(bucket.root.path().join("scratch")).unwrap().count(), 0);
}

#[test]
fn blocks_of_prometheus_are_uploaded_whole_with_their_labels() {
    let Some(bucket) = Bucket::empty() else { return };
    let data = bucket.root.path().join("data");
    let mut ids = BTreeMap::new();
    for name in ["prom-floats", "prom-tombstones", "prom-compacted"] {
        let id = bucket.meta(name)["ulid"].as_str().unwrap().to_owned();
        copy(&bucket.shared.join("golden/blocks").join(name), &data.join(&id));
        ids.insert(name, id);
    }
    fs::create_dir_all(data.join("wal")).unwrap();
    let broken = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    fs::create_dir_all(data.join(broken)).unwrap();
    let path = format!("--path={}", data.display());
    let upload = |more: &[&str]| {
        let first = ["upload-blocks", &path, "--label=cluster=\"eu1\"", "--output=json"];
        bucket.tool(&[&first[..], more].concat())
    };
    let result = |said: &Said, id: &str| -> String {
        let json = said.json();
        let row = json.as_array().unwrap().iter().find(|it| it["ulid"] == id).unwrap().clone();
        format!("{}: {}", row["result"].as_str().unwrap(), row["why"].as_str().unwrap())
    };
    let dry = upload(&["--dry-run"]).good();
    assert_eq!(result(&dry, &ids["prom-floats"]), "would be uploaded: ");
    assert!(!bucket.path("").exists());
    let first = upload(&[]).good();
    assert_eq!(result(&first, &ids["prom-floats"]), "uploaded: ");
    assert!(result(&first, &ids["prom-compacted"]).starts_with("passed over: compacted (level 2)"));
    assert!(result(&first, broken).starts_with("passed over: "));
    let meta: Value = serde_json::from_slice(
        &fs::read(bucket.path(&format!("{}/meta.json", ids["prom-floats"]))).unwrap(),
    )
    .unwrap();
    assert_eq!(meta["thanos"]["source"], "bucket.upload");
    assert_eq!(meta["thanos"]["labels"]["cluster"], "eu1");
    let again = upload(&["--shipper.upload-compacted"]).good();
    assert!(result(&again, &ids["prom-floats"]).ends_with("it is in the bucket"));
    let compacted = result(&again, &ids["prom-compacted"]);
    assert!(compacted.contains("it overlaps block"), "{compacted}");
    bucket.tool(&["verify", "-i", "index_known_issues"]).good();
}

#[test]
fn the_page_names_every_flag_of_every_tool() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/run/tools.md");
    let page = fs::read_to_string(path).unwrap();
    let help = said(&["tools", "--help"]).good().out;
    let tools = help.split("Tools:\n").nth(1).unwrap().lines();
    for tool in tools.filter_map(|it| it.split_whitespace().next()) {
        let section = page.split(&format!("\n## {tool}\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("{tool} has no section"));
        let section = section.split("\n## ").next().unwrap();
        let help = said(&["tools", "bucket", tool, "--help"]).good().out;
        let words = help.split_whitespace().filter_map(|it| it.strip_prefix("--"));
        let flags = words.map(|it| it.trim_end_matches([',', '.', ';']));
        for flag in flags.filter(|it| !["help", "no-dry-run", "remove"].contains(it)) {
            let flag = flag.split('=').next().unwrap();
            let names = [format!("`--{flag}"), format!("`--no-{flag}")];
            let is_on = |text: &str| names.iter().any(|it| text.contains(it.as_str()));
            let is_there = is_on(section) || is_on(page.split("\n## ").next().unwrap());
            assert!(is_there, "{tool} {flag} is not on the page");
        }
    }
}
