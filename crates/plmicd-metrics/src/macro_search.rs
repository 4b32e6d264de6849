//! Exact search for the threshold of the highest mean of label F1s: a sweep over the scores from the top.
//!
//! As for micro F1, lowering the threshold past scores that no true pair has only lowers the labels' F1, so
//! the value is looked at after each score of a true pair alone. The sum of the labels' F1 is kept in fixed
//! point (40 binary places): millions of small changes leave no rounding error behind.

use rayon::prelude::*;

use crate::data::Scored;
use crate::threshold::between;

const FRACTION_BITS: u32 = 40;

/// The best threshold; the highest of several. `None` if no true pair scores above 0.
pub(crate) fn best(scored: &Scored<'_>) -> Option<f32> {
    let totals = scored.truth().label_counts();
    let lowest = scored.positive_scores().into_iter().min_by(f32::total_cmp)?;
    let events = events(scored, &totals, lowest);
    let mut labels: Vec<Label> = totals.iter().map(|&total| Label { total, ..Label::default() }).collect();
    let mut sum = 0u64;
    let mut best: Option<(u64, f32)> = None;
    let mut has_positive = false;
    for (at, event) in events.iter().enumerate() {
        let label = &mut labels[event.label()];
        sum -= label.f1;
        label.add(event.is_true());
        sum += label.f1;
        has_positive |= event.is_true();
        let score = event.score();
        if events.get(at + 1).is_some_and(|next| next.score() == score) {
            continue;
        }
        if has_positive && score > 0.0 && best.is_none_or(|(value, _)| sum > value) {
            best = Some((sum, score));
        }
        has_positive = false;
    }
    best.map(|(_, score)| between(highest_below(scored, score), score))
}

/// One score, packed so that sorting puts the highest first: inverted score bits (scores are not negative,
/// so their bits ascend with them), label id, whether the pair is true.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event(u64);

impl Event {
    fn new(score: f32, label: u32, is_true: bool) -> Self {
        // Adding 0 turns a negative zero into zero.
        let key = !(score + 0.0).to_bits();
        Self(u64::from(key) << 32 | u64::from(label) << 1 | u64::from(is_true))
    }

    fn score(self) -> f32 {
        f32::from_bits(!((self.0 >> 32) as u32))
    }

    fn label(self) -> usize {
        (self.0 as u32 >> 1) as usize
    }

    fn is_true(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The scores that can matter, the highest first: those of labels that occur, down to the lowest positive.
fn events(scored: &Scored<'_>, totals: &[u64], lowest: f32) -> Vec<Event> {
    let truth = scored.truth();
    let mut events: Vec<Event> = (0..truth.num_notes())
        .into_par_iter()
        .flat_map_iter(|note| {
            let mut true_labels = truth.row(note).iter().copied().peekable();
            (0u32..).zip(scored.row(note)).filter_map(move |(label, &score)| {
                let is_true = true_labels.next_if_eq(&label).is_some();
                (score >= lowest && totals[label as usize] > 0).then(|| Event::new(score, label, is_true))
            })
        })
        .collect();
    events.par_sort_unstable();
    events
}

fn highest_below(scored: &Scored<'_>, score: f32) -> Option<f32> {
    scored.scores().par_iter().copied().filter(|other| *other < score).max_by(f32::total_cmp)
}

/// Running counts of a label and its F1 in fixed point.
#[derive(Clone, Copy, Default)]
struct Label {
    total: u64,
    hits: u64,
    predicted: u64,
    f1: u64,
}

impl Label {
    fn add(&mut self, is_true: bool) {
        self.predicted += 1;
        self.hits += u64::from(is_true);
        self.f1 = ((2 * self.hits) << FRACTION_BITS) / (self.predicted + self.total);
    }
}
