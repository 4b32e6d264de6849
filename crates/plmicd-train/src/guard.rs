//! Notices training that has broken down although every number in it is finite.
//!
//! Each sign is one that sound training does not show, whatever its settings:
//!
//! | sign | why it is no accident |
//! |---|---|
//! | more than half of the last [`WINDOW`] losses are above [`FACTOR`] times the lowest level the loss had over as many updates, and nearer to the level it began at | a spike is over after a few updates, and noise between batches of shuffled examples is a matter of percents over [`WINDOW`] updates |
//! | gradients of exactly 0 for [`STILL`] updates although the loss is not 0 | the loss depends on no parameter any more |
//! | every dev example gets the same scores | the model no longer reads its input |
//! | no threshold on dev scores is better than predicting every label, and earlier ones were twice as good | what had been learnt is gone: recall 1 at an F1 near 0, as reported of published systems |

use std::collections::{BTreeMap, VecDeque};

use crate::config::Order;
use crate::error::Fault;
use crate::progress::Progress;
use crate::task::EvaluationSigns;

/// Updates over which the level of the loss, a median, is taken.
pub(crate) const WINDOW: usize = 50;
/// How many times its lowest level the loss has to reach.
const FACTOR: f64 = 3.0;
/// Updates of high loss in a row from which on no checkpoint is written.
const RECENT: usize = 5;
/// Updates in a row without any gradient.
const STILL: usize = 10;
/// Below it a loss counts as 0: everything is learnt, and gradients vanish by right.
const NO_LOSS: f64 = 1e-3;
/// Scores that differ by less over all examples are the same but for rounding.
const SAME_SCORE: f64 = 1e-6;
/// A metric within this factor of that of predicting every label is no better than it.
const NO_BETTER: f64 = 1.001;

/// What the losses and evaluations of a run have been, as far as it matters here.
pub(crate) struct Guard {
    /// Whether the losses of different updates can be compared: not where the examples come as stored, which may be
    /// from easy to hard.
    comparable: bool,
    losses: VecDeque<f64>,
    /// Level of the first updates.
    first: Option<f64>,
    /// Lowest level so far.
    lowest: f64,
    still: usize,
}

impl Guard {
    pub fn new(order: Order) -> Self {
        Self {
            comparable: order != Order::AsStored,
            losses: VecDeque::with_capacity(WINDOW + 1),
            first: None,
            lowest: f64::INFINITY,
            still: 0,
        }
    }

    /// Takes an update's loss and gradient norm, both finite.
    pub fn update(&mut self, loss: f64, gradient_norm: f64) -> Option<Fault> {
        self.still = if gradient_norm == 0.0 && loss > NO_LOSS { self.still + 1 } else { 0 };
        if self.still >= STILL {
            return Some(Fault::NoGradient { updates: self.still });
        }
        self.losses.push_back(loss);
        if self.losses.len() > WINDOW {
            self.losses.pop_front();
        }
        if !self.comparable || self.losses.len() < WINDOW {
            return None;
        }
        let level = self.level();
        if let Some(limit) = self.limit()
            && level > limit
        {
            return Some(Fault::LossExploded { level, lowest: self.lowest });
        }
        self.first.get_or_insert(level);
        self.lowest = self.lowest.min(level);
        None
    }

    /// Whether the last few losses are too high: a checkpoint should wait until that has passed.
    pub fn is_suspicious(&self) -> bool {
        let Some(limit) = self.limit() else { return false };
        self.losses.iter().rev().take(RECENT).all(|&loss| loss > limit)
    }

    /// Median of the last losses.
    fn level(&self) -> f64 {
        let mut losses: Vec<f64> = self.losses.iter().copied().collect();
        losses.sort_by(f64::total_cmp);
        losses[losses.len() / 2]
    }

    /// What the level must not exceed, once there is something to compare with.
    fn limit(&self) -> Option<f64> {
        let first = self.first?;
        Some((FACTOR * self.lowest).max(0.5 * (first + self.lowest)))
    }
}

/// Judges an evaluation by its signs, its figures and what was evaluated before.
pub(crate) fn judge(
    signs: &EvaluationSigns,
    figures: &BTreeMap<String, f64>,
    before: &Progress,
) -> Option<Fault> {
    if signs.score_spread.is_some_and(|spread| spread <= SAME_SCORE) {
        return Some(Fault::ScoresEqual);
    }
    let name = signs.metric;
    let value = *figures.get(name)?;
    let evaluations = before.epochs.iter().map(|epoch| &epoch.dev);
    let best = evaluations
        .chain(before.midway.iter().map(|record| &record.dev))
        .filter_map(|figures| figures.get(name).copied())
        .fold(0.0, f64::max);
    let useless = value <= NO_BETTER * signs.uninformed;
    (useless && best >= 2.0 * value && best > 0.0).then(|| Fault::Forgotten {
        metric: name.to_owned(),
        value,
        best,
    })
}

/// Whether the figures are still those of predicting every label: worth a warning, since slow starts exist.
pub(crate) fn is_uninformed(signs: &EvaluationSigns, figures: &BTreeMap<String, f64>) -> bool {
    figures.get(signs.metric).is_some_and(|&value| value <= NO_BETTER * signs.uninformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::EpochRecord;

    /// Noise between 0.8 and 1.2 that repeats, as of batches with different notes.
    fn noise(step: usize) -> f64 {
        0.8 + 0.4 * ((step * 7919) % 101) as f64 / 100.0
    }

    /// The first fault of losses given by step.
    fn run(steps: usize, loss: impl Fn(usize) -> f64) -> Option<(usize, Fault)> {
        let mut guard = Guard::new(Order::Shuffled);
        (0..steps).find_map(|step| guard.update(loss(step), 1.0).map(|fault| (step, fault)))
    }

    /// Binary cross-entropy of a run that starts at ln 2 and ends near 0.01.
    fn sound(step: usize) -> f64 {
        noise(step) * (0.68 * (-(step as f64) / 20.0).exp() + 0.02 * (-(step as f64) / 300.0).exp() + 0.008)
    }

    #[test]
    fn sound_runs_raise_no_alarm() {
        assert_eq!(run(3000, sound), None);
        // Started from the labels' frequencies: the loss hardly falls.
        assert_eq!(run(3000, |step| noise(step) * (0.013 - 0.000_001 * step as f64)), None);
        // Learnt by heart, with fluctuations of ten times the lowest level.
        let by_heart =
            |step: usize| 0.2 * (-(step as f64) / 100.0).exp() + if step % 200 < 60 { 1e-3 } else { 1e-4 };
        assert_eq!(run(3000, by_heart), None);
        // Spikes of a few updates, however high.
        assert_eq!(run(3000, |step| if step % 300 < 12 { 50.0 } else { sound(step) }), None);
        // Warm-up from a rate of 0: nothing moves at first.
        assert_eq!(run(3000, |step| noise(step) * if step < 500 { 0.69 } else { 0.05 }), None);
        // A masked language model: 10.4 to 2.
        let masked = |step: usize| noise(step) * (8.4 * (-(step as f64) / 200.0).exp() + 2.0);
        assert_eq!(run(3000, masked), None);
    }

    #[test]
    fn a_loss_that_stays_high_is_noticed_within_a_window() {
        for high in [0.5, 1.0, 40.0] {
            let (step, fault) = run(3000, |step| if step < 1000 { sound(step) } else { high * noise(step) })
                .expect("an alarm");
            assert!((1000..1000 + WINDOW).contains(&step), "noticed at {step}");
            assert!(matches!(fault, Fault::LossExploded { .. }));
        }
        // A masked language model falls back to the frequencies of its tokens.
        let masked = |step: usize| {
            noise(step) * if step < 1000 { 8.4 * (-(step as f64) / 100.0).exp() + 2.0 } else { 7.2 }
        };
        assert!(run(3000, masked).is_some());
        let mut guard = Guard::new(Order::AsStored);
        assert!((0..3000).all(|step| guard.update(if step < 1000 { 0.01 } else { 1.0 }, 1.0).is_none()));
    }

    #[test]
    fn checkpoints_wait_while_the_loss_is_high() {
        let mut guard = Guard::new(Order::Shuffled);
        for step in 0..500 {
            assert_eq!(guard.update(sound(step), 1.0), None);
            assert!(!guard.is_suspicious());
        }
        let suspicious: Vec<bool> = (0..8)
            .map(|_| {
                assert_eq!(guard.update(2.0, 1.0), None);
                guard.is_suspicious()
            })
            .collect();
        assert_eq!(suspicious, [false, false, false, false, true, true, true, true]);
        guard.update(0.01, 1.0);
        assert!(!guard.is_suspicious());
    }

    #[test]
    fn gradients_that_vanish_are_noticed_unless_everything_is_learnt() {
        let mut guard = Guard::new(Order::AsStored);
        let faults: Vec<bool> = (0..STILL).map(|_| guard.update(0.3, 0.0).is_some()).collect();
        assert_eq!(faults.iter().filter(|fault| **fault).count(), 1);
        assert!(faults[STILL - 1]);
        let mut learnt = Guard::new(Order::AsStored);
        assert!((0..100).all(|_| learnt.update(1e-7, 0.0).is_none()));
        let mut now_and_then = Guard::new(Order::AsStored);
        assert!((0..100).all(|step| now_and_then.update(0.3, (step % STILL) as f64).is_none()));
    }

    #[test]
    fn evaluations_that_show_a_broken_model() {
        let figures = |f1: f64| BTreeMap::from([("micro_f1".to_owned(), f1)]);
        let signs =
            |spread, uninformed| EvaluationSigns { score_spread: spread, metric: "micro_f1", uninformed };
        let after = |f1: f64| {
            let epoch = EpochRecord { epoch: 1, step: 9, train_loss: 0.1, dev: figures(f1) };
            Progress { epochs: vec![epoch], ..Progress::default() }
        };
        let sound = signs(Some(0.4), 0.004);
        assert_eq!(judge(&sound, &figures(0.3), &after(0.6)), None);
        assert_eq!(judge(&signs(Some(0.0), 0.004), &figures(0.3), &after(0.6)), Some(Fault::ScoresEqual));
        // Never better than predicting everything: a slow start, not a collapse.
        assert_eq!(judge(&sound, &figures(0.004), &after(0.004)), None);
        assert_eq!(judge(&sound, &figures(0.004), &Progress::default()), None);
        assert!(is_uninformed(&sound, &figures(0.004)) && !is_uninformed(&sound, &figures(0.005)));
        assert!(matches!(judge(&sound, &figures(0.004), &after(0.3)), Some(Fault::Forgotten { .. })));
        // Where most labels are true, predicting everything is good, and being near it tells nothing.
        assert_eq!(judge(&signs(Some(0.4), 0.6), &figures(0.6), &after(0.62)), None);
        assert_eq!(judge(&sound, &BTreeMap::new(), &after(0.3)), None);
    }
}
