//! The S3 part of the configuration: every key that Thanos knows, checked.
#![expect(
    clippy::disallowed_methods,
    reason = "key and certificate files are named by the operator"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{duration, yaml};
use crate::error::Error;
use crate::store::Result;

const MIB: u64 = 1024 * 1024;
/// The smallest part that S3 takes, but for the last of an upload.
const PART_BYTES_MIN: u64 = 5 * MIB;
/// The largest part that S3 takes.
const PART_BYTES_MAX: u64 = 5 * 1024 * MIB;
const PART_BYTES_DEFAULT: u64 = 64 * MIB;
/// What a part size of 0 means in Thanos.
const PART_BYTES_ZERO: u64 = 128 * MIB;
/// The key of SSE-C.
const CUSTOMER_KEY_BYTES: usize = 32;
/// The region that is signed with where none is named; most servers do not care.
const REGION_DEFAULT: &str = "us-east-1";

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// How the store encrypts objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket says.
    Bucket,
    /// SSE-S3: the store's own keys.
    Store,
    /// SSE-KMS: a key of a key service.
    KeyService {
        /// The key.
        key_id: String,
        /// Bound to the ciphertext; must be given again to read it.
        context: BTreeMap<String, String>,
    },
    /// SSE-C: a key that is sent with every request.
    Customer {
        /// 32 bytes.
        key: CustomerKey,
    },
}

/// The key of SSE-C; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey(pub(crate) [u8; CUSTOMER_KEY_BYTES]);

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Where and how an S3 API is spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// `host[:port]`, without a scheme.
    pub endpoint: String,
    /// Plain HTTP.
    pub insecure: bool,
    /// The region that requests are signed for.
    pub region: String,
    /// Access key and secret key; without them the usual chain is asked (environment, profile,
    /// web identity, container and instance metadata).
    pub keys: Option<(Secret, Secret)>,
    /// Sent with temporary keys.
    pub session_token: Option<Secret>,
    /// The bucket in the path, not in the host name.
    pub path_style: bool,
    /// ListObjects version 1.
    pub list_version_1: bool,
    /// Send `Content-MD5` with every body.
    pub send_content_md5: bool,
    /// Send every file in one request.
    pub disable_multipart: bool,
    /// Size of the parts of large files.
    pub part_bytes: u64,
    /// Added to every object.
    pub user_metadata: BTreeMap<String, String>,
    /// How the store encrypts objects.
    pub encryption: Encryption,
    /// Further tries of a failed call; none for the default.
    pub max_retries: Option<u32>,
    /// How connections are kept and given up.
    pub http: HttpConfig,
}

/// How connections are made, kept and given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// An unused connection is closed after this long.
    pub idle_timeout: Duration,
    /// The answer must begin this long after the request was sent, and go on as often.
    pub response_timeout: Duration,
    /// TCP and TLS must stand after this long.
    pub connect_timeout: Duration,
    /// Unused connections that are kept.
    pub idle_connections_max: usize,
    /// Requests in flight; none for no limit.
    pub connections_max: Option<usize>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that the server's certificate may also have.
    pub server_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawS3 {
    #[serde(deserialize_with = "yaml::or_default")]
    bucket: String,
    #[serde(deserialize_with = "yaml::or_default")]
    endpoint: String,
    #[serde(deserialize_with = "yaml::or_default")]
    region: String,
    disable_dualstack: Option<bool>,
    #[serde(deserialize_with = "yaml::or_default")]
    aws_sdk_auth: bool,
    #[serde(deserialize_with = "yaml::or_default")]
    access_key: Secret,
    #[serde(deserialize_with = "yaml::or_default")]
    secret_key: Secret,
    #[serde(deserialize_with = "yaml::or_default")]
    session_token: Secret,
    #[serde(deserialize_with = "yaml::or_default")]
    insecure: bool,
    #[serde(deserialize_with = "yaml::or_default")]
    signature_version2: bool,
    #[serde(deserialize_with = "yaml::or_default")]
    encrypt_sse: bool,
    #[serde(deserialize_with = "yaml::or_default")]
    put_user_metadata: BTreeMap<String, String>,
    #[serde(deserialize_with = "yaml::or_default")]
    http_config: RawHttp,
    #[serde(deserialize_with = "yaml::or_default")]
    trace: RawTrace,
    #[serde(deserialize_with = "yaml::or_default")]
    list_objects_version: String,
    #[serde(deserialize_with = "yaml::or_default")]
    bucket_lookup_type: String,
    send_content_md5: Option<bool>,
    #[serde(deserialize_with = "yaml::or_default")]
    disable_multipart: bool,
    part_size: Option<u64>,
    #[serde(deserialize_with = "yaml::or_default")]
    sse_config: RawEncryption,
    #[serde(deserialize_with = "yaml::or_default")]
    sts_endpoint: String,
    #[serde(deserialize_with = "yaml::or_default")]
    max_retries: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTrace {
    #[serde(deserialize_with = "yaml::or_default")]
    enable: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    #[serde(deserialize_with = "duration::deserialize")]
    idle_conn_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration::deserialize")]
    response_header_timeout: Option<Duration>,
    #[serde(deserialize_with = "yaml::or_default")]
    insecure_skip_verify: bool,
    #[serde(deserialize_with = "duration::deserialize")]
    tls_handshake_timeout: Option<Duration>,
    #[serde(rename = "expect_continue_timeout", deserialize_with = "duration::deserialize")]
    _expect_continue_timeout: Option<Duration>,
    max_idle_conns: Option<usize>,
    max_idle_conns_per_host: Option<usize>,
    #[serde(deserialize_with = "yaml::or_default")]
    max_conns_per_host: usize,
    #[serde(deserialize_with = "yaml::or_default")]
    tls_config: RawTls,
    /// Compressed answers are never asked for, so that there is nothing to disable.
    #[serde(rename = "disable_compression")]
    _disable_compression: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTls {
    #[serde(deserialize_with = "yaml::or_default")]
    ca_file: String,
    #[serde(deserialize_with = "yaml::or_default")]
    cert_file: String,
    #[serde(deserialize_with = "yaml::or_default")]
    key_file: String,
    #[serde(deserialize_with = "yaml::or_default")]
    server_name: String,
    #[serde(deserialize_with = "yaml::or_default")]
    insecure_skip_verify: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawEncryption {
    #[serde(rename = "type", deserialize_with = "yaml::or_default")]
    kind: String,
    #[serde(deserialize_with = "yaml::or_default")]
    kms_key_id: String,
    #[serde(deserialize_with = "yaml::or_default")]
    kms_encryption_context: BTreeMap<String, String>,
    #[serde(deserialize_with = "yaml::or_default")]
    encryption_key: String,
}

impl S3Config {
    pub(super) fn check(raw: RawS3, notes: &mut Vec<String>) -> Result<S3Config> {
        if raw.bucket.is_empty() {
            return Err(Error::config("config.bucket is missing"));
        }
        if !raw.sts_endpoint.is_empty() {
            let text = "config.sts_endpoint is not supported: set the environment variable \
                        AWS_ENDPOINT_URL_STS instead";
            return Err(Error::config(text));
        }
        note_ignored(&raw, notes);
        let (endpoint, insecure) = endpoint(&raw.endpoint, raw.insecure, notes)?;
        let http = raw.http_config.check()?;
        let encryption = encryption(raw.sse_config, raw.encrypt_sse, insecure, notes)?;
        let keys = keys(raw.access_key, raw.secret_key, raw.aws_sdk_auth)?;
        Ok(S3Config {
            path_style: path_style(&raw.bucket_lookup_type, &endpoint)?,
            list_version_1: list_version_1(&raw.list_objects_version)?,
            part_bytes: part_bytes(raw.part_size)?,
            region: region(raw.region, &endpoint),
            session_token: Some(raw.session_token).filter(|it| !it.0.is_empty()),
            send_content_md5: raw.send_content_md5.unwrap_or(true),
            max_retries: Some(raw.max_retries).filter(|it| *it > 0),
            bucket: raw.bucket,
            disable_multipart: raw.disable_multipart,
            user_metadata: raw.put_user_metadata,
            endpoint,
            insecure,
            keys,
            encryption,
            http,
        })
    }

    /// The endpoint with its scheme.
    pub fn endpoint_url(&self) -> String {
        let scheme = if self.insecure { "http" } else { "https" };
        format!("{scheme}://{}", self.endpoint)
    }
}

fn note_ignored(raw: &RawS3, notes: &mut Vec<String>) {
    let mut note = |text: &str| notes.push(text.to_owned());
    if raw.signature_version2 {
        note("signature_version2 is ignored: requests are signed with version 4");
    }
    if raw.trace.enable {
        note("trace.enable is ignored: --log.level=debug shows the calls of the object store");
    }
    if raw.disable_dualstack == Some(false) {
        note("disable_dualstack is ignored: the endpoint is used as it is written");
    }
}

/// The endpoint without a scheme, and whether it is plain HTTP.
fn endpoint(text: &str, insecure: bool, notes: &mut Vec<String>) -> Result<(String, bool)> {
    let (scheme, host) = match text.split_once("://") {
        None => (None, text),
        Some((scheme, host)) => (Some(scheme), host),
    };
    let host = host.trim_end_matches('/');
    let insecure = match scheme {
        None => insecure,
        Some("http") => true,
        Some("https") if insecure => {
            let text = "config.endpoint says https and config.insecure says http: remove one";
            return Err(Error::config(text));
        }
        Some("https") => false,
        Some(other) => {
            let text = format!("config.endpoint: unknown scheme {other:?}, write host:port");
            return Err(Error::config(text));
        }
    };
    if let Some(scheme) = scheme {
        notes.push(format!(
            "config.endpoint: {scheme}:// is taken off; Thanos wants host:port and \
             insecure: {insecure}"
        ));
    }
    let bad = |it: char| it.is_whitespace() || it.is_control() || "/?#@\\".contains(it);
    if host.is_empty() || host.contains(bad) {
        let text = format!("config.endpoint {text:?} is no host:port, for example minio:9000");
        return Err(Error::config(text));
    }
    Ok((host.to_owned(), insecure))
}

fn keys(access: Secret, secret: Secret, sdk_auth: bool) -> Result<Option<(Secret, Secret)>> {
    match (access.0.is_empty(), secret.0.is_empty()) {
        (true, true) => Ok(None),
        _ if sdk_auth => {
            let text = "config.aws_sdk_auth is set and keys too: remove one of them";
            Err(Error::config(text))
        }
        (false, false) => Ok(Some((access, secret))),
        (true, false) => Err(Error::config("config.access_key is missing beside secret_key")),
        (false, true) => Err(Error::config("config.secret_key is missing beside access_key")),
    }
}

/// The host without its port.
fn host_of(endpoint: &str) -> &str {
    endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host)
}

fn path_style(lookup: &str, endpoint: &str) -> Result<bool> {
    match lookup {
        "path" => Ok(true),
        "virtual-hosted" => Ok(false),
        // The hosts whose names are known to carry buckets.
        "" | "auto" => {
            let host = host_of(endpoint);
            let virtual_hosted = ["amazonaws.com", "amazonaws.com.cn", "aliyuncs.com"];
            Ok(!virtual_hosted.iter().any(|it| host.ends_with(it)))
        }
        other => {
            let text = format!("config.bucket_lookup_type {other:?}: auto, virtual-hosted or path");
            Err(Error::config(text))
        }
    }
}

fn list_version_1(version: &str) -> Result<bool> {
    match version {
        "" | "v2" => Ok(false),
        "v1" => Ok(true),
        other => Err(Error::config(format!("config.list_objects_version {other:?}: v1 or v2"))),
    }
}

fn part_bytes(part_size: Option<u64>) -> Result<u64> {
    match part_size {
        None => Ok(PART_BYTES_DEFAULT),
        Some(0) => Ok(PART_BYTES_ZERO),
        Some(size) if (PART_BYTES_MIN..=PART_BYTES_MAX).contains(&size) => Ok(size),
        Some(size) => {
            let text = format!(
                "config.part_size {size}: S3 takes parts of {PART_BYTES_MIN} to {PART_BYTES_MAX} \
                 bytes"
            );
            Err(Error::config(text))
        }
    }
}

/// The region that was named, or that the name of an AWS host holds (`s3.eu-west-1.amazonaws.com`).
fn region(named: String, endpoint: &str) -> String {
    if !named.is_empty() {
        return named;
    }
    let host = host_of(endpoint);
    let inner = host.strip_suffix(".amazonaws.com").or(host.strip_suffix(".amazonaws.com.cn"));
    let inner = inner.map(|it| it.trim_start_matches("s3.").trim_start_matches("dualstack."));
    let found = inner.filter(|it| it.contains('-') && !it.contains('.'));
    found.unwrap_or(REGION_DEFAULT).to_owned()
}

fn encryption(
    raw: RawEncryption,
    old_switch: bool,
    insecure: bool,
    notes: &mut Vec<String>,
) -> Result<Encryption> {
    match raw.kind.as_str() {
        "" if old_switch => {
            notes.push("encrypt_sse is old: write sse_config: {type: SSE-S3}".to_owned());
            Ok(Encryption::Store)
        }
        "" => Ok(Encryption::Bucket),
        "SSE-S3" => Ok(Encryption::Store),
        "SSE-KMS" if raw.kms_key_id.is_empty() => {
            Err(Error::config("config.sse_config.kms_key_id is missing for SSE-KMS"))
        }
        "SSE-KMS" => Ok(Encryption::KeyService {
            key_id: raw.kms_key_id,
            context: raw.kms_encryption_context,
        }),
        "SSE-C" if insecure => {
            Err(Error::config("config.sse_config: SSE-C sends its key and needs TLS: no insecure"))
        }
        "SSE-C" => Ok(Encryption::Customer { key: customer_key(&raw.encryption_key)? }),
        other => {
            let text = format!("config.sse_config.type {other:?}: SSE-S3, SSE-KMS or SSE-C");
            Err(Error::config(text))
        }
    }
}

fn customer_key(path: &str) -> Result<CustomerKey> {
    let read = std::fs::read(path);
    let bytes = read.map_err(|error| {
        Error::config(format!("config.sse_config.encryption_key: {path}: {error}"))
    })?;
    // Editors end a file with a line feed; a key of 33 bytes is none.
    let bytes = match &*bytes {
        [key @ .., b'\n'] if key.len() == CUSTOMER_KEY_BYTES => key,
        other => other,
    };
    let key = bytes.try_into().map_err(|_| {
        let text = format!(
            "config.sse_config.encryption_key: {path} has {} bytes, not {CUSTOMER_KEY_BYTES}",
            bytes.len()
        );
        Error::config(text)
    })?;
    Ok(CustomerKey(key))
}

impl RawHttp {
    fn check(self) -> Result<HttpConfig> {
        if self.insecure_skip_verify || self.tls_config.insecure_skip_verify {
            let text = "config.http_config: insecure_skip_verify is not supported, the store's \
                        certificate is always verified; name its CA in tls_config.ca_file";
            return Err(Error::config(text));
        }
        let RawTls { ca_file, cert_file, key_file, server_name, .. } = self.tls_config;
        if !cert_file.is_empty() || !key_file.is_empty() {
            let text = "config.http_config.tls_config: client certificates (cert_file, key_file) \
                        are not supported yet";
            return Err(Error::config(text));
        }
        let idle = self.max_idle_conns.unwrap_or(100);
        Ok(HttpConfig {
            idle_timeout: self.idle_conn_timeout.unwrap_or(Duration::from_secs(90)),
            response_timeout: limit(self.response_header_timeout, 120),
            connect_timeout: limit(self.tls_handshake_timeout, 10),
            idle_connections_max: self.max_idle_conns_per_host.unwrap_or(100).min(idle),
            connections_max: Some(self.max_conns_per_host).filter(|it| *it > 0),
            ca_file: Some(ca_file).filter(|it| !it.is_empty()).map(PathBuf::from),
            server_name: Some(server_name).filter(|it| !it.is_empty()),
        })
    }
}

/// A time limit; 0 means none, which is a year here.
fn limit(given: Option<Duration>, default_seconds: u64) -> Duration {
    match given {
        None => Duration::from_secs(default_seconds),
        Some(Duration::ZERO) => Duration::from_secs(365 * 86_400),
        Some(given) => given,
    }
}
