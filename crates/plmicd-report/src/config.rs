//! Settings of the stage.

use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::published;

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// Heading of the report.
    pub title: String,
    /// How many of the best and of the worst codes to list.
    pub codes: usize,
    /// Notes that must have a code for it to be listed among the best or worst: with fewer, its F1 says
    /// little. Restricted data never go below 10.
    pub min_positives: u64,
    /// A published result to stand beside ours, such as `plm-icd/mimic3-full`; empty for none, where a file
    /// below names one.
    pub published: Option<String>,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { title: "ICD coding report".to_owned(), codes: 15, min_positives: 10, published: None }
    }
}

impl ReportConfig {
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if self.title.trim().is_empty() {
            issues.push(ConfigIssue::new("title", "it must not be empty"));
        }
        if let Some(name) = &self.published
            && !name.is_empty()
            && published::find(name).is_none()
        {
            let known: Vec<&str> = published::PUBLISHED.iter().map(|row| row.name).collect();
            let message = format!("no published result is called `{name}`; there are {}", known.join(", "));
            issues.push(ConfigIssue::new("published", message));
        }
        issues
    }
}
