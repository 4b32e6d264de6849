//! The models of the paper, and others, as named sets of settings.
//!
//! A preset spells out everything that makes the model, also where it equals today's defaults: these may change, a
//! published model may not.

use plmicd_pipeline::Preset;

/// How the released code of PLM-ICD trains (its README and the libraries it pins).
macro_rules! released_training {
    () => {
        r#"label_init = "random"
epochs = 20
batch_size = 1
accumulation = 8
accumulation_rule = "published"
order = "shuffled"
best_metric = "last_epoch"
[optimizer]
learning_rate = 5e-5
weight_decay = 0.0
variant = "hf-4.5"
epsilon = 1e-6
warmup_steps = 2000
schedule = "linear"
max_grad_norm = 0.0
"#
    };
}

/// What `preset = "…"` of the stage may say.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "plm-icd",
        summary: "PLM-ICD as published (Huang et al. 2022): segment pooling, LAAT, the released code's training",
        settings: concat!(
            r#"max_length = 3072
segment_length = 128
pooling = "segment"
attention = "laat"
padding = "attend"
projection = "tanh"
"#,
            released_training!()
        ),
    },
    Preset {
        name: "plm-icd-d",
        summary: "PLM-ICD for few notes: label vectors from descriptions, biases from frequencies, the loss of a note summed",
        settings: r#"max_length = 3072
segment_length = 128
pooling = "segment"
attention = "laat"
padding = "mask"
projection = "identity"
label_init = "descriptions"
bias_init = "prior"
loss = "binary-cross-entropy"
loss_reduction = "note-sum"
epochs = 6
batch_size = 8
accumulation = 1
order = "similar-length"
best_metric = "micro_f1"
[description_scales]
centre = false
query = 2.0
output = 0.5
[optimizer]
learning_rate = 1e-4
head_learning_rate = 2e-3
weight_decay = 0.01
variant = "torch"
epsilon = 1e-8
warmup_fraction = 0.1
schedule = "linear"
max_grad_norm = 1.0
"#,
    },
    Preset {
        name: "bert-cls",
        summary: "A linear layer over the mean of the segments' pooled start tokens, trained as PLM-ICD",
        settings: concat!(
            r#"max_length = 3072
segment_length = 128
pooling = "cls-mean"
attention = "none"
padding = "mask"
"#,
            released_training!()
        ),
    },
    Preset {
        name: "hier-bert",
        summary: "HIER-BERT: a second transformer over the segments' start tokens, trained as PLM-ICD",
        settings: concat!(
            r#"max_length = 3072
segment_length = 128
pooling = "hierarchical"
attention = "none"
padding = "mask"
"#,
            released_training!()
        ),
    },
    Preset {
        name: "longformer",
        summary: "A Longformer over the whole note under LAAT, trained as PLM-ICD; wire a Longformer encoder",
        settings: concat!(
            r#"max_length = 3072
segment_length = 128
pooling = "whole"
attention = "laat"
padding = "attend"
projection = "tanh"
"#,
            released_training!()
        ),
    },
    Preset {
        name: "bert-xml",
        summary: "BERT-XML's model (Zhang et al. 2020): its attention in each segment of 512, the highest logit of all",
        settings: concat!(
            r#"max_length = 3072
segment_length = 512
pooling = "segment-max"
attention = "bert-xml"
padding = "mask"
"#,
            released_training!()
        ),
    },
    Preset {
        name: "plm-ca",
        summary: "PLM-CA (Edin et al. 2024): segment pooling under cross-attention, its training",
        settings: r#"max_length = 6000
segment_length = 128
pooling = "segment"
attention = "cross"
padding = "mask"
label_init = "random"
epochs = 20
batch_size = 16
accumulation = 1
order = "shuffled"
best_metric = "mean_average_precision"
early_stopping_patience = 3
[optimizer]
learning_rate = 5e-5
weight_decay = 0.0
variant = "torch"
epsilon = 1e-8
warmup_fraction = 0.1
schedule = "linear"
max_grad_norm = 1.0
"#,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use plmicd_pipeline::Registry;

    #[test]
    fn every_preset_is_sound() {
        let registry = Registry::default().stage::<crate::Finetune>();
        let stage = registry.find_stage("finetune").expect("registered");
        assert_eq!(stage.presets().len(), PRESETS.len());
        for (at, preset) in PRESETS.iter().enumerate() {
            assert!(PRESETS[..at].iter().all(|other| other.name != preset.name), "{} twice", preset.name);
            let values = preset.values().unwrap_or_else(|problem| panic!("{}: {problem}", preset.name));
            let checked = stage.check(&values, &["shards", "encoder"]);
            checked.unwrap_or_else(|issues| panic!("{}: {issues:?}", preset.name));
        }
    }
}
