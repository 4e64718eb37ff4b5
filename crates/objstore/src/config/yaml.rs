//! YAML with strict keys and errors that say where.

use model::nearest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Position};
use crate::store::Result;

/// Reads one document.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_saphyr::from_str(text).map_err(|error| describe(&error))
}

/// A key without a value, which Go reads as the default of its kind.
pub(super) fn or_default<'de, D, T>(from: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

fn describe(error: &serde_saphyr::Error) -> Error {
    let position = error.location().map(|it| Position { line: it.line(), column: it.column() });
    let reason = match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            let hint = match nearest(field, expected.iter().copied()) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known are {}", expected.join(", ")),
            };
            format!("unknown key {:?}, {hint}", field.chars().take(64).collect::<String>())
        }
        other => other.to_string(),
    };
    Error::Config { position, reason }
}
