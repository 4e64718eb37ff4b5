//! Configurations as people write them, and what they are told.

use super::*;

const FULL: &str = r#"
type: S3
config:
  bucket: "thanos"
  endpoint: "minio:9000"
  region: "eu-west-1"
  disable_dualstack: false
  aws_sdk_auth: false
  access_key: "key"
  secret_key: "hidden-word"
  session_token: ""
  insecure: true
  signature_version2: true
  put_user_metadata: {"X-Amz-Acl": "bucket-owner-full-control"}
  http_config:
    idle_conn_timeout: 1m30s
    response_header_timeout: 2m
    insecure_skip_verify: false
    tls_handshake_timeout: 10s
    expect_continue_timeout: 1s
    max_idle_conns: 100
    max_idle_conns_per_host: 50
    max_conns_per_host: 7
    tls_config:
      ca_file: "/ca.pem"
      cert_file: ""
      key_file: ""
      server_name: "minio.internal"
      insecure_skip_verify: false
    disable_compression: false
  trace:
    enable: false
  list_objects_version: ""
  bucket_lookup_type: auto
  send_content_md5: true
  disable_multipart: false
  part_size: 67108864
  sse_config:
    type: "SSE-KMS"
    kms_key_id: "k"
    kms_encryption_context: {"a": "b"}
    encryption_key: ""
  sts_endpoint: ""
  max_retries: 3
prefix: "/metrics/eu/"
hedging_config:
  enabled: false
  up_to: 3
  quantile: 0.9
"#;

fn s3(config: &Config) -> &S3Config {
    match &config.backend {
        Backend::S3(it) => it,
        Backend::Filesystem { .. } => panic!("not S3"),
    }
}

/// The error of a text.
fn error(text: &str) -> String {
    Config::parse(text).expect_err(text).to_string()
}

#[test]
fn every_key_of_thanos_is_known() {
    let config = Config::parse(FULL).unwrap();
    let found = s3(&config);
    assert_eq!(config.prefix, "metrics/eu");
    assert_eq!(config.describe(), r#"S3 "thanos" at http://minio:9000"#);
    assert!(found.path_style && found.send_content_md5 && !found.list_version_1);
    assert_eq!((found.part_bytes, found.max_retries), (64 << 20, Some(3)));
    assert_eq!(found.http.connections_max, Some(7));
    assert_eq!(found.http.idle_connections_max, 50);
    assert_eq!(found.http.ca_file.as_deref(), Some(Path::new("/ca.pem")));
    assert!(matches!(&found.encryption, Encryption::KeyService { key_id, .. } if key_id == "k"));
    let notes = config.notes.join("\n");
    assert!(notes.contains("signature_version2 is ignored"), "{notes}");
    assert!(!format!("{config:?}").contains("hidden-word"));
}

#[test]
fn the_shortest_file_has_thanos_defaults() {
    let text =
        "type: s3\nconfig:\n  bucket: b\n  endpoint: s3.eu-central-1.amazonaws.com\n  region:\n";
    let config = Config::parse(text).unwrap();
    let found = s3(&config);
    assert_eq!((found.region.as_str(), found.path_style), ("eu-central-1", false));
    assert_eq!(found.endpoint_url(), "https://s3.eu-central-1.amazonaws.com");
    assert_eq!((&found.keys, found.max_retries), (&None, None));
    assert_eq!(config.notes, Vec::<String>::new());
    let old = format!("{text}  encrypt_sse: true\n");
    assert_eq!(s3(&Config::parse(&old).unwrap()).encryption, Encryption::Store);
}

#[test]
fn a_directory_is_a_bucket() {
    let config = Config::parse("type: FILESYSTEM\nconfig:\n  directory: /var/bucket\n").unwrap();
    assert_eq!(config, Config::filesystem(Path::new("/var/bucket")));
    assert!(error("type: FILESYSTEM").contains("config.directory is missing"));
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest() {
    let text = error("type: S3\nconfig:\n  bucket: b\n  end_point: minio:9000\n");
    assert!(text.contains("line 4, column 3"), "{text}");
    assert!(text.contains(r#"unknown key "end_point", did you mean endpoint?"#), "{text}");
    let text = error("type: FILESYSTEM\nconfig: {directory: /x}\nprefx: a\n");
    assert!(text.contains("line 3, column 1"), "{text}");
    assert!(text.contains("did you mean prefix?"), "{text}");
    let text = error("type: S3\nconfig:\n  bucket: b\n  http_config:\n    tls_config: {caa: x}\n");
    assert!(
        text.contains("line 5") && text.contains("did you mean ca_file?")
            || text.contains("known are ca_file"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_used_is_refused_with_a_reason() {
    let with = |line: &str| format!("type: S3\nconfig:\n  bucket: b\n  endpoint: e:1\n  {line}\n");
    let check = |text: &str, expected: &str| {
        let found = error(text);
        assert!(found.contains(expected), "{text}: {found}");
    };
    check("", "type is missing");
    check("config: {}", "type is missing");
    check("type: GCS\nconfig: {bucket: b}", "type GCS is not supported, only S3 and FILESYSTEM");
    check("type: FILESYSTEMS", "did you mean FILESYSTEM?");
    check("type: S3", "config.bucket is missing");
    check("type: S3\nconfig: {bucket: b}", "is no host:port");
    check("type: S3\nconfig: {bucket: b, bucket: c}", "bucket");
    check("type: S3\nconfig: {bucket: b}\n---\ntype: S3", "document");
    check("type: S3\nconfig: [", "line ");
    check(&with("part_size: 1000"), "S3 takes parts of");
    check(&with("part_size: large"), "line 5");
    check(&with("list_objects_version: v3"), "v1 or v2");
    check(&with("bucket_lookup_type: dns"), "virtual-hosted or path");
    check(&with("access_key: a"), "secret_key is missing");
    check(&with("sts_endpoint: x"), "AWS_ENDPOINT_URL_STS");
    check(&with("http_config: {insecure_skip_verify: true}"), "tls_config.ca_file");
    check(&with("http_config: {idle_conn_timeout: 5}"), "1m30s");
    check(&with("sse_config: {type: SSE-X}"), "SSE-S3, SSE-KMS or SSE-C");
    check(&with("sse_config: {type: SSE-C, encryption_key: /nowhere}"), "/nowhere");
    check(&format!("{}prefix: ../up\n", with("region: r")), "prefix");
}

#[test]
fn a_scheme_in_the_endpoint_is_taken_off_and_said() {
    let text = "type: S3\nconfig: {bucket: b, endpoint: 'http://minio:9000/'}";
    let config = Config::parse(text).unwrap();
    assert_eq!(s3(&config).endpoint_url(), "http://minio:9000");
    assert!(config.notes[0].contains("http:// is taken off"), "{:?}", config.notes);
    assert!(
        error("type: S3\nconfig: {bucket: b, endpoint: 'https://e', insecure: true}")
            .contains("remove one")
    );
}
