//! Reading the inputs.

use plmicd_data::{
    CodeResult, CorpusStats, DataError, Evaluation, Thresholds, TokenStats, TrainingHistory, read_per_code,
};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::privacy::Privacy;

/// Everything a report is made from.
pub(crate) struct Sources {
    pub evaluation: Evaluation,
    pub per_code: Vec<CodeResult>,
    pub thresholds: Thresholds,
    pub training: Option<TrainingHistory>,
    pub corpus: Option<CorpusStats>,
    pub tokens: Option<TokenStats>,
    pub privacy: Privacy,
    /// Name, kind and digest of each input.
    pub inputs: Vec<[String; 3]>,
}

impl Sources {
    pub fn read(context: &StageContext<'_>) -> Result<Self, StageError> {
        let evaluation_dir = &context.input("evaluation")?.dir;
        let path = evaluation_dir.join(Evaluation::FILE);
        let evaluation = Evaluation::read(&path).map_err(reading)?;
        if evaluation.splits.is_empty() {
            return Err(BadInput::new(path, "it holds no split; expected dev, test or both").into());
        }
        let per_code = read_per_code(&evaluation_dir.join(Evaluation::PER_CODE_FILE)).map_err(reading)?;
        let path = context.input("thresholds")?.file(Thresholds::FILE);
        let thresholds = Thresholds::read(&path).map_err(reading)?;
        if thresholds.threshold != evaluation.threshold {
            let message = format!(
                "threshold {}, but the metrics were computed at {}",
                thresholds.threshold, evaluation.threshold
            );
            let hint = "wire the thresholds that the evaluation was made with";
            return Err(BadInput::new(path, message).hint(hint).into());
        }
        let optional = |name: &str, file: &str| context.optional_input(name).map(|input| input.file(file));
        // Absent from a model that was trained elsewhere.
        let training = optional("model", TrainingHistory::FILE).filter(|path| path.exists());
        let training = training.map(|path| TrainingHistory::read(&path));
        let corpus = optional("notes", CorpusStats::FILE).map(|path| CorpusStats::read(&path));
        let tokens = optional("shards", TokenStats::FILE).map(|path| TokenStats::read(&path));
        let inputs =
            ["notes", "shards", "model", "thresholds", "evaluation"].into_iter().filter_map(|name| {
                let input = context.optional_input(name)?;
                Some([name.to_owned(), input.kind.clone(), input.digest.to_string()])
            });
        Ok(Self {
            evaluation,
            per_code,
            thresholds,
            training: training.transpose().map_err(reading)?,
            corpus: corpus.transpose().map_err(reading)?,
            tokens: tokens.transpose().map_err(reading)?,
            privacy: Privacy { restricted: context.restricted() },
            inputs: inputs.collect(),
        })
    }
}

fn reading(error: DataError) -> StageError {
    StageError::because("reading what is to be reported", error)
}
