//! The form that texts have when they are tokenized: `text.json`.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::json::{read_versioned, write_versioned};

/// What was done to the texts of a `notes` artifact. It travels with the token shards to the model, so that a new text
/// can be brought into the form that the model was trained on. The values are those of the settings of the stage
/// `preprocess`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextForm {
    /// Setting `text`: `caml`, `raw` and so on.
    pub cleaning: String,
    /// Setting `deidentified`: `keep`, `drop` or `replace`.
    pub deidentified: String,
    /// Whether `___` is a mark of de-identification, as in MIMIC-IV.
    pub blanks: bool,
}

impl TextForm {
    /// Name of the file.
    pub const FILE: &'static str = "text.json";
    /// Version of the file.
    pub const SCHEMA: u32 = 1;

    /// A form.
    pub fn new(cleaning: impl Into<String>, deidentified: impl Into<String>, blanks: bool) -> Self {
        Self { cleaning: cleaning.into(), deidentified: deidentified.into(), blanks }
    }

    /// Reads the file of a folder; `None` where an older version made the folder, or another program.
    pub fn read(dir: &Utf8Path) -> Result<Option<Self>, DataError> {
        let path = dir.join(Self::FILE);
        if !path.exists() {
            return Ok(None);
        }
        read_versioned(&path, Self::SCHEMA).map(Some)
    }

    /// Writes the file into a folder.
    pub fn write(&self, dir: &Utf8Path) -> Result<(), DataError> {
        write_versioned(&dir.join(Self::FILE), Self::SCHEMA, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_may_be_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = Utf8Path::from_path(folder.path()).expect("UTF-8");
        assert_eq!(TextForm::read(dir).expect("absent"), None);
        let form = TextForm::new("caml", "keep", false);
        form.write(dir).expect("written");
        assert_eq!(TextForm::read(dir).expect("read"), Some(form));
        std::fs::write(dir.join(TextForm::FILE), r#"{"schema": 2}"#).expect("written");
        assert!(TextForm::read(dir).expect_err("of a later version").to_string().contains("schema 2"));
    }
}
