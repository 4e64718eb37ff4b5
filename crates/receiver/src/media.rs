//! What a sender says that its body is: content type and encoding of a remote write.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

const MEDIA_TYPE: &str = "application/x-protobuf";
const MESSAGE_1: &str = "prometheus.WriteRequest";
const MESSAGE_2: &str = "io.prometheus.write.v2.Request";

/// Checks that a body is announced as remote write 1.0 in a snappy block; a header that is absent
/// says nothing else.
///
/// # Errors
/// A sentence for the sender: what is wrong, and what would be taken.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), String> {
    let text = |name| headers.get(name).map(|it| String::from_utf8_lossy(it.as_bytes()));
    if let Some(content_type) = text(CONTENT_TYPE) {
        check_type(&content_type)?;
    }
    match text(CONTENT_ENCODING).as_deref() {
        None | Some("" | "snappy") => Ok(()),
        Some(other) => Err(format!(
            "Content-Encoding {other:?} is not taken; remote write is sent as a snappy block"
        )),
    }
}

fn check_type(text: &str) -> Result<(), String> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    if media_type != MEDIA_TYPE {
        return Err(format!("Content-Type {media_type:?} is not taken, {MEDIA_TYPE} is"));
    }
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(format!("Content-Type {text:?}: parameter {parameter:?} has no value"));
        };
        if name.trim() != "proto" {
            continue;
        }
        match value.trim() {
            MESSAGE_1 => {}
            MESSAGE_2 => {
                return Err(format!(
                    "remote write 2.0 ({MESSAGE_2}) is not implemented yet; send 1.0 \
                     ({MESSAGE_1})"
                ));
            }
            other => {
                return Err(format!("protobuf message {other:?} is not known, {MESSAGE_1} is"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_taken_as_prometheus_takes_them() {
        for good in [
            "application/x-protobuf",
            "application/x-protobuf;proto=prometheus.WriteRequest",
            "application/x-protobuf; proto=prometheus.WriteRequest",
            "application/x-protobuf;charset=utf-8",
        ] {
            assert_eq!(check_type(good), Ok(()), "{good}");
        }
        for bad in [
            "application/json",
            "Application/X-Protobuf",
            "application/x-protobuf;proto",
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "application/x-protobuf; proto=io.prometheus.write.v2.Request",
            "application/x-protobuf;proto=io.prometheus.write.v3.Request",
        ] {
            assert!(check_type(bad).is_err(), "{bad}");
        }
    }
}
