//! JSON files: one layout, located errors, a schema version.

use camino::Utf8Path;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// Writes `value` as indented JSON with a trailing newline. Struct fields keep their order, so the bytes
/// are a function of the value as long as its maps are sorted (`BTreeMap`).
///
/// JSON has no NaN or infinity: leave such a value out of what you store.
pub fn write_json<T: Serialize + ?Sized>(path: &Utf8Path, value: &T) -> Result<(), DataError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| DataError::file(path, format!("cannot be written as JSON: {error}")))?;
    text.push('\n');
    fs_err::write(path, text)?;
    Ok(())
}

/// Reads a JSON file. Errors name file, line and column.
pub fn read_json<T: DeserializeOwned>(path: &Utf8Path) -> Result<T, DataError> {
    parse(path, &fs_err::read_to_string(path)?)
}

/// Writes `value`, a struct, with a leading `"schema": version`.
pub(crate) fn write_versioned<T: Serialize>(
    path: &Utf8Path,
    version: u32,
    value: &T,
) -> Result<(), DataError> {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        schema: u32,
        #[serde(flatten)]
        value: &'a T,
    }
    write_json(path, &Envelope { schema: version, value })
}

/// Reads a file of [`write_versioned`], after checking its version.
pub(crate) fn read_versioned<T: DeserializeOwned>(path: &Utf8Path, version: u32) -> Result<T, DataError> {
    #[derive(Deserialize)]
    struct Version {
        schema: Option<u32>,
    }
    let text = fs_err::read_to_string(path)?;
    let found: Version = parse(path, &text)?;
    if found.schema != Some(version) {
        return Err(DataError::SchemaVersion {
            file: path.to_owned(),
            found: found.schema.map_or_else(|| "no field `schema`".to_owned(), |n| format!("schema {n}")),
            expected: format!("schema {version}"),
        });
    }
    parse(path, &text)
}

fn parse<T: DeserializeOwned>(path: &Utf8Path, text: &str) -> Result<T, DataError> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        // The place is in fields of its own.
        let message = message.trim_end_matches(&format!(" at line {line} column {column}")).to_owned();
        DataError::Json { file: path.to_owned(), line, column, message }
    })
}
