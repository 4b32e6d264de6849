//! Where things stand in the user's table.

use plmicd_data::CodeSystem;
use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is read of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Notes with their codes.
    Coded,
    /// Texts alone.
    Texts,
}

/// Columns of a `table` source. Names are matched without regard to case in CSV, exactly in Parquet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TableColumns {
    /// Column of the note's id, which no other row has.
    pub id_column: String,
    /// Column of the text.
    pub text_column: String,
    /// Column of the codes: joined by `separator`, or, in Parquet, a list of text.
    pub codes_column: String,
    /// Column of the patient. If a table has no column of the default name, every note is its own subject.
    pub subject_column: String,
    /// Column of the split, for `splits = "published"`.
    pub split_column: String,
    /// What stands between the codes of a field; blanks around them do not count.
    pub separator: String,
    /// What the codes are: `icd9-diagnosis`, `icd10-cm-diagnosis`, `other` and so on. Codes of `other` stay as they are
    /// written, those of all else are upper-cased and dotted.
    pub system: CodeSystem,
}

impl Default for TableColumns {
    fn default() -> Self {
        Self {
            id_column: "id".to_owned(),
            text_column: "text".to_owned(),
            codes_column: "codes".to_owned(),
            subject_column: "subject".to_owned(),
            split_column: "split".to_owned(),
            separator: ";".to_owned(),
            system: CodeSystem::Other,
        }
    }
}

impl TableColumns {
    /// Columns that must be there, then those that may be: a name that the user chose is meant. Texts alone need
    /// neither codes nor a split.
    pub fn required_and_optional(&self, wanted: Wanted) -> (Vec<&str>, Vec<&str>) {
        let default = Self::default();
        let mut required: Vec<&str> = vec![&self.id_column, &self.text_column];
        let mut optional = Vec::new();
        if wanted == Wanted::Texts {
            return (required, optional);
        }
        required.push(&self.codes_column);
        for (name, default) in
            [(&self.subject_column, &default.subject_column), (&self.split_column, &default.split_column)]
        {
            if name == default { optional.push(name.as_str()) } else { required.push(name) }
        }
        (required, optional)
    }

    /// What types cannot express.
    pub fn issues(&self) -> Vec<ConfigIssue> {
        [
            ("table.id_column", &self.id_column),
            ("table.text_column", &self.text_column),
            ("table.codes_column", &self.codes_column),
            ("table.subject_column", &self.subject_column),
            ("table.split_column", &self.split_column),
            ("table.separator", &self.separator),
        ]
        .into_iter()
        .filter(|(_, text)| text.is_empty())
        .map(|(path, _)| ConfigIssue::new(path, "it is empty"))
        .collect()
    }
}
