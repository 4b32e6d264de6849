//! The stage `tokenize`: whole notes as token ids.

use std::collections::BTreeMap;

use camino::Utf8Path;
use plmicd_data::{
    LabelSpace, LabelTokens, Note, NoteWriter, ShardWriter, SpecialTokens, Split, TextForm, TokenStats,
    TokenizedNote, kind,
};
use plmicd_pipeline::{BadInput, ConfigIssue, InputSpec, Stage, StageContext, StageError};
use tokenizers::ModelWrapper;

use crate::batches::{for_each_batch, workers};
use crate::config::TokenizeConfig;
use crate::encoder::Encoder;
use crate::load::Loaded;
use crate::stats::{StatsBuilder, report};

/// Notes and a tokenizer to `token-shards`.
#[derive(Clone, Copy, Debug)]
pub struct Tokenize;

impl Stage for Tokenize {
    type Config = TokenizeConfig;

    const NAME: &'static str = "tokenize";
    const VERSION: u32 = 4;
    const OUTPUT: &'static str = kind::TOKEN_SHARDS;
    const SCHEMA: u32 = 1;
    const SUMMARY: &'static str = "Whole notes to token ids, neither truncated nor segmented";

    fn inputs() -> &'static [InputSpec] {
        const INPUTS: [InputSpec; 2] = [
            InputSpec::required("notes", &[kind::NOTES]),
            InputSpec::required("tokenizer", &[kind::TOKENIZER, kind::HF_MODEL, kind::ENCODER]),
        ];
        &INPUTS
    }

    fn check(config: &Self::Config, _wired: &[&str]) -> Vec<ConfigIssue> {
        config.issues()
    }

    fn run(config: &Self::Config, context: &StageContext<'_>) -> Result<(), StageError> {
        let notes = context.input("notes")?;
        let loaded = Loaded::read(&context.input("tokenizer")?.dir)?;
        if !matches!(loaded.tokenizer.get_model(), ModelWrapper::WordLevel(_)) {
            warn_of_missing(&loaded.special, context);
        }
        let labels = LabelSpace::read(&notes.file(LabelSpace::FILE))
            .map_err(|e| StageError::because("reading the label space", e))?;
        let out = context.output_dir();
        let failed = |e| StageError::because("writing the token shards", e);
        labels.write(&out.join(LabelSpace::FILE)).map_err(failed)?;
        loaded.special.write(&out.join(SpecialTokens::FILE)).map_err(failed)?;
        loaded.write(out)?;
        if let Some(form) =
            TextForm::read(&notes.dir).map_err(|e| StageError::because("reading the form of the texts", e))?
        {
            form.write(out).map_err(failed)?;
        }

        let path = notes.file(NoteWriter::FILE);
        let workers = workers(context)?;
        let mut shards: BTreeMap<Split, ShardWriter> = BTreeMap::new();
        let mut encoder = Encoder::new(loaded.tokenizer);
        describe(&labels, &mut encoder, &workers)?.write(&out.join(LabelTokens::FILE)).map_err(failed)?;
        let mut stats = StatsBuilder::new(loaded.special);
        for_each_batch(&path, "encoding", context, |batch| {
            let texts: Vec<&str> = batch.iter().map(|note| note.text.as_str()).collect();
            let encoded = encoder
                .encode(&texts, &workers)
                .map_err(|e| StageError::because(format!("encoding note {}", batch[e.index].note_id), e))?;
            for (note, tokens) in batch.iter().zip(encoded) {
                let (split, note) = (note.split, tokenized(note, tokens, &labels, &path)?);
                stats.add(split, &note);
                let writer = match shards.entry(split) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(ShardWriter::create(out, split, config.notes_per_shard).map_err(failed)?)
                    }
                };
                writer.write(&note).map_err(failed)?;
            }
            Ok(())
        })?;
        if shards.is_empty() {
            return Err(BadInput::new(path, "there are no notes").into());
        }
        for writer in shards.into_values() {
            writer.finish().map_err(failed)?;
        }
        let stats = stats.finish();
        report(&stats, context);
        stats.write(&out.join(TokenStats::FILE)).map_err(failed)
    }
}

/// The labels' descriptions as token ids: what label vectors can be made of before any note is seen.
fn describe(
    labels: &LabelSpace,
    encoder: &mut Encoder,
    workers: &rayon::ThreadPool,
) -> Result<LabelTokens, StageError> {
    let texts: Vec<&str> =
        labels.labels().iter().map(|label| label.description.as_deref().unwrap_or_default()).collect();
    let tokens = encoder.encode(&texts, workers).map_err(|error| {
        let code = &labels.labels()[error.index].code;
        StageError::because(format!("encoding the description of code {code}"), error)
    })?;
    Ok(LabelTokens { tokens })
}

/// Training and prediction put these around notes; without them they must be told to do otherwise. Models of whole words
/// use none but padding.
fn warn_of_missing(special: &SpecialTokens, context: &StageContext<'_>) {
    for (name, id) in [("start", special.cls), ("end", special.sep), ("padding", special.pad)] {
        if id.is_none() {
            context.warn(format!("the tokenizer has no {name} token"));
        }
    }
}

fn tokenized(
    note: &Note,
    tokens: Vec<i32>,
    labels: &LabelSpace,
    path: &Utf8Path,
) -> Result<TokenizedNote, StageError> {
    let mut ids = Vec::with_capacity(note.codes.len());
    for code in &note.codes {
        let id = labels.index_of(code).ok_or_else(|| {
            BadInput::new(path, format!("note {} has code {code}, which is not in labels.json", note.note_id))
                .column("codes")
        })?;
        ids.push(id as i32);
    }
    ids.sort_unstable();
    ids.dedup();
    let words = u32::try_from(note.text.split_whitespace().count())
        .map_err(|_| StageError::failed(format!("note {} has more than 2^32 words", note.note_id)))?;
    Ok(TokenizedNote { note_id: note.note_id.clone(), tokens, labels: ids, words })
}
