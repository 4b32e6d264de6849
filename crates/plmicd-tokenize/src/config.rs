//! Configs of the two stages.

use plmicd_data::Split;
use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which vocabulary is learnt from the notes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VocabularyConfig {
    /// `wordpiece` (BERT) or `byte-level-bpe` (RoBERTa).
    pub model: VocabularyModel,
    /// Entries at most, special tokens and single characters included.
    pub size: usize,
    /// Whether texts are lower-cased (`wordpiece` then also drops accents, as BERT's uncased models do).
    pub lowercase: bool,
    /// How often a pair of pieces must occur to become a piece of its own.
    pub min_frequency: u64,
    /// The split it is learnt from.
    pub split: Split,
}

impl Default for VocabularyConfig {
    fn default() -> Self {
        Self {
            model: VocabularyModel::default(),
            size: 30_000,
            lowercase: true,
            min_frequency: 2,
            split: Split::Train,
        }
    }
}

/// Kind of a learnt vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VocabularyModel {
    /// BERT's: words split at blanks and punctuation, continuing pieces marked `##`.
    #[default]
    Wordpiece,
    /// RoBERTa's: any text is expressible, a blank belongs to the word after it.
    ByteLevelBpe,
}

impl VocabularyConfig {
    /// What types cannot express.
    pub fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        let least = match self.model {
            VocabularyModel::Wordpiece => 32,
            VocabularyModel::ByteLevelBpe => 256 + 5,
        };
        if self.size < least {
            let message =
                format!("is {}; must be at least {least}, to hold special tokens and characters", self.size);
            issues.push(ConfigIssue::new("size", message));
        }
        if i32::try_from(self.size).is_err() {
            issues.push(ConfigIssue::new("size", format!("is {}; ids must fit 31 bits", self.size)));
        }
        if self.min_frequency == 0 {
            issues.push(ConfigIssue::new("min_frequency", "must be at least 1"));
        }
        if self.split != Split::Train {
            issues.push(ConfigIssue::new("split", "must be train: a vocabulary must not see held-out notes"));
        }
        issues
    }
}

/// How token ids are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizeConfig {
    /// Notes in a shard file.
    pub notes_per_shard: usize,
}

impl Default for TokenizeConfig {
    fn default() -> Self {
        Self { notes_per_shard: 4096 }
    }
}

impl TokenizeConfig {
    /// What types cannot express.
    pub fn issues(&self) -> Vec<ConfigIssue> {
        if self.notes_per_shard == 0 {
            vec![ConfigIssue::new("notes_per_shard", "must be at least 1")]
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        assert!(VocabularyConfig::default().issues().is_empty());
        assert!(TokenizeConfig::default().issues().is_empty());
        let bad = VocabularyConfig {
            model: VocabularyModel::ByteLevelBpe,
            size: 260,
            min_frequency: 0,
            split: Split::Dev,
            ..VocabularyConfig::default()
        };
        let paths: Vec<String> = bad.issues().into_iter().map(|issue| issue.path).collect();
        assert_eq!(paths, ["size", "min_frequency", "split"]);
        assert_eq!(TokenizeConfig { notes_per_shard: 0 }.issues()[0].path, "notes_per_shard");
    }
}
