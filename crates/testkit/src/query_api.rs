//! A client of the Prometheus query API, of ours and of real servers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::http::{Client, percent_encode};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A set of labels.
pub type LabelMap = BTreeMap<String, String>;

/// The answer to a query: series by labels, each with (timestamp in ms, value as printed). A
/// scalar is one series without labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// `vector`, `matrix` or `scalar`.
    pub result_type: String,
    /// The series, in no order.
    pub series: BTreeMap<LabelMap, Vec<(i64, String)>>,
    /// Warnings that came with it.
    pub warnings: Vec<String>,
}

impl Rows {
    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.series.values().map(Vec::len).sum()
    }

    /// Takes labels away from every series.
    ///
    /// # Panics
    /// When two series become one by that.
    #[must_use]
    pub fn without(self, labels: &[&str]) -> Rows {
        let mut series = BTreeMap::new();
        for (mut key, points) in self.series {
            key.retain(|name, _| !labels.contains(&name.as_str()));
            let shown = format!("{key:?}");
            assert!(series.insert(key, points).is_none(), "twice in the answer: {shown}");
        }
        Rows { series, ..self }
    }
}

/// Evaluates at one time.
///
/// # Errors
/// What went wrong, as text: no connection, no success, no understanding.
pub fn instant(address: SocketAddr, query: &str, time_ms: i64) -> Result<Rows, String> {
    let query = percent_encode(query);
    rows(address, &format!("/api/v1/query?query={query}&time={}", seconds(time_ms)))
}

/// Evaluates at every step from `start_ms` to `end_ms`.
///
/// # Errors
/// As [`instant`].
pub fn range(
    address: SocketAddr,
    query: &str,
    (start_ms, end_ms): (i64, i64),
    step_ms: i64,
) -> Result<Rows, String> {
    let (start, end, step) = (seconds(start_ms), seconds(end_ms), seconds(step_ms));
    let query = percent_encode(query);
    let path = format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={step}");
    rows(address, &path)
}

/// The status of a `GET`, or `None` where nothing answers.
pub fn status(address: SocketAddr, path: &str) -> Option<u16> {
    Client::new(address, TIMEOUT).get(path).ok().map(|answer| answer.status)
}

/// The values on a `/metrics` page whose lines begin with `line`, in their order; none where
/// nothing answers.
pub fn metrics(address: SocketAddr, line: &str) -> Vec<f64> {
    let Ok(answer) = Client::new(address, TIMEOUT).get("/metrics") else { return Vec::new() };
    let text = answer.text();
    let found = text.lines().filter(|it| it.starts_with(line));
    found.filter_map(|it| it.rsplit(' ').next()?.parse().ok()).collect()
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

fn rows(address: SocketAddr, path: &str) -> Result<Rows, String> {
    let answer = Client::new(address, TIMEOUT).get(path).map_err(|error| error.to_string())?;
    let text = answer.text();
    let json = answer.json().map_err(|error| format!("{error}: {text}"))?;
    if answer.status != 200 || json["status"] != "success" {
        return Err(format!("{}: {text}", answer.status));
    }
    read(&json).ok_or_else(|| format!("not an answer to a query: {text}"))
}

fn read(json: &Value) -> Option<Rows> {
    let data = &json["data"];
    let result_type = data["resultType"].as_str()?.to_owned();
    let warnings = json["warnings"].as_array().into_iter().flatten();
    let warnings = warnings.filter_map(|it| it.as_str().map(str::to_owned)).collect();
    let mut series = BTreeMap::new();
    if result_type == "scalar" {
        series.insert(LabelMap::new(), vec![point(&data["result"])?]);
        return Some(Rows { result_type, series, warnings });
    }
    for row in data["result"].as_array()? {
        let labels = row["metric"].as_object()?.iter();
        let labels = labels.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let points = match row["values"].as_array() {
            Some(values) => values.iter().map(point).collect::<Option<Vec<_>>>()?,
            None => vec![point(&row["value"])?],
        };
        if series.insert(labels.collect::<Option<LabelMap>>()?, points).is_some() {
            return None;
        }
    }
    Some(Rows { result_type, series, warnings })
}

/// A pair of seconds and value. The seconds have at most three decimals.
fn point(pair: &Value) -> Option<(i64, String)> {
    let text = pair[0].to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let whole: i64 = whole.parse().ok()?;
    let decimals: i64 = format!("{decimals:0<3}").parse().ok()?;
    let ms = if text.starts_with('-') { -decimals } else { decimals };
    Some((whole * 1000 + ms, pair[1].as_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_to_the_millisecond() {
        let read = |text: &str| point(&serde_json::from_str(text).unwrap_or_default());
        assert_eq!(read("[1.5, \"2\"]"), Some((1500, "2".to_owned())));
        assert_eq!(read("[1756684800, \"NaN\"]"), Some((1_756_684_800_000, "NaN".to_owned())));
        assert_eq!(read("[1756684800.007, \"0\"]"), Some((1_756_684_800_007, "0".to_owned())));
        assert_eq!(seconds(1_756_684_800_007), "1756684800.007");
    }
}
