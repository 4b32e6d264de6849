//! The stage, top to bottom.

use plmicd_data::{EmbedStats, SpecialTokens, WordVectors, copy_tokenizer, kind};
use plmicd_pipeline::{ConfigIssue, InputSpec, Stage, StageContext, StageError};

use crate::config::EmbedConfig;
use crate::file;
use crate::train::{Learning, Vectors};
use crate::words::Words;

/// Words between two reports of progress.
const PROGRESS_WORDS: u64 = 1 << 17;

/// Token shards to `embeddings`: a vector for every word id.
#[derive(Clone, Copy, Debug)]
pub struct Embed;

impl Stage for Embed {
    type Config = EmbedConfig;

    const NAME: &'static str = "embed";
    const VERSION: u32 = 2;
    const OUTPUT: &'static str = kind::EMBEDDINGS;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Word embeddings by skip-gram or CBOW, learnt from the training notes";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: [InputSpec; 1] = [InputSpec::required("shards", &[kind::TOKEN_SHARDS])];
        &INPUTS
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues()
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let shards = context.input("shards")?;
        let tokens = SpecialTokens::read(&shards.file(SpecialTokens::FILE))
            .map_err(|error| StageError::because("reading the token shards", error))?;
        let words = Words::read(&shards.dir, &tokens, config, context)?;
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(context.runtime().thread_count())
            .build()
            .map_err(|error| StageError::because("starting worker threads", error))?;

        let (count, width) = (words.counts.len(), config.dimensions);
        let (vectors, mut stats) = match file::restore(context.work_dir(), count, width) {
            Some((vectors, stats)) => {
                context.note(format!("resumed after epoch {} of {}", stats.losses.len(), config.epochs));
                (vectors, stats)
            }
            None => (
                Vectors::start(count, width, config.seed),
                EmbedStats {
                    words: words.total,
                    distinct: words.counts.iter().filter(|count| **count > 0).count() as u64,
                    losses: Vec::new(),
                },
            ),
        };
        let mut learning = Learning::new(&words, config, &workers, vectors);
        let total = words.total * u64::from(config.epochs);
        for epoch in stats.losses.len() as u32..config.epochs {
            let before = words.total * u64::from(epoch);
            let mut told = 0;
            let loss = learning.epoch(epoch, |done| {
                // Rounds are short, and each line is kept.
                if done >= told + PROGRESS_WORDS || done == words.total {
                    told = done;
                    context.progress("learning word vectors", before + done, Some(total), "words");
                }
                context.check_interrupt()
            })?;
            if !(loss.is_finite() && workers.install(|| learning.vectors.are_finite())) {
                return Err(ran_away(epoch, config));
            }
            stats.losses.push(loss);
            context.metrics(u64::from(epoch) + 1, &[("loss", loss)]);
            context.note(format!("epoch {}: mean loss {loss:.4} of a window's word", epoch + 1));
            if epoch + 1 < config.epochs {
                file::save(context.work_dir(), &learning.vectors, width, &stats)?;
            }
        }

        let out = context.output_dir();
        let mut vectors = learning.vectors.inputs;
        if let Some(pad) = tokens.pad {
            vectors[pad as usize * width..][..width].fill(0.0);
        }
        file::write(&out.join(WordVectors::FILE), &[(WordVectors::TENSOR, vectors.as_slice())], width)?;
        stats
            .write(&out.join(EmbedStats::FILE))
            .map_err(|error| StageError::because("writing the figures", error))?;
        copy_tokenizer(&shards.dir, out)?;
        Ok(())
    }
}

/// What to say of vectors that are no numbers any more.
fn ran_away(epoch: u32, config: &EmbedConfig) -> StageError {
    StageError::failed(format!(
        "the vectors are no longer finite after epoch {}: learning_rate = {} is too high; try a tenth of it (the default is {})",
        epoch + 1,
        config.learning_rate,
        EmbedConfig::default().learning_rate
    ))
}
