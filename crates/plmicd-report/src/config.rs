//! Settings of the stage.

use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self { title: "ICD coding report".to_owned(), codes: 15, min_positives: 10 }
    }
}

impl ReportConfig {
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let blank = self.title.trim().is_empty();
        blank.then(|| ConfigIssue::new("title", "it must not be empty")).into_iter().collect()
    }
}
