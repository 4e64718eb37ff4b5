//! The parameters of a request: URL and form merged as Go's `FormValue` does it, checked and in
//! Prometheus' words when they are refused.

use axum::extract::Request;
use http::Method;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use model::TimeRange;
use model::text_time::{parse_duration_ns, parse_time_ms};

use crate::limits::{FORM_BYTES_MAX, VALUES_MAX};
use crate::status::ApiError;

/// Names and values in order: those of the form first, then those of the URL.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Params {
    /// Reads URL and body of a request.
    ///
    /// # Errors
    /// 400 for a body that is too long or breaks off.
    pub(crate) async fn of(request: Request) -> Result<Params, ApiError> {
        let (head, body) = request.into_parts();
        let mut params = Params::default();
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let media_type = content_type.and_then(|it| it.split(';').next()).unwrap_or_default();
        let is_form = media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if head.method == Method::POST && is_form {
            let body = Limited::new(body, FORM_BYTES_MAX).collect().await.map_err(|error| {
                let text = if error.is::<LengthLimitError>() {
                    format!("error parsing form values: the body is over {FORM_BYTES_MAX} bytes")
                } else {
                    format!("error parsing form values: {error}")
                };
                ApiError::bad_data(text)
            })?;
            params.add(&body.to_bytes());
        }
        params.add(head.uri.query().unwrap_or_default().as_bytes());
        Ok(params)
    }

    /// The parameters of a text as it stands in a URL.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Params {
        let mut params = Params::default();
        params.add(text.as_bytes());
        params
    }

    /// As Go reads a query: a pair that is badly escaped or holds a `;` is passed over.
    fn add(&mut self, text: &[u8]) {
        for pair in text.split(|it| *it == b'&') {
            if pair.is_empty() || pair.contains(&b';') {
                continue;
            }
            let at = pair.iter().position(|it| *it == b'=');
            let (name, value) = match at {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[..0]),
            };
            if let (Some(name), Some(value)) = (unescaped(name), unescaped(value)) {
                self.pairs.push((name, value));
            }
        }
    }

    /// The first value of a parameter; empty when it is absent.
    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        let found = self.pairs.iter().find(|(it, _)| it == name.as_bytes());
        found.map(|(_, value)| value.as_slice()).unwrap_or_default()
    }

    /// The first value as text; what is not UTF-8 is replaced.
    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.bytes(name)).into_owned()
    }

    /// Whether a parameter is there and not empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.bytes(name).is_empty()
    }

    /// All values of a parameter.
    ///
    /// # Errors
    /// 400 when there are too many.
    pub(crate) fn all(&self, name: &str) -> Result<Vec<&[u8]>, ApiError> {
        let values: Vec<&[u8]> = self
            .pairs
            .iter()
            .filter(|(it, _)| it == name.as_bytes())
            .map(|(_, value)| value.as_slice())
            .collect();
        if values.len() > VALUES_MAX {
            let text = format!("{} values, at most {VALUES_MAX} are taken", values.len());
            return Err(ApiError::parameter(name, text));
        }
        Ok(values)
    }

    /// A time that may be absent.
    ///
    /// # Errors
    /// 400 for what is no time.
    pub(crate) fn optional_time_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        if !self.has(name) {
            return Ok(None);
        }
        let why =
            |error| ApiError::parameter(name, format!("invalid time value for '{name}': {error}"));
        parse_time_ms(&self.text(name)).map(Some).map_err(why)
    }

    /// A time that must be there.
    ///
    /// # Errors
    /// 400 for what is no time.
    pub(crate) fn time_ms(&self, name: &str) -> Result<i64, ApiError> {
        parse_time_ms(&self.text(name)).map_err(|error| ApiError::parameter(name, error))
    }

    /// `start` and `end` of a call for labels or series; absent ones reach as far as time does,
    /// or `default_range_ms` back from `now_ms` when that is not 0.
    ///
    /// # Errors
    /// 400 for what is no time, or ends before it begins.
    pub(crate) fn range(&self, now_ms: i64, default_range_ms: i64) -> Result<TimeRange, ApiError> {
        let start_ms = self.optional_time_ms("start")?;
        let end_ms = self.optional_time_ms("end")?;
        let default_start_ms = match default_range_ms {
            0 => i64::MIN,
            range_ms => end_ms.unwrap_or(now_ms).saturating_sub(range_ms),
        };
        let default_end_ms = if default_range_ms == 0 { i64::MAX } else { now_ms };
        let range =
            TimeRange::new(start_ms.unwrap_or(default_start_ms), end_ms.unwrap_or(default_end_ms));
        if range.is_empty() {
            return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
        }
        Ok(range)
    }

    /// A limit; 0 when it is absent.
    ///
    /// # Errors
    /// 400 in Go's words for what is no number from 0 on.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        if !self.has("limit") {
            return Ok(0);
        }
        let text = self.text("limit");
        let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
        let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
        let quoted = model::quote::go_quote(&text);
        if !is_number {
            let why = format!("strconv.Atoi: parsing {quoted}: invalid syntax");
            return Err(ApiError::parameter("limit", why));
        }
        let Ok(limit) = text.parse::<i64>() else {
            let why = format!("strconv.Atoi: parsing {quoted}: value out of range");
            return Err(ApiError::parameter("limit", why));
        };
        usize::try_from(limit)
            .map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
    }

    /// A switch as Go's `strconv.ParseBool` reads it.
    ///
    /// # Errors
    /// 400 for other words.
    pub(crate) fn switch(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.text(name).as_str() {
            "" => Ok(default),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => {
                let quoted = model::quote::go_quote(other);
                let why = format!("strconv.ParseBool: parsing {quoted}: invalid syntax");
                Err(ApiError::bad_data(format!("'{name}' parameter: {why}")))
            }
        }
    }

    /// A duration in nanoseconds that may be absent, as the API takes it.
    ///
    /// # Errors
    /// 400 for what is no duration.
    pub(crate) fn optional_duration_ns(&self, name: &str) -> Result<Option<i64>, ApiError> {
        if !self.has(name) {
            return Ok(None);
        }
        let why = |error| ApiError::parameter(name, error);
        parse_duration_ns(&self.text(name)).map(Some).map_err(why)
    }
}

fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                let high = char::from(digits[0]).to_digit(16)?;
                let low = char::from(digits[1]).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
                rest = after;
            }
            other => out.push(*other),
        }
    }
    Some(out)
}

/// A label name as it stands in a path: `U__` introduces Prometheus' escaping of UTF-8 names.
pub(crate) fn unescaped_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else { return name.to_owned() };
    unescape_underscores(rest).unwrap_or_else(|| name.to_owned())
}

/// `__` is an underscore, `_<hex>_` a code point; `None` for anything else after an underscore.
fn unescape_underscores(mut rest: &str) -> Option<String> {
    let mut out = String::with_capacity(rest.len());
    while let Some((plain, escaped)) = rest.split_once('_') {
        out.push_str(plain);
        if let Some(after) = escaped.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let (hex, after) = escaped.split_once('_')?;
        let is_hex = (1..=6).contains(&hex.len()) && hex.bytes().all(|it| it.is_ascii_hexdigit());
        let code = u32::from_str_radix(hex, 16).ok().filter(|_| is_hex)?;
        out.push(char::from_u32(code)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_go_reads_them() {
        let params = Params::parse("a=1&a=2&b=%zz&c=x%20y+z&&d&e=1;2&f=%FF");
        assert_eq!(params.text("a"), "1");
        assert_eq!(params.all("a").unwrap(), [b"1", b"2"]);
        assert!(!params.has("b") && !params.has("d") && !params.has("e"));
        assert_eq!(params.text("c"), "x y z");
        assert_eq!(params.bytes("f"), [0xff]);
    }

    #[test]
    fn limits_are_refused_in_the_words_of_go() {
        let check = |text: &str, expected: Result<usize, &str>| {
            let limit = Params::parse(&format!("limit={text}")).limit();
            let expected = expected.map_err(|it| format!("invalid parameter \"limit\": {it}"));
            assert_eq!(limit.map_err(|it| it.message), expected);
        };
        check("", Ok(0));
        check("7", Ok(7));
        check("-1", Err("limit must be non-negative"));
        check("x", Err("strconv.Atoi: parsing \"x\": invalid syntax"));
        check("1.5", Err("strconv.Atoi: parsing \"1.5\": invalid syntax"));
        let text = "strconv.Atoi: parsing \"99999999999999999999\": value out of range";
        check("99999999999999999999", Err(text));
    }

    #[test]
    fn names_are_unescaped_as_prometheus_escapes_them() {
        let check = |name: &str, expected: &str| assert_eq!(unescaped_name(name), expected);
        check("job", "job");
        check("U__http_2E_method", "http.method");
        check("U___4f4d__7f6e_", "位置");
        check("U__a__b", "a_b");
        check("U__http_dot_method", "U__http_dot_method");
        check("U___job", "U___job");
    }
}
