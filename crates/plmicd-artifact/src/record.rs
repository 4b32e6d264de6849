//! Action records: which artifact a stage key led to, and what was hashed into that key.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::canonical::canonical_json;
use crate::digest::Digest;
use crate::manifest::ArtifactRef;

/// Version of the layout of action records.
pub const RECORD_FORMAT: u32 = 1;

/// A finished action, as stored in `actions/<stage>/<key>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRecord {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// Name of the stage.
    pub stage: String,
    /// The stage key.
    pub key: Digest,
    /// Kind of the artifact.
    pub kind: String,
    /// The artifact's digest.
    pub artifact: Digest,
    /// Whether the artifact derives from data under a use agreement.
    pub restricted: bool,
    /// What the key was hashed from, so that a later change can be explained.
    pub fingerprint: Value,
    /// What is worth knowing but does not decide the result (program version, times, host).
    pub provenance: Value,
}

impl ActionRecord {
    /// The artifact it names.
    pub fn artifact_ref(&self) -> ArtifactRef {
        ArtifactRef::new(self.kind.clone(), self.artifact)
    }

    /// The bytes of the record's file: canonical JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical_json(&json!({
            "format": self.format,
            "stage": self.stage,
            "key": self.key.to_string(),
            "kind": self.kind,
            "artifact": self.artifact.to_string(),
            "restricted": self.restricted,
            "fingerprint": self.fingerprint,
            "provenance": self.provenance,
        }))
        .into_bytes()
    }
}

/// What [`Store::publish`](crate::Store::publish) needs to know about an output besides its files.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingAction {
    /// Name of the stage.
    pub stage: String,
    /// The stage key.
    pub key: Digest,
    /// Kind of the artifact.
    pub kind: String,
    /// Version of the kind's on-disk schema.
    pub schema: u32,
    /// Whether any input, and so the output, is restricted.
    pub restricted: bool,
    /// What the key was hashed from.
    pub fingerprint: Value,
    /// What is worth knowing but does not decide the result.
    pub provenance: Value,
}

/// What a record's file turned out to hold.
#[derive(Debug)]
pub(crate) enum StoredRecord {
    Good(Box<ActionRecord>),
    /// Written by another version.
    Foreign {
        found: u64,
    },
    Damaged(String),
}

/// Reads a record's bytes; it must be the record of this stage and key.
pub(crate) fn parse_record(bytes: &[u8], stage: &str, key: Digest) -> StoredRecord {
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return StoredRecord::Damaged(error.to_string()),
    };
    if let Some(found) = value.get("format").and_then(Value::as_u64)
        && found != u64::from(RECORD_FORMAT)
    {
        return StoredRecord::Foreign { found };
    }
    match serde_json::from_value::<ActionRecord>(value) {
        Ok(record) if record.stage == stage && record.key == key => StoredRecord::Good(Box::new(record)),
        Ok(_) => StoredRecord::Damaged("it names another stage or key than its path".to_owned()),
        Err(error) => StoredRecord::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ActionRecord {
        ActionRecord {
            format: RECORD_FORMAT,
            stage: "tokenize".to_owned(),
            key: Digest::of(b"key"),
            kind: "token-shards".to_owned(),
            artifact: Digest::of(b"artifact"),
            restricted: false,
            fingerprint: json!({"config": {"learning_rate": 5e-5, "seed": u64::MAX}}),
            provenance: json!({"version": "0.1.0"}),
        }
    }

    #[test]
    fn reads_back() {
        let record = sample();
        match parse_record(&record.to_bytes(), "tokenize", record.key) {
            StoredRecord::Good(back) => assert_eq!(*back, record),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn damage_and_other_formats_are_told_apart() {
        let record = sample();
        let text = String::from_utf8(record.to_bytes()).unwrap();
        let parse = |text: &str| parse_record(text.as_bytes(), "tokenize", record.key);
        assert!(matches!(
            parse(&text.replace("\"format\": 1", "\"format\": 9")),
            StoredRecord::Foreign { found: 9 }
        ));
        assert!(matches!(parse(&text[..40]), StoredRecord::Damaged(_)));
        assert!(matches!(parse(""), StoredRecord::Damaged(_)));
        assert!(matches!(parse(&text.replace("\"kind\"", "\"knd\"")), StoredRecord::Damaged(_)));
        assert!(matches!(parse_record(text.as_bytes(), "notes", record.key), StoredRecord::Damaged(_)));
        assert!(matches!(
            parse_record(text.as_bytes(), "tokenize", Digest::of(b"")),
            StoredRecord::Damaged(_)
        ));
    }
}
