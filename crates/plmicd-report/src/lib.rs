//! Stages `report` and `sweep-report`. `report`: one self-contained HTML file for people, and its metrics table as Markdown, CSV, LaTeX, text and JSON.
//!
//! | module | what |
//! |---|---|
//! | `sources.rs` | reading the inputs |
//! | `headline.rs` | which metrics are shown, under which titles |
//! | `codes.rs`, `code_figure.rs` | the best and the worst codes; all of them as points |
//! | `data_set.rs` | tables of notes and tokens |
//! | `figures.rs`, `templates/figures.js` | the figures, drawn by Plotly |
//! | `published.rs` | published results to stand beside ours |
//! | `privacy.rs` | what a report on restricted data may show |
//! | `page.rs`, `results.rs`, `templates/` | the HTML page, and what stands at its top |
//! | `provenance.rs` | the part of the page that a run adds: where the results come from |
//! | `sweep/` | stage `sweep-report`: the variants of a sweep side by side |
//! | `text.rs` | Markdown, CSV, LaTeX and plain text |

mod code_figure;
mod codes;
mod config;
mod data_set;
mod figures;
mod headline;
mod page;
mod privacy;
mod provenance;
mod published;
mod results;
mod sources;
mod sweep;
mod text;

use plmicd_data::{kind, write_json};
use plmicd_pipeline::{ConfigIssue, InputSpec, Stage, StageContext, StageError};

pub use config::ReportConfig;
pub use headline::{Headline, HeadlineColumn, HeadlineRow};
pub use provenance::{MadeBy, Provenance, Setting, with_provenance};
pub use sweep::{PublishedRow, SweepReport, SweepReportConfig, SweepRow};

/// Notes of a split below which metrics on restricted data are as good as counts.
const FEW_NOTES: u64 = 200;

/// The stage.
#[derive(Clone, Copy, Debug)]
pub struct Report;

/// Files of a `report` artifact.
pub mod file {
    /// The page.
    pub const HTML: &str = "report.html";
    /// The metrics table as Markdown.
    pub const MARKDOWN: &str = "report.md";
    /// The metrics table as plain text, for terminals.
    pub const TEXT: &str = "headline.txt";
    /// The metrics table as CSV.
    pub const CSV: &str = "report.csv";
    /// The metrics table as LaTeX.
    pub const LATEX: &str = "report.tex";
    /// The metrics table as JSON.
    pub const JSON: &str = "headline.json";
}

impl Stage for Report {
    type Config = ReportConfig;

    const NAME: &'static str = "report";
    const VERSION: u32 = 5;
    const OUTPUT: &'static str = kind::REPORT;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "write the report: metrics table, curves, data set, codes";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] = &[
            InputSpec::required("evaluation", &[kind::EVALUATION]),
            InputSpec::required("thresholds", &[kind::THRESHOLDS]),
            InputSpec::optional("model", &[kind::MODEL]),
            InputSpec::optional("notes", &[kind::NOTES]),
            InputSpec::optional("shards", &[kind::TOKEN_SHARDS]),
        ];
        INPUTS
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues()
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let sources = sources::Sources::read(context)?;
        for (split, result) in &sources.evaluation.splits {
            if sources.privacy.restricted && result.notes < FEW_NOTES {
                context.warn(format!(
                    "{split} has fewer than {FEW_NOTES} notes: from its metrics it can be told how single ones were coded"
                ));
            }
        }
        let headline =
            headline::Headline::of(&config.title, &sources.evaluation, sources.thresholds.k, sources.privacy);
        let page = page::render(config, &sources, &headline)?;
        let out = context.output_dir();
        fs_err::write(out.join(file::HTML), page)?;
        fs_err::write(out.join(file::MARKDOWN), text::markdown(&headline))?;
        fs_err::write(out.join(file::CSV), text::csv(&headline))?;
        fs_err::write(out.join(file::LATEX), text::latex(&headline))?;
        fs_err::write(out.join(file::TEXT), text::plain(&headline))?;
        write_json(&out.join(file::JSON), &headline)
            .map_err(|error| StageError::because("writing the headline", error))?;
        Ok(())
    }
}
