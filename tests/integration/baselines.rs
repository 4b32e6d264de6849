//! Word-level models through a whole pipeline: words, word vectors, training stopped and resumed, scores, report.

use crate::world::{TINY, World};

/// The tiny pipeline with words in place of pieces and word vectors in place of a pretrained encoder.
fn words(architecture: &str, more: &str) -> String {
    let (head, rest) = TINY.split_once("[stages.vocabulary]").expect("a vocabulary");
    let (_, tail) = rest.split_once("[stages.predict]").expect("a prediction");
    format!(
        "{head}[stages.vocabulary]
inputs = {{ notes = \"preprocess\" }}
config = {{ model = \"word\", min_documents = 2 }}
[stages.tokenize]
inputs = {{ notes = \"preprocess\", tokenizer = \"vocabulary\" }}
[stages.embed]
inputs = {{ shards = \"tokenize\" }}
config = {{ dimensions = 16, epochs = 2 }}
[stages.finetune]
inputs = {{ shards = \"tokenize\", embeddings = \"embed\" }}
[stages.finetune.config]
architecture = \"{architecture}\"
max_length = 100
epochs = 3
optimizer = {{ learning_rate = 5e-3 }}
[stages.finetune.config.word_model]
hidden_size = 8
projection_size = 8
filter_maps = 8
{more}
[stages.predict]{tail}"
    )
    .replace("name = \"tiny\"", "name = \"words\"")
}

#[test]
fn every_baseline_runs_from_notes_to_a_report() {
    let world = World::new();
    let models = [
        ("bi-lstm", "freeze_embeddings = true"),
        ("bi-lstm", "hierarchy = \"three-character\"\nparent_projection_size = 4"),
        ("cnn", "unit_embeddings = true"),
        ("cnn", "description_weight = 0.01"),
        ("multi-res-cnn", "kernel_sizes = [3, 5]"),
    ];
    for (at, (architecture, more)) in models.into_iter().enumerate() {
        world.write("words.toml", &words(architecture, more));
        let ran = world.ok(&["run", "words.toml"]);
        ran.prints(&["Micro F1"]);
        if at > 0 {
            // Everything before training is there already.
            ran.says(&["5 cached"]);
        }
        let card = world.path("artifacts/latest/words/finetune/README.md");
        let card = std::fs::read_to_string(card).expect("a card");
        assert!(card.contains("# Word-level coding model"), "{card}");
        world.ok(&["run", "words.toml"]).says(&["nothing to do"]);
    }
    world.ok(&["artifact", "verify"]).prints(&["all as recorded"]);
}

#[test]
fn what_does_not_go_together_is_refused_before_anything_runs() {
    let world = World::new();
    let file = words("transformer", "");
    world.write("words.toml", &file);
    world.fails(2, &["run", "words.toml"]).says(&["architecture", "embeddings"]);
    world.write("words.toml", &words("cnn", "hierarchy = \"three-character\""));
    world.fails(2, &["run", "words.toml"]).says(&["hierarchy", "bi-lstm"]);
}
