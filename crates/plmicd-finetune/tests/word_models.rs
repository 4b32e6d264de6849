//! The word-level models through the whole stage.

mod corpus;

use camino::{Utf8Path, Utf8PathBuf};
use corpus::{CODES, Events, VOCABULARY, Workplace, alone, config, contents, history};
use plmicd_data::WordVectors;
use plmicd_finetune::{Architecture, FinetuneConfig, Hierarchy, WordModelSettings};
use plmicd_nn::{IcdModel, SpecialTokens, write_safetensors};
use plmicd_pipeline::{Interrupt, NoEvents, StageError};
use tch::{Device, Kind, Tensor};

/// LAAT, JointLAAT, CAML, DR-CAML, MultiResCNN, small.
fn models() -> Vec<(&'static str, FinetuneConfig)> {
    let with = |architecture, change: fn(&mut WordModelSettings)| {
        let mut word_model = WordModelSettings {
            embedding_size: 12,
            hidden_size: 8,
            projection_size: 8,
            filter_maps: 8,
            parent_projection_size: 4,
            ..WordModelSettings::default()
        };
        change(&mut word_model);
        let mut config = FinetuneConfig { architecture, word_model, encoder: None, ..config() };
        config.optimizer.learning_rate = 1e-2;
        config.optimizer.head_learning_rate = None;
        config
    };
    vec![
        ("laat", with(Architecture::BiLstm, |_| ())),
        ("joint-laat", with(Architecture::BiLstm, |w| w.hierarchy = Hierarchy::ThreeCharacter)),
        ("caml", with(Architecture::Cnn, |_| ())),
        ("dr-caml", with(Architecture::Cnn, |w| w.description_weight = Some(0.01))),
        ("multirescnn", with(Architecture::MultiResCnn, |w| w.kernel_sizes = Some(vec![3, 5]))),
    ]
}

fn run(
    place: &Workplace,
    config: &FinetuneConfig,
    out: &str,
    wired: &[(&str, &str, &Utf8Path)],
) -> Utf8PathBuf {
    place
        .run_wired(config, out, &format!("{out}-work"), &NoEvents, Interrupt::default(), wired)
        .expect("the stage finishes")
}

#[test]
fn each_learns_a_separable_corpus_and_its_file_scores_notes_one_by_one() {
    let _alone = alone();
    let place = Workplace::new();
    for (name, config) in models() {
        let out = run(&place, &FinetuneConfig { epochs: 40, dropout: Some(0.0), ..config }, name, &[]);
        let history = history(&out);
        let best = &history.epochs[history.best_epoch as usize - 1];
        assert!(best.dev["micro_f1"] > 0.8, "{name}: {:?}", best.dev);
        let card = std::fs::read_to_string(out.join("README.md")).expect("a card");
        assert!(card.contains("# Word-level coding model") && card.contains("over words"), "{card}");

        let model = IcdModel::load(&out, Device::Cpu).expect("loads");
        let specials = SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };
        let notes: Vec<Vec<i32>> = (1000..1010).map(|i| corpus::note(i).tokens).collect();
        let scores = |notes: &[Vec<i32>]| {
            model.scores(&model.batch(notes, &specials).expect("a batch")).expect("scores")
        };
        let together = scores(&notes);
        assert_eq!(together.size(), [10, i64::from(CODES)]);
        for (row, note) in notes.iter().enumerate() {
            let alone = scores(std::slice::from_ref(note));
            let difference = (alone.get(0) - together.get(row as i64)).abs().max().double_value(&[]);
            assert!(difference < 1e-5, "{name}: {difference}");
        }
    }
}

#[test]
fn each_stopped_and_resumed_gives_the_same_files() {
    let _alone = alone();
    let place = Workplace::new();
    for (name, config) in models() {
        let settings = FinetuneConfig { accumulation: 2, ..config };
        let whole = contents(&run(&place, &settings, name, &[]));
        for stop_at in [5, 13, 20] {
            let work = format!("{name}-{stop_at}");
            let events = Events { stop_at: Some(stop_at), ..Events::default() };
            let stopped = place.run(&settings, "resumed", &work, &events, events.interrupt.clone());
            assert!(matches!(stopped, Err(StageError::Interrupted)), "{name} at report {stop_at}");
            let out = place.run(&settings, "resumed", &work, &NoEvents, Interrupt::default());
            assert_eq!(contents(&out.expect("finishes")), whole, "{name} stopped at report {stop_at}");
        }
    }
}

/// An `embeddings` artifact of this many words.
fn embeddings(place: &Workplace, name: &str, words: i32, tokenizer: &str) -> Utf8PathBuf {
    let folder = place.root.join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let vectors = Tensor::arange(i64::from(words) * 10, (Kind::Float, Device::Cpu)).view([-1, 10]).sin();
    write_safetensors(&folder.join(WordVectors::FILE), &[(WordVectors::TENSOR, &vectors)]).expect("written");
    std::fs::write(folder.join("tokenizer.json"), tokenizer).expect("written");
    folder
}

#[test]
fn wired_embeddings_are_taken_and_frozen_ones_stay() {
    let _alone = alone();
    let place = Workplace::new();
    let folder = embeddings(&place, "vectors", VOCABULARY, "{}");
    let mut settings = models().swap_remove(0).1;
    settings.epochs = 1;
    settings.word_model.freeze_embeddings = true;
    let out = run(&place, &settings, "frozen", &[("embeddings", "embeddings", &folder)]);
    let tensors = plmicd_nn::read_safetensors(&out.join("model.safetensors")).expect("tensors");
    let given = plmicd_nn::read_safetensors(&folder.join(WordVectors::FILE)).expect("vectors");
    let (ours, given) = (&tensors["embeddings.weight"], &given[WordVectors::TENSOR]);
    assert!(ours.narrow(0, 1, 59).equal(&given.narrow(0, 1, 59)), "as they were, but for padding");
    assert_eq!(ours.get(0).abs().max().double_value(&[]), 0.0);
    assert!(history(&out).parameters > 0);

    settings.word_model.freeze_embeddings = false;
    let out = run(&place, &settings, "trained", &[("embeddings", "embeddings", &folder)]);
    let tensors = plmicd_nn::read_safetensors(&out.join("model.safetensors")).expect("tensors");
    assert!(!tensors["embeddings.weight"].equal(given));
}

#[test]
fn vectors_of_other_words_are_refused() {
    let _alone = alone();
    let place = Workplace::new();
    let settings = models().swap_remove(0).1;
    let refused = |name: &str, words, tokenizer: &str| {
        let folder = embeddings(&place, name, words, tokenizer);
        let wired = [("embeddings", "embeddings", folder.as_path())];
        let run = place.run_wired(&settings, "out", "work", &NoEvents, Interrupt::default(), &wired);
        run.expect_err("refused").to_string()
    };
    let error = refused("few", VOCABULARY - 1, "{}");
    assert!(error.contains("[59, 10]") && error.contains("60 words"), "{error}");
    let error = refused("others", VOCABULARY, "{ }");
    assert!(error.contains("another vocabulary"), "{error}");
}
