//! Every variant through the whole stage on the tiny corpus: it learns, stopping and resuming makes no difference, and the
//! folder it leaves holds the model that was trained.

mod corpus;

use camino::{Utf8Path, Utf8PathBuf};
use corpus::{Events, Workplace, alone, config, contents, history, note};
use plmicd_finetune::FinetuneConfig;
use plmicd_nn::{Attention, EncoderConfig, ModelConfig, ModelType, PlmIcd, Pooling, Precision};
use plmicd_pipeline::{Interrupt, NoEvents, StageError};

const SPECIALS: plmicd_nn::SpecialTokens = plmicd_nn::SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };

/// A folder with a fresh Longformer in Hugging Face's layout.
fn longformer(place: &Workplace) -> Utf8PathBuf {
    let dir = place.root.join("longformer");
    std::fs::create_dir_all(&dir).expect("a folder");
    let encoder = EncoderConfig {
        model_type: ModelType::Longformer,
        ..EncoderConfig::small(i64::from(corpus::VOCABULARY), 16, 1, 2)
    };
    let settings = ModelConfig { pooling: Pooling::Whole, segment_length: 16, ..ModelConfig::default() };
    PlmIcd::new(&encoder, settings, 2, 3, tch::Device::Cpu).expect("a model").save(&dir).expect("saved");
    dir
}

/// Trains in one go and through an interruption; loads the model and scores the dev notes with it.
fn check(place: &Workplace, pooling: Pooling, attention: Attention, encoder: Option<&Utf8Path>) {
    let case = format!("{}-{}", pooling.as_str(), attention.as_str());
    let mut settings = FinetuneConfig { pooling, attention, epochs: 6, ..config() };
    if encoder.is_some() {
        settings.encoder = None;
    }
    let run = |work: &str, events: &Events| {
        let interrupt = events.interrupt.clone();
        place.run_with(
            &settings,
            &format!("{case}-{work}"),
            &format!("{case}-{work}-work"),
            events,
            interrupt,
            encoder,
        )
    };
    let whole = run("whole", &Events::default()).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    let stopping = Events { stop_at: Some(30), ..Events::default() };
    assert!(matches!(run("parts", &stopping), Err(StageError::Interrupted)), "{case}");
    let resumed = run("parts", &Events::default()).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    assert!(contents(&resumed) == contents(&whole), "{case}: resumed is not uninterrupted");

    let history = history(&whole);
    let (first, best) = (&history.epochs[0], &history.epochs[history.best_epoch as usize - 1]);
    // A linear layer over a start token of an encoder from nothing learns this corpus slowly.
    let share = if attention == Attention::None && pooling != Pooling::Segment { 0.99 } else { 0.9 };
    let last = history.epochs.last().expect("epochs");
    assert!(
        last.train_loss < share * first.train_loss,
        "{case}: {} to {}",
        first.train_loss,
        last.train_loss
    );

    let mut model = PlmIcd::load(&whole, tch::Device::Cpu).expect("loads");
    model.set_precision(Precision::Auto); // That of the training.
    let notes: Vec<plmicd_data::TokenizedNote> = (1000..1040).map(note).collect();
    let tokens: Vec<&[i32]> = notes.iter().map(|note| note.tokens.as_slice()).collect();
    let rows: Vec<&[i32]> = notes.iter().map(|note| note.labels.as_slice()).collect();
    let logits = model.logits(&model.batch(&tokens, &SPECIALS).expect("a batch"));
    let truth = plmicd_nn::LabelTargets::from_indices(&rows, 6, tch::Device::Cpu).expect("labels");
    let loss = model.config().loss.mean(&logits, truth.tensor()).double_value(&[]);
    assert!(
        (loss - best.dev_loss.expect("a dev loss")).abs() < 1e-5,
        "{case}: the weights are not the best epoch's"
    );
}

#[test]
fn every_attention_over_joined_segments() {
    let _alone = alone();
    let place = Workplace::new();
    for attention in [Attention::Caml, Attention::BertXml, Attention::Cross, Attention::None] {
        check(&place, Pooling::Segment, attention, None);
    }
}

#[test]
fn every_pooling() {
    let _alone = alone();
    let place = Workplace::new();
    check(&place, Pooling::SegmentMax, Attention::Laat, None);
    check(&place, Pooling::Whole, Attention::Laat, None);
    for pooling in [Pooling::ClsMean, Pooling::ClsSum, Pooling::ClsMax, Pooling::Hierarchical] {
        check(&place, pooling, Attention::None, None);
    }
}

#[test]
fn a_longformer() {
    let _alone = alone();
    let place = Workplace::new();
    let encoder = longformer(&place);
    check(&place, Pooling::Whole, Attention::Laat, Some(&encoder));
}

#[test]
fn what_is_missing_or_cut_is_said() {
    let _alone = alone();
    let place = Workplace::new();
    let settings = FinetuneConfig { epochs: 1, ..config() };
    let bare = place
        .run(&settings, "bare", "bare-work", &NoEvents, Interrupt::default())
        .expect("an encoder without a pooler");
    let said = |pooling, max_length| {
        let settings = FinetuneConfig {
            pooling,
            attention: Attention::None,
            encoder: None,
            max_length,
            ..settings.clone()
        };
        let events = Events::default();
        let work = format!("{}-work", pooling.as_str());
        place
            .run_with(&settings, "out", &work, &events, Interrupt::default(), Some(&bare))
            .expect("the stage finishes");
        events.messages.into_inner().expect("not poisoned").join("\n")
    };
    let text = said(Pooling::ClsSum, 48);
    assert!(text.contains("the encoder has no pooler, which pooling = \"cls-sum\" reads"), "{text}");
    let text = said(Pooling::Whole, 3072);
    assert!(text.contains("the encoder reads at most 512 tokens of a whole note"), "{text}");
}
