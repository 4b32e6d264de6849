//! What a run computes.

mod toy;

use plmicd_train::{
    AccumulationRule, Fault, Order, Reading, Schedule, TrainError, TrainerConfig, Unobserved,
};
use toy::{Points, Toy, alone, config, train, trainer};

fn values(toy: &Toy) -> Vec<f32> {
    toy.bytes().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn loss_falls_and_the_rule_is_learnt() {
    let _alone = alone();
    let (_, outcome) = train(TrainerConfig { epochs: 30, ..config() }, 0.0, 200);
    let first = outcome.epochs[0].train_loss;
    let last = outcome.epochs.last().expect("30 epochs").train_loss;
    assert!(last < 0.5 * first, "mean loss went from {first} to {last}");
    let best = outcome.epochs[outcome.best_epoch as usize - 1].dev["accuracy"];
    assert!(best > 0.9, "accuracy {best}");
    assert!(outcome.epochs.iter().all(|epoch| epoch.dev["accuracy"] <= best));
    assert_eq!(outcome.parameters, 6 * 8 + 8 * 3 + 3);
    assert_eq!(outcome.steps.records().len(), 30 * 9);
}

#[test]
fn two_runs_give_the_same_bytes_and_another_seed_others() {
    let _alone = alone();
    let (one, outcome_one) = train(config(), 0.2, 75);
    let (two, outcome_two) = train(config(), 0.2, 75);
    assert_eq!(one.bytes(), two.bytes());
    assert_eq!(outcome_one.steps, outcome_two.steps);
    let (other, _) = train(TrainerConfig { seed: 6, ..config() }, 0.2, 75);
    assert_ne!(one.bytes(), other.bytes());
}

#[test]
fn accumulated_micro_batches_equal_one_batch() {
    let _alone = alone();
    // 75 points: the last update of an epoch has fewer, and its last micro-batch is short.
    let same_order = |batch_size, accumulation| TrainerConfig {
        batch_size,
        accumulation,
        order: Order::Shuffled,
        best_metric: None,
        ..config()
    };
    let (whole, of_whole) = train(same_order(24, 1), 0.0, 75);
    let (parts, of_parts) = train(same_order(8, 3), 0.0, 75);
    let (tiny, of_tiny) = train(same_order(1, 24), 0.0, 75);
    for (other, outcome) in [(&parts, &of_parts), (&tiny, &of_tiny)] {
        assert_eq!(outcome.steps.records().len(), of_whole.steps.records().len());
        for (a, b) in outcome.steps.records().iter().zip(of_whole.steps.records()) {
            assert!((a.loss - b.loss).abs() < 1e-6, "loss {} and {}", a.loss, b.loss);
            assert!((a.gradient_norm - b.gradient_norm).abs() < 1e-5);
        }
        for (a, b) in values(other).iter().zip(values(&whole)) {
            assert!((a - b).abs() < 2e-5, "weight {a} and {b}");
        }
    }
}

#[test]
fn head_and_body_have_learning_rates_of_their_own() {
    let _alone = alone();
    let mut frozen_body = config();
    frozen_body.optimizer.learning_rate = 1e-12;
    frozen_body.optimizer.weight_decay = 0.0;
    let (toy, _) = train(frozen_body, 0.0, 75);
    let start = values(&Toy::new(0.0));
    let body = 6 * 8;
    let moved = |range: std::ops::Range<usize>| {
        values(&toy)[range.clone()].iter().zip(&start[range]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(moved(0..body) < 1e-6);
    assert!(moved(body..start.len()) > 1e-2);
}

#[test]
fn best_epoch_is_kept_and_patience_ends_the_run() {
    let _alone = alone();
    let mut settings = TrainerConfig { epochs: 200, early_stopping_patience: 3, ..config() };
    settings.optimizer.learning_rate = 0.02;
    let (_, outcome) = train(settings.clone(), 0.0, 75);
    assert!(outcome.stopped_early);
    assert_eq!(outcome.epochs.len() as u32, outcome.best_epoch + 3);
    let best = outcome.epochs[outcome.best_epoch as usize - 1].dev["accuracy"];
    let earlier = &outcome.epochs[..outcome.best_epoch as usize - 1];
    assert!(earlier.iter().all(|epoch| epoch.dev["accuracy"] < best));
    // The kept weights are the best epoch's: a run stopped right there holds the same.
    settings.optimizer.schedule = Schedule::Constant;
    settings.optimizer.warmup_fraction = 0.0;
    let (toy, outcome) = train(settings.clone(), 0.0, 75);
    assert!(outcome.stopped_early);
    let short = TrainerConfig { epochs: outcome.best_epoch, early_stopping_patience: 0, ..settings };
    let short = train(short, 0.0, 75).0;
    assert_eq!((toy.bytes(), toy.buffer_bytes()), (short.bytes(), short.buffer_bytes()));
}

#[test]
fn max_steps_ends_the_run_inside_an_epoch() {
    let _alone = alone();
    let (_, outcome) = train(TrainerConfig { max_steps: Some(6), ..config() }, 0.0, 75);
    assert_eq!(outcome.steps.records().len(), 6);
    assert_eq!(outcome.epochs.len(), 2);
    assert!(!outcome.stopped_early);
}

#[test]
fn divergence_is_located_and_the_last_checkpoint_kept() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = camino::Utf8Path::from_path(dir.path()).expect("UTF-8");
    let mut trainer = trainer(dir, config());
    trainer.checkpoints.every = std::time::Duration::ZERO;
    let mut toy = Toy::new(0.0);
    // Micro-batch 16 (from 0) belongs to update 6 (from 1): epoch 1 has 4, and epoch 2 starts at micro-batch 10.
    toy.poison = Some(16);
    let error = trainer.run(&mut toy, &Points::new(75), &Unobserved).expect_err("the loss is NaN");
    let TrainError::Diverged(place) = &error else { panic!("{error}") };
    assert_eq!(place.fault, Fault::NonFinite);
    assert!(place.largest_logit.is_some_and(|logit| logit.is_finite() && logit > 0.0));
    assert_eq!((place.step, place.epoch, place.batch, place.last_good), (7, 2, 7, Some(6)));
    assert!(
        place.loss.is_nan()
            && place.largest_gradient.value.is_nan()
            && place.largest_weight.value.is_finite()
    );
    assert!(error.to_string().contains("step 7 (epoch 2, batch 7)"), "{error}");
}

/// As on a GPU: the update after the one that went wrong is half made when that is noticed.
#[test]
fn divergence_noticed_late_is_located_just_the_same() {
    let _alone = alone();
    let diverge = |reading: Reading| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut trainer = trainer(camino::Utf8Path::from_path(dir.path()).expect("UTF-8"), config());
        trainer.reading = reading;
        let mut toy = Toy::new(0.0);
        toy.poison = Some(16);
        let error = trainer.run(&mut toy, &Points::new(75), &Unobserved).expect_err("the loss is NaN");
        let TrainError::Diverged(place) = error else { panic!("{error}") };
        (place.to_string(), toy.bytes())
    };
    let (at_once, late) = (diverge(Reading::ByDevice), diverge(Reading::Late));
    assert!(
        at_once.0.contains("step 7 (epoch 2, batch 7)") && at_once.0.contains("NaN in body.weight"),
        "{}",
        at_once.0
    );
    assert_eq!(late, at_once);
}

#[test]
fn the_published_rule_updates_after_the_first_micro_batch_and_stops_at_the_planned_number() {
    let _alone = alone();
    let published = TrainerConfig {
        batch_size: 1,
        accumulation: 8,
        accumulation_rule: AccumulationRule::Published,
        order: Order::AsStored,
        ..config()
    };
    // 73 points: 10 updates planned for each of 3 epochs, after micro-batches 1, 9, ... 73.
    let (_, outcome) = train(TrainerConfig { epochs: 1, ..published.clone() }, 0.0, 73);
    assert_eq!(outcome.steps.records().len(), 10);
    let (_, outcome) = train(published.clone(), 0.0, 80);
    // 80 points: 11 updates an epoch, but 10 planned, so the last epoch ends two updates early.
    let ends: Vec<u64> = outcome.epochs.iter().map(|epoch| epoch.step).collect();
    assert_eq!(ends, [11, 22, 30]);
    // The first update has an eighth of the gradient of its only example.
    let (_, regular) = train(TrainerConfig { batch_size: 1, accumulation: 1, ..published.clone() }, 0.0, 80);
    let norm = |outcome: &plmicd_train::Outcome| outcome.steps.records()[0].gradient_norm;
    assert!((8.0 * norm(&outcome) - norm(&regular)).abs() < 1e-6);
    assert_eq!(outcome.steps.records()[0].loss, regular.steps.records()[0].loss);
}

#[test]
fn a_loss_that_explodes_stops_the_run_with_the_checkpoint_from_before() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = camino::Utf8Path::from_path(dir.path()).expect("UTF-8");
    let mut trainer = trainer(dir, TrainerConfig { epochs: 200, ..config() });
    trainer.checkpoints.every = std::time::Duration::ZERO;
    // From micro-batch 600 on, update 240, the truth is turned round for good.
    let mut toy = Toy::new(0.0);
    toy.turned_from = Some(600);
    let error = trainer.run(&mut toy, &Points::new(75), &Unobserved).expect_err("the loss explodes");
    let TrainError::Diverged(place) = &error else { panic!("{error}") };
    assert!(matches!(place.fault, Fault::LossExploded { .. }), "{error}");
    assert!(place.step > 240 && place.step <= 240 + 50, "noticed at step {}", place.step);
    let kept = place.last_good.expect("a checkpoint");
    assert!((240..240 + 5).contains(&kept), "the checkpoint of step {kept}");
}

#[test]
fn gradients_of_zero_stop_the_run() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = camino::Utf8Path::from_path(dir.path()).expect("UTF-8");
    let mut toy = Toy::new(0.0);
    toy.cut_off = true;
    let error = trainer(dir, config()).run(&mut toy, &Points::new(75), &Unobserved).expect_err("stops");
    let TrainError::Diverged(place) = &error else { panic!("{error}") };
    assert_eq!((place.fault.clone(), place.step), (Fault::NoGradient { updates: 10 }, 10));
}

#[test]
fn scores_that_ignore_the_input_stop_the_run_at_the_evaluation() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = camino::Utf8Path::from_path(dir.path()).expect("UTF-8");
    let mut toy = Toy::new(0.0);
    toy.blind_from = Some(15);
    let error = trainer(dir, config()).run(&mut toy, &Points::new(75), &Unobserved).expect_err("stops");
    let TrainError::Diverged(place) = &error else { panic!("{error}") };
    assert_eq!((place.fault.clone(), place.epoch, place.step), (Fault::ScoresEqual, 2, 8));
    assert!(error.to_string().contains("collapsed at step 8 (epoch 2, batch 10)"), "{error}");
}

#[test]
fn warm_up_longer_than_the_run_and_unknown_metric_are_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = camino::Utf8Path::from_path(dir.path()).expect("UTF-8");
    let mut settings = config();
    settings.optimizer.warmup_steps = Some(12);
    let error = trainer(dir, settings).run(&mut Toy::new(0.0), &Points::new(75), &Unobserved);
    assert!(error.expect_err("12 updates in all").to_string().contains("only 12 updates"));
    let settings = TrainerConfig { best_metric: Some("micro_f1".to_owned()), ..config() };
    let error = trainer(dir, settings).run(&mut Toy::new(0.0), &Points::new(75), &Unobserved);
    assert!(error.expect_err("no such metric").to_string().contains("it gives accuracy"));
}

#[test]
fn a_dev_figure_that_is_no_number_ends_the_run() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = camino::Utf8Path::from_path(folder.path()).expect("UTF-8");
    let mut toy = Toy::new(0.0);
    toy.unbounded = true;
    let error = trainer(dir, config()).run(&mut toy, &Points::new(75), &Unobserved).unwrap_err();
    assert!(error.to_string().contains("dev perplexity is not a finite number"), "{error}");
    let TrainError::Diverged(divergence) = error else { panic!("{error}") };
    assert_eq!(divergence.fault, Fault::NonFiniteDev { metric: "perplexity".to_owned() });
}
