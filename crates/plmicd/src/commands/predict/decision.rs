//! Which codes are given to a note.

use std::num::NonZeroUsize;

use camino::Utf8PathBuf;
use plmicd_artifact::Digest;
use plmicd_data::{Thresholds, kind};
use plmicd_metrics::{Predictions, Rule, Scored, Truth};

use super::Folder;
use crate::cli::PredictArgs;
use crate::commands::World;
use crate::failure::{Failure, chain, exit};

/// The threshold where none is given.
const USUAL: f32 = 0.5;

/// Scores to codes.
pub struct Decision {
    rule: Rule,
    is_usual: bool,
}

/// Thresholds by digest or pin, from a folder or a file.
pub fn read(world: &World<'_>, name: &str) -> Result<Thresholds, Failure> {
    let path = Utf8PathBuf::from(name);
    let file = match path.is_file() {
        true => path,
        false => Folder::find(world, name, kind::THRESHOLDS)?.dir.join(Thresholds::FILE),
    };
    Thresholds::read(&file).map_err(|error| Failure::new(exit::STAGE, chain(&error)))
}

impl Decision {
    /// From the arguments, for a model of so many labels.
    pub fn new(args: &PredictArgs, thresholds: Option<Thresholds>, labels: usize) -> Result<Self, Failure> {
        let rule = match (thresholds, args.threshold, args.top_k.map(NonZeroUsize::get)) {
            (Some(thresholds), ..) => {
                if let Some(found) =
                    thresholds.per_label.as_ref().map(Vec::len).filter(|&found| found != labels)
                {
                    let message = format!("they are for {found} codes, but the model has {labels}");
                    return Err(Failure::usage(format!("--thresholds: {message}")));
                }
                plmicd_evaluate::rule_of(&thresholds)
            }
            (None, Some(threshold), _) if !(0.0..=1.0).contains(&threshold) => {
                return Err(Failure::usage(format!("--threshold: {threshold} is not between 0 and 1")));
            }
            (None, Some(threshold), _) => Rule::Global(threshold),
            (None, None, Some(k)) => Rule::TopK(k),
            (None, None, None) if args.all => Rule::TopK(labels),
            (None, None, None) => return Ok(Self { rule: Rule::Global(USUAL), is_usual: true }),
        };
        Ok(Self { rule, is_usual: false })
    }

    /// Digest of the rule, thresholds and all: a name may stand for another file tomorrow.
    pub fn fingerprint(&self) -> String {
        Digest::of(format!("{:?}", self.rule).as_bytes()).to_string()
    }

    /// What the user should know of it.
    pub fn note(&self) -> Option<&'static str> {
        self.is_usual.then_some(
            "no thresholds given: codes with a score above 0.5 (better: --thresholds with those chosen on dev notes)",
        )
    }

    /// For each note of `scores` (B x Y) the labels given to it with their scores, the highest first.
    pub fn decide(&self, scores: &[f32], labels: usize) -> Result<Vec<Vec<(usize, f32)>>, Failure> {
        let notes = scores.len() / labels;
        let failed = |error: plmicd_metrics::MetricsError| Failure::new(exit::INTERNAL, chain(&error));
        let truth = Truth::new(labels, &vec![Vec::<i32>::new(); notes]).map_err(failed)?;
        let predictions = Predictions::new(&Scored::new(scores, &truth).map_err(failed)?, &self.rule);
        let rows = scores.chunks(labels).enumerate().map(|(note, row)| {
            let ids = predictions.row(note).iter().map(|&id| id as usize);
            let mut codes: Vec<(usize, f32)> = ids.map(|id| (id, row[id])).collect();
            // Stable: codes of equal score stay in label order.
            codes.sort_by(|a, b| b.1.total_cmp(&a.1));
            codes
        });
        Ok(rows.collect())
    }
}
