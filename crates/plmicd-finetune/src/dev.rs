//! Scoring the dev notes after an epoch, through the same path as prediction.

use std::collections::BTreeMap;

use plmicd_metrics::{Ranking, Scope, Scored, Truth};
use plmicd_nn::{INFERENCE_TOKENS, IcdModel, LabelTargets, SpecialTokens};
use plmicd_torch::InFlight;
use plmicd_train::{Cause, EvaluationSigns, Observer, TrainError};
use tch::{Kind, Tensor};

use crate::notes::NoteSet;
use crate::pairs::PairPool;

/// Where precision at k is taken.
const KS: [usize; 3] = [5, 8, 15];

/// Figures on the dev notes: `loss`, `micro_f1` at the best `threshold`, `precision_at_5`, `_8`, `_15`,
/// `mean_average_precision`. Memory does not grow with the number of notes beyond what [`PairPool`] keeps.
pub(crate) fn evaluate(
    model: &IcdModel,
    notes: &NoteSet,
    specials: &SpecialTokens,
    observer: &dyn Observer,
) -> Result<(BTreeMap<String, f64>, EvaluationSigns), TrainError> {
    let plan = model.batching().inference_batches(&notes.lengths, INFERENCE_TOKENS);
    let mut sums = Sums::new(model.num_labels());
    let mut done = 0;
    model.hold_weights();
    let failed = |source: Cause| TrainError::task("scoring dev notes", source);
    let mut flight = InFlight::new(model.device());
    let mut take = |(batch, figures): (Vec<usize>, Tensor)| -> Result<(), TrainError> {
        sums.add(notes, &batch, &figures).map_err(failed)?;
        done += batch.len() as u64;
        observer.evaluating(done, notes.len() as u64);
        Ok(())
    };
    let score = || {
        for batch in plan {
            if observer.interrupted() {
                return Err(TrainError::Interrupted);
            }
            let figures = queue(model, notes, &batch, specials).map_err(failed)?;
            flight.next(batch, &figures).map_err(|error| failed(error.into()))?.map_or(Ok(()), &mut take)?;
        }
        flight.last().map_err(|error| failed(error.into()))?.map_or(Ok(()), &mut take)
    };
    let scored = score();
    model.release_weights();
    scored?;
    let signs = sums.signs(notes);
    let figures =
        sums.finish(notes.len()).map_err(|source| TrainError::task("evaluating dev scores", source))?;
    Ok((figures, signs))
}

/// The scores of a batch, note by note, and behind them its loss, in double precision: beside the model, and nothing has
/// waited for them yet on a GPU.
fn queue(
    model: &IcdModel,
    notes: &NoteSet,
    batch: &[usize],
    specials: &SpecialTokens,
) -> Result<Tensor, Cause> {
    let tokens: Vec<&[i32]> = batch.iter().map(|&note| notes.tokens[note].as_slice()).collect();
    let rows: Vec<&[i32]> = batch.iter().map(|&note| notes.labels[note].as_slice()).collect();
    let targets = LabelTargets::from_indices(&rows, model.num_labels(), model.device())?;
    tch::no_grad(|| {
        let logits = model.logits(&model.batch(&tokens, specials)?)?;
        let loss = model.loss(&logits, &targets).view([1]);
        Ok(Tensor::cat(&[logits.sigmoid().flatten(0, 1).to_kind(Kind::Double), loss], 0))
    })
}

/// Sums over notes, and the pairs.
struct Sums {
    pairs: PairPool,
    /// Lowest and highest score of each label.
    ranges: Vec<(f32, f32)>,
    loss: f64,
    precision_at: [f64; KS.len()],
    average_precision: f64,
}

impl Sums {
    fn new(labels: usize) -> Self {
        Self {
            pairs: PairPool::new(),
            ranges: vec![(f32::INFINITY, f32::NEG_INFINITY); labels],
            loss: 0.0,
            precision_at: [0.0; KS.len()],
            average_precision: 0.0,
        }
    }

    /// Whether the scores depend on the notes at all, and the micro F1 of predicting every label: with P true pairs of
    /// N, `2 P / (P + N)`.
    fn signs(&self, notes: &NoteSet) -> EvaluationSigns {
        let true_pairs: usize = notes.labels.iter().map(Vec::len).sum();
        let pairs = notes.len() * self.ranges.len();
        let spread = self.ranges.iter().map(|(low, high)| high - low).fold(0.0, f32::max);
        let differ = notes.tokens.windows(2).any(|pair| pair[0] != pair[1]);
        EvaluationSigns {
            score_spread: differ.then_some(f64::from(spread)),
            metric: "micro_f1",
            uninformed: 2.0 * true_pairs as f64 / (true_pairs + pairs) as f64,
        }
    }

    /// Adds what [`queue`] gave for a batch.
    fn add(&mut self, notes: &NoteSet, batch: &[usize], figures: &Tensor) -> Result<(), Cause> {
        let labels = self.ranges.len();
        let rows: Vec<&[i32]> = batch.iter().map(|&note| notes.labels[note].as_slice()).collect();
        let mut figures = Vec::<f64>::try_from(figures)?;
        let loss = figures.pop().unwrap_or(f64::NAN);
        let scores: Vec<f32> = figures.into_iter().map(|score| score as f32).collect();
        let truth = Truth::new(labels, &rows)?;
        let ranking = Ranking::new(&Scored::new(&scores, &truth)?, &Scope::everything(&truth));
        let size = batch.len() as f64;
        self.loss += loss * size;
        for (sum, k) in self.precision_at.iter_mut().zip(KS) {
            *sum += ranking.precision_at(k) * size;
        }
        self.average_precision += ranking.mean_average_precision() * size;
        for (row, truth) in scores.chunks(labels).zip(rows) {
            self.pairs.add(row, truth);
            for ((low, high), &score) in self.ranges.iter_mut().zip(row) {
                (*low, *high) = (low.min(score), high.max(score));
            }
        }
        Ok(())
    }

    fn finish(self, notes: usize) -> Result<BTreeMap<String, f64>, Cause> {
        let best = self.pairs.best_threshold()?;
        let mean = |sum: f64| sum / notes as f64;
        let mut figures = BTreeMap::from([
            ("loss".to_owned(), mean(self.loss)),
            ("micro_f1".to_owned(), best.value),
            ("threshold".to_owned(), f64::from(best.threshold)),
            ("mean_average_precision".to_owned(), mean(self.average_precision)),
        ]);
        for (sum, k) in self.precision_at.into_iter().zip(KS) {
            figures.insert(format!("precision_at_{k}"), mean(sum));
        }
        Ok(figures)
    }
}
