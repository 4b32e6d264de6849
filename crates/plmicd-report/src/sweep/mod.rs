//! Stage `sweep-report`: the evaluations of a sweep's cells as one table, with means over seeds, differences from a
//! baseline that chance does not explain, and published figures beside ours.
//!
//! | module | what |
//! |---|---|
//! | `results.rs` | gathering the cells by variant, comparing with the baseline |
//! | `table.rs` | the tables: for the page, and as Markdown, CSV, LaTeX, text and JSON |
//! | `page.rs` | the HTML page |

mod config;
mod page;
mod results;
mod table;

use plmicd_data::{kind, write_json};
use plmicd_pipeline::{ConfigIssue, InputSpec, Stage, StageContext, StageError};

pub use config::{PublishedRow, SweepReportConfig, SweepRow};

use crate::file;

/// The input that takes the evaluation of every cell, under the cell's name.
const INPUT: &str = "evaluations";

/// The input that may take the token shards of every cell: then the table shows how far words are broken up.
const SHARDS: &str = "shards";

/// The stage.
#[derive(Clone, Copy, Debug)]
pub struct SweepReport;

impl Stage for SweepReport {
    type Config = SweepReportConfig;

    const NAME: &'static str = "sweep-report";
    const VERSION: u32 = 6;
    const OUTPUT: &'static str = kind::REPORT;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "write the report of a sweep: variants side by side, over seeds";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: &[InputSpec] = &[
            InputSpec::many(INPUT, &[kind::EVALUATION]),
            InputSpec::any_number(SHARDS, &[kind::TOKEN_SHARDS]),
        ];
        INPUTS
    }

    fn check(config: &Self::Config, wired: &[&str]) -> Vec<ConfigIssue> {
        let member = |slot: &&str| slot.strip_prefix(INPUT)?.strip_prefix('/').map(str::to_owned);
        let cells: Vec<String> = wired.iter().filter_map(member).collect();
        config.issues(&cells)
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let results = results::Results::read(config, context)?;
        let summary = table::Summary::of(config, &results)?;
        let page = page::render(config, context, &results, &summary)?;
        let out = context.output_dir();
        fs_err::write(out.join(file::HTML), page)?;
        fs_err::write(out.join(file::MARKDOWN), summary.markdown())?;
        fs_err::write(out.join(file::CSV), summary.csv())?;
        fs_err::write(out.join(file::LATEX), summary.latex())?;
        fs_err::write(out.join(file::TEXT), summary.plain())?;
        write_json(&out.join(file::JSON), &summary)
            .map_err(|error| StageError::because("writing the table", error))?;
        Ok(())
    }
}
