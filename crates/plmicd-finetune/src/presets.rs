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

/// How LAAT's code trains, up to what tells LAAT and JointLAAT apart. It stops after the sixth epoch without a better one.
macro_rules! laat {
    () => {
        r#"architecture = "bi-lstm"
max_length = 4000
padding = "attend"
dropout = 0.3
label_init = "random"
epochs = 50
batch_size = 8
accumulation = 1
order = "shuffled"
best_metric = "micro_f1"
early_stopping_patience = 6
[optimizer]
learning_rate = 1e-3
weight_decay = 0.0
variant = "torch"
epsilon = 1e-8
warmup_fraction = 0.0
schedule = "constant"
max_grad_norm = 0.0
[word_model]
freeze_embeddings = true
unit_embeddings = false
hidden_size = 512
projection_size = 512
"#
    };
}

/// How CAML's and MultiResCNN's code trains, up to the widths of the convolutions.
macro_rules! convolution_training {
    () => {
        r#"max_length = 2500
padding = "attend"
dropout = 0.2
label_init = "random"
epochs = 200
batch_size = 16
accumulation = 1
order = "similar-length"
best_metric = "precision_at_8"
early_stopping_patience = 10
[optimizer]
learning_rate = 1e-4
weight_decay = 0.0
variant = "torch"
epsilon = 1e-8
warmup_fraction = 0.0
schedule = "constant"
max_grad_norm = 0.0
[word_model]
freeze_embeddings = false
unit_embeddings = true
filter_maps = 50
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
epochs = 10
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
    Preset {
        name: "laat",
        summary: "LAAT as published (Vu et al. 2020): a bidirectional LSTM over 4,000 words; wire skip-gram embeddings",
        settings: concat!(laat!(), "hierarchy = \"none\"\n"),
    },
    Preset {
        name: "joint-laat",
        summary: "JointLAAT (Vu et al. 2020): LAAT that scores the categories first",
        settings: concat!(laat!(), "hierarchy = \"three-character\"\nparent_projection_size = 128\n"),
    },
    Preset {
        name: "caml",
        summary: "CAML as published (Mullenbach et al. 2018): a convolution over 2,500 words; wire CBOW embeddings",
        settings: concat!("architecture = \"cnn\"\n", convolution_training!(), "kernel_sizes = [10]\n"),
    },
    Preset {
        name: "dr-caml",
        summary: "DR-CAML (Mullenbach et al. 2018): CAML drawn towards the codes' descriptions",
        settings: concat!(
            "architecture = \"cnn\"\n",
            convolution_training!(),
            "kernel_sizes = [10]\ndescription_weight = 0.01\n"
        ),
    },
    Preset {
        name: "multirescnn",
        summary: "MultiResCNN as published (Li and Yu 2020): six widths with residual blocks over 2,500 words",
        settings: concat!(
            "architecture = \"multi-res-cnn\"\n",
            convolution_training!(),
            "kernel_sizes = [3, 5, 9, 15, 19, 25]\n"
        ),
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
            let words = values.get("architecture").is_some();
            let wired = if words { ["shards", "embeddings"] } else { ["shards", "encoder"] };
            let checked = stage.check(&values, &wired);
            checked.unwrap_or_else(|issues| panic!("{}: {issues:?}", preset.name));
        }
    }
}
