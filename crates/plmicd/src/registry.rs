//! Which stages and kinds of source this build has.

use plmicd_data::kind;
use plmicd_pipeline::{Registry, SourceKind};
use plmicd_preprocess::source_files;

use crate::sources;

/// All stages, in the order of the pipeline, and all kinds of source.
pub fn registry() -> Registry {
    let registry = Registry::default()
        .stage::<plmicd_synth::Synth>()
        .stage::<plmicd_preprocess::Preprocess>()
        .stage::<plmicd_preprocess::TextCorpus>()
        .stage::<plmicd_tokenize::Vocabulary>()
        .stage::<plmicd_tokenize::Tokenize>()
        .stage::<plmicd_embed::Embed>();
    #[cfg(feature = "torch")]
    let registry = registry
        .stage::<plmicd_pretrain::Pretrain>()
        .stage::<plmicd_finetune::Finetune>()
        .stage::<plmicd_predict::Predict>();
    #[cfg(not(feature = "torch"))]
    let registry = registry.absent("pretrain").absent("finetune").absent("predict");
    registry
        .stage::<plmicd_evaluate::ImportScores>()
        .stage::<plmicd_threshold::Threshold>()
        .stage::<plmicd_evaluate::Evaluate>()
        .stage::<plmicd_report::Report>()
        .stage::<plmicd_report::SweepReport>()
        .source(SourceKind {
            name: kind::MIMIC3,
            restricted: true,
            help: "the folder holds NOTEEVENTS, DIAGNOSES_ICD, PROCEDURES_ICD, D_ICD_DIAGNOSES and D_ICD_PROCEDURES as \
                   .csv or .csv.gz: MIMIC-III v1.4, credentialed access at PhysioNet; see docs/guides/data-sources.md",
            files: source_files::mimic3_files,
        })
        .source(SourceKind {
            name: kind::MIMIC4,
            restricted: true,
            help: "the folder holds hosp/ (diagnoses_icd, procedures_icd, d_icd_*) of MIMIC-IV and note/ (discharge) of \
                   MIMIC-IV-Note as .csv or .csv.gz: credentialed access at PhysioNet; see docs/guides/data-sources.md",
            files: source_files::mimic4_files,
        })
        .source(SourceKind {
            name: kind::MIMIC2,
            restricted: true,
            help: "the folder holds MIMIC_RAW_DSUMS and, for the published splits, training_indices.data and \
                   testing_indices.data: credentialed access at PhysioNet; see docs/guides/data-sources.md",
            files: source_files::mimic2_files,
        })
        .source(SourceKind {
            name: kind::CAML_CSV,
            restricted: true,
            help: "the folder holds train_full.csv, dev_full.csv and test_full.csv as CAML's scripts write them; \
                   see docs/guides/data-sources.md",
            files: source_files::caml_csv_files,
        })
        .source(SourceKind {
            name: kind::LABEL_LIST,
            restricted: false,
            help: "the folder holds one list, .txt or .csv: a code a line, no header",
            files: source_files::label_list_files,
        })
        .source(SourceKind {
            name: kind::TABLE,
            restricted: true,
            help: "a folder with notes.csv, notes.csv.gz or notes.parquet: id, text, codes, optionally subject and split; \
                   see docs/guides/data-sources.md",
            files: source_files::table_files,
        })
        .source(SourceKind {
            name: kind::TEXT,
            restricted: true,
            help: "a folder of .txt or .txt.gz files, one a text; see docs/reference/corpus.md",
            files: source_files::text_files,
        })
        .source(SourceKind {
            name: kind::NOTES,
            restricted: true,
            help: "the folder of a notes artifact, such as artifacts/latest/PIPELINE/preprocess: what the stage \
                   `preprocess` of another pipeline or store made",
            files: source_files::notes_files,
        })
        .source(SourceKind {
            name: kind::CODIESP,
            restricted: false,
            help: "the folder holds train/, dev/ and test/ of the CodiEsp corpus v4 (CC BY 4.0, on Zenodo); \
                   see docs/guides/data-sources.md",
            files: source_files::codiesp_files,
        })
        .source(SourceKind {
            name: kind::HF_MODEL,
            restricted: false,
            help: "a model folder in Hugging Face layout: config.json, model.safetensors (or pytorch_model.bin) and its \
                   tokenizer files; for pipelines/codiesp.toml `make encoder` fetches it, any other you put there",
            files: sources::hf_model_files,
        })
        .source(SourceKind {
            name: kind::TOKENIZER,
            restricted: true,
            help: "a tokenizer in Hugging Face layout: tokenizer.json, or vocab.txt, or vocab.json with merges.txt; one that \
                   the stage `vocabulary` of another pipeline or store made holds words of its notes",
            files: sources::tokenizer_files,
        })
        .source(SourceKind {
            name: kind::ENCODER,
            restricted: true,
            help: "the folder of an encoder artifact, such as artifacts/latest/PIPELINE/pretrain: what the stage `pretrain` \
                   of another pipeline or store made",
            files: sources::hf_model_files,
        })
        .source(SourceKind {
            name: kind::MODEL,
            restricted: true,
            help: "the folder of a model artifact: what `plmicd import plm-icd` or the stage `finetune` of another pipeline \
                   or store made; `plmicd artifact show` prints it",
            files: sources::model_files,
        })
        .source(SourceKind {
            name: kind::PREDICTIONS,
            restricted: false,
            help: "a folder with predictions.csv or .parquet (id and codes, or id, code and score), and truth.csv or \
                   .parquet where no notes are wired; see docs/reference/import-scores.md",
            files: plmicd_evaluate::external::prediction_files,
        })
        .source(SourceKind {
            name: kind::CODE_TABLE,
            restricted: false,
            help: "a folder of tab-separated code tables; `make icd-tables` fetches ICD-9-CM and ICD-10",
            files: source_files::code_table_files,
        })
}
