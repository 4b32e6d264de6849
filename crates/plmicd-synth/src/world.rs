//! Everything that all admissions share, loaded once.

use crate::clinic::Clinic;
use crate::codes::CodeTable;
use crate::cohort::Cohort;
use crate::config::SynthConfig;
use crate::error::SynthError;
use crate::grammar::Grammar;
use crate::pharmacy::Pharmacy;
use crate::wording::{self, CodeWording};

/// The settings, the tables and the plan of one corpus.
pub(crate) struct World {
    pub(crate) config: SynthConfig,
    pub(crate) codes: CodeTable,
    pub(crate) clinic: Clinic,
    pub(crate) cohort: Cohort,
    pub(crate) grammar: Grammar,
    pub(crate) pharmacy: Pharmacy,
    /// One entry per code.
    pub(crate) wordings: Vec<CodeWording>,
}

impl World {
    /// Reads the built-in data and plans the corpus.
    pub(crate) fn new(config: &SynthConfig) -> Result<Self, SynthError> {
        if let Some((field, message)) = config.issues().into_iter().next() {
            return Err(SynthError::Config { path: field.to_owned(), message });
        }
        let codes = CodeTable::load()?;
        let clinic = Clinic::new(config, &codes)?;
        let cohort = Cohort::new(config, &clinic);
        let grammar = Grammar::load()?;
        let pharmacy = Pharmacy::load()?;
        let wordings = wording::load(&codes, &grammar, &pharmacy)?;
        Ok(Self { config: config.clone(), codes, clinic, cohort, grammar, pharmacy, wordings })
    }
}
