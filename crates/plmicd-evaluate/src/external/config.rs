//! Settings of the stage.

use plmicd_data::{CodeSystem, Split};
use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to do about a predicted code that the label space does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownCodes {
    /// Refuse the file and name the first one.
    #[default]
    Refuse,
    /// Leave them out and say how many: they are then no false positives either.
    Drop,
}

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImportScoresConfig {
    /// Column of the note's id, in both tables.
    pub id_column: String,
    /// Column of a note's codes, all in one cell; a table that has it has one row a note.
    pub codes_column: String,
    /// What stands between the codes of a cell; blanks around them do not count.
    pub separator: String,
    /// Column of one code; a table that has it has one row for each note and code.
    pub code_column: String,
    /// Column of that code's score, a probability; a table without it scores 1 what it lists.
    pub score_column: String,
    /// Column of the split in the truth table; without it, every note is of split `default_split`.
    pub split_column: String,
    /// The split of notes for which the truth says none: `dev` or `test`.
    pub default_split: Split,
    /// What codes without a label space of their own are: `icd9-diagnosis`, `icd10-cm-diagnosis`, `other` and so on.
    pub system: CodeSystem,
    /// What to do about a predicted code that the label space does not have: `refuse` or `drop`.
    pub unknown_codes: UnknownCodes,
}

impl Default for ImportScoresConfig {
    fn default() -> Self {
        Self {
            id_column: "id".to_owned(),
            codes_column: "codes".to_owned(),
            separator: ";".to_owned(),
            code_column: "code".to_owned(),
            score_column: "score".to_owned(),
            split_column: "split".to_owned(),
            default_split: Split::Test,
            system: CodeSystem::Other,
            unknown_codes: UnknownCodes::Refuse,
        }
    }
}

impl ImportScoresConfig {
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let columns = [
            ("id_column", &self.id_column),
            ("codes_column", &self.codes_column),
            ("separator", &self.separator),
            ("code_column", &self.code_column),
            ("score_column", &self.score_column),
            ("split_column", &self.split_column),
        ];
        let mut issues: Vec<ConfigIssue> = columns
            .into_iter()
            .filter(|(_, text)| text.is_empty())
            .map(|(name, _)| ConfigIssue::new(name, "it is empty"))
            .collect();
        if self.default_split == Split::Train {
            issues.push(ConfigIssue::new("default_split", "train is not scored; expected dev or test"));
        }
        issues
    }
}
