//! Configs of the two stages.

use plmicd_data::Split;
use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which vocabulary is learnt from the notes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VocabularyConfig {
    /// `wordpiece` (BERT), `byte-level-bpe` (RoBERTa), or `word`: whole words, for word-level models.
    pub model: VocabularyModel,
    /// Entries at most, special tokens and single characters included.
    pub size: usize,
    /// Whether texts are lower-cased (`wordpiece` then also drops accents, as BERT's uncased models do).
    pub lowercase: bool,
    /// How often a pair of pieces must occur to become a piece of its own.
    pub min_frequency: u64,
    /// `word`: training notes that a word must occur in.
    pub min_documents: u64,
    /// The split it is learnt from.
    pub split: Split,
    /// Share of the notes it is learnt from, chosen by `seed`.
    pub sample: f64,
    /// Decides which notes `sample` takes; everything else follows from the notes alone.
    pub seed: u64,
    /// Names of the special tokens, where they are not to be BERT's or RoBERTa's.
    pub special_tokens: SpecialNames,
    /// Further tokens that text is never split into: marks of sections or of de-identification.
    pub extra_tokens: Vec<String>,
}

/// Names of special tokens; what is left out is named as in BERT (`[CLS]`) or RoBERTa (`<s>`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SpecialNames {
    /// Put before a sequence.
    pub cls: Option<String>,
    /// Put after a sequence.
    pub sep: Option<String>,
    /// Fills short sequences.
    pub pad: Option<String>,
    /// Hides a token.
    pub mask: Option<String>,
    /// Stands for what cannot be expressed.
    pub unk: Option<String>,
}

impl Default for VocabularyConfig {
    fn default() -> Self {
        Self {
            model: VocabularyModel::default(),
            size: 30_000,
            lowercase: true,
            min_frequency: 2,
            min_documents: 3,
            split: Split::Train,
            sample: 1.0,
            seed: 0,
            special_tokens: SpecialNames::default(),
            extra_tokens: Vec::new(),
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
    /// Whole words between white space; there are only a padding and an unknown token.
    Word,
}

impl VocabularyConfig {
    /// What types cannot express; `extends` tells whether another tokenizer is extended.
    pub fn issues(&self, extends: bool) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        let least = self.extra_tokens.len()
            + match self.model {
                VocabularyModel::Wordpiece => 32,
                VocabularyModel::ByteLevelBpe => 256 + 5,
                VocabularyModel::Word => 3,
            };
        if !(self.sample > 0.0 && self.sample <= 1.0) {
            issues.push(ConfigIssue::new("sample", "expected more than 0 and at most 1"));
        }
        let names = self.special_tokens.entries();
        let mut all: Vec<(String, &str)> =
            names.iter().map(|(key, name)| (format!("special_tokens.{key}"), *name)).collect();
        all.extend(
            self.extra_tokens
                .iter()
                .enumerate()
                .map(|(at, name)| (format!("extra_tokens.{at}"), name.as_str())),
        );
        for (at, (path, name)) in all.iter().enumerate() {
            if name.is_empty() || name.chars().any(char::is_whitespace) {
                issues.push(ConfigIssue::new(path.clone(), "a token is not empty and holds no blank"));
            } else if all[..at].iter().any(|(_, other)| other == name) {
                issues.push(ConfigIssue::new(path.clone(), format!("`{name}` is named twice")));
            }
        }
        if extends {
            for (path, _) in all {
                issues.push(ConfigIssue::new(path, "with `base`, the special tokens are the base's"));
            }
            if self.model != VocabularyModel::default() || self.lowercase != Self::default().lowercase {
                let path = if self.lowercase == Self::default().lowercase { "model" } else { "lowercase" };
                issues.push(ConfigIssue::new(path, "with `base`, texts are split as the base splits them"));
            }
        }
        if self.size < least {
            let message =
                format!("is {}; must be at least {least}, to hold special tokens and characters", self.size);
            issues.push(ConfigIssue::new("size", message));
        }
        if i32::try_from(self.size).is_err() {
            issues.push(ConfigIssue::new("size", format!("is {}; ids must fit 31 bits", self.size)));
        }
        if self.min_documents == 0 {
            issues.push(ConfigIssue::new("min_documents", "must be at least 1"));
        }
        if self.model == VocabularyModel::Word {
            for (key, _) in names.iter().filter(|(key, _)| !matches!(*key, "pad" | "unk")) {
                let message = "a word vocabulary has only `pad` and `unk`";
                issues.push(ConfigIssue::new(format!("special_tokens.{key}"), message));
            }
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

impl SpecialNames {
    /// The names given, by key.
    pub fn entries(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("cls", &self.cls),
            ("sep", &self.sep),
            ("pad", &self.pad),
            ("mask", &self.mask),
            ("unk", &self.unk),
        ];
        all.into_iter().filter_map(|(key, name)| Some((key, name.as_deref()?))).collect()
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
        assert!(VocabularyConfig::default().issues(false).is_empty());
        assert!(VocabularyConfig::default().issues(true).is_empty());
        assert!(TokenizeConfig::default().issues().is_empty());
        let bad = VocabularyConfig {
            model: VocabularyModel::ByteLevelBpe,
            size: 260,
            min_frequency: 0,
            split: Split::Dev,
            ..VocabularyConfig::default()
        };
        let paths = |bad: &VocabularyConfig, extends| -> Vec<String> {
            bad.issues(extends).into_iter().map(|issue| issue.path).collect()
        };
        assert_eq!(paths(&bad, false), ["size", "min_frequency", "split"]);
        assert_eq!(paths(&bad, true), ["model", "size", "min_frequency", "split"]);
        let bad = VocabularyConfig {
            sample: 0.0,
            special_tokens: SpecialNames { cls: Some("[A]".to_owned()), ..SpecialNames::default() },
            extra_tokens: vec!["[A]".to_owned(), "x y".to_owned()],
            ..VocabularyConfig::default()
        };
        assert_eq!(paths(&bad, false), ["sample", "extra_tokens.0", "extra_tokens.1"]);
        assert_eq!(TokenizeConfig { notes_per_shard: 0 }.issues()[0].path, "notes_per_shard");
    }
}
